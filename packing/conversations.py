"""Conversations as tokens: turns in a chat template, token for token what `apply_chat_template` gives.

`-200` stands where `<image>` stood. Loss is on each answer and what the template ends it with: ChatML's `<|im_end|>`,
not the line break after it.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmcorpus.filters.plain_tokens import encode_plain_with_offsets
from mmcorpus.packing.chat import ANSWERS, CHATML, ChatTemplate, Claim, Said, Turns
from mmcorpus.packing.lengths import IMAGE_TOKEN
from mmcorpus.packing.tokens import TokenizedSample, encode_texts
from mmcorpus.packing.turns import IMAGE_MARK, parse_conversation, with_marks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """Text between control tokens or images, encoded as one."""

    text: str
    answers: tuple[tuple[int, int], ...] = ()
    """`[start, end)` of the characters that carry loss."""
    open: bool = False
    """Whether the last answer goes on to the control token after the text, which then carries loss too."""

    @property
    def head(self) -> str:
        """What stands before its only answer."""
        return self.text[: self.answers[0][0]]

    @property
    def several(self) -> bool:
        """Whether it takes offsets to tell which tokens are answers'; they cost a third more."""
        return bool(self.answers) and (len(self.answers) > 1 or not self.open or self.head.endswith(" "))


_TRIED: Final = [("user", "What is  it?"), (ANSWERS, " A clock.\n\nYes")]
LaidOut = list[int | Run]
"""A conversation in order: ids of control tokens and placeholders, and texts."""


def lay_out(
    turns: Turns,
    image_count: int,
    template: ChatTemplate,
    *,
    prompt: bool = False,
    claims: list[Claim] | None = None,
) -> LaidOut:
    """What a template writes for a conversation, with `prompt` up to where the next answer begins.

    Raises ValueError where the template refuses or rewrites it. With `claims` whether it does is left to be checked,
    of many conversations at once (`ChatTemplate.check`): what it is said to write is added to them.

    The first `image_count` marks `<image>` in user turns become placeholders, text around them kept; further ones
    stay text. Where there are fewer marks than images, the missing ones open the first user turn, a line each, as
    LLaVA does.
    """
    turns = with_marks(turns, image_count)
    pieces = template.pieces(tuple(role for role, _ in turns), prompt=prompt)
    if template.rewrites:
        ours = "".join(
            piece.of(turns[piece.turn][1]) if isinstance(piece, Said)
            else template.controls[piece].content if isinstance(piece, int) else piece
            for piece in pieces
        )  # fmt: skip
        claim = Claim(ours, turns, prompt)
        if claims is not None:
            claims.append(claim)
        elif (wrong := template.check([claim])[0]) is not None:
            raise ValueError(wrong)
    laid_out: LaidOut = []
    slots = image_count
    run = Run("")
    for piece in pieces:
        if isinstance(piece, int):
            _close(laid_out, run, template, piece)
            run = Run("")
        elif isinstance(piece, str):
            run = Run(run.text + piece, run.answers, run.open)
        else:
            role, said = turns[piece.turn][0], piece.of(turns[piece.turn][1])
            before, *after = said.split(IMAGE_MARK, slots) if role == "user" and slots else [said]
            slots -= len(after)
            start, text = len(run.text), run.text + before
            answers = (*run.answers, (start, len(text))) if role == ANSWERS else run.answers
            run = Run(text, answers, role == ANSWERS)
            for part in after:
                _close(laid_out, run, template, IMAGE_TOKEN)
                run = Run(part)
    _close(laid_out, run, template, None)
    return laid_out


@functools.lru_cache(maxsize=4)
def chat_template(tokenizer: "PreTrainedTokenizerFast", template: str | None) -> ChatTemplate:
    """A template, or (None) the tokenizer's own, tried on a conversation.

    Raises ValueError as `ChatTemplate`, and for a tokenizer that encodes the parts of a text otherwise than the whole:
    some begin a text, and it alone, with a space.
    """
    made = ChatTemplate(tokenizer, template)
    (tried,) = encode_conversations(tokenizer, [lay_out(_TRIED, 0, made)])
    if tried.input_ids.tolist() != tokenizer(made.written(_TRIED), add_special_tokens=False)["input_ids"]:
        raise ValueError(
            f"the tokenizer {tokenizer.name_or_path!r} encodes what is said in a turn otherwise than within the whole "
            "conversation, so that ids would not be those of apply_chat_template; use a byte-level tokenizer"
        )
    return made


def encode_conversations(
    tokenizer: "PreTrainedTokenizerFast", conversations: Sequence[LaidOut]
) -> list[TokenizedSample]:
    """Conversations as `lay_out` gives them, encoded in one batch.

    A token that an answer shares with the text before it carries no loss, as no prompt ends in the middle of a token;
    but for a space before the answer (`ASSISTANT: a clock`), with which the answer's first token begins.
    """
    runs = [piece for conversation in conversations for piece in conversation if isinstance(piece, Run)]
    plain = iter(encode_texts(tokenizer, [run.text for run in runs if not run.several]))
    located = iter(encode_plain_with_offsets(tokenizer, [run.text for run in runs if run.several]))
    heads = sorted({run.head for run in runs if run.answers and not run.several})
    head_ids = dict(zip(heads, encode_texts(tokenizer, heads), strict=True))
    samples = []
    for conversation in conversations:
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for piece in conversation:
            if isinstance(piece, int):
                ids.append(piece)
            elif piece.several:
                own, offsets = next(located)
                spans += _targets(piece, offsets, len(ids))
                ids += own
            else:
                own = next(plain)
                if piece.answers:
                    spans.append((len(ids) + _answer_start(own, head_ids[piece.head]), len(ids) + len(own) + 1))
                ids += own
        images = ids.count(IMAGE_TOKEN)
        samples.append(
            TokenizedSample(
                input_ids=np.array(ids, dtype=np.int32),
                loss_spans=tuple(spans),
                image_count=images,
                images=None if images else (),
            )
        )
    return samples


def encode_conversation(
    tokenizer: "PreTrainedTokenizerFast", conversations: Any, image_count: int, template: str | None = CHATML
) -> TokenizedSample:
    """One conversation, in ChatML, another template, or (None) the tokenizer's own; see `parse_conversation`."""
    laid_out = lay_out(parse_conversation(conversations), image_count, chat_template(tokenizer, template))
    return encode_conversations(tokenizer, [laid_out])[0]


def _close(laid_out: LaidOut, run: Run, template: ChatTemplate, following: int | None) -> None:
    """Add a text, and the id that follows it."""
    text, answers, ended = run.text, run.answers, False
    if run.open and following is not None:  # what the template ends an answer with is part of it
        answers, ended = (*answers[:-1], (answers[-1][0], len(text))), True
    before = template.controls.get(laid_out[-1]) if laid_out and isinstance(laid_out[-1], int) else None
    after = template.controls.get(following) if following is not None else None
    if before is not None and before.rstrip:  # such a token takes the white space beside it
        cut = len(text) - len(text.lstrip())
        text, answers = text[cut:], tuple((max(0, start - cut), max(0, end - cut)) for start, end in answers)
    if after is not None and after.lstrip:
        text = text.rstrip()
        answers = tuple((min(start, len(text)), min(end, len(text))) for start, end in answers)
    if text or answers:
        laid_out.append(Run(text, answers, ended))
    if following is not None:
        laid_out.append(following)


def _answer_start(ids: Sequence[int], head: Sequence[int]) -> int:
    """How many of a text's ids belong to its head, the one that it shares with the answer among them."""
    common = 0
    while common < min(len(head), len(ids)) and ids[common] == head[common]:
        common += 1
    return common if common == len(head) else min(common + 1, len(ids))


def _targets(run: Run, offsets: Sequence[tuple[int, int]], first: int) -> Iterator[tuple[int, int]]:
    """The spans over input ids of a text's answers; its own ids begin at `first`."""
    for number, (start, end) in enumerate(run.answers):
        inside = [
            place
            for place, (left, right) in enumerate(offsets)
            if right <= end and not run.text[left:start].strip(" ") and (right > start or left >= start)
        ]
        ended = run.open and number == len(run.answers) - 1
        begin = first + (inside[0] if inside else len(offsets))
        finish = first + (inside[-1] + 1 if inside else len(offsets))
        if ended:
            finish = first + len(offsets) + 1
        if finish > begin:
            yield begin, finish
