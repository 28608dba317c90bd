"""Lengths of samples: the only place where an image's placeholder becomes positions (invariant 5)."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

IMAGE_TOKEN: Final = -200
"""The placeholder of one image in `input_ids`; never a tokenizer's id."""

Each = int | npt.NDArray[np.int64]
"""Of every image the same, or of each its own, shape (images,), in the order of the placeholders."""


def expanded_length(token_count: Any, image_count: Any, tokens_per_image: int) -> Any:
    """Positions that a sample takes in the model: each image's placeholder counts `tokens_per_image` times.

    `token_count` counts input ids, placeholders included. Integers give an int, arrays an array.

    >>> expanded_length(30, 1, 144)
    173
    """
    return token_count + image_count * (tokens_per_image - 1)


def expanded_offsets(
    input_ids: npt.NDArray[np.integer], tokens_per_image: Each, *, per_text_token: int = 1
) -> npt.NDArray[np.int64]:
    """The position of each input id once images are expanded; shape (n + 1,), the last entry is the expanded length.

    With 3 tokens an image, ids `[-200, 7, -200, 8]` begin at `[0, 3, 4, 7, 8]`. With 0 for tokens of text it counts
    what images alone have, such as crops.
    """
    offsets = np.full(len(input_ids) + 1, per_text_token, dtype=np.int64)
    offsets[0] = 0
    offsets[1:][np.asarray(input_ids) == IMAGE_TOKEN] = tokens_per_image
    return np.cumsum(offsets, out=offsets)


def expanded_spans(
    input_ids: npt.NDArray[np.integer], spans: Iterable[tuple[int, int]], tokens_per_image: Each
) -> list[tuple[int, int]]:
    """Spans `[start, end)` over input ids as spans over expanded positions."""
    offsets = expanded_offsets(input_ids, tokens_per_image)
    return [(int(offsets[start]), int(offsets[end])) for start, end in spans]


def fitting_prefix(input_ids: npt.NDArray[np.integer], capacity: int, tokens_per_image: Each) -> int:
    """How many leading input ids fit into `capacity` positions; an image fits whole or not at all."""
    return int(np.searchsorted(expanded_offsets(input_ids, tokens_per_image), capacity, side="right")) - 1


def fitting_branches(
    input_ids: npt.NDArray[np.integer], branches: Sequence[int], capacity: int, tokens_per_image: Each
) -> int:
    """How many of a sample's annotations, which begin at `branches`, fit whole into `capacity` positions, in order.

    With 3 tokens an image, `[-200, 7, 8, 2, 9, 2]` with branches `(2, 4)` takes 6 positions to the first's end, then 8.
    """
    ends = expanded_offsets(input_ids, tokens_per_image)[[*branches[1:], len(input_ids)]]
    return int(np.searchsorted(ends, capacity, side="right"))
