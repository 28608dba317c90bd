"""Corpora of documents that exist, and tables of pages and of text: what a row of each holds.

obelics   texts, images (parallel lists, one of the two null), metadata, general_metadata (JSON)   parquet, JSONL
mmc4      text_list, image_info (raw_url, matched_text_index), url                                 JSONL, parquet
mint1t    texts, images (parallel lists; images are addresses), url                                parquet, JSONL
pages     a column of HTML, one of addresses
text      a column of text; addresses and dates where there are any
"""

import base64
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import IO, Any, Final

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.crawl.records import Failure, Item, Other, Page, Position, Ready
from mmcorpus.curation.crawl.tables import Row, column_names, read_rows
from mmcorpus.curation.html.nodes import ImageNode, Node, TextNode, to_json
from mmcorpus.curation.store.members import own_uid
from mmcorpus.filters.formats import format_of

TABLES: Final = ("pages", "obelics", "mmc4", "mint1t", "text")
"""Formats of rows."""
_SCHEMES: Final = ("http://", "https://", "data:")
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
        yield from _made(make, path, row, format, config)


def items_of(path: str, row: Row, config: PagesConfig) -> Iterator[Item]:
    """The document of a row that stands by itself, in a tar or an array: by its keys, unless the config says what."""
    format = config.format if config.format in ("obelics", "mmc4", "mint1t") else "auto"
    if "nodes" in row.values and not row.values.keys() & {"texts", "text_list"}:
        why = "it has nodes, as mmcorpus writes documents: its folder is one of shards, for commands that take these"
        yield _failure(path, row, BAD_ROW, why)
        return
    if format == "auto":
        format = "mmc4" if "text_list" in row.values else "obelics"
    yield from _made(_MAKERS[format], path, row, format, config)


def _made(make: Any, path: str, row: Row, format: str, config: PagesConfig) -> list[Item]:
    try:
        return list(make(path, row, config))
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError) as error:
        return [_failure(path, row, BAD_ROW, f"not a row of {format}: {type(error).__name__}: {str(error)[:200]}")]


def _columns(path: str, format: str, there: Sequence[str], config: PagesConfig) -> tuple[str, list[str]]:
    """The format, if it is to be found, and the columns to read."""
    known: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # needed, and read where they are there
        "obelics": (("texts", "images"), ("metadata", "general_metadata", "uid")),
        "mmc4": (("text_list",), ("image_info", "url", "uid")),
        "mint1t": (("texts", "images"), ("metadata", "url", "uid")),
        "pages": ((config.html_col, config.url_col), ()),
        "text": ((config.text_col,), (config.url_col, "uid")),
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


def _page(path: str, row: Row, config: PagesConfig) -> Iterator[Item]:
    html, url = row.values.get(config.html_col), row.values.get(config.url_col)
    if not isinstance(url, str) or not url.strip():
        yield _failure(path, row, BAD_ROW, "it has no address")
        return
    if not isinstance(html, str | bytes | None):  # a number would ask for so many bytes
        raise TypeError(f"{config.html_col} is a {type(html).__name__}, neither text nor bytes")
    body = html.encode("utf-8", "replace") if isinstance(html, str) else html or b""
    if len(body) > config.extraction.max_bytes:
        yield _failure(path, row, "too_large", f"more than {config.extraction.max_bytes} bytes")
        return
    charset = "utf-8" if isinstance(html, str) else None
    yield Page(**_at(path, row), url=url.strip(), body=body, charset=charset, date=_date(row, config))


def _obelics(path: str, row: Row, config: PagesConfig) -> Iterator[Item]:
    details, general = _json(row.values.get("metadata"), list), _json(row.values.get("general_metadata"), dict)
    for name, found in (("metadata", details), ("general_metadata", general)):
        if found is None:
            yield _note(path, row, f"{name} that is no JSON")
    general = general or {}
    yield from _interleaved(path, row, general.get("url", row.values.get("url")), details or [], general.get("uid"))


def _mint1t(path: str, row: Row, config: PagesConfig) -> Iterator[Item]:
    details = _json(row.values.get("metadata"), list)  # its own is an object; lists are those of our exports
    yield from _interleaved(path, row, row.values.get("url"), details or [])


def _interleaved(path: str, row: Row, url: object, details: list[Any], uid: object = None) -> Iterator[Item]:
    """Texts and images at their places; `image_info` has the images of those who put them into the rows."""
    nodes: list[Node] = []
    named = "images" if row.values.get("images") is not None else "image_info"
    texts, images = ([] if row.values.get(name) is None else _list(row, name) for name in ("texts", named))
    yield from _no_texts(path, row, "texts", (text for text in texts if text is not None))
    for text, image, said in itertools.zip_longest(texts, images, details[: max(len(texts), len(images))]):
        known = said if isinstance(said, Mapping) else {}
        tag = known.get("tag")
        if isinstance(tag, str) and isinstance(text, str) and text.strip():  # a text node of ours, as it was
            nodes.append(TextNode(text=text, tag=tag))
        else:
            nodes += _paragraphs(text)
        if image:
            nodes.append(_image(image, known))
    yield _ready(path, row, url, nodes, uid=uid)


def _mmc4(path: str, row: Row, config: PagesConfig) -> Iterator[Item]:
    texts = _list(row, "text_list")
    yield from _no_texts(path, row, "text_list", texts)
    images: dict[int, list[Node]] = {}
    for info in row.values.get("image_info") or ():
        known = info if isinstance(info, Mapping) else {}
        place = _place_of(known.get("matched_text_index"), len(texts))
        image = info if known.get("image_base64") else known.get("raw_url")
        if place is None and (image or not isinstance(info, Mapping)):
            yield _note(path, row, "image that no text is matched with")
        elif place is not None and image:
            images.setdefault(place, []).append(_image(image, {}))
    nodes: list[Node] = []
    for place, text in enumerate(texts):
        nodes += images.get(place, [])  # before the sentence that it was matched with
        nodes += _paragraphs(text)
    yield _ready(path, row, row.values.get("url"), nodes)


def _place_of(index: Any, texts: int) -> int | None:
    """The number of the text that an image was matched with; None if it names none."""
    try:
        place = int(index)
    except (TypeError, ValueError, OverflowError):
        return None
    return place if 0 <= place < texts else None


def _text(path: str, row: Row, config: PagesConfig) -> Iterator[Item]:
    text = row.values.get(config.text_col)
    if text is not None and not isinstance(text, str):
        raise TypeError(f"{config.text_col} is no text")
    yield _ready(path, row, row.values.get(config.url_col), _paragraphs(text), _date(row, config))


_MAKERS: Final[dict[str, Callable[[str, Row, PagesConfig], Iterator[Item]]]] = {
    "pages": _page,
    "obelics": _obelics,
    "mint1t": _mint1t,
    "mmc4": _mmc4,
    "text": _text,
}


def _no_texts(path: str, row: Row, name: str, texts: Iterable[Any]) -> Iterator[Other]:
    """A note of each entry of a list of texts that is none; it is left out, and the others keep their places."""
    for text in texts:
        if not isinstance(text, str):
            yield _note(path, row, f"entry of {name} that is no text ({type(text).__name__})")


def _paragraphs(text: object) -> list[Node]:
    """Texts between blank lines; nothing of what is no text."""
    parts = (part.strip() for part in _BLANK.split(text)) if isinstance(text, str) else ()
    return [TextNode(text=part) for part in parts if part]


def picture_url(data: bytes) -> str:
    """The address that holds an image itself."""
    return f"data:image/{format_of(data) or 'jpeg'};base64,{base64.b64encode(data).decode()}"


def _held(image: object) -> object:
    """Of an image whose bytes are in the row (`datasets` keeps a struct of bytes and path, others base64) an address
    that holds it; of any other what the row has."""
    if isinstance(image, Mapping):
        if isinstance(image.get("bytes"), bytes):
            return picture_url(image["bytes"])
        if isinstance(image.get("image_base64"), str):
            return f"data:image/jpeg;base64,{image['image_base64']}"
    return picture_url(image) if isinstance(image, bytes) else image


def _image(image: object, details: Mapping[str, Any]) -> ImageNode:
    """The image at an address, or in the row. One that is neither stays where it stood: the download says `bad_url`."""
    url = _held(image)
    address = url if isinstance(url, str) else f"({type(url).__name__})"
    if not address.startswith(_SCHEMES):  # or it is taken as it is
        address = address.strip()
        scheme = next((scheme for scheme in _SCHEMES if address[: len(scheme)].lower() == scheme), "")
        address = scheme + address[len(scheme) :]
    words = {name: _word(details.get(name)) for name in ("caption", "title")}
    return ImageNode(
        url=address,
        alt=_word(details.get("alt_text")) or _word(details.get("alt")),
        width=_pixels(details.get("rendered_width")),
        height=_pixels(details.get("rendered_height")),
        **words,
    )


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _pixels(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 < value < 2**31 else None


def _ready(path: str, row: Row, url: object, nodes: list[Node], date: str | None = None, uid: object = None) -> Item:
    if not nodes:
        return _failure(path, row, "empty", "neither text nor image")
    identity = to_json(nodes).encode("utf-8", "surrogatepass")
    address = url if isinstance(url, str) and url else None
    own = own_uid(row.values.get("uid")) or own_uid(uid)
    return Ready(**_at(path, row), nodes=nodes, date=date, url=address, identity=identity, uid=own)


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


def _json(value: object, kind: type[Any]) -> Any:
    """JSON text parsed, anything else as it is: None if it is broken or of another kind, empty if there is none."""
    if value is None or value == "":
        return kind()
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return None
    return kind() if found is None else found if isinstance(found, kind) else None


def _list(row: Row, name: str) -> list[Any]:
    """A column's list. Raises TypeError for anything else."""
    found = row.values.get(name)
    if not isinstance(found, list):
        raise TypeError(f"{name} is no list")
    return found


def _note(path: str, row: Row, what: str) -> Other:
    """What a document had and lost; counted among what is no page. It stands before its document, in the same part."""
    return Other(**_at(path, row), what=what)
