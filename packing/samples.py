"""What becomes of a row: tokens that fit a sequence, or the rule that keeps it out. Planner and packer share it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmcorpus.packing import conversations, documents, tokens
from mmcorpus.packing.config import TooLong
from mmcorpus.packing.inputs import IMAGES_PER_SAMPLE, Kind
from mmcorpus.packing.lengths import expanded_length

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """Why a row is not packed, as the ledger says it."""

    rule: str
    """`missing_text`, `bad_conversation`, `bad_document`, `too_long` or `too_many_images`."""
    value: str


Fitted = tuple[FittedSample, ...] | Rejection
"""What becomes of a row: its sample, its parts in order, or why there is none."""


def fit_rows(
    tokenizer: "PreTrainedTokenizerFast",
    kind: Kind,
    texts: Sequence[str | tuple[str, ...] | None],
    *,
    context_length: int,
    tokens_per_image: int,
    too_long: TooLong,
    max_images: int | None = None,
) -> list[Fitted]:
    """Tokenize rows' texts (captions; conversations or nodes as JSON) in one batch; one answer a row, in order.

    A pair may have several captions: those that do not fit are left out, the last first, and `too_long` is asked of the
    image with the first alone. A document that is too long, or has more images than `max_images`, is dropped, or cut to
    its beginning, or split.
    """
    answers: list[Fitted | None] = [None] * len(texts)
    captions: list[str | tuple[str, ...]] = []
    talks: list[conversations.Turns] = []
    nodes: list[documents.Nodes] = []
    numbers: list[int] = []
    for number, text in enumerate(texts):
        if isinstance(text, tuple):
            captions.append(text)
            numbers.append(number)
            continue
        if text is None or not text.strip():
            answers[number] = Rejection(
                rule="missing_text", value="missing_text: null" if text is None else "missing_text: blank"
            )
            continue
        if kind == "pair":
            captions.append(text)
        elif kind == "conversation":
            try:
                talks.append(conversations.parse_conversation(text))
            except ValueError as error:
                answers[number] = Rejection(rule="bad_conversation", value=f"bad_conversation: {error}")
                continue
        else:
            try:
                parsed = documents.parse_nodes(text, images=kind == "document")
            except ValueError as error:
                answers[number] = Rejection(rule="bad_document", value=f"bad_document: {error}")
                continue
            if not any(isinstance(node, str) for node in parsed):
                answers[number] = Rejection(rule="missing_text", value="missing_text: no text among its nodes")
                continue
            nodes.append(parsed)
        numbers.append(number)
    if kind in ("document", "text"):
        for number, document in zip(numbers, documents.encode_documents(tokenizer, nodes), strict=True):
            answers[number] = _fit_document(document, context_length, tokens_per_image, max_images, too_long)
        return [answer for answer in answers if answer is not None]
    if kind == "pair":
        encoded = tokens.encode_captions(tokenizer, captions)
    else:
        encoded = conversations.encode_conversations(tokenizer, talks, [IMAGES_PER_SAMPLE] * len(talks))
    for number, sample in zip(numbers, encoded, strict=True):
        text = texts[number]
        given = text if isinstance(text, tuple) else ()
        answers[number] = _fit(sample, given, context_length, tokens_per_image, too_long)
    return [answer for answer in answers if answer is not None]


def _fit(
    sample: tokens.TokenizedSample,
    given: tuple[str, ...],
    context_length: int,
    tokens_per_image: int,
    too_long: TooLong,
) -> Fitted:
    sample = tokens.fit_annotations(sample, context_length, tokens_per_image)
    captions = given[: max(1, len(sample.branches))]
    full_length = expanded_length(len(sample.input_ids), sample.image_count, tokens_per_image)
    kept: tokens.TokenizedSample | None = sample
    if full_length > context_length:
        kept = tokens.truncate(sample, context_length, tokens_per_image) if too_long == "truncate" else None
        if kept is None:
            return Rejection(rule="too_long", value=f"length={full_length}")
    assert kept is not None
    length = expanded_length(len(kept.input_ids), kept.image_count, tokens_per_image)
    left_out = len(given) - len(captions)
    return (FittedSample(tokens=kept, length=length, full_length=full_length, captions=captions, left_out=left_out),)


def _fit_document(
    document: documents.TokenizedDocument,
    context_length: int,
    tokens_per_image: int,
    max_images: int | None,
    too_long: TooLong,
) -> Fitted:
    whole, images = len(document.input_ids), len(document.images)
    full_length = expanded_length(whole, images, tokens_per_image)
    edges = [0, whole]
    if full_length > context_length or (max_images is not None and images > max_images):
        if too_long == "drop":
            if full_length > context_length:
                return Rejection(rule="too_long", value=f"length={full_length}")
            return Rejection(rule="too_many_images", value=f"images={images}")
        edges = documents.cuts(
            document, context_length=context_length, tokens_per_image=tokens_per_image, max_images=max_images
        )
    parts = []
    for number, (start, end) in enumerate(itertools.pairwise(edges if too_long == "split" else edges[:2])):
        part = document.part(start, end)
        # A sample's first token is never a target, so that a part may have nothing to learn from: images, or one token.
        if part.loss_spans and part.loss_spans[-1][1] > 1:
            length = expanded_length(end - start, part.image_count, tokens_per_image)
            parts.append(FittedSample(tokens=part, length=length, full_length=full_length, part=number))
    return tuple(parts) or Rejection(rule="too_long", value=f"length={full_length}")
