"""Batches for judges, in steps that stand apart: read a shard, decode its images, put tables together (DESIGN §4).

One worker may do all to a shard, or hand what it decoded to a model elsewhere (`gpu.py`). A batch never
holds samples of two shards: what a model gives for a sample depends, in the last digit, on what else is in its batch,
and scores must not depend on which other shards a run has left to do.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.engine.guard import SetAside, guarded
from mmcorpus.curation.store.members import is_whole
from mmcorpus.curation.store.shards import SUCCESS, Shard, read_rows, read_samples, read_schema
from mmcorpus.filters import DecodedImage, DecodeFailure, Scorer, decode_image
from mmcorpus.filters.run_scorer import table_schema
from mmcorpus.filters.scorer import Batch

BATCH_BYTES: Final = 256 << 20
"""A batch ends once it holds this many bytes of pixels, so that large images do not fill the memory."""

Part = tuple[list[int], pa.Table]
"""Which of a shard's samples a batch held, and what a scorer made of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRows:
    """The samples of a shard in key order, as columns; no images."""

    keys: list[str]
    columns: dict[str, list[Any]]
    """By name of `mmcorpus.filters.scorer.INPUTS`; always `uid`."""

    def batch(self, positions: Sequence[int]) -> dict[str, list[Any]]:
        """The columns at some positions."""
        return {name: [values[position] for position in positions] for name, values in self.columns.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Batched:
    """A batch for a scorer, and the positions of its samples in the shard."""

    positions: list[int]
    batch: Batch


def read_shard_rows(shard: Shard, inputs: set[str]) -> ShardRows:
    """The `success` rows of a shard's parquet with the columns that `inputs` need; the tar is not touched.

    Raises:
        ValueError: the rows have no key, or one twice.
    """
    there = read_schema(shard).names
    if "key" not in there:
        raise ValueError(f"{shard.parquet} has no column 'key', by which the tar's samples are known; add one")
    plain = [name for name in ("url", "caption") if name in inputs]
    wanted = there if "meta" in inputs else ["key", "status", "uid", *(name for name in plain if name in there)]
    table = read_rows(shard, wanted)
    table = table.filter(pc.and_(pc.equal(table["status"], SUCCESS), pc.is_valid(table["uid"]))).sort_by("key")
    keys = table["key"].to_pylist()
    if len(set(keys)) != len(keys):
        raise ValueError(f"{shard.parquet} has a key twice")
    nothing: list[Any] = [None] * len(keys)
    columns = {name: table[name].to_pylist() if name in there else nothing for name in ["uid", *plain]}
    if "shard" in inputs:
        columns["shard"] = [shard.name] * len(keys)
    if "meta" in inputs:
        columns["meta"] = table.to_pylist()
    return ShardRows(keys=keys, columns=columns)


def slices(rows: ShardRows, size: int) -> Iterator[Batched]:
    """The rows in order, `size` at a time, without images."""
    for start in range(0, len(rows.keys), size):
        positions = list(range(start, min(start + size, len(rows.keys))))
        yield Batched(positions=positions, batch=rows.batch(positions))


def read_encoded(shard: Shard, rows: ShardRows) -> Iterator[tuple[int, bytes]]:
    """The position and the image's bytes of each sample, as the tar holds them; one image at a time.

    A sample that the tar does not hold, or without an image, has no bytes; what the tar has besides the parquet's
    `success` rows is passed over, as is a key's second sample.

    Raises:
        tarfile.ReadError: the tar is damaged.
        ValueError: it breaks off, or its samples are not those of the rows.
    """
    where = {key: position for position, key in enumerate(rows.keys)}
    other = 0
    for sample in read_samples(shard):
        position = where.pop(sample.key, None)
        if position is None:
            other += 1
            continue
        yield position, sample.images[0].data if sample.images else b""
    if where and not shard.references and not is_whole(shard.tar):
        raise ValueError(
            f"{len(where)} of {len(rows.keys)} samples are missing, {min(where)!r} first; the tar ends early"
        )
    if other and len(where) == len(rows.keys):
        raise ValueError(f"none of its {other} samples has a success row in {shard.parquet}; is it another shard's?")
    for position in sorted(where.values()):
        yield position, b""


def decode_batches(
    encoded: Iterable[tuple[int, bytes]],
    rows: ShardRows,
    *,
    max_pixels: int,
    size: int,
    inputs: Collection[str] = ("image",),
) -> Iterator[Batched]:
    """Batches of at most `size` samples with their images decoded, or the reason why not.

    Args:
        inputs: which of `image` (decoded) and `encoded` (the file's bytes) the batches hold.
    """
    positions: list[int] = []
    columns: dict[str, list[Any]] = {name: [] for name in ("image", "encoded") if name in inputs}
    held = 0
    for position, data in encoded:
        positions.append(position)
        if "encoded" in columns:
            columns["encoded"].append(data)
            held += len(data)
        if "image" in columns:
            image = _decoded(rows.keys[position], data, max_pixels)
            columns["image"].append(image)
            held += 0 if isinstance(image, DecodeFailure) else image.pixels.nbytes
        if len(positions) == size or held >= BATCH_BYTES:
            yield Batched(positions=positions, batch={**rows.batch(positions), **columns})
            positions, columns, held = [], {name: [] for name in columns}, 0
    if positions:
        yield Batched(positions=positions, batch={**rows.batch(positions), **columns})


def _decoded(key: str, data: bytes, max_pixels: int) -> DecodedImage | DecodeFailure:
    try:
        return guarded("decode", key, decode_image, data, max_pixels=max_pixels)
    except SetAside as aside:
        return DecodeFailure(reason=str(aside))


def assemble(scorer: Scorer, parts: Sequence[Part], uids: Sequence[str]) -> pa.Table:
    """A shard's table from its batches' tables and positions: `uid`, columns, `reason`, embeddings, in key order."""
    order = np.asarray([position for positions, _ in parts for position in positions], np.int64)
    table = pa.concat_tables([table_schema(scorer).empty_table(), *(table for _, table in parts)])
    table = table.take(pa.array(np.argsort(order, kind="stable")))
    return table.add_column(0, "uid", pa.array(uids, pa.string()))
