"""Documents in archives. In zips JSON lines, as MMC4 is published; in tars, as WebDataset, of each key a json, with its
images inside (base64) or beside it.

texts, images        MINT-1T's PDFs: images null or a name at each place, `key.tiff` with a page an image; or
                     `key.000.jpg …` in order
texts, image_info    OBELICS with its images, as Open-Qwen2VL packs it: `{"image_base64": …}` at each place
text_list, image_info    MMC4 with its images, as OpenFlamingo converts it: `{"image_base64", "matched_text_index"}`
"""

import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Any, Final

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.crawl.html_files import is_html_name, walk_tar
from mmcorpus.curation.crawl.published import items_of, picture_url, read_table_items
from mmcorpus.curation.crawl.records import Failure, Item, Other, Position
from mmcorpus.curation.crawl.tables import MAX_LINE, Row
from mmcorpus.curation.store.compressed import DECODE_ERRORS, decompressed
from mmcorpus.curation.store.tars import read_tar, sample_of
from mmcorpus.filters.decode import MAX_PIXELS, Unreadable, open_image

_IMAGES: Final = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif"})
_PAGES: Final = frozenset({"tif", "tiff"})
_LINES: Final = re.compile(r"\.(jsonl|ndjson)\Z")
_LOOKED_AT: Final = 16
"""Members by which it is told whether a tar holds documents or HTML."""


def holds_documents(path: str, file: IO[bytes]) -> bool:
    """True if the first files of a tar are JSON and images rather than HTML. The file's place is its beginning then."""
    names: list[str] = []
    file.seek(0)
    try:
        stream, _ = decompressed(path, file, 0)
        with read_tar(stream, "r:") as archive:
            while len(names) < _LOOKED_AT and (member := archive.next()) is not None:
                names.append(member.name.lower())
    except (tarfile.TarError, ValueError, *DECODE_ERRORS):
        pass  # what is wrong with it is said when it is read
    file.seek(0)
    return any(name.endswith(".json") for name in names) and not any(map(is_html_name, names))


def read_document_zip(path: str, file: IO[bytes], config: PagesConfig, position: Position) -> Iterator[Item]:
    """The documents of the JSON lines in a zip, from a place on: the file's in the archive, and the byte in it.

    Raises zipfile.BadZipFile for what is no zip, and UnknownTable for lines of no known kind.
    """
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        for number in range(position.offset, len(members)):
            member = members[number]
            first = position.skip if number == position.offset else 0
            if member.is_dir():
                continue
            if not _LINES.search(member.filename.lower()):
                yield Other(
                    file=path, offset=member.header_offset, length=member.compress_size,
                    position=Position(number + 1), what="file that is no JSON lines",
                )  # fmt: skip
                continue
            name = f"{path}/{member.filename}"
            try:
                with archive.open(member) as opened:
                    for item in read_table_items(name, opened, config.format, config, Position(first)):
                        yield replace(item, position=Position(number, item.position.offset))
            except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # RuntimeError: a password
                yield Failure(
                    file=name, offset=member.header_offset, length=member.compress_size, position=Position(number + 1),
                    code="bad_record", detail=str(error)[:200],
                )  # fmt: skip


def zip_holds_lines(file: IO[bytes]) -> bool:
    """True if a zip has JSON lines and no HTML. Raises zipfile.BadZipFile for what is no zip."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    file.seek(0)
    return any(_LINES.search(name.lower()) for name in names) and not any(map(is_html_name, names))


def read_document_tar(path: str, file: IO[bytes], config: PagesConfig, position: Position) -> Iterator[Item]:
    """The documents of a tar from a member on; a sample that is none costs itself."""
    sample = _Sample(path, config, "", position.offset)
    after = position
    for member in walk_tar(path, file, position, _limit):
        if isinstance(member, Failure):
            yield from sample.items(after)
            yield member
            sample, after = _Sample(path, config, "", member.offset), member.position
            continue
        name, ending = sample_of(member.name)
        if name != sample.key:
            yield from sample.items(after)
            sample = _Sample(path, config, name, member.offset)
        after = member.after
        sample.size += member.size
        if member.data is None:
            sample.others.append(f"file .{ending.lower()[:16]}")
        else:
            sample.parts[ending.lower()] = member.data
    yield from sample.items(after)


def _limit(name: str) -> int | None:
    key, ending = sample_of(name)
    kind = ending.rpartition(".")[2].lower()
    return MAX_LINE + 1 if key and (kind in _IMAGES or ending.lower() == "json") else None


class _Sample:
    """The files of a key."""

    def __init__(self, path: str, config: PagesConfig, key: str, begin: int) -> None:
        self.path, self.config, self.key, self.begin = path, config, key, begin
        self.parts: dict[str, bytes] = {}
        self.others: list[str] = []
        self.size = 0

    def items(self, after: Position) -> Iterator[Item]:
        """Its document, and the files that are none of it."""
        row: Any = {"position": after, "offset": self.begin, "length": self.size}
        for what in self.others:
            yield Other(file=self.path, what=what, **row)
        if self.parts:
            yield from _document(self.path, self.config, self.parts, row, after)


def _document(
    path: str, config: PagesConfig, parts: dict[str, bytes], row: dict[str, Any], after: Position
) -> Iterator[Item]:
    def failure(code: str, detail: str) -> Failure:
        return Failure(file=path, code=code, detail=detail, number=after.skip, **row)

    if sum(map(len, parts.values())) > MAX_LINE:
        yield failure("too_large", f"a sample of {row['length']:,} bytes")
        return
    if "json" not in parts:
        yield Other(file=path, what="sample without a json", **row)
        return
    try:
        values = json.loads(parts["json"])
        if not isinstance(values, dict):
            raise ValueError(f"its json holds {type(values).__name__}, not an object")
        unplaced = _place(values, _pictures(parts))
    except (ValueError, RecursionError, Unreadable) as error:
        yield failure("bad_record", str(error)[:200])
        return
    for _ in range(unplaced):
        yield Other(file=path, what="image that its document has no place for", **row)
    yield from items_of(path, Row(values=values, **row), config)


def _pictures(parts: dict[str, bytes]) -> list[str]:
    """The images beside the json, in order, as addresses that hold them; of a TIFF its pages."""
    found = []
    for ending, data in sorted(parts.items()):
        kind = ending.rpartition(".")[2]
        if kind in _PAGES:
            found += _pages(data)
        elif kind in _IMAGES:
            found.append(picture_url(data))
    return found


def _pages(data: bytes) -> list[str]:
    """The pages of a TIFF, each as a PNG. Raises Unreadable, or ValueError for one with too many pixels."""
    pages: list[str] = []
    pixels = 0
    with open_image(data).image as opened:
        frames = getattr(opened, "n_frames", 1)
        if frames == 1:
            return [picture_url(data)]
        for number in range(frames):
            try:
                opened.seek(number)
                pixels += opened.width * opened.height
                if pixels > MAX_PIXELS:
                    raise ValueError(f"a TIFF of more than {MAX_PIXELS:,} pixels")
                page = io.BytesIO()
                opened.convert("RGB").save(page, "PNG", compress_level=1)
            except (OSError, EOFError, SyntaxError) as error:
                raise ValueError(f"page {number} of its TIFF cannot be read: {error}") from None
            pages.append(picture_url(page.getvalue()))
    return pages


def _place(values: dict[str, Any], pictures: list[str]) -> int:
    """Put images where the json has places for them, in order; returns how many it has none for.

    Where there are not as many as places – some could not be fetched, say – nobody knows which they are: the json's own
    entries stay, addresses mostly.
    """
    images, texts = values.get("images"), values.get("texts")
    if not isinstance(images, list) and isinstance(texts, list) and "image_info" not in values:
        images = [None if text is not None else "" for text in texts]
    if not pictures or not isinstance(images, list):
        return len(pictures)
    places = [place for place, image in enumerate(images) if image is not None]
    if len(places) != len(pictures):
        return len(pictures)
    placed = list(images)
    for place, picture in zip(places, pictures, strict=True):
        placed[place] = picture
    values["images"] = placed
    return 0
