"""Finding the downloaded images of each shard of documents: what became of an address, and where its image lies.

First an index is made of every downloaded shard: its rows, and the byte range of each image in its tar. Then tasks,
each with a range of the 256 parts into which addresses are cut, join what the list decided, the indexes, and the
addresses that each shard of documents uses. A task's file has a batch for each of these shards, whose placing reads it.
"""

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.documents.image_list import USES_FOLDER, read_manifest
from mmcorpus.curation.documents.image_urls import INLINE
from mmcorpus.curation.download import DownloadConfig
from mmcorpus.curation.download.writer import FACT_FIELDS
from mmcorpus.curation.engine.items import run_numbered, run_pending, task_path
from mmcorpus.curation.engine.partitions import SUFFIX, read_parts, says, write_parts
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import IMAGE_EXTENSIONS, SUCCESS, Shard, list_shards, read_rows
from mmcorpus.curation.store.storage import threaded
from mmcorpus.curation.store.tars import is_readable, read_tar

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

SKIPPED: Final = "skipped"
"""The status of an image that a rule left out before its download or on its page."""
_PLACE_FIELDS: Final = (
    ("status", pa.string()),
    ("error_message", pa.string()),
    ("shard", pa.string()),  # where its image lies: the name, the byte range in the tar, and the ending of its name
    ("offset", pa.int64()),
    ("size", pa.int64()),
    ("extension", pa.string()),
)


def image_fields(download: DownloadConfig) -> list[tuple[str, pa.DataType]]:
    """The columns that a download records of an image, in its shards and in the view of images."""
    sizes = ("width", "height", "original_width", "original_height")
    texts = [name for name in ("exif" if download.extract_exif else None, download.compute_hash) if name]
    return [*((name, pa.int32()) for name in sizes), *((name, pa.string()) for name in texts), *FACT_FIELDS]


def located_schema(download: DownloadConfig) -> pa.Schema:
    """The columns of what is known of addresses."""
    return pa.schema([("uid", pa.string()), *_PLACE_FIELDS, *image_fields(download)])


@dataclass(frozen=True, kw_only=True)
class IndexShard:
    """The work on one downloaded shard: its index."""

    folder: str
    schema: pa.Schema

    def path(self, shard: str) -> str:
        return storage.join(self.folder, f"{shard}{SUFFIX}")

    def run(self, shard: Shard) -> dict[str, int]:
        there = set(storage.read_schema(shard.parquet).names)
        rows = read_rows(shard, ["key", *(name for name in self.schema.names if name in there)])
        members, damage = _members(shard)
        found = [members.get(key, (None,) * 4) for key in rows["key"].to_pylist()]
        columns: dict[str, Any] = {name: rows[name] for name in rows.column_names if name in self.schema.names}
        for place, name in enumerate(("shard", "extension", "offset", "size")):
            columns[name] = pa.array([member[place] for member in found], self.schema.field(name).type)
        lost = pc.and_(pc.equal(rows["status"], SUCCESS), pc.is_null(columns["shard"]))
        columns["status"] = pc.if_else(lost, "failed_to_download", rows["status"])
        columns["error_message"] = pc.if_else(lost, f"not_in_tar: {damage}", rows["error_message"])
        table = pa.table({each.name: columns.get(each.name, pa.nulls(len(rows), each.type)) for each in self.schema})
        table = table.cast(self.schema).sort_by("uid")
        ends = {"first": table["uid"][0].as_py(), "last": table["uid"][-1].as_py()} if len(rows) else {}
        write_parts(self.path(shard.name), self.schema, [table], ends, compression="zstd")
        return {"images": len(rows)}


def _members(shard: Shard) -> tuple[dict[str, tuple[str, str, int, int]], str]:
    """By key the shard, extension, offset and size of each image in a tar; and what ended the reading early."""
    fs, inner = storage.filesystem(shard.tar)
    members: dict[str, tuple[str, str, int, int]] = {}
    try:
        with fs.open(inner, "rb") as file, read_tar(file, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise
                key, _, extension = member.name.partition(".")
                if is_readable(member) and extension.lower() in IMAGE_EXTENSIONS:
                    members[key] = (shard.name, extension.lower(), member.offset_data, member.size)
    except (tarfile.TarError, EOFError, FileNotFoundError) as error:
        return members, str(error) or type(error).__name__
    return members, "no such member"


@dataclass(frozen=True, kw_only=True)
class Locate:
    """The work on a range of parts: for each shard of documents, what is known of the addresses that it uses."""

    folder: str
    listed: str
    decided: str
    tasks: tuple[tuple[int, int], ...]
    """Of each task, its first part and the one after its last."""
    shards: tuple[str, ...]
    """Of documents, as the list counted them."""
    indexes: tuple[tuple[str, str, str], ...]
    """Path, first and last uid of each index."""
    schema: pa.Schema

    def run(self, task: int) -> dict[str, int]:
        parts = range(*self.tasks[task])
        first, last = f"{parts.start:02x}", f"{parts.stop - 1:02x}g"  # uids from 00… up to what is before ffg
        near = [path for path, low, high in self.indexes if low < last and high >= first]
        fetched = pa.concat_tables([self.schema.empty_table(), *threaded(read_parts, near)])
        decided = read_parts(task_path(self.decided, task))
        rule, listed = decided["rule"], pc.is_null(decided["rule"])
        position = pc.index_in(decided["uid"], value_set=fetched["uid"].combine_chunks())
        known = fetched.take(position.combine_chunks())  # nulls where nothing was fetched
        columns = {name: known[name] for name in self.schema.names} | {"uid": decided["uid"]}
        columns["status"] = pc.if_else(
            listed, pc.fill_null(known["status"], "failed_to_download"),
            pc.if_else(pc.equal(rule, INLINE), INLINE, SKIPPED),
        )  # fmt: skip
        columns["error_message"] = pc.if_else(
            listed, pc.if_else(pc.is_null(position), "not_downloaded: its shard is missing", known["error_message"]),
            pc.binary_join_element_wise(rule, decided["value"], ": "),
        )  # fmt: skip
        table = pa.table(columns).cast(self.schema).combine_chunks()
        values = table["uid"].combine_chunks()
        batches = (table.take(pc.index_in(self._used(shard, parts), value_set=values)) for shard in self.shards)
        write_parts(task_path(self.folder, task), self.schema, batches, {}, compression="zstd")
        return {"addresses": table.num_rows}

    def _used(self, shard: str, parts: range) -> pa.Array:
        path = storage.join(self.listed, USES_FOLDER, f"{shard}{SUFFIX}")
        return read_parts(path, parts)["uid"].combine_chunks()


@dataclass(frozen=True, kw_only=True)
class Located:
    """The facts known of every address, by the shard of documents that uses it."""

    paths: tuple[str, ...]
    shards: dict[str, int]
    """Names of document shards, and which batch of each file is theirs."""
    schema: pa.Schema
    fetched: str | None

    def of(self, shard: str) -> dict[str, dict[str, Any]]:
        """By uid of the address."""
        if not self.paths:
            return {}
        number = self.shards[shard]
        tables = threaded(lambda path: read_parts(path, [number]), self.paths)
        return {row["uid"]: row for table in tables for row in table.to_pylist()}


def locate(
    listed: str | None, fetched: str | None, work: str, download: DownloadConfig, *, workers: int | None
) -> Located:
    """Make the indexes and the join in `work`; what is there already is kept.

    Raises:
        RuntimeError: a downloaded shard's rows could not be read.
        ValueError: the list is not complete.
    """
    schema = located_schema(download)
    if listed is None:
        return Located(paths=(), shards={}, schema=schema, fetched=None)
    made = read_manifest(listed)
    index = IndexShard(folder=storage.join(work, "index"), schema=schema)
    shards = list_shards(fetched) if fetched is not None else []
    committed = {name.removesuffix(SUFFIX) for name in storage.list_names(index.folder)}
    ran = run_pending(lambda: index.run, shards, committed=committed, title="index images", workers=workers)
    ran.or_raise("move the files of that shard away and download again (`mmcorpus run` does both by itself)")
    paths = [index.path(shard.name) for shard in shards]
    ends = threaded(says, paths)
    join = Locate(
        folder=storage.join(work, "located"),
        listed=listed,
        decided=storage.join(listed, made["decided"]),
        tasks=tuple((start, stop) for start, stop in made["tasks"]),
        shards=tuple(made["shards"]),
        indexes=tuple((path, end["first"], end["last"]) for path, end in zip(paths, ends, strict=True) if end),
        schema=schema,
    )
    files = run_numbered(join.folder, join.run, len(join.tasks), title="locate images", workers=workers)
    numbers = {name: number for number, name in enumerate(join.shards)}
    return Located(paths=tuple(files), shards=numbers, schema=schema, fetched=fetched)


def read_ranges(root: str, wanted: Sequence[dict[str, Any]]) -> list[bytes | Exception]:
    """The bytes of images by `shard`, `offset` and `size`, or why one cannot be read; in the given order."""
    if not wanted:
        return []
    fs, _ = storage.filesystem(root)
    paths = [storage.filesystem(storage.join(root, f"{one['shard']}.tar"))[1] for one in wanted]
    starts = [one["offset"] for one in wanted]
    ends = [one["offset"] + one["size"] for one in wanted]
    found: list[bytes | Exception] = fs.cat_ranges(paths, starts, ends, on_error="return")
    return [
        EOFError("the tar ends early") if isinstance(data, bytes) and len(data) != one["size"] else data
        for data, one in zip(found, wanted, strict=True)
    ]
