"""A pack's index: where each sequence lies in the tars, and what it costs a trainer.

Each pack shard has its own (`00000.index.parquet`), which commits it. When the pack is whole they become one,
`index.parquet`, whose hash is in the manifest: a trainer opens one file however many shards there are. Packs from
before have the shards' alone, and go on being read.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.written import note_damaged
from mmcorpus.packing.errors import MEND, PackError
from mmcorpus.packing.layout import LayoutConfig
from mmcorpus.packing.lengths import IMAGE_TOKEN
from mmcorpus.packing.sequence import PackedSequence

NAME: Final = "index.parquet"
COSTS: Final = ("targets", "crops", "attention")
INDEX_SCHEMA: Final = pa.schema(
    [
        ("sequence", pa.int64()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("length", pa.int32()),
        ("samples", pa.int32()),
        ("images", pa.int32()),
        ("crc32", pa.uint32()),
        ("targets", pa.int32()),
        ("crops", pa.int32()),
        ("attention", pa.int64()),
    ]
)
"""`size` bytes from `offset` in the shard's tar, of which the `crc32` is checked when they are read (null in the
earliest packs). What the sequence costs: `length` positions, `targets` tokens with loss, `crops` for the encoder,
`attention`, the sum of its samples' squared lengths; null in packs from before these columns."""


def costs_of(packed: PackedSequence, layout: LayoutConfig | None) -> dict[str, int]:
    """The index's cost columns of a sequence; `layout` None: an image is one crop."""
    targets = 0
    start = 0
    is_image = packed.input_ids == IMAGE_TOKEN
    for count, spans in zip(packed.token_counts, packed.loss_spans, strict=True):
        for first, end in spans:  # a sample's first token is never a target
            first = max(first, start + 1)
            targets += max(0, end - first) - int(is_image[first:end].sum())
        start += count
    return {
        "targets": targets,
        "crops": _crops(packed, layout),
        "attention": sum(length * length for length in packed.lengths),
    }


def _crops(packed: PackedSequence, layout: LayoutConfig | None) -> int:
    count = sum(packed.image_counts)
    if layout is None or not count:
        return count
    # Sizes are kept where they decide the crops; elsewhere any will do.
    sizes = np.array(packed.sizes or ((1, 1),) * count, dtype=np.int64)
    return int(layout.crop_counts(sizes[:, 0], sizes[:, 1]).sum())


def write_index(root: str, names: Sequence[str]) -> dict[str, Any]:
    """Make the shards' indexes into `index.parquet`; returns the manifest's `index`: its `bytes` and `sha256`."""
    data = pa.BufferOutputStream()
    pq.write_table(_of_shards(root, names), data, **storage.TABLE)
    content = data.getvalue().to_pybytes()
    storage.write_bytes(storage.join(root, NAME), content)
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def read_index(root: str, manifest: Mapping[str, Any]) -> pa.Table:
    """A row a sequence, in order: INDEX_SCHEMA's columns and `shard`. Raises PackError unless index and manifest agree.

    Costs that an earlier pack does not have are estimated: of samples that are all as long, an image one crop, and a
    target at each position that is no image's.
    """
    described = manifest.get("index")
    names = [shard["name"] for shard in manifest["shards"]]
    table = _of_shards(root, names) if described is None else _whole(root, described)
    _compare(root, table, manifest)
    return _estimated(table, manifest)


def _whole(root: str, described: Any) -> pa.Table:
    path = storage.join(root, NAME)
    try:
        data = storage.read_bytes(path)
    except FileNotFoundError:
        raise PackError(f"{path} is missing; copy the pack again or write it again") from None
    found = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if found != described:
        note_damaged(storage.filesystem(path)[1], "it is not the index that the manifest names")
        raise PackError(
            f"{path} is damaged, or the index of another pack: the manifest names one of other bytes. {MEND}"
        )
    try:
        with storage.reading(path, storage.PARQUET):
            table = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
    except storage.Damaged as error:
        raise PackError(f"{path} is damaged: {error.why}. {MEND}") from error
    return _checked(path, table, "shard")


def _of_shards(root: str, names: Sequence[str]) -> pa.Table:
    empty = INDEX_SCHEMA.append(pa.field("shard", pa.string())).empty_table()
    return pa.concat_tables([empty, *storage.threaded(lambda name: _of_shard(root, name), names)]).combine_chunks()


def _of_shard(root: str, name: str) -> pa.Table:
    path = storage.join(root, f"{name}.index.parquet")
    try:
        table = storage.read_table(path)
    except FileNotFoundError:
        raise PackError(f"{path} is missing; copy the pack again or write it again") from None
    except storage.Damaged as error:
        raise PackError(f"{path} is damaged: {error.why}. {MEND}") from error
    for column in ("crc32", *COSTS):
        if column not in table.column_names:
            table = table.append_column(column, pa.nulls(table.num_rows, INDEX_SCHEMA.field(column).type))
    return _checked(path, table).append_column("shard", pa.repeat(name, table.num_rows))


def _checked(path: str, table: pa.Table, *more: str) -> pa.Table:
    schema = pa.schema([*INDEX_SCHEMA, *(pa.field(name, pa.string()) for name in more)])
    try:
        table = table.replace_schema_metadata(None).select(schema.names).cast(schema).combine_chunks()
    except (pa.ArrowException, KeyError) as error:
        raise PackError(f"{path} is not a pack's index: {error}. {MEND}") from error
    required = [name for name in schema.names if name not in ("crc32", *COSTS)]
    if any(table[name].null_count for name in required):
        raise PackError(f"{path} is not a pack's index: it has rows without numbers. {MEND}")
    return table


def _compare(root: str, table: pa.Table, manifest: Mapping[str, Any]) -> None:
    """Raise PackError unless the index is of the manifest's shards and every sequence lies within its tar."""
    expected = manifest["counts"].get("sequences")
    if table.num_rows != expected:
        raise PackError(
            f"{root}: the indexes hold {table.num_rows} sequences, the manifest says {expected}; copy the pack again "
            "or write it again"
        )
    counts = {row["values"]: row["counts"] for row in pc.value_counts(table["shard"]).to_pylist()}
    order = table["shard"].unique().to_pylist()
    named = {shard["name"]: shard.get("sequences", counts.get(shard["name"], 0)) for shard in manifest["shards"]}
    held = {name: count for name, count in named.items() if count}
    if counts != held or order != list(held):
        other = next((name for name in [*held, *order] if counts.get(name) != held.get(name)), order[0])
        raise PackError(
            f"{root}: the index has {counts.get(other, 0)} sequences of shard {other}, the manifest "
            f"{held.get(other, 0)}; they are not of one pack: copy it again or write it again"
        )
    ends = {shard["name"]: shard.get("bytes") for shard in manifest["shards"]}
    whole = pa.array([ends[name] for name in order], pa.int64())
    numbers = pc.index_in(table["shard"], value_set=pa.array(order, pa.string()))
    last = pc.add(table["offset"], table["size"])
    outside = pc.or_(
        pc.or_(pc.less(table["offset"], 0), pc.less(table["size"], 1)),
        pc.fill_null(pc.greater(last, pc.take(whole, numbers)), False),
    )
    if pc.any(outside).as_py():
        row = table.slice(pc.index(outside, True).as_py(), 1).to_pylist()[0]
        raise PackError(
            f"{root}: the index says that sequence {row['sequence']} is bytes {row['offset']} to "
            f"{row['offset'] + row['size']} of {row['shard']}.tar, which has {ends[row['shard']]}. {MEND}"
        )


def _estimated(table: pa.Table, manifest: Mapping[str, Any]) -> pa.Table:
    if not any(table[name].null_count for name in COSTS):
        return table
    length, samples, images = (table[name].to_numpy().astype(np.int64) for name in ("length", "samples", "images"))
    per_image: int = manifest["tokens_per_image"]
    estimates: dict[str, npt.NDArray[np.int64]] = {
        "targets": np.maximum(0, length - images * per_image),
        "crops": images,
        "attention": length * length // np.maximum(1, samples),
    }
    for name, values in estimates.items():
        column = pc.fill_null(table[name], pa.array(values).cast(table.schema.field(name).type))
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table.combine_chunks()
