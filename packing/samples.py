"""What becomes of a row: tokens that fit a sequence, or the rule that keeps it out. Planner and packer share it."""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmcorpus.packing import conversations, documents, tokens
from mmcorpus.packing.chat import CHATML, ChatTemplate
from mmcorpus.packing.config import ChatTemplateName, PlanConfig
from mmcorpus.packing.inputs import IMAGES_PER_SAMPLE, Kind
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
    config: PlanConfig,
) -> list[Fitted]:
    """Tokenize rows' texts (captions; conversations or nodes as JSON) in one batch; one answer a row, in order.

    A pair may have several captions: those that do not fit are left out, the last first, and `too_long` is asked of the
    image with the first alone. A document that is too long, or has more images than `max_images`, is dropped, or cut to
    its beginning, or split.
    """
    template = chat_template(tokenizer, config.chat_template) if kind == "conversation" else None
    rows = [_read(kind, text, template) for text in texts]
    readable = [row for row in rows if not isinstance(row, Rejection)]
    if kind in ("document", "text"):
        fitted = iter([_fit_document(each, config) for each in documents.encode_documents(tokenizer, readable)])
    else:
        encoded = (
            tokens.encode_captions(tokenizer, readable)
            if kind == "pair"
            else conversations.encode_conversations(tokenizer, readable)
        )
        captions = [row if isinstance(row, tuple) else () for row in readable]
        fitted = iter([_fit(sample, given, config) for sample, given in zip(encoded, captions, strict=True)])
    return [row if isinstance(row, Rejection) else next(fitted) for row in rows]


@functools.lru_cache(maxsize=4)
def chat_template(tokenizer: "PreTrainedTokenizerFast", name: ChatTemplateName) -> ChatTemplate:
    """The template that conversations are written in."""
    return ChatTemplate(tokenizer, CHATML if name == "chatml" else None)


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


def _fit(sample: tokens.TokenizedSample, given: tuple[str, ...], config: PlanConfig) -> Fitted:
    context_length, tokens_per_image = config.context_length, config.tokens_per_image
    sample = tokens.fit_annotations(sample, context_length, tokens_per_image)
    captions = given[: max(1, len(sample.branches))]
    full_length = length = expanded_length(len(sample.input_ids), sample.image_count, tokens_per_image)
    if full_length > context_length:
        cut = tokens.truncate(sample, context_length, tokens_per_image) if config.too_long == "truncate" else None
        if cut is None:
            return Rejection(rule="too_long", value=f"length={full_length}")
        sample, length = cut, expanded_length(len(cut.input_ids), cut.image_count, tokens_per_image)
    left_out = len(given) - len(captions)
    return (FittedSample(tokens=sample, length=length, full_length=full_length, captions=captions, left_out=left_out),)


def _fit_document(document: documents.TokenizedDocument, config: PlanConfig) -> Fitted:
    whole, images = len(document.input_ids), len(document.images)
    full_length = expanded_length(whole, images, config.tokens_per_image)
    edges = [0, whole]
    if full_length > config.context_length or (config.max_images is not None and images > config.max_images):
        if config.too_long == "drop":
            if full_length > config.context_length:
                return Rejection(rule="too_long", value=f"length={full_length}")
            return Rejection(rule="too_many_images", value=f"images={images}")
        edges = documents.cuts(
            document,
            context_length=config.context_length,
            tokens_per_image=config.tokens_per_image,
            max_images=config.max_images,
        )
    parts = []
    for number, (start, end) in enumerate(itertools.pairwise(edges if config.too_long == "split" else edges[:2])):
        part = document.part(start, end)
        # A sample's first token is never a target, so that a part may have nothing to learn from: images, or one token.
        if part.loss_spans and part.loss_spans[-1][1] > 1:
            length = expanded_length(end - start, part.image_count, config.tokens_per_image)
            parts.append(FittedSample(tokens=part, length=length, full_length=full_length, part=number))
    return tuple(parts) or Rejection(rule="too_long", value=f"length={full_length}")
