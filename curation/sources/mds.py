"""The samples of MosaicML streaming's shards (MDS), whose images are ranges of their bytes."""

import contextlib
import functools
import logging
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from mmcorpus.curation.sources import rows
from mmcorpus.curation.sources.config import USUAL, IndexConfig
from mmcorpus.curation.sources.found import BAD_ROW, Found, FoundImage, Where, check_count
from mmcorpus.curation.sources.inputs import Input, Part, SourceError
from mmcorpus.curation.store import compressed, storage
from mmcorpus.curation.store.json_values import json_value
from mmcorpus.curation.store.mds import Column, Header, header_of
from mmcorpus.curation.store.named_files import state_of
from mmcorpus.curation.store.tars import MAX_MEMBER_BYTES

_LISTS: Final = {"list[jpeg]": 4, "list[png]": 4, "jpeg_array": 0, "jpegarray": 0}
"""Encodings of several images: their number and sizes, after so many bytes that mean nothing."""
_IMAGES: Final = frozenset({"jpeg", "png", *_LISTS})
_MOST_READ: Final = 16 << 30
"""Bytes of all samples; offsets reach to 4 GiB, and each damaged one may add as much as a sample may have."""
_SIZES: Final = "image_sizes"
"""The column that divides `images`, as our own export has them."""


def _number(kind: str, data: bytes) -> Any:
    return np.frombuffer(data, np.dtype(kind).newbyteorder("<"))[0].item()


_VALUES: Final[dict[str, Callable[[bytes], Any]]] = {
    "str": lambda data: data.decode("utf-8"),
    "json": json_value,
    "int": functools.partial(_number, "int64"),
    "str_int": lambda data: int(data.decode()),
    "str_float": lambda data: float(data.decode()),
    "str_decimal": lambda data: data.decode(),
    **{kind: functools.partial(_number, kind) for kind in (
        "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64",
    )},
}  # fmt: skip
"""How values are read. Pickles are not, as they run code, nor pixels and arrays, which are no encoded image."""
_log = logging.getLogger(__name__)


class OpenShard:
    """A shard whose parts are read one after the other: if it is compressed, each goes on where the last one ended."""

    def __init__(self, one: Input, file: Any) -> None:
        self._path, self._compressed, self.file = one.path, bool(one.compression), file

    @functools.cached_property
    def header(self) -> Header:
        """Raises SourceError for what is no such shard, and compressed.DecodeError."""
        self.file.seek(0)
        header = header_of(self.file)
        if header is None:
            raise SourceError(f"{self._path} is no MDS shard any more; fetch or write it again")
        _check_places(self._path, header, seeks_back=not self._compressed)
        return header


@contextlib.contextmanager
def open_shard(one: Input) -> Iterator[OpenShard]:
    """A shard, decompressed, for one part after the other."""
    fs, inner = storage.filesystem(one.path)
    with fs.open(inner, "rb") as raw:
        yield OpenShard(one, compressed.decompressed(one.path, raw, 0)[0])


def read_part(part: Part, config: IndexConfig, shard: OpenShard) -> Iterator[Found]:
    """The samples of a part of a shard; one that is damaged costs itself.

    Raises:
        SourceError: a column that the config names is not there, or the shard's compression is damaged.
    """
    path = part.input.path
    try:
        header = shard.header
        images = _image_columns(path, header, config)
        if part.start == 0:
            _say_what_is_left(path, header, images)
        place = None if part.input.compression else Where(
            root=part.input.root, file=part.input.file, state=state_of(path)
        )  # fmt: skip
        for number in range(part.start, len(header) if part.end is None else min(part.end, len(header))):
            begin, end = map(int, header.begins[number : number + 2])
            try:
                yield _sample(shard.file, header, (begin, end), images, config, place)
            except ValueError as error:
                yield Found(error=f"{BAD_ROW}: sample {number}: {error}")
    except compressed.DecodeError as error:
        raise SourceError(f"{path}: {error}; fetch or write it again") from None


def _check_places(path: str, header: Header, *, seeks_back: bool) -> None:
    """Raises SourceError if reading all samples where they are said to lie takes more than any sane shard does."""
    begins, ends = header.begins[:-1].astype(np.int64), header.begins[1:].astype(np.int64)
    read = (begins <= ends) & (ends - begins <= MAX_MEMBER_BYTES)
    begins, ends = begins[read], ends[read]
    total = int((ends - begins).sum())
    if not seeks_back and len(begins):
        back = begins[1:] < np.maximum.accumulate(ends)[:-1]
        total += int(begins[1:][back].sum())  # decompressed again
    if total > _MOST_READ:
        raise SourceError(f"{path} is damaged: its samples lie over each other; fetch or write it again")


def _image_columns(path: str, header: Header, config: IndexConfig) -> list[str]:
    """Those that the config names, else of the usual names, else all of images; of pairs, which have one, the first."""
    names = [column.name for column in header.columns]
    lacking = [name for name in config.columns.values() if name not in names]
    if lacking:
        raise SourceError(f"{path} has no column {lacking[0]!r}; it has {', '.join(names)}")
    able = [column.name for column in header.columns if column.encoding in {*_IMAGES, "bytes"}]
    if "image" in config.columns:
        if (name := config.columns["image"]) not in able:
            encoding = next(column.encoding for column in header.columns if column.name == name)
            raise SourceError(
                f"{path}: column {name!r} ({encoding}) has no encoded images; write them as jpeg, png or bytes"
            )
        return [name]
    usual = [name for name in USUAL["image"] if name in able]
    others = [column.name for column in header.columns if column.encoding in _IMAGES]
    return usual[:1] or (others[:1] if config.kind == "pair" else others)


def _say_what_is_left(path: str, header: Header, images: Sequence[str]) -> None:
    left = [
        f"{one.name} ({one.encoding})"
        for one in header.columns
        if one.encoding not in _VALUES and one.name not in images
    ]
    if left:
        _log.warning(
            "%s: no part of the samples, as neither values nor the samples' encoded images: %s", path, ", ".join(left)
        )


def _sample(
    file: Any, header: Header, span: tuple[int, int], images: Sequence[str], config: IndexConfig, place: Where | None
) -> Found:
    """Raises ValueError for a sample that is not as the header says."""
    begin, end = span
    if not 0 <= end - begin <= MAX_MEMBER_BYTES:
        raise ValueError(f"it is said to lie from byte {begin:,} to {end:,}")
    file.seek(begin)
    data = file.read(end - begin)
    if len(data) < end - begin:
        raise ValueError("the file ends inside it")
    row: dict[str, Any] = {}
    pictures: list[_Range] = []
    for column, at, value in header.values(data):
        if column.name in images:
            pictures += [_Range(begin + at + start, one) for start, one in _images(column, value)]
        elif column.encoding in _VALUES:
            try:
                row[column.name] = _VALUES[column.encoding](value)
            except (ValueError, IndexError) as error:
                raise ValueError(f"{column.name!r} is no {column.encoding}: {error}") from None
    sizes = row.pop(_SIZES, None)
    if isinstance(sizes, list) and len(pictures) == 1:
        pictures = [_Range(pictures[0].begin + at, one) for at, one in _divided(pictures[0].data, sizes, 0)]
    if isinstance(about := row.pop("about", None), dict):
        row = {**about, **row}
    elif about is not None:
        row["about"] = about
    return rows.sample_of(row, config, [one.found(place) for one in pictures])


class _Range(NamedTuple):
    """An image's bytes, and where they begin in the file."""

    begin: int
    data: bytes

    def found(self, place: Where | None) -> FoundImage:
        where = None
        if place is not None:
            where = Where(
                root=place.root, file=place.file, state=place.state, offset=self.begin, size=len(self.data)
            )  # fmt: skip
        return FoundImage(read=functools.partial(bytes, self.data), where=where)


def _images(column: Column, value: bytes) -> list[tuple[int, bytes]]:
    """Where each image of a value begins in it, and its bytes."""
    skipped = _LISTS.get(column.encoding)
    if skipped is None:
        return [(0, value)] if value else []
    if len(value) < skipped + 4:
        raise ValueError(f"{column.name!r} ends inside its sizes")
    (count,) = struct.unpack_from("<I", value, skipped)
    check_count(count)
    first = skipped + 4 + 4 * count
    if len(value) < first:
        raise ValueError(f"{column.name!r} ends inside its sizes")
    return _divided(value, struct.unpack_from(f"<{count}I", value, skipped + 4), first)


def _divided(value: bytes, sizes: Sequence[Any], at: int) -> list[tuple[int, bytes]]:
    check_count(len(sizes))
    found = []
    for size in sizes:
        if type(size) is not int or size < 0 or at + size > len(value):
            raise ValueError("an image does not lie where it is said to")
        found.append((at, value[at : at + size]))
        at += size
    return found
