"""Evaluation sets as items, whatever they are: files of rows, datasets on disk, shards, folders of pictures."""

import base64
import binascii
import contextlib
import gzip
import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from mmcorpus.curation.evaluations.config import EvaluationSet
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import IMAGE_EXTENSIONS, list_shards, read_samples
from mmcorpus.filters import web
from mmcorpus.filters.contamination import texts_of

ROWS: Final = 256
_TABLE: Final = re.compile(r".+\.(?:(?:jsonl|ndjson)(?:\.gz)?|parquet|arrow)", re.IGNORECASE)
_PICTURE: Final = re.compile(rf"[^\n]{{1,1000}}\.(?:{'|'.join(sorted(IMAGE_EXTENSIONS))})", re.IGNORECASE)
_ENCODED: Final = re.compile(r"(?:data:image/[a-z+.-]+;base64,)?([A-Za-z0-9+/\s]{400,}={0,2})")
_CACHE: Final = re.compile(r"(?:cache-|indices).*\.arrow")
"""Files that `datasets` leaves beside a dataset's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One evaluation item."""

    name: str
    """`set/id`."""
    texts: tuple[str, ...]
    images: tuple[bytes, ...]
    unreadable: tuple[str, ...] = ()
    """Pictures that it names and that are not there."""


def read_items(name: str, entry: EvaluationSet) -> Iterator[Item]:
    """The items of a set, in the order of its files and rows.

    Raises:
        FileNotFoundError: there is nothing at its path.
        ValueError: nothing there can be read as an evaluation set, or a column that the entry names is missing.
    """
    with web.reading(entry.path, allow_private=False):
        yield from _read_items(name, entry)


def _read_items(name: str, entry: EvaluationSet) -> Iterator[Item]:
    fs, inner = storage.filesystem(entry.path)
    if not storage.exists(entry.path):
        raise FileNotFoundError(f"evaluation set {name}: there is nothing at {entry.path}")
    if not fs.isdir(inner):
        if not _TABLE.fullmatch(inner):
            raise ValueError(f"evaluation set {name}: {entry.path} is no .jsonl, .parquet or .arrow file, nor a folder")
        yield from _rows_of(name, entry, fs, posixpath.dirname(inner), inner)
        return
    if list_shards(entry.path):
        yield from _samples_of(name, entry)
        return
    files = sorted(file for file in fs.find(inner) if not _CACHE.fullmatch(posixpath.basename(file)))
    tables = [file for file in files if _TABLE.fullmatch(file)]
    rows = (item for file in tables for item in _rows_of(name, entry, fs, inner, file))
    items = rows if tables else _pictures_of(name, fs, inner, files)
    first = next(items, None)
    if first is None:
        raise ValueError(
            f"evaluation set {name}: {entry.path} holds no items: no rows (.jsonl, .parquet, .arrow), pictures or texts"
        )
    yield first
    yield from items


def _samples_of(name: str, entry: EvaluationSet) -> Iterator[Item]:
    for shard in list_shards(entry.path):
        for sample in read_samples(shard):
            images = tuple(image.data for image in sample.images)
            yield Item(name=f"{name}/{sample.uid}", texts=tuple(texts_of(sample.caption, sample.meta)), images=images)


def _pictures_of(name: str, fs: fsspec.AbstractFileSystem, root: str, files: list[str]) -> Iterator[Item]:
    """Each picture with the text file beside it, and each text file that has no picture."""
    texts = {file.rpartition(".")[0]: file for file in files if file.endswith((".txt", ".caption"))}
    paired: set[str] = set()
    for file in files:
        if _PICTURE.fullmatch(file):
            stem = file.rpartition(".")[0]
            paired.add(stem)
            said = (_text(fs, texts[stem]),) if stem in texts else ()
            yield Item(name=f"{name}/{posixpath.relpath(file, root)}", texts=said, images=(fs.cat_file(file),))
    for stem, file in texts.items():
        if stem not in paired:
            yield Item(name=f"{name}/{posixpath.relpath(file, root)}", texts=(_text(fs, file),), images=())


def _text(fs: fsspec.AbstractFileSystem, file: str) -> str:
    data: bytes = fs.cat_file(file)
    return data.decode("utf-8", "replace").strip()


def _rows_of(name: str, entry: EvaluationSet, fs: fsspec.AbstractFileSystem, root: str, file: str) -> Iterator[Item]:
    for number, row in enumerate(_read_rows(fs, file)):
        if number == 0:
            missing = [column for column in (*entry.texts, *entry.images) if column not in row]
            if missing:
                raise ValueError(
                    f"evaluation set {name}: {file} has no column {missing[0]!r}; it has {', '.join(map(str, row))}"
                )
        texts: list[str] = []
        pictures: list[str | bytes] = []
        for column, value in row.items():
            if column == entry.id:
                continue
            said, shown = list[str](), list[str | bytes]()
            _gather(value, said, shown, column in entry.images)
            texts += said if not entry.texts or column in entry.texts else []
            pictures += shown if not entry.images or column in entry.images else []
        images, unreadable = _load(fs, pictures, (posixpath.dirname(file), root))
        own = row.get(entry.id)
        place = str(own) if isinstance(own, str | int) else f"{posixpath.relpath(file, root)}#{number}"
        yield Item(name=f"{name}/{place}", texts=tuple(texts), images=images, unreadable=unreadable)


def _read_rows(fs: fsspec.AbstractFileSystem, file: str) -> Iterator[Mapping[str, Any]]:
    with fs.open(file, "rb") as opened:
        if file.lower().endswith(".parquet"):
            for batch in pq.ParquetFile(opened).iter_batches(batch_size=ROWS):
                yield from batch.to_pylist()
        elif file.lower().endswith(".arrow"):
            for batch in _arrow_batches(opened):
                for start in range(0, batch.num_rows, ROWS):
                    yield from batch.slice(start, ROWS).to_pylist()
        else:
            lines = gzip.GzipFile(fileobj=opened) if file.lower().endswith(".gz") else opened
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        row = json.loads(line)
                    except ValueError as error:
                        raise ValueError(f"{file}, line {number}: no JSON: {error}") from None
                    yield row if isinstance(row, dict) else {"row": row}


def _arrow_batches(opened: Any) -> Iterator[pa.RecordBatch]:
    """An Arrow stream, as `datasets` writes, or an Arrow file."""
    try:
        yield from pa.ipc.open_stream(opened)
    except pa.ArrowInvalid:
        opened.seek(0)
        reader = pa.ipc.open_file(opened)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def _gather(value: Any, texts: list[str], pictures: list[str | bytes], is_picture: bool) -> None:
    """All texts and pictures in a value of a row: a string with an image's ending is a path, bytes are a picture."""
    if isinstance(value, bytes):
        pictures.append(value)
    elif isinstance(value, str):
        if is_picture or _PICTURE.fullmatch(value) or _ENCODED.fullmatch(value):
            pictures.append(value)
        else:
            texts.append(value)
    elif isinstance(value, Mapping):
        if isinstance(value.get("bytes"), bytes):  # `datasets` keeps the path for its name alone
            pictures.append(value["bytes"])
        else:
            for inner in value.values():
                _gather(inner, texts, pictures, is_picture)
    elif isinstance(value, list | tuple):
        for inner in value:
            _gather(inner, texts, pictures, is_picture)


def _load(
    fs: fsspec.AbstractFileSystem, pictures: list[str | bytes], folders: tuple[str, ...]
) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    """(the pictures' bytes, what could not be read); a path is looked for beside its table, then under the set."""
    found: list[bytes] = []
    missing: list[str] = []
    for picture in pictures:
        if isinstance(picture, bytes):
            found.append(picture)
            continue
        encoded = _ENCODED.fullmatch(picture)
        if encoded:
            with contextlib.suppress(binascii.Error):
                found.append(base64.b64decode(encoded[1]))
                continue
        for folder in folders:
            with contextlib.suppress(OSError, ValueError):
                found.append(fs.cat_file(posixpath.join(folder, picture)))
                break
        else:
            missing.append(picture if len(picture) <= 200 else f"{picture[:200]}…")
    return tuple(found), tuple(missing)
