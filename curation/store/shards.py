"""Shards: img2dataset's WebDataset layout, read and written (DESIGN §3).

`00000.tar` holds `key.jpg`, `key.txt`, `key.json`; `00000.parquet` holds every row, the failures too, with `status`
and `error_message`; `00000_stats.json` is written last and is the commit. A document's images are `key.000.jpg …`.

A *view* is a folder of shards without tars, whose `view.json` says whose tars they speak of and at which level: a row
may be an image of a document, a paragraph, or a document as it was trimmed. It is listed and read as any other folder.

So is a folder of shards whose images lie in files of others (`curation/store/references.py`).
"""

import contextlib
import heapq
import io
import json
import logging
import os
import posixpath
import re
import tarfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.store import bare, members, places, references, storage
from mmcorpus.curation.store.members import Parts, content_uid, images_in, own_uid, read_members

IMAGE_EXTENSIONS: Final = members.IMAGE_EXTENSIONS
SUCCESS: Final = bare.SUCCESS
UNREAD: Final = "failed_to_read"
"""The status of a row whose sample could not be read where it lay."""
VIEW_FILE: Final = "view.json"
Level = Literal["", "image", "paragraph", "document"]
"""What a row of a view is; empty for shards that are no view."""
_STATS = re.compile(r"(\d+)_stats\.json\Z")
_CONTENT = re.compile(r"(\d{5,})\.(?:tar|parquet)\Z")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedImage:
    """An image as the bytes it arrived in."""

    extension: str
    """Without the dot, lower case: `jpg`, `png`, `webp`."""
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One sample of a shard."""

    key: str
    """Its name inside the shard; a position, not an identity."""
    uid: str
    caption: str | None
    images: tuple[EncodedImage, ...]
    meta: dict[str, Any] = field(default_factory=dict)
    """What `key.json` holds: url, sizes, hashes, `conversations` for instruction data."""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Shard:
    """One shard's place; nothing is read until asked."""

    root: str
    name: str
    """Its number as written in the file name, e.g. `00012`."""
    level: Level = ""
    of: str = ""
    """Of a view, the folder of the shards that it speaks of."""
    references: bool = False
    """Whether a table in place of the tar says where the images lie."""

    @property
    def tar(self) -> str:
        """Of a view, the tar of the shard that it speaks of."""
        return storage.join(self.of or self.root, f"{self.name}.tar")

    @property
    def parquet(self) -> str:
        return storage.join(self.root, f"{self.name}.parquet")

    @property
    def stats(self) -> str:
        return storage.join(self.root, f"{self.name}_stats.json")

    @property
    def images(self) -> str:
        """The file that has the images, or the table that says where they lie."""
        return places.images_path(self.root, self.name) if self.references else self.tar


def list_shards(root: str) -> list[Shard]:
    """The committed shards under `root`, by name."""
    names = storage.list_names(root)
    level, of = _view(root) if VIEW_FILE in names else ("", "")
    referring = places.REFERENCES_FILE in names
    matches = (_STATS.match(name) for name in names)
    return sorted(
        Shard(root=os.fspath(root), name=match[1], level=level, of=of, references=referring)
        for match in matches
        if match
    )


def warn_of_unfinished(root: str) -> None:
    """Log which shards under `root` are passed over because no stats file says that they are complete."""
    names = storage.list_names(root)
    complete = {match[1] for name in names if (match := _STATS.match(name))}
    lacking = sorted({match[1] for name in names if (match := _CONTENT.match(name))} - complete)
    if lacking:
        shown = f"{', '.join(lacking[:5])}{' …' if len(lacking) > 5 else ''}"
        _log.warning(
            "%s: %s shards are passed over, as no NUMBER_stats.json says that they are complete: %s; run again what "
            "makes them", root, f"{len(lacking):,}", shown,
        )  # fmt: skip


def no_shards(root: str) -> ValueError:
    """The error of a folder without committed shards; what lies there instead is named."""
    names = storage.list_names(root)
    tars = [name for name in names if name.endswith(".tar")]
    text = (
        f"there are no complete shards (00000_stats.json …) under {root}; download first, or make them of what you "
        "have: mmcorpus index PATH --out FOLDER"
    )
    if tars:
        text = (
            f"{root} has tars ({tars[0]}{', …' if len(tars) > 1 else ''}), but no NUMBER_stats.json, which says that a "
            "shard is complete. Tars of others are read where they lie after `mmcorpus index "
            f"{root} --out FOLDER`, as FOLDER/shards; an unfinished download is finished by running it again"
        )
    return ValueError(text)


def shard_at(root: str, name: str) -> Shard:
    """The shard of a name under `root`, committed or not, which may be a view's."""
    level, of = _view(root) if storage.exists(storage.join(root, VIEW_FILE)) else ("", "")
    referring = not level and storage.exists(places.images_path(root, name))
    return Shard(root=os.fspath(root), name=name, level=level, of=of, references=referring)


def _view(root: str) -> tuple[Level, str]:
    """A view's level, and the folder that it speaks of: `../pages` of `s3://b/shards/pages.images` is beside it."""
    path = storage.join(root, VIEW_FILE)
    view = storage.read_json(path)
    if not isinstance(view, dict) or view.get("level") not in get_args(Level) or not isinstance(view.get("of"), str):
        raise ValueError(f"{path} is no view of mmcorpus; it needs `of` and `level`")
    folder, of = os.fspath(root).rstrip("/"), view["of"]
    while of.startswith("../"):
        folder, of = posixpath.dirname(folder), of[3:]
    return view["level"], storage.join(folder, of)


def read_rows(shard: Shard, columns: list[str] | None = None) -> pa.Table:
    """Every row of a shard, failures included; the tar is touched only where it alone says what rows there are, or
    their uids (`curation/store/bare.py`)."""
    if shard.level or shard.references:
        return storage.read_table(shard.parquet, columns=columns)
    return bare.read_table(shard.parquet, shard.tar, columns)


def read_schema(shard: Shard) -> pa.Schema:
    """The schema of what `read_rows` gives."""
    own = shard.level or shard.references
    return storage.read_schema(shard.parquet) if own else bare.read_schema(shard.parquet, shard.tar)


def read_samples(shard: Shard, uids: Collection[str] | None = None) -> Iterator[Sample]:
    """The samples of a shard's tar in its order; only those in `uids` if given.

    Of a view: its `success` rows, each with its row as `meta` and its image, the images that its `nodes` name, or none.
    A sample whose json or text cannot be read has those of its row; one without content is left out.

    Of references: its `success` rows, each with its row as `meta`, and its images; none where these are lost.

    Raises `tarfile.ReadError` for a damaged tar, `places.Moved` for files that are not as they were indexed, and
    `storage.Damaged` for a view's rows whose `view.json` is gone.
    """
    if shard.level:
        yield from _read_view(shard, uids)
        return
    if shard.references:
        yield from _read_references(shard, uids)
        return
    _refuse_lost_view(shard)
    rows: dict[str, dict[str, Any]] | None = None
    for key, parts in read_members(shard.tar):
        meta, caption, errors = bare.read_sample(shard.tar, parts)
        uid = own_uid(meta.get("uid"))
        if rows is None and (uid is None or errors):
            rows = _rows_by_key(shard)
        if rows is not None:
            row = rows.get(key, {})
            uid = row.get("uid") or uid or content_uid(meta, caption, parts)
            meta = meta or row
            caption = row.get("caption") if errors and caption is None else caption
        if uid is not None and (uids is None or uid in uids):
            yield Sample(key=key, uid=uid, caption=caption, images=_images(parts), meta=meta)


def _refuse_lost_view(shard: Shard) -> None:
    """Raise Damaged for rows without a tar that are of documents, so that a view's file is what they lack."""
    if not storage.exists(shard.tar) and storage.exists(shard.parquet):
        names = storage.read_schema(shard.parquet).names
        if "nodes" in names or "document" in names:
            why = f"it is gone, or {shard.tar} is: nothing says which documents the rows of {shard.name} are of"
            raise storage.Damaged(storage.join(shard.root, VIEW_FILE), "view of documents", why)


def _read_references(shard: Shard, uids: Collection[str] | None) -> Iterator[Sample]:
    """The samples of a shard of references in the order of its rows, which is that of their images."""
    rows = read_rows(shard)
    with storage.reading(shard.parquet, storage.PARQUET):
        kept = rows.filter(pc.equal(rows["status"], SUCCESS))
        names, columns = kept.column_names, [column.to_pylist() for column in kept.columns]
    key_at, uid_at = names.index("key"), names.index("uid")
    # A tuple a row: dicts are made one by one, as many at once would be gone through whenever memory is tidied.
    wanted = {row[key_at]: row for row in zip(*columns, strict=True) if uids is None or row[uid_at] in uids}
    if not wanted:
        return
    lying = references.References(shard.root, shard.name)
    found: Iterable[tuple[str, list[tuple[str, bytes]]]] = lying.samples(wanted.keys())
    without: list[tuple[str, list[tuple[str, bytes]]]] = [(key, []) for key in wanted.keys() - set(lying.keyed())]
    if without:
        places = {key: place for place, key in enumerate(wanted)}

        def place(one: tuple[str, list[tuple[str, bytes]]]) -> int:
            return places[one[0]]

        found = heapq.merge(found, sorted(without, key=place), key=place)
    for key, images in found:
        row = dict(zip(names, wanted[key]))  # noqa: B905 - as long as each other; the keyword costs as much as the rest
        yield _viewed(row, tuple([EncodedImage(extension=extension, data=data) for extension, data in images]))


def _rows_by_key(shard: Shard) -> dict[str, dict[str, Any]]:
    """The rows of a shard that say more than its tar."""
    try:
        rows = read_rows(shard) if storage.exists(shard.parquet) else pa.table({"key": []})
        with storage.reading(shard.parquet, storage.PARQUET):
            return {row["key"]: row for row in rows.to_pylist()} if "key" in rows.column_names else {}
    except storage.Damaged:  # the tar says what it can; what is wrong with the parquet is said by those who need it
        return {}


def _read_view(shard: Shard, uids: Collection[str] | None) -> Iterator[Sample]:
    """The samples of a view: its rows in order, or in the tar's where there are images.

    The key of an image's or paragraph's row is its document's, a dash, and its node's number.
    """
    rows = read_rows(shard)
    wanted: dict[str, list[dict[str, Any]]] = {}
    with storage.reading(shard.parquet, storage.PARQUET):
        kept = rows.filter(pc.equal(rows["status"], SUCCESS)).to_pylist()
    for row in kept:
        if uids is None or row["uid"] in uids:
            key = row["key"] if shard.level == "document" else row["key"].rpartition("-")[0]
            wanted.setdefault(key, []).append(row)
    if shard.level == "paragraph":
        yield from (_viewed(row, ()) for listed in wanted.values() for row in listed)
        return
    for key, parts in read_members(shard.tar) if wanted else ():
        images = _images(parts)
        for row in wanted.pop(key, ()):
            numbers = [row["image"]] if shard.level == "image" else image_numbers(row["nodes"])
            if numbers and max(numbers) >= len(images):
                continue  # as if the tar lacked it: it costs itself
            yield _viewed(row, tuple(images[number] for number in numbers))


def _viewed(row: dict[str, Any], images: tuple[EncodedImage, ...]) -> Sample:
    return Sample(key=row["key"], uid=row["uid"], caption=row["caption"], images=images, meta=row)


def image_numbers(nodes: str) -> list[int]:
    """Which images of the tar a trimmed document has, by its `nodes`."""
    return [node["image"] for node in json.loads(nodes) if "image" in node]


def _images(parts: Parts) -> tuple[EncodedImage, ...]:
    return tuple(EncodedImage(extension=extension, data=data) for extension, data in images_in(parts))


class ShardWriter:
    """Writes one shard atomically: tar, then parquet, then the stats file that commits it.

    Use as a context manager; leaving it with an exception leaves nothing behind. Tar headers carry no time, owner
    or mode of the machine, so equal samples give equal bytes.
    """

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self._rows: list[dict[str, Any]] = []
        self._file = open_tar(shard.tar)
        self._tar: tarfile.TarFile | None = None

    def __enter__(self) -> "ShardWriter":
        self._tar = self._file.__enter__()
        return self

    def write(self, sample: Sample) -> None:
        """Append a sample; its row in the parquet is its meta with key, uid, caption and status `success`.

        A document – a sample with `nodes`, a list or its JSON text – has the list in its json, the text in its row, and
        each of its images has its number.
        """
        meta = {
            **sample.meta,
            "key": sample.key,
            "uid": sample.uid,
            "caption": sample.caption,
            "status": SUCCESS,
        }
        meta.setdefault("error_message", None)
        nodes = meta.get("nodes")
        if len(sample.images) == 1 and nodes is None:
            self._add(f"{sample.key}.{sample.images[0].extension}", sample.images[0].data)
        else:
            digits = max(3, len(str(len(sample.images))))  # so that names sort as numbers do
            for number, image in enumerate(sample.images):
                self._add(f"{sample.key}.{number:0{digits}d}.{image.extension}", image.data)
        if sample.caption is not None:
            self._add(f"{sample.key}.txt", sample.caption.encode("utf-8", "replace"))
        told = meta
        if nodes is not None:
            told = {**meta, "nodes": json.loads(nodes) if isinstance(nodes, str) else nodes}
            meta["nodes"] = json.dumps(told["nodes"], ensure_ascii=False, sort_keys=True)
        self._add(f"{sample.key}.json", json.dumps(told, ensure_ascii=False, sort_keys=True).encode())
        self._rows.append(meta)

    def fail(self, key: str, uid: str, message: str) -> None:
        """Append a row alone, of a sample that could not be read: `code: detail` is its `error_message`."""
        self._rows.append({"key": key, "uid": uid, "status": UNREAD, "error_message": message})

    def _add(self, name: str, data: bytes) -> None:
        assert self._tar is not None, "use ShardWriter as a context manager"
        add_member(self._tar, name, data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, traceback)
        if kind is None:
            # from_pylist alone would keep only the columns of the first row.
            names = dict.fromkeys(name for row in self._rows for name in row) or ("uid", "status", "error_message")
            commit_shard(self.shard, pa.table({name: [row.get(name) for row in self._rows] for name in names}))


@contextlib.contextmanager
def open_tar(path: str) -> Iterator[tarfile.TarFile]:
    """A tar for `add_member`, which appears at `path` complete when the block ends, and not at all if it raises."""
    with storage.atomic_write(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        yield tar


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Append a file to a tar with a header that depends on name and data alone."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    tar.addfile(info, io.BytesIO(data))


def commit_shard(
    shard: Shard, rows: pa.Table, *, failures: Sequence[str] = ("failed_to_download", "failed_to_resize"), **more: Any
) -> dict[str, Any]:
    """Commit a shard whose tar, if it has one, is written: its parquet, then its stats; returns the stats.

    The stats are img2dataset's: the rows by `status`, and in `status_dict` by the code of their `error_message`.

    Args:
        failures: statuses that are counted even where no row has them.
        more: entries of the stats beside the counts.
    """
    storage.write_table(shard.parquet, rows)
    statuses = Counter(dict.fromkeys(failures, 0))
    statuses.update(map(str, rows["status"].to_pylist()))
    codes = Counter(code_of(message) or SUCCESS for message in rows["error_message"].to_pylist())
    counts = {"count": len(rows), "successes": statuses.pop(SUCCESS, 0), **statuses}
    stats = {**counts, "status_dict": dict(sorted(codes.items())), **more}
    storage.write_json(shard.stats, stats)
    return stats


def code_of(message: str | None) -> str | None:
    """The code of an error message `code: detail`."""
    return message.partition(":")[0] if message is not None else None
