"""English for captions: numbers, plurals, lists, articles. A small vocabulary, on purpose."""

from collections.abc import Sequence
from typing import Final

NUMBERS: Final = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip


def number(value: int) -> str:
    """`three` up to twenty, digits beyond."""
    return NUMBERS[value] if 0 <= value < len(NUMBERS) else str(value)


def plural(noun: str) -> str:
    """The plural of a regular noun, `circles`, `crosses`, and of `fish`."""
    if noun == "fish":
        return noun
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def article(phrase: str) -> str:
    """The phrase with `a` or `an` before it, by its first letter: `an orange star`."""
    return f"{'an' if phrase[0].lower() in 'aeiou' else 'a'} {phrase}"


def counted(count: int, adjective: str, noun: str) -> str:
    """`a red circle`, `three red circles`."""
    if count == 1:
        return article(f"{adjective} {noun}")
    return f"{number(count)} {adjective} {plural(noun)}"


def listed(phrases: Sequence[str], word: str = "and") -> str:
    """`one`, `one and two`, `one, two and three`."""
    if len(phrases) < 2:
        return "".join(phrases)
    return f"{', '.join(phrases[:-1])} {word} {phrases[-1]}"


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[0].upper() + text[1:]


def sentence(text: str) -> str:
    """The text with a capital first letter and a full stop."""
    return capital(text) + ("" if text.endswith((".", "!", "?")) else ".")


def ordinal(value: int) -> str:
    """`1st`, `22nd`, `13th`."""
    ending = "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value}{ending}"
