"""Image-caption pairs where they lie: in shards, found once by reading tar headers, then read at random.

The order of the pairs is that of their uids, so that neither the number of shards nor their names are seen in training.
"""

import functools
import hashlib
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.selection.tables import read_selection, selection_pairs
from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.curation.store.references import open_references
from mmcorpus.curation.store.shards import IMAGE_EXTENSIONS, SUCCESS, Shard, list_shards, read_rows, shard_at
from mmcorpus.curation.store.tars import is_readable, read_tar, sample_of

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

_KEY: Final = b"made_from"
_SCHEMA: Final = pa.schema(
    [
        pa.field("uid", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("source", pa.string()),
        pa.field("shard", pa.string()),
        pa.field(
            "offset", pa.int64()
        ),  # of the image's bytes in the shard's tar, or its row in the table of references
        pa.field("size", pa.int64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class PairSource:
    """Pairs in shards, and a selection of them."""

    shards: str
    """A folder of shards."""
    selection: str
    """The samples of these that are taken (.parquet, .npy or .txt); a sample with count 2 is seen twice an epoch."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs in the order of their uids, whose images are read when asked for."""

    roots: Mapping[str, str]
    """The shards' folder of each source."""
    table: pa.Table
    """A row a pair: uid, caption, source, shard, offset, size."""
    failures: tuple[str, ...] = field(default=())
    """Shards that could not be read, each with the reason; their pairs are missing."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def caption(self, row: int) -> str:
        """The caption of a row."""
        return str(self.table["caption"][row].as_py())

    def image(self, row: int) -> bytes:
        """The encoded image of a row; one range of the tar is read."""
        values = {name: self.table[name][row].as_py() for name in ("source", "shard", "offset", "size")}
        shard = _shard_at(self.roots[values["source"]], values["shard"])
        if shard.references:
            return open_references(shard.root, shard.name).image(values["offset"])
        return storage.read_bytes(shard.tar, values["offset"], values["offset"] + values["size"])

    def digest(self) -> str:
        """32 hex digits of what there is to learn: uids, captions and the images' sizes, in order."""
        state = hashlib.blake2b(digest_size=16)
        for name in ("uid", "caption", "size"):
            for batch in self.table.select([name]).to_batches(max_chunksize=1 << 16):
                state.update("\0".join(map(str, batch.column(0).to_pylist())).encode("utf-8", "surrogatepass"))
        return state.hexdigest()


def find_pairs(sources: Mapping[str, PairSource], kept_at: str | None = None) -> Pairs:
    """The selected pairs of some sources, those without a caption or an image left out.

    Args:
        sources: by name. A uid that several shards or sources have is taken once, from the first.
        kept_at: a parquet file that keeps what was found, so that the tars' headers are read once; made again when
            shards or selections are others.

    Raises:
        ValueError: a selection or a shard's parquet is not what it should be.
    """
    roots = {name: source.shards for name, source in sources.items()}
    shards = [(name, shard) for name, source in sources.items() for shard in list_shards(source.shards)]
    wanted = {name: selection_pairs(read_selection(source.selection)) for name, source in sources.items()}
    mark = _mark(shards, wanted)
    if kept_at is not None and _made_from(kept_at) == mark:
        return Pairs(roots=roots, table=storage.read_table(kept_at))
    found = storage.threaded(lambda item: _in_shard(item[0], item[1], wanted[item[0]]), shards)
    failures = tuple(part for part in found if isinstance(part, str))
    table = _merge([part for part in found if not isinstance(part, str)]).replace_schema_metadata({_KEY: mark})
    if kept_at is not None and not failures:
        storage.write_table(kept_at, table)
    return Pairs(roots=roots, table=table, failures=failures)


_Wanted = tuple[uids.Pairs, npt.NDArray[np.int64]]


def _mark(shards: Sequence[tuple[str, Shard]], wanted: Mapping[str, _Wanted]) -> bytes:
    """A digest of the inputs to a list of pairs: the tars' sizes, and the selections."""
    state = hashlib.blake2b(digest_size=16)
    sizes = storage.threaded(lambda item: _size(item[1].images), shards)
    for (source, shard), size in zip(shards, sizes, strict=True):
        state.update(f"{source}\0{shard.name}\0{size}\n".encode())
    for source, (pairs, counts) in wanted.items():
        state.update(source.encode() + pairs.tobytes() + counts.tobytes())
    return state.hexdigest().encode()


def _made_from(path: str) -> bytes | None:
    return (storage.read_schema(path).metadata or {}).get(_KEY) if storage.exists(path) else None


_shard_at = functools.lru_cache(maxsize=256)(shard_at)


def _size(path: str) -> int:
    fs, inner = storage.filesystem(path)
    try:
        return int(fs.size(inner))
    except FileNotFoundError:
        return -1


def _in_shard(source: str, shard: Shard, wanted: _Wanted) -> pa.Table | str:
    """The wanted pairs of a shard, with a column `count`; or why it could not be read."""
    rows = read_rows(shard, ["key", "uid", "caption", "status"])
    rows = rows.filter(pc.equal(rows["status"], pa.scalar(SUCCESS)))
    at = uids.find(uids.encode(rows["uid"]), wanted[0])
    chosen = at >= 0
    rows, counts = rows.filter(pa.array(chosen)), wanted[1][at[chosen]]
    if not rows.num_rows:
        return _SCHEMA.append(pa.field("count", pa.int64())).empty_table()
    try:
        places = _images(shard)
    except (tarfile.TarError, OSError) as error:
        return f"shard {shard.name} of {source}: {type(error).__name__}: {error}"
    found = [places.get(key, (-1, 0)) for key in rows["key"].to_pylist()]
    table = pa.table(
        {
            "uid": rows["uid"].cast(pa.string()),
            "caption": rows["caption"].cast(pa.string()),
            "source": pa.repeat(source, rows.num_rows),
            "shard": pa.repeat(shard.name, rows.num_rows),
            "offset": pa.array([offset for offset, _ in found], pa.int64()),
            "size": pa.array([size for _, size in found], pa.int64()),
            "count": pa.array(counts, pa.int64()),
        }
    )
    written = pc.fill_null(pc.match_substring_regex(table["caption"], r"\S"), False)
    return table.filter(pc.and_(written, pc.greater(table["size"], pa.scalar(0))))


def _images(shard: Shard) -> dict[str, tuple[int, int]]:
    """By key, where in a shard's tar its image's bytes begin, and how many they are."""
    places: dict[str, tuple[int, int]] = {}
    if shard.references:
        found = open_references(shard.root, shard.name)
        return {key: place for key in found.keyed() if (place := found.first(key)) is not None}
    fs, inner = storage.filesystem(shard.tar)
    with fs.open(inner, "rb") as file, read_tar(file, "r:") as tar:
        for member in tar:
            key, extension = sample_of(member.name)
            if is_readable(member) and extension.lower() in IMAGE_EXTENSIONS:
                places[key] = (member.offset_data, member.size)
    return places


def _merge(parts: Sequence[pa.Table]) -> pa.Table:
    """One row a uid, by uid, as often as it counts."""
    table = pa.concat_tables([_SCHEMA.append(pa.field("count", pa.int64())).empty_table(), *parts]).combine_chunks()
    pairs = uids.encode(table["uid"])
    order = uids.order(pairs)
    ordered = pairs[order]
    first = np.ones(len(order), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    rows = order[first]
    counts = table["count"].to_numpy()[rows]
    return table.select(_SCHEMA.names).take(pa.array(np.repeat(rows, counts))).combine_chunks()
