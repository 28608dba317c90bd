"""Conversations as tokens: LLaVA's turns to ChatML.

Token for token what a Qwen2 tokenizer's `apply_chat_template` gives, with `-200` where `<image>` stood; loss on each
answer and its `<|im_end|>`, not on the newline after it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmcorpus.packing.lengths import IMAGE_TOKEN
from mmcorpus.packing.tokens import SpecialIds, TokenizedSample, encode_texts, special_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

IMAGE_MARK: Final = "<image>"
"""How LLaVA's conversations write the place of an image."""

_ROLES: Final = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}

Turns = list[tuple[str, str]]
"""A conversation's (role, text), roles being `system`, `user` and `assistant`."""


def parse_conversation(conversations: str | Sequence[Mapping[str, Any]]) -> Turns:
    """LLaVA's `[{"from": "human"|"gpt"|"system", "value": …}, …]`, as JSON text or parsed.

    Raises ValueError for anything else, and for a conversation without an answer to learn from.
    """
    if isinstance(conversations, str):
        try:
            conversations = json.loads(conversations)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"conversations is not JSON: {error}") from None
    if not isinstance(conversations, Sequence) or isinstance(conversations, str):
        raise ValueError("conversations is not a list of turns")
    turns: Turns = []
    for number, turn in enumerate(conversations):
        role = _ROLES.get(str(turn.get("from"))) if isinstance(turn, Mapping) else None
        value = turn.get("value") if isinstance(turn, Mapping) else None
        if role is None or not isinstance(value, str):
            raise ValueError(f"turn {number} needs 'from' (human, gpt or system) and a text 'value'")
        turns.append((role, value))
    if not any(role == "assistant" and text.strip() for role, text in turns):
        raise ValueError("no turn from gpt says anything, so there is nothing to learn")
    return turns


def encode_conversations(
    tokenizer: "PreTrainedTokenizerFast", conversations: Sequence[Turns], image_counts: Sequence[int]
) -> list[TokenizedSample]:
    """Conversations as ChatML, encoded in one batch.

    The first `image_count` marks `<image>` in user turns become placeholders, text around them kept; further ones
    stay text. Where there are fewer marks than images, the missing ones open the first user turn, a line each, as
    LLaVA does.
    """
    special = special_ids(tokenizer)
    pieces = [
        _pieces(turns, count, special) for turns, count in zip(conversations, image_counts, strict=True)
    ]  # each conversation a list of ids and (text, is_answer)
    answer_head = encode_texts(tokenizer, [_ANSWER_HEAD])[0]
    texts = [piece[0] for conversation in pieces for piece in conversation if isinstance(piece, tuple)]
    encoded = iter(encode_texts(tokenizer, texts))
    samples = []
    for conversation, image_count in zip(pieces, image_counts, strict=True):
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for piece in conversation:
            if isinstance(piece, int):
                ids.append(piece)
                continue
            text_ids = next(encoded)
            if piece[1]:
                # The span ends one past the <|im_end|> that follows the answer.
                spans.append((len(ids) + _answer_start(text_ids, answer_head), len(ids) + len(text_ids) + 1))
            ids += text_ids
        samples.append(
            TokenizedSample(
                input_ids=np.array(ids, dtype=np.int32), loss_spans=tuple(spans), image_count=max(image_count, 0)
            )
        )
    return samples


def encode_conversation(
    tokenizer: "PreTrainedTokenizerFast", conversations: str | Sequence[Mapping[str, Any]], image_count: int
) -> TokenizedSample:
    """One conversation; see `parse_conversation` and `encode_conversations`."""
    return encode_conversations(tokenizer, [parse_conversation(conversations)], [image_count])[0]


_ANSWER_HEAD: Final = "assistant\n"


def _pieces(turns: Turns, image_count: int, special: SpecialIds) -> list[int | tuple[str, bool]]:
    """A conversation as ids and (text, is an answer), in order."""
    marks = sum(text.count(IMAGE_MARK) for role, text in turns if role == "user")
    missing = max(0, image_count - marks)
    if missing and not any(role == "user" for role, _ in turns):
        turns = [("user", ""), *turns] if turns[0][0] != "system" else [turns[0], ("user", ""), *turns[1:]]
    slots = image_count
    pieces: list[int | tuple[str, bool]] = []
    for role, text in turns:
        if role == "user" and missing:
            text, missing = f"{IMAGE_MARK}\n" * missing + text, 0
        pieces.append(special.im_start)
        before, *after = text.split(IMAGE_MARK, slots) if role == "user" and slots else [text]
        slots -= len(after)
        pieces.append((f"{role}\n{before}", role == "assistant"))
        for part in after:
            pieces.append(IMAGE_TOKEN)
            if part:
                pieces.append((part, False))
        pieces.append(special.im_end)
        pieces.append(("\n", False))
    return pieces


def _answer_start(text_ids: Sequence[int], head: Sequence[int]) -> int:
    """How many of a turn's ids belong to `assistant\\n`.

    An answer that opens with a line break may share a token with the head's own; no prompt ends in the middle of a
    token, so that token carries no loss.
    """
    common = 0
    while common < min(len(head), len(text_ids)) and text_ids[common] == head[common]:
        common += 1
    return common if common == len(head) else min(common + 1, len(text_ids))
