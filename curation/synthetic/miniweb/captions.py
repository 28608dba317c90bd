"""Captions as the web has them: what stands in an alt text instead of a description, and careless copies of one."""

import random
import re
from typing import Final

_BOILERPLATE: Final = (
    "click here", "Click to enlarge", "image", "photo", "thumbnail", "download free", "Free download", "untitled",
    "Image not available", "No description available", "Untitled image", "stock photo", "Read more", "Loading...",
    "Share on Facebook", "Placeholder image", "Click for larger image", "View full size", "Add to cart",
)  # fmt: skip
_STEMS: Final = ("IMG_{n:04d}", "DSC{n:05d}", "DSC_{n:04d}", "DSCN{n:04d}", "P10{n:05d}", "image{n:03d}",
                 "{y}0{m}1{d}_1{n:05d}", "Screenshot_{y}-0{m}-1{d}", "photo-{n}", "untitled-{n}")  # fmt: skip
_EXTENSIONS: Final = (".jpg", ".JPG", ".jpeg", ".png", ".gif")
_URLS: Final = ("http://www.example.com/photos/{n}", "https://example.org/gallery/{n}.html",
                "www.example.net/img/{n}.jpg", "https://cdn.example.com/a/b/{n}.png?w=640&h=480")  # fmt: skip
_MARKUP: Final = (
    '<img src="/i/{n}.jpg" alt="{caption}">',
    '<a href="/p/{n}">{caption}</a>',
    "<p>{caption}</p><br/>",
    "[caption id=\"attachment_{n}\" align=\"alignnone\"]{caption}[/caption]",
    "&lt;b&gt;{caption}&lt;/b&gt;&nbsp;&amp;nbsp;",
)  # fmt: skip
_SWAPS: Final = (
    (r"\bwith\b", "and"), (r"\bfour\b", "4"), (r"\bthree\b", "3"), (r"\btwo\b", "2"), (r"\bgray\b", "grey"),
    (r"\bshows\b", "showing"), (r"\bcenter\b", "centre"),
)  # fmt: skip


def boilerplate(rng: random.Random) -> str:
    """A phrase of page furniture."""
    return rng.choice(_BOILERPLATE)


def file_name(rng: random.Random) -> str:
    """What a camera or a phone calls its pictures, mostly with the extension."""
    stem = rng.choice(_STEMS).format(
        n=rng.randint(1, 9999), y=rng.randint(2005, 2024), m=rng.randint(1, 9), d=rng.randint(0, 9)
    )
    return stem if rng.random() < 0.25 else stem + rng.choice(_EXTENSIONS)


def url(rng: random.Random) -> str:
    """An address."""
    return rng.choice(_URLS).format(n=rng.randint(100, 99999))


def markup(rng: random.Random, caption: str) -> str:
    """The caption with the tags around it that a careless extractor left."""
    return rng.choice(_MARKUP).format(n=rng.randint(100, 99999), caption=caption)


def small_edit(rng: random.Random, caption: str) -> str:
    """The caption as another site would have copied it: a word, the case or the punctuation differs."""
    edits = [
        caption.rstrip(".!") + rng.choice(("!", "...", " | Photo gallery", " - Pictures", " (large)")),
        caption[:1].lower() + caption[1:].rstrip("."),
        "Image: " + caption,
        caption.replace(" ", "  ", 1).rstrip("."),
    ]
    edits += [re.sub(pattern, new, caption, count=1) for pattern, new in _SWAPS]
    return rng.choice([edit for edit in edits if edit != caption])
