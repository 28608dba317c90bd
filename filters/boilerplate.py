"""Captions that describe nothing: page chrome, file names, addresses, markup. The lists are in boilerplate.yaml."""

import re
import unicodedata
from typing import Any, Final

from mmcorpus.filters.normal_forms import normalize
from mmcorpus.filters.yaml_data import read_data

_DATA: Final[dict[str, Any]] = read_data(__package__, "boilerplate.yaml")
_GENERIC: Final = frozenset(_DATA["generic_words"].split())


def _compiled(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """A pattern of boilerplate.yaml with the entries that it names put in."""
    for name in ("formats", "more", "networks"):
        pattern = pattern.replace(f"<{name}>", "|".join(_DATA[name]))
    return re.compile(pattern, flags)


_FILE_NAME: Final = _compiled(_DATA["file_name"], re.VERBOSE | re.IGNORECASE)
_SPACED_FILE_NAME: Final = _compiled(_DATA["spaced_file_name"], re.IGNORECASE)
_URL: Final = _compiled(_DATA["url"], re.VERBOSE | re.IGNORECASE)
_MARKUP: Final = _compiled(_DATA["markup"], re.VERBOSE | re.IGNORECASE)
_PHRASES: Final = _compiled("|".join(_DATA["phrases"]))


class _Separators(dict[int, str]):
    """For `str.translate`: punctuation, symbols, spaces and controls to a space; letters with their marks stay."""

    def __missing__(self, codepoint: int) -> str:
        character = chr(codepoint)
        kept = unicodedata.category(character)[0] in "LMN"
        return self.setdefault(codepoint, character if kept else " ")


_SEPARATORS: Final = _Separators()


def normalise(text: str) -> str:
    """The text without what copies of a caption differ in: compatibility forms, case, punctuation and spacing.

    A text of nothing but symbols (emoji, say) keeps them.
    """
    folded = normalize("NFKC", text).casefold()
    return " ".join(folded.translate(_SEPARATORS).split()) or " ".join(folded.split())


def is_filename(text: str) -> bool:
    """True for `IMG_0123`, `DSC00012.JPG`, `red-clock.png`, `20230114_102233`; a whole sentence with `.jpg` is not."""
    stripped = text.strip()
    return bool(_FILE_NAME.fullmatch(stripped) or _SPACED_FILE_NAME.fullmatch(stripped))


def is_url(text: str) -> bool:
    """True if the whole text is one address: `https://…`, `www.…`, `example.com/a.png`."""
    return _URL.fullmatch(text.strip()) is not None


def has_markup(text: str) -> bool:
    """True if HTML tags or entities, shortcodes, Markdown links or template holes are left in the text."""
    return _MARKUP.search(text) is not None


def is_boilerplate(text: str) -> bool:
    """True if the text names a slot or a button of a page and nothing in the picture: `click to enlarge`, `image 3`."""
    plain = normalise(text)
    if not any(character.isalnum() for character in plain):
        return True
    if all(word in _GENERIC or word.isdigit() for word in plain.split()):
        return True
    return _PHRASES.fullmatch(plain) is not None
