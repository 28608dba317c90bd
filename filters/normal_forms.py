"""Unicode's normal forms in time that grows with the text, whatever it holds (UAX #15)."""

import functools
import re
import unicodedata
from typing import Literal

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]

RUN = 30
"""Marks that may follow a letter before they are parted, as UAX #15's Stream-Safe Text Format has it (D4)."""
_END = 0x1F000  # no mark has a number above


def normalize(form: Form, text: str) -> str:
    """`unicodedata.normalize`, which puts the marks after a letter in order by insertion: a hundred thousand marks,
    as a caption of "zalgo" may have, cost ten billion steps. Runs of more than RUN are parted first."""
    return unicodedata.normalize(form, text if text.isascii() else stream_safe(text))


def stream_safe(text: str) -> str:
    """The text with U+034F (combining grapheme joiner), which nothing is put in order across, after every RUN marks.

    UAX #15's Stream-Safe Text Process; most texts come back as they are.
    """
    return _floods().sub("\\g<0>\u034f", text)


@functools.cache
def _floods() -> re.Pattern[str]:
    """RUN marks that another follows; marks are what has a combining class, or decomposes to something that has."""
    marks = [
        chr(point)
        for point in range(0x300, _END)
        if unicodedata.combining(unicodedata.normalize("NFKD", chr(point))[0]) or unicodedata.combining(chr(point))
    ]
    one = f"[{''.join(map(re.escape, marks))}]"
    return re.compile(f"{one}{{{RUN}}}(?={one})")
