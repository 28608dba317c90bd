"""What becomes of a row: tokens that fit a sequence, or the rule that keeps it out. Planner and packer share it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmcorpus.packing import conversations, documents, tokens
from mmcorpus.packing.chat import CHATML, ChatTemplate
from mmcorpus.packing.config import PlanConfig
from mmcorpus.packing.inputs import IMAGES_PER_SAMPLE, Kind
from mmcorpus.packing.layout.base import Size
from mmcorpus.packing.lengths import expanded_length
from mmcorpus.packing.turns import parse_conversation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedSample:
    """A sample that fits a sequence."""

    tokens: tokens.TokenizedSample
    length: int
    """Positions it takes."""
    full_length: int
    """Positions it would take uncut; larger than `length` only if it was truncated or split."""
    captions: tuple[str, ...] = ()
    """What a pair says instead of its row's caption; empty for that caption."""
    left_out: int = 0
    """How many captions more it was given, for which a sequence has no room."""
    part: int = 0
    """Which part of its row it is."""
    sizes: tuple[Size, ...] = ()
    """Width and height of each of its images, where those decide how many positions they take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """Why a row is not packed, as the ledger says it."""

    rule: str
    """`missing_text`, `missing_size`, `bad_conversation`, `bad_document`, `too_long` or `too_many_images`."""
    value: str


Fitted = tuple[FittedSample, ...] | Rejection
"""What becomes of a row: its sample, its parts in order, or why there is none."""


def fit_rows(
    tokenizer: "PreTrainedTokenizerFast",
    kind: Kind,
    texts: Sequence[str | tuple[str, ...] | None],
    config: PlanConfig,
    sizes: Sequence[tuple[int | None, int | None]] = (),
) -> list[Fitted]:
    """Tokenize rows' texts (captions; conversations or nodes as JSON) in one batch; one answer a row, in order.

    `sizes` are width and height of each row's image: needed where `asks_sizes`.
    A pair may have several captions: those that do not fit are left out, the last first, and `too_long` is asked of the
    image with the first alone. A document that is too long, or has more images than `max_images`, is dropped, or cut to
    its beginning, or split.
    """
    template = chat_template(tokenizer, config) if kind == "conversation" else None
    rows = [_read(kind, text, template) for text in texts]
    sized = asks_sizes(kind, config)
    if sized:
        rows = [_with_size(row, size) for row, size in zip(rows, sizes, strict=True)]
    kept = [number for number, row in enumerate(rows) if not isinstance(row, Rejection)]
    readable = [rows[number] for number in kept]
    if kind in ("document", "text"):
        fitted = iter([_fit_document(each, config) for each in documents.encode_documents(tokenizer, readable)])
    else:
        encoded = (
            tokens.encode_captions(tokenizer, readable)
            if kind == "pair"
            else conversations.encode_conversations(tokenizer, readable)
        )
        captions = [row if isinstance(row, tuple) else () for row in readable]
        images = [_known(sizes[number]) if sized else () for number in kept]
        fits = zip(encoded, captions, images, _per_image(config, images), strict=True)
        fitted = iter([_fit(sample, given, own, per_image, config) for sample, given, own, per_image in fits])
    return [row if isinstance(row, Rejection) else next(fitted) for row in rows]


def chat_template(tokenizer: "PreTrainedTokenizerFast", config: PlanConfig) -> ChatTemplate:
    """The template that conversations are written in."""
    return conversations.chat_template(tokenizer, CHATML if config.chat_template == "chatml" else None)


def template_hash(tokenizer: "PreTrainedTokenizerFast", config: PlanConfig) -> str:
    """The hash of the tokenizer's own template, if that is the one; empty for ChatML, which is always the same."""
    return "" if config.chat_template == "chatml" else chat_template(tokenizer, config).hash


def _read(kind: Kind, text: str | tuple[str, ...] | None, template: ChatTemplate | None) -> Any:
    """A row's captions, its turns laid out, or its nodes; a Rejection if there is nothing to learn from."""
    if isinstance(text, tuple):
        return text
    if text is None or not text.strip():
        return Rejection(rule="missing_text", value=f"missing_text: {'null' if text is None else 'blank'}")
    if kind == "pair":
        return text
    try:
        if template is not None:
            return conversations.lay_out(parse_conversation(text), IMAGES_PER_SAMPLE, template)
        nodes = documents.parse_nodes(text, images=kind == "document")
    except ValueError as error:
        rule = "bad_conversation" if kind == "conversation" else "bad_document"
        return Rejection(rule=rule, value=f"{rule}: {error}")
    if not any(isinstance(node, str) for node in nodes):
        return Rejection(rule="missing_text", value="missing_text: no text among its nodes")
    return nodes


def asks_sizes(kind: Kind, config: PlanConfig) -> bool:
    """Whether the sizes of images decide the lengths of rows of this kind. Raises ValueError for documents then, since
    their rows do not say them."""
    if isinstance(config.per_image, int) or kind == "text":
        return False
    if kind == "document":
        raise ValueError(
            f"pack.layout: under {config.per_image.kind!r} an image's positions depend on its size, which documents' "
            "rows do not say; give them a layout of the kind square or mm1"
        )
    return True


def _known(size: tuple[int | None, int | None]) -> tuple[Size, ...]:
    """A row's image's size; none if it is not known."""
    width, height = size
    return ((width, height),) if width and height else ()


def _with_size(row: Any, size: tuple[int | None, int | None]) -> Any:
    """The row, or a Rejection if its image's size is not known."""
    if isinstance(row, Rejection) or _known(size):
        return row
    return Rejection(rule="missing_size", value=f"missing_size: {size[0]} x {size[1]}")


def _per_image(config: PlanConfig, images: Sequence[tuple[Size, ...]]) -> Sequence[int]:
    """Positions of each row's image."""
    if isinstance(config.per_image, int):
        return [config.per_image] * len(images)
    sizes = np.array(images, dtype=np.int64).reshape(-1, 2)
    lengths: list[int] = config.per_image.lengths(sizes[:, 0], sizes[:, 1]).tolist()
    return lengths


def _fit(
    sample: tokens.TokenizedSample,
    given: tuple[str, ...],
    images: tuple[Size, ...],
    tokens_per_image: int,
    config: PlanConfig,
) -> Fitted:
    context_length = config.context_length
    sample = tokens.fit_annotations(sample, context_length, tokens_per_image)
    captions = given[: max(1, len(sample.branches))]
    full_length = length = expanded_length(len(sample.input_ids), sample.image_count, tokens_per_image)
    if full_length > context_length:
        cut = tokens.truncate(sample, context_length, tokens_per_image) if config.too_long == "truncate" else None
        if cut is None:
            return Rejection(rule="too_long", value=f"length={full_length}")
        sample, length = cut, expanded_length(len(cut.input_ids), cut.image_count, tokens_per_image)
    left_out = len(given) - len(captions)
    fitted = FittedSample(
        tokens=sample, length=length, full_length=full_length, captions=captions, left_out=left_out, sizes=images
    )
    return (fitted,)


def _fit_document(document: documents.TokenizedDocument, config: PlanConfig) -> Fitted:
    whole, images = len(document.input_ids), len(document.images)
    # Under any other layout there are texts alone (`asks_sizes`), which have no images.
    tokens_per_image = config.per_image if isinstance(config.per_image, int) else 0
    full_length = expanded_length(whole, images, tokens_per_image)
    edges = [0, whole]
    if full_length > config.context_length or (config.max_images is not None and images > config.max_images):
        if config.too_long == "drop":
            if full_length > config.context_length:
                return Rejection(rule="too_long", value=f"length={full_length}")
            return Rejection(rule="too_many_images", value=f"images={images}")
        edges = documents.cuts(
            document,
            context_length=config.context_length,
            tokens_per_image=tokens_per_image,
            max_images=config.max_images,
        )
    parts = []
    for number, (start, end) in enumerate(itertools.pairwise(edges if config.too_long == "split" else edges[:2])):
        part = document.part(start, end)
        # A sample's first token is never a target, so that a part may have nothing to learn from: images, or one token.
        if part.loss_spans and part.loss_spans[-1][1] > 1:
            length = expanded_length(end - start, part.image_count, tokens_per_image)
            parts.append(FittedSample(tokens=part, length=length, full_length=full_length, part=number))
    return tuple(parts) or Rejection(rule="too_long", value=f"length={full_length}")
