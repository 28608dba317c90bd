"""Text made safe to print: what comes from the web or a file cannot steer a terminal, or pass for other text."""

import re
import unicodedata
from typing import Final

_KEPT: Final = frozenset("\n\t\u200c\u200d")
"""Line ends, tabs, and the joiners without which Persian, Hindi and emoji do not read as they are written."""
_PLAIN: Final = re.compile(r"[\x20-\x7e\n\t]*\Z")


def shown(text: str) -> str:
    r"""A text with control characters (C0, C1), bidi marks, line separators and all else that has no glyph as escapes.

    >>> shown("\x1b]52;c;ZXZpbA==\x07 \u202egnp.exe")
    '\\x1b]52;c;ZXZpbA==\\x07 \\u202egnp.exe'
    """
    if _PLAIN.match(text):
        return text
    return "".join(character if _is_plain(character) else _escaped(character) for character in text)


def _is_plain(character: str) -> bool:
    return character in _KEPT or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
