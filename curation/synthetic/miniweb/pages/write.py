"""Writes a site's pages: WARC files, the files that they show, and their truth."""

import os
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from mmcorpus.curation.store import storage
from mmcorpus.curation.synthetic.miniweb.config import MiniWebConfig
from mmcorpus.curation.synthetic.miniweb.pages.chrome import outside_files, static_files
from mmcorpus.curation.synthetic.miniweb.pages.content import Shown
from mmcorpus.curation.synthetic.miniweb.pages.make import MadePage, make_pages, same_text
from mmcorpus.curation.synthetic.miniweb.pages.templates import TEMPLATES
from mmcorpus.curation.synthetic.miniweb.site import PAGES, Route, address, write_file
from mmcorpus.curation.synthetic.miniweb.truth import CLEAN
from mmcorpus.curation.synthetic.write_warc import Capture, write_warc
from mmcorpus.filters.yaml_data import read_data

_IN_A_FILE: Final = 100
_NODE: Final = pa.struct(
    [
        ("text", pa.string()),
        ("tag", pa.string()),
        ("url", pa.string()),  # of an image; then text and tag are null
        ("choices", pa.list_(pa.string())),  # all addresses that show it
        ("spoil", pa.string()),  # null for a good node
        ("expect_stage", pa.string()),  # where the corrupted one should go; null: anywhere
        ("expect_rule", pa.string()),
    ]
)
_FIELDS: Final[list[tuple[str, pa.DataType]]] = [
    ("page", pa.int64()),
    ("url", pa.string()),
    ("date", pa.string()),  # of the capture; address and date name a page
    ("file", pa.string()),  # its WARC, relative to the site's folder
    ("template", pa.string()),
    ("language", pa.string()),  # ISO 639-1
    ("title", pa.string()),
    ("spoil", pa.string()),  # a name of PAGE_CORRUPTIONS, or `clean`
    ("expect", pa.string()),  # kept, dropped, no_images
    ("expect_stage", pa.string()),  # null if kept, or anywhere
    ("expect_rule", pa.string()),
    ("duplicate_of", pa.string()),  # the address of the page that it repeats
    ("nodes", pa.list_(_NODE)),  # the content in page order; empty where there is no document
    ("note", pa.string()),
]
SCHEMA: Final = pa.schema(_FIELDS)
_BAD_PICTURES: Final = (
    "http_404", "http_410", "http_403", "http_500", "html_as_image", "empty_body", "truncated", "redirect_loop",
    "redirect_private", "private_url", "endless", "reset", "bomb", "noai", "icon", "extreme_aspect",
)  # fmt: skip
"""Corruptions of pairs whose pictures pages show, too."""


def write_pages(
    config: MiniWebConfig, out: str, rows: Sequence[Mapping[str, Any]], routes: Mapping[str, Route]
) -> tuple[dict[str, Route], pa.Table, dict[str, int]]:
    """Write the pages of a site whose pairs are written.

    rows: the pairs' rows with `shown` (`miniweb.generate.make_row`). routes: what the site serves so far.
    Returns what it serves besides, the truth, and counts.
    """
    shown = [_shown(row, routes) for row in rows if row.get("shown")]
    corrupted = [_corrupted(row) for row in rows if row["spoil"] in _BAD_PICTURES]
    made = make_pages(config, shown, corrupted, lambda file: _read(out, file))
    served: dict[str, Route] = {}
    for page in made:
        served.update(page.draft.routes)
    for host in sorted({page.draft.host for page in made}):
        _publish(out, static_files(host), served)
    _publish(out, outside_files(), served)
    files = _write_files(out, made)
    repeated = Counter(
        (page.draft.host, same_text(text))
        for page in made
        if page.slot.corruption.stage not in ("extract", "capture")
        for text in page.texts()
    )
    truth = [page.truth(file, repeated) for page, file in zip(made, files, strict=True)]
    counts = Counter(page.slot.spoil for page in made)
    clean = counts.pop(CLEAN, 0)
    return (
        served,
        pa.Table.from_pylist(truth, schema=SCHEMA),
        {
            "pages": len(made),
            "pages.spoiled": len(made) - clean,
            **{f"page_spoil.{k}": counts[k] for k in sorted(counts)},
        },
    )


def _shown(row: Mapping[str, Any], routes: Mapping[str, Route]) -> Shown:
    route = routes[address(row["url"])]
    return Shown(
        url=row["url"],
        file=route.file,
        content_type=route.content_type,
        size=(row["upright_width"], row["upright_height"]),
        kind=row["kind"],
        facts=row["shown"]["facts"],
        captions=tuple(row["shown"]["captions"]),
        qa=tuple((question, answer) for question, answer in row["shown"]["qa"]),
    )


def _corrupted(row: Mapping[str, Any]) -> Shown:
    return Shown(file=None, **{name: row[name] for name in ("url", "spoil", "expect_stage", "expect_rule")})


def _read(out: str, file: str) -> bytes:
    with open(os.path.join(out, file), "rb") as body:
        return body.read()


def _publish(out: str, files: Mapping[str, tuple[Route, bytes]], served: dict[str, Route]) -> None:
    for url, (route, body) in files.items():
        assert route.file is not None
        write_file(out, route.file, body)
        served[address(url)] = route


def _write_files(out: str, made: Sequence[MadePage]) -> list[str]:
    """Write the WARC files; returns each page's."""
    names = []
    for number, start in enumerate(range(0, len(made), _IN_A_FILE)):
        pages = made[start : start + _IN_A_FILE]
        name = f"{PAGES}/{number:05d}.warc.gz"
        before = _about_robots() if number == 0 else []
        path = storage.join(out, name)
        drafts = [page.draft for page in pages]
        captures = [Capture(draft.url, draft.body, draft.headers, draft.date, draft.status) for draft in drafts]
        write_warc(path, [*before, *captures])
        damaged = [place for place, page in enumerate(pages) if page.slot.spoil == "corrupt_record"]
        if damaged:
            _damage(path, [1 + len(before) + place for place in damaged])  # the first record tells of the file
        names += [name] * len(pages)
    return names


def _about_robots() -> list[Capture]:
    """The crawl's records of robots.txt and ai.txt."""
    plain = {"Content-Type": "text/plain"}
    texts = dict(read_data(__package__, "robots.yaml"))
    opened = texts.pop("open")
    texts = {f"http://{template.host}/robots.txt": opened for template in TEMPLATES.values()} | texts
    return [Capture(url, text.encode(), plain, "2024-01-31T00:00:00Z") for url, text in texts.items()]


def _damage(path: str, members: Sequence[int]) -> None:
    """Overwrite the middle of some gzip members of a file."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    bounds = _members(bytes(data))
    for member in members:
        start, end = bounds[member]
        middle = (start + end) // 2
        data[middle : middle + 24] = bytes(byte ^ 0x5A for byte in data[middle : middle + 24])
    storage.write_bytes(path, bytes(data))


def _members(data: bytes) -> list[tuple[int, int]]:
    """The start and end of each gzip member."""
    bounds, start = [], 0
    while start < len(data):
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        member.decompress(data[start:])
        end = len(data) - len(member.unused_data)
        bounds.append((start, end))
        start = end
    return bounds
