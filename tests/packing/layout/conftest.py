"""Sizes of images of every kind, pictures of them, and what the references' own code made of such sizes."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

Sizes = npt.NDArray[np.int64]


@pytest.fixture(scope="session")
def sizes() -> Callable[..., Sizes]:
    """(n, 2) widths and heights by seed: a third ordinary, a third from one pixel to `largest`, however elongated, and
    a third on the edges where a tiling changes."""

    def make(count: int, seed: int = 0, largest: int = 6000) -> Sizes:
        random = np.random.default_rng(seed)
        ordinary = random.integers(min(200, largest // 2), min(2500, largest), (count // 3, 2))
        extreme = np.exp(random.uniform(0, np.log(largest), (count // 3, 2))).astype(np.int64)
        steps = random.integers(1, max(2, largest // 28), (count - 2 * (count // 3), 2)) * 28
        edges = np.clip(steps + random.integers(-1, 2, steps.shape), 1, largest)
        return np.concatenate([ordinary, extreme, edges])

    return make


@pytest.fixture(scope="session")
def picture() -> Callable[[int, int], npt.NDArray[np.uint8]]:
    """An RGB image of a width and a height, without two places alike."""

    def make(width: int, height: int) -> npt.NDArray[np.uint8]:
        y, x = np.mgrid[:height, :width]
        return np.stack([x * 7 % 256, y * 5 % 256, (x * x + y * 3) % 256], axis=-1).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def reference() -> dict[str, Any]:
    """fixtures/references.npz; see the README beside it."""
    with np.load(Path(__file__).parent / "fixtures" / "references.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def checksum() -> Callable[[npt.NDArray[Any]], int]:
    """The CRC-32 of an array's bytes, as in references.npz."""
    return lambda array: zlib.crc32(np.ascontiguousarray(array).tobytes())
