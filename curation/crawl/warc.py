"""Reading WARC files (ISO 28500): every record once, whatever damage surrounds it.

fastwarc 2.0.1 and warcio 1.8.1 both end at the first damaged member, and hand out a record whose file breaks off, or
whose Content-Length is wrong, as if it were whole; warcio reads no zstd. So members are found by zlib and zstandard
(`warc_records`), and fastwarc parses the headers alone. A page of 73 kB takes 0.4 to 0.55 ms of the 6.7 that
extracting it takes; by fastwarc alone 0.24, which would save 3 to 5 % and cost a second reader that tells where the
first is wrong.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any, Final

from mmcorpus.curation.crawl.http import (
    HTML_TYPES,
    MAX_HEAD,
    UNKNOWN_TYPES,
    Answer,
    TooLarge,
    Undecodable,
    charset_of,
    decode_body,
    looks_like_html,
    mime_of,
    parse_answer,
)
from mmcorpus.curation.crawl.kinds import members_of
from mmcorpus.curation.crawl.optout.site_rules import PATHS, site_file
from mmcorpus.curation.crawl.records import Failure, Item, Other, Page, Position, Ready
from mmcorpus.curation.crawl.streams import Source
from mmcorpus.curation.crawl.warc_records import BAD_RECORD, PAGE_TYPES, RawRecord, RecordReader
from mmcorpus.curation.html.nodes import Node, TextNode

_PATH: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]*(/[^?#]*)?", re.IGNORECASE)


def read_warc(path: str, source: Source, position: Position, max_page_bytes: int) -> Iterator[Item]:
    """The records of a WARC file from a position on; of each what `records` says.

    Raises OSError, and UnknownKind for a file whose records cannot be read one by one.
    """
    source.seek(position.offset)
    for raw in RecordReader(members_of(path, source), position.skip, max_page_bytes + MAX_HEAD).records():
        yield item_of(path, raw, max_page_bytes)


def item_of(path: str, raw: RawRecord, limit: int) -> Item:
    """A record as a page, a failure, or something else."""
    url = raw.headers.get("warc-target-uri", "").strip().strip("<>").strip()
    date = raw.headers.get("warc-date", "").strip() or None

    at: dict[str, Any] = {"file": path, "offset": raw.offset, "length": raw.length, "position": raw.position}

    def failure(code: str, detail: str) -> Failure:
        return Failure(**at, code=code, detail=detail, url=url or None, date=date, number=raw.number)

    def other(what: str) -> Other:
        return Other(**at, what=what)

    kind = raw.headers.get("warc-type", "").lower()
    if kind and kind not in PAGE_TYPES and raw.problem is None:
        return other(kind[:40])
    if raw.problem is not None:
        return failure(*raw.problem)
    if not kind:
        return failure(BAD_RECORD, "it has no WARC-Type")
    content_type = raw.headers.get("content-type", "")
    answer: Answer | None = Answer(
        status=200, reason="", headers=(("Content-Type", content_type),), body=raw.block
    )  # fmt: skip
    if mime_of(content_type) == "application/http":
        try:
            answer = parse_answer(raw.block)
        except ValueError as error:
            return failure(BAD_RECORD, str(error))
    if answer is None:
        return failure(BAD_RECORD, "it does not begin as an HTTP answer")
    whole = len(raw.block) == raw.size
    mime = answer.mime
    if kind == "conversion" and mime == "text/plain":
        return _text(at, raw, url, date) if whole else failure("too_large", f"{raw.size} bytes")
    cut = bool(raw.headers.get("warc-truncated"))
    if (name := _site_name(url)) is not None:
        rules = None
        if whole:
            with contextlib.suppress(TooLarge, Undecodable):
                rules = site_file(url, answer.status, decode_body(answer, limit, cut=cut), date or "")
        return Other(**at, what=name, site_file=rules)
    if mime not in HTML_TYPES and mime not in UNKNOWN_TYPES:
        return other(f"{kind} {mime[:60]}")
    if answer.status != 200 and mime in HTML_TYPES:
        return failure(f"http_{answer.status}", answer.reason[:200])
    if not whole:
        return failure("too_large", f"{raw.size} bytes") if mime in HTML_TYPES else other(f"{kind} of unknown type")
    try:
        body = decode_body(answer, limit, cut=cut)
    except TooLarge as error:
        return failure("too_large", str(error))
    except Undecodable as error:
        return failure("undecodable", str(error))
    if mime not in HTML_TYPES and (answer.status != 200 or not looks_like_html(body)):
        return other(f"{kind} of unknown type")
    if not url:
        return failure(BAD_RECORD, "it has no WARC-Target-URI")
    charset = charset_of(answer.get("content-type"))
    return Page(**at, url=url, body=body, date=date, charset=charset, headers=answer.headers)


def _text(at: dict[str, Any], raw: RawRecord, url: str, date: str | None) -> Item:
    """The text of a page as WET files have it: UTF-8, a line for each of the page's blocks."""
    lines = (line.strip() for line in raw.block.decode("utf-8", "replace").replace("\0", "").split("\n"))
    nodes: list[Node] = [TextNode(text=line) for line in lines if line]
    if not nodes:
        return Failure(**at, code="empty", detail="no text", url=url or None, date=date, number=raw.number)
    language = raw.headers.get("warc-identified-content-language", "").partition(",")[0].strip() or None
    return Ready(**at, url=url or None, nodes=nodes, identity=raw.block, date=date, language=language)


def _site_name(url: str) -> str | None:
    """`robots.txt` or `ai.txt` for the address of one."""
    found = _PATH.match(url)
    return PATHS.get((found[1] or "/").lower()) if found else None
