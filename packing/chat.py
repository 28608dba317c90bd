"""A tokenizer's chat template, followed token for token: what it writes around what is said in each turn.

    ChatTemplate(tokenizer).pieces(("user", "assistant"))
    # (151644, "user\n", Said(turn=0), 151645, "\n", 151644, "assistant\n", Said(turn=1), 151645, "\n")

A template is a program, so it is run, once for each order of roles, on marks in place of what is said. What it writes
itself may be control tokens; what is said in a turn comes from the web and never is. The program comes from the web
too: `rendering` bounds its time and memory.
"""

import datetime
import functools
import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mmcorpus.filters.rendering import render, render_all

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHATML: Final = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""Qwen2's ChatML without a default system turn."""
ANSWERS: Final = "assistant"
"""The role whose turns are learnt."""

Turns = list[tuple[str, str]]
"""A conversation's (role, text), roles being `system`, `user` and `assistant`."""

REWRITTEN: Final = "the chat template does not write what is said, but something made of it (thoughts, say)"
_CHATML_TOKENS: Final = ("<|im_start|>", "<|im_end|>")
_DAY: Final = datetime.datetime(2024, 7, 26)
"""What Llama 3 says the day is where nobody says it; templates would write the day of the run."""
_TODAY: Final = re.compile(r"""strftime_now\(\s{0,99}(["'])((?:(?!\1).){1,99})\1\s{0,99}\)""")
_LONGEST: Final = 2**20
"""Characters of a template; the longest published have some 30,000."""
_LEFT, _RIGHT = "\u2003", "\u2002"
"""White space that no template writes itself."""
_MARK: Final = re.compile("\ue000([0-9]+)\ue001")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a template is said to write for some turns."""

    text: str
    turns: Turns
    prompt: bool


@dataclass(frozen=True, slots=True)
class Said:
    """The place of what is said in a turn."""

    turn: int
    strip: tuple[bool, bool]
    """Whether the template takes the white space off its beginning, and off its end."""

    def of(self, text: str) -> str:
        """A turn's text as the template writes it."""
        text = text.lstrip() if self.strip[0] else text
        return text.rstrip() if self.strip[1] else text


Piece = int | str | Said
"""The id of a control token, text that the template writes, or the place of a turn's text."""


def _messages(turns: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in turns]


class ChatTemplate:
    """A template of one tokenizer."""

    def __init__(self, tokenizer: "PreTrainedTokenizerFast", template: str | None = None) -> None:
        """The tokenizer's own template if none is given.

        Raises ValueError if it has none, and for ChatML if it lacks the control tokens.
        """
        own = tokenizer.chat_template
        told = template or (own.get("default") if isinstance(own, dict) else own) or ""
        if not isinstance(told, str) or len(told) > _LONGEST:
            raise ValueError(
                f"the chat template of the tokenizer {tokenizer.name_or_path!r} is no text of at most {_LONGEST:,} "
                "characters; say `chat_template: chatml`, or give the tokenizer another"
            )
        self.template = _TODAY.sub(lambda call: repr(_DAY.strftime(call[2])), told)
        """Its text, in which a fixed day stands where it asks for that of the run."""
        self._tokenizer, self._name = tokenizer, tokenizer.name_or_path
        added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
        self.controls = {number: token for number, token in added.items() if not token.content.isspace()}
        """Control tokens by id."""
        self._ids = {token.content: number for number, token in self.controls.items()}
        longest = sorted(map(re.escape, self._ids), key=len, reverse=True)
        self._control = re.compile(f"({'|'.join(longest)})") if longest else re.compile("(?!)")
        self.pieces = functools.lru_cache(maxsize=1024)(self._pieces)
        if not self.template:
            raise ValueError(f"the tokenizer {self._name!r} has no chat template; say `chat_template: chatml`")
        if self.template == CHATML and (lacking := [name for name in _CHATML_TOKENS if name not in self._ids]):
            raise ValueError(
                f"the tokenizer {self._name!r} has no {' and no '.join(lacking)}, which ChatML is written with; say "
                "`chat_template: tokenizer` for its own template, or add them by add_special_tokens and save it"
            )

    @property
    def hash(self) -> str:
        """16 hex digits: equal hashes mean the same template."""
        return hashlib.blake2b(self.template.encode(), digest_size=8).hexdigest()

    @functools.cached_property
    def ends(self) -> frozenset[int]:
        """The control tokens that end an answer; none where a template ends it with text."""
        pieces = iter(self.pieces(("user", ANSWERS)))
        next(piece for piece in pieces if isinstance(piece, Said) and piece.turn)
        return frozenset(itertools.islice((piece for piece in pieces if isinstance(piece, int)), 1))

    @property
    def rewrites(self) -> bool:
        """Whether the template may write something else for a text than the text (Qwen3's leaves out thoughts)."""
        return self.template != CHATML

    def written(self, turns: Sequence[tuple[str, str]], *, prompt: bool = False) -> str:
        """What the template writes; raises ValueError with its own words where it refuses the turns."""
        if self.template == CHATML:
            return str(
                self._tokenizer.apply_chat_template(
                    _messages(turns), tokenize=False, chat_template=CHATML, add_generation_prompt=prompt
                )
            )
        try:
            return render(self.template, {**self._given(prompt), "messages": _messages(turns)})
        except ValueError as error:
            raise ValueError(f"the chat template refuses it: {error}") from None

    def check(self, claims: Sequence[Claim]) -> list[str | None]:
        """Of each claim why it does not hold: the template's own words, or that it writes something else."""
        found: list[str | None] = [None] * len(claims)
        for prompt in (False, True):
            asked = [number for number, claim in enumerate(claims) if claim.prompt == prompt]
            talks = [_messages(claims[number].turns) for number in asked]
            for number, text in zip(asked, render_all(self.template, self._given(prompt), talks), strict=True):
                if isinstance(text, ValueError):
                    found[number] = f"the chat template refuses it: {text}"
                elif text != claims[number].text:
                    found[number] = REWRITTEN
        return found

    def _given(self, prompt: bool) -> dict[str, Any]:
        day = _DAY.strftime("%d %b %Y")
        return self._tokenizer.special_tokens_map | {"add_generation_prompt": prompt, "date_string": day}

    def _pieces(self, roles: tuple[str, ...], *, prompt: bool = False) -> tuple[Piece, ...]:
        """What the template writes for turns of these roles; with `prompt` up to where the next answer begins.

        What a system turn says may stand elsewhere (Mistral's: at the beginning of the last question). Raises
        ValueError where it refuses their order, leaves a turn out or moves another.
        """
        marks = [f"\ue000{turn}\ue001" for turn in range(len(roles))]
        text = self.written(list(zip(roles, marks, strict=True)), prompt=prompt)
        padded = [f"{_LEFT}{mark}{_RIGHT}" for mark in marks]
        wide = self.written(list(zip(roles, padded, strict=True)), prompt=prompt)
        told = [int(turn) for turn in _MARK.findall(text)]
        whole = sorted(told) == list(range(len(roles)))
        talk = [turn for turn in told if roles[turn] != "system"] if whole else []
        if not whole or talk != sorted(talk):
            lost = next((turn for turn in range(len(roles)) if turn not in told), 0)
            raise ValueError(f"the chat template leaves out, repeats or moves what turn {lost} ({roles[lost]}) says")
        pieces: list[Piece] = []
        for number, part in enumerate(_MARK.split(text)):
            if number % 2:
                mark = marks[int(part)]
                pieces.append(Said(int(part), (_LEFT + mark not in wide, mark + _RIGHT not in wide)))
            else:
                pieces += [self._ids.get(each, each) for each in self._control.split(part) if each]
        return tuple(pieces)
