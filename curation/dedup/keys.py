"""First stage: the keys of each shard's rows, cut into parts by hash. A shard's file depends on that shard alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mmcorpus.curation.dedup.method import Keys, Method
from mmcorpus.curation.dedup.plan import Unit, identity_of, read_learned, sweep
from mmcorpus.curation.dedup.sources import Source, has_images, input_files, mark, read_columns
from mmcorpus.curation.engine.items import run_pending
from mmcorpus.curation.engine.made_from import digest_of, file_digest
from mmcorpus.curation.engine.partitions import PARTS, part_of, says, write_split, write_whole
from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids

Place = tuple[Source, str]
"""A source and the name of one of its shards."""

_FORMAT: Final = "1"


def make_keys(
    method: Method, places: Sequence[Place], work: str, learned: str | None, *, workers: int | None
) -> tuple[list[Unit], dict[str, str]]:
    """The units of the shards, their keys made where they are not there or the shard has been written again.

    Returns:
        the units in the order of `places`, and by `source/shard` why one could not be read: it has no unit.

    Raises:
        ValueError: not a single shard could be read.
    """
    content = "" if learned is None else file_digest(learned)
    folder = storage.join(work, f"keys-{digest_of(_FORMAT, identity_of(method), content)}")
    sweep(work, "keys-", folder)
    job = KeyShard(method=method, folder=folder, learned=learned)
    stale = [place for place, fresh in zip(places, storage.threaded(job.fresh, places), strict=True) if not fresh]
    ran = run_pending(job.load, stale, name=name_of, title="keys", workers=workers)
    failed = {name: str(failure) for name, failure in ran.failed.items()}
    readable = [place for place in places if name_of(place) not in failed]
    if not readable:
        raise ValueError(f"no shard could be read; the first: {next(iter(failed.values()))}")
    return storage.threaded(job.unit, readable), failed


def name_of(place: Place) -> str:
    """`source/shard`."""
    return f"{place[0].name}/{place[1]}"


@dataclass(frozen=True, kw_only=True)
class KeyShard:
    """The work on one shard: its columns in, `SHARD.rows.arrow` and `SHARD.keys.arrow` out."""

    method: Method
    folder: str
    learned: str | None
    """Where what the method learned lies."""

    def load(self) -> Any:
        """The work with what it needs, once a worker."""
        arrays = read_learned(self.learned)
        return lambda place: self.run(place, arrays)

    def files(self, place: Place) -> str:
        return storage.join(self.folder, place[0].name, place[1])

    def fresh(self, place: Place) -> bool:
        """Whether the keys are there and made from the files that are there now."""
        path = f"{self.files(place)}.keys.arrow"
        return storage.exists(path) and says(path).get("mark") == self._mark(place)

    def _mark(self, place: Place) -> str:
        """Of the files that decide the keys, and whether there are images to compare, which decides the answers."""
        files = mark(input_files(*place, self.method.columns()))
        return f"{files} {has_images(place[0].shards, place[1])}" if self.method.compares_images else files

    def unit(self, place: Place) -> Unit:
        said = says(f"{self.files(place)}.keys.arrow")
        return Unit(
            source=place[0], shard=place[1], place=storage.whole(storage.join(place[0].shards, place[1])),
            files=self.files(place), rows=said["rows"], records=said["records"], size=said["size"],
            digest=said["digest"],
        )  # fmt: skip

    def run(self, place: Place, learned: Any) -> dict[str, int]:
        source, shard = place
        made_from = self._mark(place)
        table = read_columns(source, shard, self.method.columns())
        pairs = uids.encode(table["uid"])
        compared = table.select(list(self.method.columns()))
        keys = self.method.keys(compared, learned)
        _check(keys, self.method, table.num_rows)
        rows = {"f0": pairs["f0"], "f1": pairs["f1"], "known": keys.known}
        write_whole(f"{self.files(place)}.rows.arrow", rows, {})
        known = np.flatnonzero(keys.known)
        tables = keys.keys.shape[1]
        columns: dict[str, Any] = {
            "key": keys.keys[known].ravel(),
            "table": np.tile(np.arange(tables, dtype=np.uint16), len(known)),
            "position": np.repeat(known.astype(np.uint32), tables),
        }
        if keys.identity is not None:
            columns["identity"] = np.repeat(keys.identity[known], tables)
        content = hashlib.blake2b(f"{source.name}/{shard}".encode(), digest_size=8)
        for values in (pairs, keys.known, keys.keys[known], *([] if keys.identity is None else [keys.identity[known]])):
            content.update(np.ascontiguousarray(values).tobytes())
        if self.method.compares_images:
            content.update(made_from.partition(" ")[2].encode())
        said = {
            "mark": made_from,
            "rows": table.num_rows,
            "known": len(known),
            "records": len(known) * tables,
            "size": compared.nbytes,
            "digest": content.hexdigest(),
        }
        write_split(f"{self.files(place)}.keys.arrow", columns, part_of(columns["key"]), PARTS, said)
        return {"samples": table.num_rows}


def _check(keys: Keys, method: Method, rows: int) -> None:
    """Raise TypeError if a method broke its promise, before that becomes wrong clusters."""
    for name, dimensions, kind in (("keys", 2, np.uint64), ("known", 1, np.bool_), ("identity", 1, np.uint64)):
        values = getattr(keys, name)
        if values is not None and (values.dtype != kind or values.ndim != dimensions or len(values) != rows):
            raise TypeError(
                f"{type(method).__name__}.keys gave {name} of {values.dtype} {values.shape} for {rows} rows; "
                f"it must be {np.dtype(kind)} with {dimensions} dimensions"
            )
