"""Real text in 26 languages with near-duplicates of its own: the Debian Administrator's Handbook.

Each language has the same pages; where a translation is not finished its paragraphs are the English ones. The text
(Raphaël Hertzog and Roland Mas, CC BY-SA 3.0 or GPL-2+) comes from the Debian package that ships it; nothing of it is
part of this repository.
"""

import html
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from curation.corpora.debian import download_package, unpack_package

PACKAGE: Final = "debian-handbook"
_PAGES: Final = Path("usr/share/doc/debian-handbook/html")
_PARAGRAPH: Final = re.compile(r'<div class="para">(.*?)</div>', re.DOTALL)
_TAG: Final = re.compile(r"<[^>]*>")
_SPACE: Final = re.compile(r"\s+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One page in one language."""

    language: str
    """As the package names it: `de-DE`."""
    name: str
    paragraphs: tuple[str, ...]
    """Plain text, white space made single spaces."""


def read_pages(deb: str | None = None) -> list[Page]:
    """All pages by language and name; `deb` is a downloaded package file, None has apt download it.

    Raises:
        RuntimeError: apt or dpkg is missing or fails.
    """
    with tempfile.TemporaryDirectory(prefix="handbook-") as folder:
        file = Path(deb) if deb is not None else download_package(PACKAGE, folder)
        root = unpack_package(PACKAGE, file, folder) / _PAGES
        if not root.is_dir():
            raise RuntimeError(f"{file} holds no {_PAGES}: is it the package {PACKAGE}?")
        return [
            Page(language=path.parent.name, name=path.stem, paragraphs=paragraphs_of(path.read_text("utf-8")))
            for path in sorted(root.glob("*-*/*.html"))
        ]


def paragraphs_of(page: str) -> tuple[str, ...]:
    """The paragraphs of a page's HTML.

    >>> paragraphs_of('<div class="para">A <em>small</em>\\n star &amp; more.</div>')
    ('A small star & more.',)
    """
    found = (_SPACE.sub(" ", html.unescape(_TAG.sub("", part))).strip() for part in _PARAGRAPH.findall(page))
    return tuple(text for text in found if text)
