"""Mistakes in a recipe, reported so that they can be put right: where, what, and the nearest valid name."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MANY: Final = 12
"""More valid names than this are not listed where one of them was probably meant."""
MOST_TOLD: Final = 100
"""So many problems of a recipe are written out."""

Path = tuple[str | int, ...]
"""The keys that lead to a value: `("select", "pairs", "keep")`."""
Finding = tuple[Path, str]
"""What is wrong, and where."""


def dotted(path: Path) -> str:
    """`select.pairs.keep`, with list positions as `sources[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name most like a mistyped one, or None if nothing is like it."""
    choices = list(valid)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.55)
    if not close:
        close = difflib.get_close_matches(name.lower().replace("-", "_"), choices, n=1, cutoff=0.55)
    return close[0] if close else None


def suggestion(name: str, valid: Iterable[str], *, listed: str = "valid") -> str:
    """`did you mean 'keep'? (valid: keep, profile, …)`, or `valid: keep, profile, …` where nothing is like it."""
    choices = sorted(valid)
    close = nearest(name, choices)
    if close and len(choices) > MANY:
        return f"did you mean {close!r}?"
    names = ", ".join(choices) if choices else "none"
    return f"did you mean {close!r}? ({listed}: {names})" if close else f"{listed}: {names}"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong, in one place."""

    place: str
    """`demo.yaml:12`, or `--set select.pairs.keep=…`."""
    path: Path
    """The key's path; empty for the file as a whole."""
    message: str
    """What is wrong and what it should be."""

    def __str__(self) -> str:
        key = f"{dotted(self.path)}: " if self.path else ""
        return f"{self.place}: {key}{self.message}"


class RecipeError(ValueError):
    """A recipe that cannot be run; all its problems at once."""

    def __init__(self, problems: Iterable[Problem], *, what: str = "recipe") -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{count} problem{'s' if count != 1 else ''} in the {what}; nothing was run"
        more = [f"and {count - MOST_TOLD:,} more"] if count > MOST_TOLD else []
        super().__init__("\n  ".join([f"{head}:", *map(str, self.problems[:MOST_TOLD]), *more]))
