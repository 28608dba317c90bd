"""A real captioned corpus of some 800 pictures: the stamps of Tux Paint, from the Debian package that ships them.

    python -m mmcorpus.curation.synthetic.corpora.tuxpaint --out out/tuxpaint --languages de,fr,ja

Each stamp has a line of English and its translations. The pictures are those of the children's drawing program Tux
Paint (Bill Kendrick and contributors, GPL-2); nothing of it is part of this repository.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmcorpus.curation.synthetic.corpora.debian import run_command, site_fingerprint, unpacked
from mmcorpus.curation.synthetic.miniweb.site import SiteItem, build_site, finished_counts

PACKAGE: Final = "tuxpaint-stamps-default"
HOST: Final = "tuxpaint.test"
ENGLISH: Final = "en"
_STAMPS: Final = Path("usr/share/tuxpaint/stamps")
_VERSION: Final = "1"
_RASTER: Final = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}
_QUESTION: Final = "<image>\nWhat is this?"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """One picture and what it is called."""

    path: Path
    captions: Mapping[str, str]
    """By language as the package writes it (`en`, `de`, `pt_BR`); English is always there."""


def fetch(
    out: str, *, languages: Sequence[str] = (), deb: str | None = None, instructions: bool = True
) -> dict[str, int]:
    """Make a site of the package's raster stamps; returns its counts.

    out: a local folder. languages: a further row for each of these that a stamp has a caption in, e.g. `("de", "ja")`,
    besides the English one. deb: a downloaded package file; None has apt download it. instructions: also ask
    "What is this?" of every stamp.
    The counts: `pairs`, `instructions`, `images`, rows by language (`language.de`), and what was left out:
    `skipped.vector` (SVG pictures without a raster twin), `skipped.no_caption`, `skipped.language.de` (no caption in
    it, or one that an earlier language has too).
    Raises `RuntimeError` where apt or dpkg is missing or fails, `FileNotFoundError` for a missing file, `ValueError`
    for a language that no stamp has.
    """
    fingerprint = site_fingerprint(_VERSION, PACKAGE, deb, list(languages), instructions)
    finished = finished_counts(out, fingerprint)
    if finished is not None:
        return finished
    with unpacked(PACKAGE, deb, _STAMPS) as root:
        stamps, counts = find_stamps(root)
        items = list(_items(root, stamps, languages, instructions, counts))
        return build_site(items, out, fingerprint=fingerprint, counts=dict(sorted(counts.items())))


def find_stamps(root: Path) -> tuple[list[Stamp], Counter[str]]:
    """The raster stamps with an English caption under a folder, by path, and the counts of what was left out."""
    counts: Counter[str] = Counter()
    stamps = []
    for path in sorted(root.rglob("*")):
        suffix = path.suffix.lower()
        if suffix == ".svg" and not any(path.with_suffix(raster).exists() for raster in _RASTER):
            counts["skipped.vector"] += 1
        if suffix not in _RASTER:
            continue
        text = path.with_suffix(".txt")
        captions = read_captions(text.read_text("utf-8", "replace")) if text.exists() else {}
        if not captions.get(ENGLISH):
            counts["skipped.no_caption"] += 1
            continue
        stamps.append(Stamp(path=path, captions=captions))
    counts["images"] = len(stamps)
    return stamps, counts


def read_captions(text: str) -> dict[str, str]:
    """The captions of a stamp's text file by language: English on its first line, then `de.utf8=…` lines.

    >>> read_captions("A star.\\nde.utf8=Ein Stern.\\n")
    {'en': 'A star.', 'de': 'Ein Stern.'}
    """
    lines = text.lstrip("\ufeff").splitlines()
    captions = {ENGLISH: lines[0].strip()} if lines else {}
    for line in lines[1:]:
        name, equals, caption = line.partition("=")
        language, dot, encoding = name.strip().partition(".")
        if equals and dot and encoding == "utf8" and caption.strip():
            captions.setdefault(language, caption.strip())
    return captions


def _items(
    root: Path, stamps: Sequence[Stamp], languages: Sequence[str], instructions: bool, counts: Counter[str]
) -> Iterator[SiteItem]:
    known = {language for stamp in stamps for language in stamp.captions}
    for language in languages:
        if language not in known:
            raise ValueError(f"languages names {language!r}: no stamp has it; there are {', '.join(sorted(known))}")
    wanted = (ENGLISH, *(language for language in dict.fromkeys(languages) if language != ENGLISH))
    for stamp in stamps:
        captions: dict[str, str] = {}
        for language in wanted:
            text = stamp.captions.get(language)
            listed = text is not None and text not in captions
            counts[f"language.{language}" if listed else f"skipped.language.{language}"] += 1
            if text is not None:
                captions.setdefault(text, language)
        caption = stamp.captions[ENGLISH]
        turns = [{"from": "human", "value": _QUESTION}, {"from": "gpt", "value": caption}]
        yield SiteItem(
            url=f"http://{HOST}/stamps/{stamp.path.relative_to(root).as_posix()}",
            source=str(stamp.path),
            content_type=_RASTER[stamp.path.suffix.lower()],
            captions=tuple(captions),
            languages=tuple(captions.values()),
            conversations=((caption, json.dumps(turns, ensure_ascii=False)),) if instructions else (),
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run_command(
        "tuxpaint", __doc__ or "", PACKAGE, fetch, arguments,
        languages="", languages_help="further languages, e.g. de,fr,ja",
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
