"""A part of somebody's data as a shard of references: its rows, the table of its images, and those that were copied."""

import contextlib
import logging
import posixpath
import tarfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from mmcorpus.curation.sources import mds, members, rows
from mmcorpus.curation.sources.config import IndexConfig
from mmcorpus.curation.sources.downloaded import open_downloaded
from mmcorpus.curation.sources.found import (
    BAD_CAPTION,
    BAD_CONVERSATION,
    BAD_ROW,
    IMAGE_URL,
    LISTED_TWICE,
    NO_IMAGE,
    BadSample,
    Found,
)
from mmcorpus.curation.sources.images import Finder, KnownImage
from mmcorpus.curation.sources.inputs import Input, Part, Run, open_json
from mmcorpus.curation.sources.json_rows import Readable
from mmcorpus.curation.sources.parts import SYSTEM, conversation_images, question_columns, with_system
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.bare import column_of
from mmcorpus.curation.store.json_values import json_value
from mmcorpus.curation.store.members import hashed_uid, json_text, row_uid, storable
from mmcorpus.curation.store.places import OWN, SCHEMA
from mmcorpus.curation.store.shards import SUCCESS, Shard, add_member, commit_shard, open_tar
from mmcorpus.curation.store.uid import pair_uid

FAILED: Final = "failed_to_index"
"""The status of rows that are no samples."""
ADDRESS: Final = "to_download"
"""The column of the addresses of images that are not here, where a row has one."""
ADDRESSES: Final = "images_to_download"
"""The same, where a row has several images: a list, as JSON."""
MAX_WORDS: Final = 4 << 20
"""Characters of a caption or conversation."""
MAX_COLUMNS: Final = 1_000
"""Of a shard, those that its rows name; it holds a value of each for every row."""
MAX_NAME: Final = 1_000
"""Characters of a column's name."""
MAX_SHARD: Final = 512 << 20
"""Characters of a shard's rows, about: in a fuller one, rows longer than their even share of it are dropped."""
COLUMNS: Final[dict[str, Any]] = {
    "uid": pa.string(), "key": pa.string(), "url": pa.string(), "caption": pa.string(), "conversations": pa.string(),
    "images": pa.int32(), "width": pa.int64(), "height": pa.int64(), "widths": pa.list_(pa.int64()),
    "heights": pa.list_(pa.int64()), "sha256": pa.string(), "source_key": pa.string(), "source_file": pa.string(),
    "status": pa.string(), "error_message": pa.string(),
}  # fmt: skip
"""What every row has, but for `conversations`, which pairs do not. `images` is how many; `width` and `height` are the
first one's, `widths` and `heights` all; sizes are of the image as it is shown."""
OTHERWISE: Final = {"nodes": "source_nodes"}
"""What columns of others are called here, where readers take rows with theirs for another kind of sample: documents."""
Opened = Readable | mds.OpenShard | None
_FIRST: Final = "000000000"
"""The name of a source's first shard."""
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def opened(one: Input) -> Iterator[Opened]:
    """An input from which one part is read after the other; None of a format whose parts are found again at once."""
    if one.format == "mds":
        with mds.open_shard(one) as shard:
            yield shard
    else:
        with open_json(one) as file:
            yield file


def read_part(part: Part, config: IndexConfig, file: Opened) -> Iterator[Found]:
    """The rows of a part of a file of any format, which is `opened`."""
    if part.input.format in ("tar", "files"):
        return members.read_part(part, config)
    if isinstance(file, mds.OpenShard):
        return mds.read_part(part, config, file)
    return rows.read_part(part, config, file)


@dataclass(frozen=True, kw_only=True)
class IndexRun:
    """Makes the shards of a run of parts; picklable."""

    config: IndexConfig
    out: str
    roots: tuple[str, ...]
    """Of `references.json`."""
    image_root: str | None
    downloaded: tuple[str, str] | None = None
    """A folder of downloaded images, and its identity."""

    def __call__(self, run: Run) -> dict[str, Any]:
        """Commit the shards that are not there yet; returns how many of their rows are `kept`, and the others by their
        codes."""
        counts: Counter[str] = Counter()
        with opened(run.parts[0].input) as file:
            for part in run.parts:
                shard = Shard(root=self.out, name=part.name, references=True)
                if not storage.exists(shard.stats):
                    counts.update(self._make(shard, part, file))
        return dict(counts)

    def _make(self, shard: Shard, part: Part, file: Opened) -> dict[str, int]:
        own = posixpath.dirname(part.input.file)
        where = (part.input.root, own) if self.image_root is None else (self.image_root, "")
        fetched = None if self.downloaded is None else open_downloaded(*self.downloaded)
        finder = Finder(root=where[0], folder=where[1], strip=self.config.strip, downloaded=fetched)
        told: list[dict[str, Any]] = []
        places: list[dict[str, Any]] = []
        taken: set[str] = set()
        names: set[str] = set()
        held = 0
        copies = _Copies(shard)
        with copies:
            for number, found in enumerate(read_part(part, self.config, file)):
                key = f"{part.name}{number:07d}"
                longest = max(map(len, found.meta), default=0)
                if longest > MAX_NAME:
                    why = f"it names a value in {longest:,} characters; at most {MAX_NAME:,} are read"
                    found.meta, found.error = {}, f"{BAD_ROW}: {why}"
                found.meta = {storable(name): value for name, value in found.meta.items()}
                if len(names | found.meta.keys()) > MAX_COLUMNS:
                    why = f"it names {len(found.meta):,} values, and its shard {len(names):,} already"
                    found.meta, found.error = {}, f"{BAD_ROW}: {why}; at most {MAX_COLUMNS:,} columns are kept"
                names |= found.meta.keys()
                images: list[KnownImage] = []
                # What a table's dictionary has once, any number of rows may have: it is not hashed for each of them.
                length = _length([found.url, found.caption, found.conversations, found.meta])
                if not self._is_too_long(length, held):
                    row, images = self._row(found, key, finder)
                    length = _length(row)
                if self._is_too_long(length, held):
                    row, length = self._too_long(key, length, held), 0
                held += length
                if row["status"] == SUCCESS and row["uid"] in taken:
                    row |= {"status": FAILED, "error_message": LISTED_TWICE}
                if row["status"] == SUCCESS:
                    taken.add(row["uid"])
                    places += self._places(key, images, copies)
                row["source_file"] = part.input.file
                told.append(row)
        if self.config.kind == "pair" and part.name == _FIRST:
            _say_without_captions(part.input, told, names)
        table = _table(told, columns_of(self.config))
        storage.write_table(shard.images, _places_table(places))
        stats = commit_shard(shard, table, failures=(FAILED,), copied=copies.count, copied_bytes=copies.bytes)
        drops = {code: count for code, count in stats["status_dict"].items() if code != SUCCESS}
        return {"kept": stats["successes"], **drops}

    def _row(self, found: Found, key: str, finder: Finder) -> tuple[dict[str, Any], list[KnownImage]]:
        """A row of the shard, and the images of one that is a sample."""
        row: dict[str, Any] = {
            **{OTHERWISE.get(name, name): value for name, value in found.meta.items() if name not in COLUMNS},
            "key": key, "url": _text(found.url), "caption": _text(found.caption), "source_key": _text(found.key),
            "images": 0, "sha256": _text(found.meta.get("sha256")), "status": SUCCESS,
        }  # fmt: skip
        images: list[KnownImage] = []
        words: str | None = None
        try:
            words = self._words(found)
            row["conversations"] = words
            if found.error is not None:
                raise _Failed(found.status or FAILED, found.error)
            if found.caption is None and found.conversations is None and found.meta.get("nodes") is not None:
                raise BadSample(BAD_ROW, "it has nodes, as documents have; shards of these are read as they are")
            if self.config.kind == "pair" and not found.images:
                asked = question_columns(found.meta)
                more = f"; a conversation ({', '.join(asked)}) is one by kind: conversation" if asked else ""
                raise BadSample(NO_IMAGE, f"a pair has one{more}")
            uid = found.uid or row_uid(found.url, found.caption, words)
            images = finder.find(found.images, key=key, hashed=uid is None)
        except _Failed as failed:
            row |= {"status": _text(failed.status), "error_message": _text(failed.message)}
        except BadSample as error:
            row |= {"status": FAILED, "error_message": _text(str(error))}
            if error.code == IMAGE_URL:
                names = [_text(image.name) for image in found.images if image.name and finder.is_address(image.name)]
                row |= {ADDRESS: names[0]} if len(found.images) == 1 else {ADDRESSES: names}
        hashes = [image.sha256 for image in images if image.sha256]
        row["uid"] = found.uid or row_uid(found.url, found.caption, words)
        if row["uid"] is None and row["status"] == SUCCESS:
            row["uid"] = hashed_uid(hashes, found.caption, words)
        elif row["uid"] is None:
            row["uid"] = pair_uid(row["error_message"], f"{words or found.caption or ''}{json_text(found.meta)}")
        if row["status"] == SUCCESS:
            row |= {"widths": [], "heights": []}
        if images:
            row |= {
                "images": len(images), "width": images[0].width, "height": images[0].height,
                "widths": [image.width for image in images], "heights": [image.height for image in images],
                "sha256": row["sha256"] or (hashes[0] if len(hashes) == 1 else None),
            }  # fmt: skip
        return row, images

    def _is_too_long(self, length: int, held: int) -> bool:
        return held + length > MAX_SHARD and length > MAX_SHARD // self.config.samples_per_shard

    def _too_long(self, key: str, length: int, held: int) -> dict[str, Any]:
        why = f"{length:,} characters; its shard has {held:,} already: give a lower samples_per_shard"
        error = {"status": FAILED, "error_message": f"{BAD_ROW}: {why}"}
        return {"key": key, "uid": pair_uid(key, why), "images": 0, **error}

    def _words(self, found: Found) -> str | None:
        """A conversation as text, without what its turns call their images. Raises BadSample."""
        if found.caption is not None and len(found.caption) > MAX_WORDS:
            raise BadSample(BAD_ROW, f"a caption of {len(found.caption):,} characters; at most {MAX_WORDS:,} are read")
        if self.config.kind == "pair" and found.caption is None and found.conversations is not None:
            raise BadSample(BAD_CAPTION, "there is none, but a conversation; say kind: conversation")
        if self.config.kind == "pair" or found.error is not None:
            return None
        turns = found.conversations
        if isinstance(turns, str):
            with contextlib.suppress(ValueError):
                turns = json_value(turns)
        if turns is None:
            raise BadSample(BAD_CONVERSATION, "there is none")
        try:
            system = next((found.meta[name] for name in SYSTEM if found.meta.get(name)), None)
            text = json_text(with_system(conversation_images(turns)[0], system))
        except RecursionError:
            raise BadSample(BAD_CONVERSATION, "it is nested too deeply") from None
        if len(text) > MAX_WORDS:
            raise BadSample(BAD_ROW, f"a conversation of {len(text):,} characters; at most {MAX_WORDS:,} are read")
        return text

    def _places(self, key: str, images: Sequence[KnownImage], copies: "_Copies") -> Iterator[dict[str, Any]]:
        for number, image in enumerate(images):
            row: dict[str, Any] = {"key": key, "number": number, "extension": image.extension}
            if image.where is None:
                assert image.data is not None
                offset = copies.add(f"{key}.{number:03d}.{image.extension}", image.data)
                row |= {"root": OWN, "file": copies.name, "offset": offset, "size": len(image.data)}
                row["file_size"] = 0
            else:
                where = image.where
                row |= {
                    "root": self.roots.index(where.root), "file": where.file, "offset": where.offset,
                    "size": where.size, "row": where.row, "item": where.item, "columns": "\n".join(where.columns),
                    "file_size": where.state.size, "modified": where.state.modified,
                }  # fmt: skip
            yield row


class _Failed(Exception):
    """A row that was none before it was read here."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class _Copies:
    """The shard's own tar, made when an image is copied into it."""

    def __init__(self, shard: Shard) -> None:
        self.name = f"{shard.name}.tar"
        self.count = self.bytes = 0
        self._path, self._stack = shard.tar, contextlib.ExitStack()
        self._tar: tarfile.TarFile | None = None

    def add(self, name: str, data: bytes) -> int:
        """Copy an image; returns the offset of its first byte."""
        if self._tar is None:
            self._tar = self._stack.enter_context(open_tar(self._path))
        add_member(self._tar, name, data)
        self.count, self.bytes = self.count + 1, self.bytes + len(data)
        return self._tar.offset - -(-len(data) // 512) * 512

    def __enter__(self) -> "_Copies":
        self._stack.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)


def _length(value: Any) -> int:
    """Of texts in a value, and eight of each other."""
    if isinstance(value, str | bytes):
        return len(value)
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else None
    return 8 if inside is None else sum(map(_length, inside))


def _text(value: Any) -> str | None:
    return storable(value) if isinstance(value, str) else None


def columns_of(config: IndexConfig) -> dict[str, Any]:
    """The columns that every shard of a source has. Where there are `conversations`, readers take a sample for one."""
    return {name: kind for name, kind in COLUMNS.items() if name != "conversations" or config.kind == "conversation"}


def _say_without_captions(one: Input, told: Sequence[Mapping[str, Any]], names: Collection[str]) -> None:
    """Log it where no pair has a caption: its column may be called otherwise."""
    if any(row["status"] == SUCCESS for row in told) and all(row["caption"] is None for row in told):
        others = f"; other columns are {', '.join(sorted(names)[:20])} (columns: caption=NAME)" if names else ""
        _log.warning("%s: none of its first rows has a caption%s", one.path, others)


def _table(told: Sequence[Mapping[str, Any]], always: Mapping[str, Any]) -> pa.Table:
    names = dict.fromkeys(name for row in told for name in row if name not in COLUMNS)
    columns = {name: pa.array([row.get(name) for row in told], kind) for name, kind in always.items()}
    return pa.table({**columns, **{name: column_of([row.get(name) for row in told]) for name in names}})


def _places_table(places: Sequence[Mapping[str, Any]]) -> pa.Table:
    fields = SCHEMA
    columns = [pa.array([place.get(field.name) for place in places], field.type) for field in fields]
    return pa.table(columns, schema=fields)


def dropped(stats: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Rows that are no samples, by rule, of some shards' stats: the most frequent first."""
    counted: Counter[str] = Counter()
    for one in stats:
        counted.update({code: count for code, count in one["status_dict"].items() if code != SUCCESS})
    return dict(counted.most_common())
