"""Answers as text: how those of benchmarks are normalised before they are compared."""

import re
from typing import Final

_PUNCTUATION: Final = (
    ";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!",
)  # fmt: skip
_TIME: Final = re.compile(r"\b(2[0-3]|1\d|0?\d):([0-5]\d)\b")
_COMMA_IN_NUMBER: Final = re.compile(r"(\d)(,)(\d)")
_PERIOD: Final = re.compile(r"(?!<=\d)(\.)(?!\d)")
"""As the official script has it, slip and all: `(?!<=\\d)` was meant as `(?<!\\d)` and always holds."""
_ARTICLES: Final = frozenset({"a", "an", "the"})
NUMBERS: Final = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
"""Number words, as the official VQA script maps them."""
_TENS: Final = {
    "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17,
    "eighteen": 18, "nineteen": 19, "twenty": 20,
}  # fmt: skip
_CONTRACTED: Final = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's I'd've I'm I've isn't it'd it'd've it'll ma'am mightn't mightn't've might've "
    "mustn't must've needn't not've o'clock oughtn't 'ow's'at 'twas shan't should've shouldn't shouldn't've "
    "somebody'd somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd "
    "something'd've something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've "
    "wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll "
    "who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll you'd you'd've you'll you're "
    "you've"
)
_CONTRACTIONS: Final = {word.replace("'", ""): word for word in _CONTRACTED.split()} | {
    "couldn'tve": "couldn't've", "couldnt've": "couldn't've", "hadn'tve": "hadn't've", "hadnt've": "hadn't've",
    "hed've": "he'd've", "he'dve": "he'd've", "Id've": "I'd've", "I'dve": "I'd've", "itd've": "it'd've",
    "it'dve": "it'd've", "mightn'tve": "mightn't've", "mightnt've": "mightn't've", "she'dve": "she'd've",
    "shouldn'tve": "shouldn't've", "shouldnt've": "shouldn't've", "they'dve": "they'd've", "theyd've": "they'd've",
    "who'dve": "who'd've", "whod've": "who'd've", "we'dve": "we'd've", "wed've": "we'd've",
    "wouldn'tve": "wouldn't've", "wouldnt've": "wouldn't've", "you'dve": "you'd've", "youd've": "you'd've",
}  # fmt: skip
_NUMBER: Final = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?")


def vqa_words(text: str) -> str:
    """An answer as the official VQA evaluation normalises it (Antol et al. 2015; `vqaEval.py`).

    Line breaks become spaces; punctuation goes, or becomes a space where it stands within a word; number words become
    digits, articles go, contractions get their apostrophe.
    """
    given = text.replace("\n", " ").replace("\t", " ").strip()
    out = given
    for mark in _PUNCTUATION:
        apart = f"{mark} " in given or f" {mark}" in given or _COMMA_IN_NUMBER.search(given) is not None
        out = out.replace(mark, "" if apart else " ")
    out = _PERIOD.sub("", out)
    words = (NUMBERS.get(word, word) for word in out.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def plain(text: str) -> str:
    """Lower case, single spaces, no full stop at the end: what `exact` compares."""
    return " ".join(text.lower().split()).removesuffix(".").rstrip()


def first_number(text: str) -> float | None:
    """The first number in a text, written in digits or as a word up to twenty; None if there is none."""
    found: list[tuple[int, float]] = []
    digits = _NUMBER.search(text)
    if digits:
        found.append((digits.start(), float(digits[0].replace(",", ""))))
    values: dict[str, str | int] = {**NUMBERS, **_TENS}
    for word, value in values.items():
        named = re.search(rf"\b{word}\b", text, re.IGNORECASE)
        if named:
            found.append((named.start(), float(value)))
    return min(found)[1] if found else None


def time_of_day(text: str) -> int | None:
    """The first time in a text, `h:mm`, in minutes on a dial of twelve hours, 60 to 779 (so that 12:05 is 725); None if
    there is none."""
    found = _TIME.search(text)
    return (int(found[1]) % 12 or 12) * 60 + int(found[2]) if found else None
