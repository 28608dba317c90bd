"""Pages for the tests of extraction: a small site, and what its documents must say."""

import hashlib
import os
from pathlib import Path

from mmcorpus.curation.synthetic.write_warc import Capture

HOST = "https://site.test"


def html(number: int, *, head: str = "", image: str = "") -> bytes:
    """A page with navigation, three paragraphs, and an image between them."""
    words = [f"Paragraph {part} of page {number} tells about the number {number * part} at some length, " * 3
             for part in (1, 2, 3)]  # fmt: skip
    return (
        f"<html lang=en><head><title>Page {number}</title>{head}</head><body><nav><a href=/>Home</a></nav><article>"
        f"<h1>Number {number}</h1><p>{words[0]}</p><p>{words[1]}</p>"
        f"<figure><img src='/i/{number}{image}.jpg' width=640 height=480 alt='A view'></figure><p>{words[2]}</p>"
        "</article><footer>Imprint</footer></body></html>"
    ).encode()


def pages(count: int, *, date: str = "2024-01-01T00:00:00Z", begin: int = 0) -> list[Capture]:
    """Captures of pages `begin` … of the site."""
    return [
        Capture(f"{HOST}/{number}", html(number), {"Content-Type": "text/html; charset=utf-8"}, date)
        for number in range(begin, begin + count)
    ]


def tree(folder: str | Path) -> dict[str, str]:
    """By path below a folder, the hash of each file."""
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
