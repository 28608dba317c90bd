"""Corpora of documents that exist, and tables of pages and of text: what a row of each holds.

obelics   texts, images (parallel lists, one of the two null), metadata, general_metadata (JSON)   parquet, JSONL
mmc4      text_list, image_info (raw_url, matched_text_index), url                                 JSONL, parquet
mint1t    texts, images (parallel lists; images are addresses), url                                parquet, JSONL
pages     a column of HTML, one of addresses
text      a column of text; addresses and dates where there are any
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import IO, Any, Final

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.crawl.records import Failure, Item, Page, Position, Ready
from mmcorpus.curation.crawl.tables import Row, column_names, read_rows
from mmcorpus.curation.html.nodes import ImageNode, Node, TextNode, to_json

TABLES: Final = ("pages", "obelics", "mmc4", "mint1t", "text")
"""Formats of rows."""
BAD_ROW: Final = "bad_record"
_BLANK: Final = re.compile(r"\n[ \t\r\f\v]*\n\s*")


class UnknownTable(ValueError):
    """A table whose columns fit no format."""


def read_table_items(
    path: str, file: IO[bytes], format: str, config: PagesConfig, position: Position
) -> Iterator[Item]:
    """The documents or pages of a table from a position on.

    Raises UnknownTable for a table without the columns of its format.
    """
    format, columns = _columns(path, format, column_names(path, file), config)
    make = _MAKERS[format]
    for row in read_rows(path, file, columns, position):
        if row.problem is not None:
            yield _failure(path, row, *row.problem)
            continue
        try:
            yield make(path, row, config)
        except (ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError) as error:
            yield _failure(path, row, BAD_ROW, f"not a row of {format}: {type(error).__name__}: {str(error)[:200]}")


def _columns(path: str, format: str, there: Sequence[str], config: PagesConfig) -> tuple[str, list[str]]:
    """The format, if it is to be found, and the columns to read."""
    known: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # needed, and read where they are there
        "obelics": (("texts", "images"), ("metadata", "general_metadata")),
        "mmc4": (("text_list",), ("image_info", "url")),
        "mint1t": (("texts", "images"), ("url",)),
        "pages": ((config.html_col, config.url_col), ()),
        "text": ((config.text_col,), (config.url_col,)),
    }
    if format == "auto":
        fits = [name for name in ("obelics", "mmc4", "pages", "text") if set(known[name][0]) <= set(there)]
        if not fits:
            raise UnknownTable(
                f"{path} has no columns of pages ({config.html_col}, {config.url_col}), documents (texts, images; "
                f"text_list) or text ({config.text_col}); set html_col, url_col or text_col. It has: {', '.join(there)}"
            )
        format = fits[0]
        if format == "obelics" and "general_metadata" not in there:
            format = "mint1t"
    needed, more = known[format]
    missing = [name for name in needed if name not in there]
    if missing and there:
        raise UnknownTable(f"{path} has no column {missing[0]!r}, which {format} needs. It has: {', '.join(there)}")
    columns = [*needed, *more]
    if config.date_col is not None and format in ("pages", "text"):
        if there and config.date_col not in there:
            raise UnknownTable(f"{path} has no column {config.date_col!r} (date_col). It has: {', '.join(there)}")
        columns.append(config.date_col)
    return format, columns


def _page(path: str, row: Row, config: PagesConfig) -> Item:
    html, url = row.values.get(config.html_col), row.values.get(config.url_col)
    if not isinstance(url, str) or not url.strip():
        return _failure(path, row, BAD_ROW, "it has no address")
    body = html.encode("utf-8", "replace") if isinstance(html, str) else bytes(html or b"")
    if len(body) > config.extraction.max_bytes:
        return _failure(path, row, "too_large", f"more than {config.extraction.max_bytes} bytes")
    charset = "utf-8" if isinstance(html, str) else None
    return Page(**_at(path, row), url=url.strip(), body=body, charset=charset, date=_date(row, config))


def _obelics(path: str, row: Row, config: PagesConfig) -> Item:
    details = _json(row.values.get("metadata")) or []
    general = _json(row.values.get("general_metadata")) or {}
    return _interleaved(path, row, general.get("url"), details)


def _mint1t(path: str, row: Row, config: PagesConfig) -> Item:
    return _interleaved(path, row, row.values.get("url"), ())


def _interleaved(path: str, row: Row, url: object, details: Sequence[Any]) -> Item:
    nodes: list[Node] = []
    for place, (text, image) in enumerate(zip(row.values["texts"], row.values["images"], strict=True)):
        nodes += _paragraphs(text)
        if image:
            known = details[place] if place < len(details) else None
            nodes.append(_image(image, known if isinstance(known, Mapping) else {}))
    return _ready(path, row, url, nodes)


def _mmc4(path: str, row: Row, config: PagesConfig) -> Item:
    texts = row.values["text_list"]
    images: dict[int, list[Node]] = {}
    for info in row.values.get("image_info") or ():
        if info.get("raw_url"):
            images.setdefault(int(info["matched_text_index"]), []).append(_image(info["raw_url"], {}))
    nodes: list[Node] = []
    for place, text in enumerate(texts):
        nodes += images.pop(place, [])  # before the sentence that it was matched with
        nodes += _paragraphs(text)
    if images:
        raise ValueError(f"an image is matched with text {min(images)}; there are {len(texts)}")
    return _ready(path, row, row.values.get("url"), nodes)


def _text(path: str, row: Row, config: PagesConfig) -> Item:
    text = row.values.get(config.text_col)
    if text is not None and not isinstance(text, str):
        raise TypeError(f"{config.text_col} is no text")
    return _ready(path, row, row.values.get(config.url_col), _paragraphs(text), _date(row, config))


_MAKERS: Final[dict[str, Callable[[str, Row, PagesConfig], Item]]] = {
    "pages": _page,
    "obelics": _obelics,
    "mint1t": _mint1t,
    "mmc4": _mmc4,
    "text": _text,
}


def _paragraphs(text: str | None) -> list[Node]:
    """Texts between blank lines."""
    parts = (part.strip() for part in _BLANK.split(text)) if text else ()
    return [TextNode(text=part) for part in parts if part]


def _image(url: str, details: Mapping[str, Any]) -> ImageNode:
    if not isinstance(url, str) or not url.startswith(("http://", "https://", "data:")):
        raise ValueError(f"{str(url)[:80]!r} is no address of an image")
    alt = details.get("alt_text")
    return ImageNode(
        url=url,
        alt=alt if isinstance(alt, str) and alt else None,
        width=_pixels(details.get("rendered_width")),
        height=_pixels(details.get("rendered_height")),
    )


def _pixels(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 < value < 2**31 else None


def _ready(path: str, row: Row, url: object, nodes: list[Node], date: str | None = None) -> Item:
    if not nodes:
        return _failure(path, row, "empty", "neither text nor image")
    identity = to_json(nodes).encode("utf-8", "surrogatepass")
    address = url if isinstance(url, str) and url else None
    return Ready(**_at(path, row), nodes=nodes, date=date, url=address, identity=identity)


def _failure(path: str, row: Row, code: str, detail: str) -> Failure:
    return Failure(**_at(path, row), code=code, detail=detail)


def _at(path: str, row: Row) -> dict[str, Any]:
    """The fields of `Found`."""
    return {"file": path, "offset": row.offset, "length": row.length, "position": row.position}


def _date(row: Row, config: PagesConfig) -> str | None:
    """The row's date as ISO 8601, UTC; a date without a zone is taken as UTC."""
    value = row.values.get(config.date_col) if config.date_col is not None else None
    if isinstance(value, datetime):
        zoned = value if value.tzinfo else value.replace(tzinfo=UTC)
        return zoned.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00Z"
    return value.strip() or None if isinstance(value, str) else None


def _json(value: object) -> Any:
    """JSON text parsed; anything else as it is."""
    return json.loads(value) if isinstance(value, str) else value
