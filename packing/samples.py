"""What becomes of a row: tokens that fit a sequence, or the rule that keeps it out. Planner and packer share it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from packing import tokens
from packing.inputs import IMAGES_PER_SAMPLE, Kind
from packing.lengths import expanded_length

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TooLong = Literal["drop", "truncate"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedSample:
    """A sample that fits a sequence."""

    tokens: tokens.TokenizedSample
    length: int
    """Positions it takes."""
    full_length: int
    """Positions it would take uncut; larger than `length` only if it was truncated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """Why a row is not packed, as the ledger says it."""

    rule: str
    """`missing_text`, `bad_conversation` or `too_long`."""
    value: str


def fit_rows(
    tokenizer: "PreTrainedTokenizerFast",
    kind: Kind,
    texts: Sequence[str | None],
    *,
    context_length: int,
    tokens_per_image: int,
    too_long: TooLong,
) -> list[FittedSample | Rejection]:
    """Tokenize rows' texts (captions, or conversations as JSON) in one batch; one answer a row, in order."""
    answers: list[FittedSample | Rejection | None] = [None] * len(texts)
    captions: list[str] = []
    conversations: list[tokens.Turns] = []
    numbers: list[int] = []
    for number, text in enumerate(texts):
        if text is None or not text.strip():
            answers[number] = Rejection(
                rule="missing_text", value="missing_text: null" if text is None else "missing_text: blank"
            )
            continue
        if kind == "pair":
            captions.append(text)
        else:
            try:
                conversations.append(tokens.parse_conversation(text))
            except ValueError as error:
                answers[number] = Rejection(rule="bad_conversation", value=f"bad_conversation: {error}")
                continue
        numbers.append(number)
    if kind == "pair":
        encoded = tokens.encode_captions(tokenizer, captions)
    else:
        encoded = tokens.encode_conversations(tokenizer, conversations, [IMAGES_PER_SAMPLE] * len(conversations))
    for number, sample in zip(numbers, encoded, strict=True):
        answers[number] = _fit(sample, context_length, tokens_per_image, too_long)
    return [answer for answer in answers if answer is not None]


def _fit(
    sample: tokens.TokenizedSample, context_length: int, tokens_per_image: int, too_long: TooLong
) -> FittedSample | Rejection:
    full_length = expanded_length(len(sample.input_ids), sample.image_count, tokens_per_image)
    kept: tokens.TokenizedSample | None = sample
    if full_length > context_length:
        kept = tokens.truncate(sample, context_length, tokens_per_image) if too_long == "truncate" else None
        if kept is None:
            return Rejection(rule="too_long", value=f"length={full_length}")
    assert kept is not None
    length = expanded_length(len(kept.input_ids), kept.image_count, tokens_per_image)
    return FittedSample(tokens=kept, length=length, full_length=full_length)
