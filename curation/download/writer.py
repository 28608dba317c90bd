"""Writes a downloaded shard: in key order whatever order images arrive in, and whole or not at all."""

import heapq
import json
import math
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, Final

import pyarrow as pa

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import Shard, add_member, commit_shard, list_shards, open_tar, read_rows
from mmcorpus.curation.store.tars import is_readable, read_tar

SHARD_DIGITS: Final = 5
"""img2dataset's `oom_shard_count`."""
RETRY_FOLDER: Final = "_retry"
"""The folder of a shard's second version, written whole before it takes the first one's place."""
FACT_FIELDS: Final = (
    ("original_format", pa.string()),
    ("original_mode", pa.string()),
    ("original_bytes", pa.int64()),
    ("frames", pa.int32()),
    ("has_alpha", pa.bool_()),
    ("orientation", pa.int32()),
    ("final_url", pa.string()),
)
"""The columns that our download adds to img2dataset's."""
Member = tuple[str, str, bytes]
"""Of a tar: the sample's key, the file's name, its bytes."""


def shard_name(number: int) -> str:
    """A shard's name as img2dataset writes it."""
    return f"{number:0{SHARD_DIGITS}d}"


class SampleWriter:
    """Takes a shard's samples as they come; `close` commits it.

    Images wait in an unnamed file, rows in memory.
    """

    def __init__(self, shard: Shard, schema: pa.Schema, previous: Shard | None = None) -> None:
        """`schema` lacks FACT_FIELDS; `previous` is the shard whose rows are done again."""
        self.shard, self.previous, self._start = shard, previous, time.time()
        fields: list[Any] = [*schema, *FACT_FIELDS]
        self.schema = pa.schema(fields)
        self.rows: list[dict[str, Any]] = []
        self._files: list[tuple[str, str, int, int]] = []
        folder = shard.root if storage.is_local(shard.root) else None
        if folder:
            storage.make_folder(folder)
        self._spool: IO[bytes] = tempfile.TemporaryFile(dir=storage.filesystem(folder)[1] if folder else None)  # noqa: SIM115

    def write(self, image: bytes | None, sample: dict[str, Any]) -> None:
        """Take a sample: its columns by name, the `extension` of its image, which is None where it failed."""
        row: dict[str, Any] = {name: sample.get(name) for name in self.schema.names}
        self.rows.append(row)
        if image is None:
            return
        key, caption = str(row["key"]), row.get("caption")
        with storage.naming_full_disk(self.shard.tar):
            self._keep(key, f"{key}.{sample['extension']}", image)
            if caption is not None:
                self._keep(key, f"{key}.txt", caption.encode("utf-8", "replace"))
            self._keep(key, f"{key}.json", _json(row))

    def _keep(self, key: str, name: str, data: bytes) -> None:
        self._files.append((key, name, self._spool.tell(), len(data)))
        self._spool.write(data)

    def close(self) -> None:
        """Commit the shard: tar, parquet, and img2dataset's stats file, written last."""
        with storage.naming_full_disk(self.shard.tar), self._spool:
            members: Iterable[Member] = self._members()
            table = pa.Table.from_pylist(sorted(self.rows, key=lambda row: row["key"]), schema=self.schema)
            if self.previous is not None:
                # heapq.merge is stable: of equal keys there are none, a row done again has no files in the old tar.
                members = heapq.merge(tar_members(self.previous), members, key=lambda member: member[0])
                table = _merged(read_rows(self.previous), table)
            with open_tar(self.shard.tar) as tar:
                for _, name, data in members:
                    add_member(tar, name, data)
        end = time.time()
        size = sum(size for size in table["original_bytes"].to_pylist() if size is not None)
        commit_shard(
            self.shard, table, duration=end - self._start, start_time=self._start, end_time=end, bytes=size
        )  # fmt: skip

    def _members(self) -> Iterator[Member]:
        for key, name, offset, size in sorted(self._files, key=lambda file: (file[0], file[2])):
            self._spool.seek(offset)
            yield key, name, self._spool.read(size)


def tar_members(shard: Shard) -> Iterator[Member]:
    """A tar's files in order, one in memory at a time."""
    fs, inner = storage.filesystem(shard.tar)
    with fs.open(inner, "rb") as file, read_tar(file, "r|") as tar:
        for member in tar:
            if not is_readable(member):
                raise tarfile.ReadError(f"{shard.tar}: {member.name!r} is none of the files that a download writes")
            extracted = tar.extractfile(member)
            yield member.name.partition(".")[0], member.name, extracted.read() if extracted else b""


def roll_forward(root: str) -> list[str]:
    """Finish replacing shards whose second version is complete; returns their names. Safe to run at any time.

    The new stats file is moved last, so that a replacement cut short anywhere is found and finished here.
    """
    staging = storage.join(root, RETRY_FOLDER)
    names = []
    for new in list_shards(staging):
        old = Shard(root=root, name=new.name)
        for source, target in ((new.tar, old.tar), (new.parquet, old.parquet), (new.stats, old.stats)):
            if storage.exists(source):
                storage.move(source, target)
        names.append(new.name)
    if storage.exists(staging):
        storage.remove(staging)
    return names


def _merged(old: pa.Table, new: pa.Table) -> pa.Table:
    """The old rows with those of `new` in their places (by key), or after them, in the old schema."""
    place = {key: index for index, key in enumerate(old["key"].to_pylist())}
    order: list[int] = list(range(len(old)))
    for index, key in enumerate(new["key"].to_pylist()):
        if key in place:
            order[place[key]] = len(old) + index
        else:
            order.append(len(old) + index)
    both = pa.concat_tables([old, new.select(old.schema.names).cast(old.schema)])
    return both.take(order).combine_chunks()


def _json(row: dict[str, Any]) -> bytes:
    """A row as its `key.json`: what JSON has no word for becomes text, not-a-number becomes null."""
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
    return json.dumps(plain, ensure_ascii=False, sort_keys=True, default=str).encode("utf-8", "replace")


def keys_of(shard: int, positions: Sequence[int], number_sample_per_shard: int) -> list[str]:
    """The keys that img2dataset gives to rows at `positions` of a list shard."""
    digits = math.ceil(math.log10(number_sample_per_shard))
    return [f"{10**digits * shard + position:0{digits + SHARD_DIGITS}d}" for position in positions]
