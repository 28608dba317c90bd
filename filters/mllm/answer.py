"""The number in a judge's answer: as it is written, and as the tokens' probabilities expect it.

A judge that answers 85 would often have answered 80 or 90 nearly as gladly. The expectation over the numbers that it
could have written, weighed by their probability, is finer than the one that it wrote (the weighting of G-Eval, Liu et
al. 2023, arXiv:2303.16634, §2). The log-probabilities of each token's alternatives are known along the answer alone:

    answer "85", tokens "8" "5"        first token:  8 0.7   9 0.2   7 0.1
                                       after the 8:  5 0.6   0 0.3   2 0.1
    expectation = 0.7 · (0.6·85 + 0.3·80 + 0.1·82) + 0.2 · 94.5 + 0.1 · 74.5 = 84.6

- Along the answer, every number is weighed exactly; what is no digit ends the number (8 with nothing after it is 8).
- A first digit that was not taken has no known continuation. It stands for itself as often as the answer's own first
  digit would have stood alone, else for the middle of its decade (9 for 94.5); a 1 stands for 100 where the answer is
  nearer to 100 than to the teens. `open_digits` names such digits, and where the model was asked to go on from one
  (`branches`), its own words replace the guess.
- A tokenizer with whole numbers as tokens (Llama 3: "85", "90") needs no guess: the first token's alternatives are the
  numbers.
- Numbers above 100 are left out; what remains is brought to a sum of 1. Range 0-100.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

LOWEST: Final = 0
HIGHEST: Final = 100
NO_NUMBER: Final = "no_number"
"""A refusal, or nonsense."""
EMPTY: Final = "empty_answer"
OUT_OF_RANGE: Final = "out_of_range"
CUT_OFF: Final = "cut_off"
"""The answer ended by its length where another digit could have followed: "10" may be the beginning of "100"."""

_NUMBER: Final = re.compile(
    r"""[^\w-]*                                                  # quotes, asterisks, brackets, spaces
    (?:(?:the\s+)?(?:score|rating|answer)\b(?:\s+is)?[^\w-]*)?   # a label
    (?P<number>[0-9]+) (?:\.(?P<fraction>[0-9]+))?
    (?:\s*(?:%|/\s*100\b|out\s+of\s+100\b))?
    (?! [\w/%–-] | [.,:][0-9] | \s*(?:to|–|-)\s*[0-9] )          # 7/10, 85-90, 1,000, 85th: no number of ours
    """,
    re.VERBOSE | re.IGNORECASE,
)

Alternatives = Sequence[tuple[str, float]]
"""Texts of tokens with their log-probabilities."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A model's answer, with the alternatives of each token."""

    text: str
    finish: str | None = None
    """`stop`, `length`, …"""
    tokens: Sequence[tuple[str, Alternatives]] = field(default=())
    """Each token's text and the likeliest tokens of its position, itself included; empty if the server tells none."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, short: of the alternatives those alone that the number depends on."""
        tokens = [
            (text, [(other, round(logprob, 5)) for other, logprob in tops if _digits(other, first=True)])
            for text, tops in self.tokens
        ]
        return {"text": self.text, "finish": self.finish, "tokens": tokens}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Answer":
        """The answer that `as_dict` gave."""
        tokens = [(text, [(other, logprob) for other, logprob in tops]) for text, tops in data["tokens"]]
        return cls(text=data["text"], finish=data["finish"], tokens=tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parsed:
    """The number as it is written, or the reason why there is none."""

    integer: int | None = None
    reason: str | None = None
    start: int = 0
    """Its place in the text."""


def parse(answer: Answer) -> Parsed:
    """The number that the answer begins with: `100`, `86.`, `86/100`, ` 86`, `**86**`, `Score: 86`, `86` and a text."""
    if not answer.text.strip():
        return Parsed(reason=EMPTY)
    match = _NUMBER.match(answer.text)
    if match is None:
        return Parsed(reason=NO_NUMBER)
    integer = int(match["number"].lstrip("0")[:9] or "0")
    if match["fraction"]:
        integer = math.floor(float(f"{integer}.{match['fraction'][:9]}") + 0.5)
    if not LOWEST <= integer <= HIGHEST:
        return Parsed(reason=OUT_OF_RANGE)
    open_end = answer.finish == "length" and match.end("number") == len(answer.text)
    if open_end and integer * 10 <= HIGHEST:
        return Parsed(reason=CUT_OFF)
    return Parsed(integer=integer, start=match.start("number"))


def expected(answer: Answer, parsed: Parsed, branches: Mapping[str, Answer] | None = None) -> float | None:
    """The expectation of the number, 0-100; None if there is no number or the server told no log-probabilities.

    Args:
        branches: by a first digit that was not taken, what the model writes after it.
    """
    first = _first_token(answer, parsed)
    if parsed.integer is None or first is None:
        return None
    numbers = _distribution(answer, first, first=True)
    whole = any(len(digits) > 1 for digits in numbers)
    taken = _digits(answer.tokens[first][0], first=True)
    weighed: list[tuple[float, float]] = []
    for digits, share in numbers.items():
        if whole and digits != taken:
            weighed.append((share, float(digits)))
        elif digits == taken:
            weighed += [(share * part, value) for part, value in _onwards(answer, first + 1, digits)]
        elif branches and digits in branches:
            weighed += [(share * part, value) for part, value in _onwards(branches[digits], 0, digits)]
        else:
            alone = 1.0 - math.fsum(_distribution(answer, first + 1, first=False).values())
            weighed += [(share * alone, float(digits)), (share * (1.0 - alone), _guess(digits, parsed.integer))]
    weighed = [(share, value) for share, value in weighed if value <= HIGHEST]
    total = math.fsum(share for share, _ in weighed)
    if total <= 0.0:
        return float(parsed.integer)
    return math.fsum(share * value for share, value in weighed) / total


def open_digits(answer: Answer, parsed: Parsed, least: float) -> list[str]:
    """The first digits that were not taken, have at least this probability, and may begin a longer number."""
    first = _first_token(answer, parsed)
    if parsed.integer is None or first is None:
        return []
    numbers, taken = _distribution(answer, first, first=True), _digits(answer.tokens[first][0], first=True)
    if any(len(digits) > 1 for digits in numbers):
        return []
    return sorted(d for d, share in numbers.items() if share >= least and d not in ("0", taken))


def _first_token(answer: Answer, parsed: Parsed) -> int | None:
    """The token that the number begins with; None if tokens are unknown or hold more than the number."""
    position = 0
    for index, (text, tops) in enumerate(answer.tokens):
        if position <= parsed.start < position + len(text):
            return index if tops and _digits(text, first=True) else None
        position += len(text)
    return None


def _distribution(answer: Answer, index: int, *, first: bool) -> dict[str, float]:
    """By digits, their probability as a token of the answer. Several tokens may read the same (` 8` and `8`)."""
    found: dict[str, float] = {}
    for text, logprob in answer.tokens[index][1] if index < len(answer.tokens) else ():
        digits = _digits(text, first=first)
        if digits:
            found[digits] = found.get(digits, 0.0) + math.exp(min(logprob, 0.0))
    return found


def _onwards(answer: Answer, index: int, prefix: str) -> Iterator[tuple[float, float]]:
    """The numbers that begin with `prefix`, each with its probability given the prefix, along the answer's tokens."""
    if float(prefix) * 10 > HIGHEST or prefix == "0" or index >= len(answer.tokens):
        yield 1.0, float(prefix)
        return
    following = _distribution(answer, index, first=False)
    taken = _digits(answer.tokens[index][0], first=False)
    yield max(0.0, 1.0 - math.fsum(following.values())), float(prefix)
    for digits, share in following.items():
        if digits == taken:
            yield from ((share * part, value) for part, value in _onwards(answer, index + 1, prefix + digits))
        else:
            yield share, float(prefix + digits)


def _guess(digit: str, integer: int) -> float:
    """The number that a first digit stands for that was not taken and did not stand alone."""
    if digit == "0":
        return 0.0
    if digit == "1" and HIGHEST - integer < integer - 19:
        return float(HIGHEST)
    return int(digit) * 10 + 4.5


def _digits(text: str, *, first: bool) -> str:
    """The digits that a token is; empty if it is something else. Only the first may have space before it."""
    bare = text.lstrip(" \t\n▁Ġ") if first else text
    return bare if bare.isascii() and bare.isdigit() else ""
