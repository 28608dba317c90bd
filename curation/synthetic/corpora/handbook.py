"""Real text in 26 languages with near-duplicates of its own: the Debian Administrator's Handbook.

    python -m mmcorpus.curation.synthetic.corpora.handbook --out data/handbook --languages en-US,de-DE,fr-FR,ja-JP

makes a site of it, as a crawl would have found it: a WARC file a language, the images served on loopback. Each language
has the same pages; where a translation is not finished its paragraphs are the English ones. The text (Raphaël Hertzog
and Roland Mas, CC BY-SA 3.0 or GPL-2+) comes from the Debian package that ships it; nothing of it is part of this
repository.
"""

import hashlib
import html
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mmcorpus.curation.store import storage
from mmcorpus.curation.synthetic.corpora.debian import run_command, site_fingerprint, unpacked
from mmcorpus.curation.synthetic.miniweb.site import (
    FILES,
    PAGES,
    Route,
    clear_site,
    commit_site,
    finished_counts,
    write_file,
)
from mmcorpus.curation.synthetic.write_warc import Capture, write_warc

PACKAGE: Final = "debian-handbook"
HOST: Final = "handbook.test"
LANGUAGES: Final = ("en-US", "de-DE", "fr-FR", "ja-JP")
_VERSION: Final = "1"
_IMAGES: Final = {".png": "image/png", ".jpg": "image/jpeg", ".gif": "image/gif", ".svg": "image/svg+xml"}
_SOURCE: Final = re.compile(r'<img\b[^>]*?\bsrc="([^"]*)"')
INSTALLED: Final = Path("usr/share/doc/debian-handbook/html")
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


def paragraphs_of(page: str) -> tuple[str, ...]:
    """The paragraphs of a page's HTML.

    >>> paragraphs_of('<div class="para">A <em>small</em>\\n star &amp; more.</div>')
    ('A small star & more.',)
    """
    found = (_SPACE.sub(" ", html.unescape(_TAG.sub("", part))).strip() for part in _PARAGRAPH.findall(page))
    return tuple(text for text in found if text)


def fetch(out: str, *, languages: Sequence[str] = LANGUAGES, deb: str | None = None) -> dict[str, int]:
    """Make a site of the handbook; returns its counts.

    out: a local folder; gets `pages/<language>.warc.gz` and what the pages' images answer. A complete site of the same
    arguments is left as it is. languages: as the package names them; empty or `all` for all. deb: a downloaded package
    file; None has apt download it.
    The counts: `pages`, `pages.<language>`, `images` (addresses), `images.<language>` (where they stand),
    `images.missing` (addresses that the package has no file for), `routes`, `files`, `bytes` (of the images).
    Raises `RuntimeError` where apt or dpkg is missing or fails, `FileNotFoundError` for a missing file, `ValueError`
    for a language that the package does not have.
    """
    languages = () if tuple(languages) == ("all",) else languages
    fingerprint = site_fingerprint(_VERSION, PACKAGE, deb, list(languages))
    finished = finished_counts(out, fingerprint)
    if finished is not None:
        return finished
    with unpacked(PACKAGE, deb, INSTALLED) as root:
        known = sorted(path.name for path in root.glob("*-*") if path.is_dir())
        for language in languages:
            if language not in known:
                raise ValueError(f"languages names {language!r}: the package has {', '.join(known)}")
        clear_site(out)
        routes: dict[str, Route] = {}
        counts: Counter[str] = Counter()
        for language in languages or known:
            paths = sorted((root / language).glob("*.html"))
            write_warc(storage.join(out, PAGES, f"{language}.warc.gz"), map(_capture, paths))
            counts["pages"] += len(paths)
            counts[f"pages.{language}"] = len(paths)
            for path in paths:
                sources = [html.unescape(source) for source in _SOURCE.findall(path.read_text("utf-8"))]
                counts[f"images.{language}"] += len(sources)
                for source in sources:
                    _publish(out, root, f"{language}/{source}", routes, counts)
        return commit_site(out, fingerprint=fingerprint, routes=routes, tables={}, counts=dict(sorted(counts.items())))


def _capture(path: Path) -> Capture:
    """A page as the package has it, captured when it was written."""
    moment = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return Capture(
        url=f"http://{HOST}/{path.parent.name}/{path.name}",
        body=path.read_bytes(),
        date=moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _publish(out: str, root: Path, source: str, routes: dict[str, Route], counts: Counter[str]) -> None:
    """Serve an image that a page names, under the address that a browser asks for; equal ones are one file."""
    address = f"{HOST}/{source}"
    if address in routes or "://" in source:
        return
    path = root / posixpath.normpath(source)
    if not path.is_file() or path.suffix not in _IMAGES:
        counts["images.missing"] += 1
        routes[address] = Route(status=404)
        return
    counts["images"] += 1
    data = path.read_bytes()
    file = f"{FILES}/{HOST}/{hashlib.sha256(data).hexdigest()[:16]}{path.suffix}"
    write_file(out, file, data)
    routes[address] = Route(file=file, content_type=_IMAGES[path.suffix])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    named = ",".join(LANGUAGES)
    return run_command(
        "handbook", __doc__ or "", PACKAGE, fetch, arguments,
        languages=named, languages_help=f"as the package names them, or all (default: {named})",
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
