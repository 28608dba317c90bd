"""MosaicML streaming's data sets (MDS), by its own writer: a folder a shard, and one index over all.

Columns, bytes as they arrived:

all             uid (str), about (json: what else is known: url, sizes, …)
pairs, texts    image (bytes; empty for a text), caption (str)
other sources   images (bytes, one after the other), image_sizes (json: the bytes of each), caption (str), conversations
                (json: LLaVA's turns), nodes (json: a document's texts, and its images by number)
"""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import Shard, read_schema
from mmcorpus.packing.export.items import Item, Kind, plain_json
from mmcorpus.packing.export.run import ItemExporter

INDEX: Final = "index.json"
_PAIRS: Final = {"uid": "str", "image": "bytes", "caption": "str", "about": "json"}
_ALL: Final = {
    "uid": "str", "images": "bytes", "image_sizes": "json", "caption": "str", "conversations": "json", "nodes": "json",
    "about": "json",
}  # fmt: skip
_PARTS: Final = ("raw_data", "zip_data")
"""Entries of an index that name a file."""


@dataclass(frozen=True, kw_only=True)
class MdsExporter(ItemExporter):
    """Writes them."""

    pairs: bool = True
    """Whether all samples are pairs or texts; found out from the shards (`prepare`)."""

    kind: ClassVar[str] = "mds"
    holds: ClassVar[frozenset[Kind]] = frozenset({"pair", "conversation", "document", "text"})

    def prepare(self, out: str, shards: Sequence[Shard]) -> "MdsExporter":
        _writer()
        names = {name for schema in storage.threaded(read_schema, shards) for name in schema.names}
        return MdsExporter(pairs=not names & {"conversations", "nodes"})

    def write(self, out: str, name: str, items: Iterator[Item]) -> None:
        # Its writer wants a folder to itself, and a disk.
        with tempfile.TemporaryDirectory() as own:
            folder = os.path.join(own, name)
            writer = _writer()(out=folder, columns=_PAIRS if self.pairs else _ALL)
            for item in items:
                writer.write(self._row(item))
            writer.finish()
            for file in sorted(os.listdir(folder)):
                storage.write_bytes(storage.join(out, name, file), storage.read_bytes(os.path.join(folder, file)))

    def _row(self, item: Item) -> dict[str, Any]:
        images = [image.data for image in item.images]
        row = {"uid": item.uid, "caption": _text(item.caption or ""), "about": _plain({**item.row, "copy": item.copy})}
        if self.pairs:
            return {**row, "image": b"".join(images[:1])}
        turns = item.llava() if item.kind == "conversation" else None
        nodes = item.nodes if item.kind == "document" else None
        sizes = [len(data) for data in images]
        return {
            **row, "images": b"".join(images), "image_sizes": sizes, "conversations": _plain(turns),
            "nodes": _plain(nodes),
        }  # fmt: skip

    def finish(self, out: str, names: Sequence[str]) -> None:
        """One index over all folders, as `streaming.base.util.merge_index` makes it; on any storage."""
        shards = []
        for name in names:
            for shard in storage.read_json(storage.join(out, name, INDEX))["shards"]:
                for part in _PARTS:
                    if shard[part]:
                        shard[part]["basename"] = f"{name}/{shard[part]['basename']}"
                shards.append(shard)
        storage.write_json(storage.join(out, INDEX), {"version": 2, "shards": shards})


def _plain(value: Any) -> Any:
    """A value as JSON has it, text that UTF-8 has, too."""
    return json.loads(plain_json(value))


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode()


def _writer() -> Any:
    try:
        from streaming import MDSWriter
    except ImportError:
        raise RuntimeError(
            "MosaicML's streaming is not installed. Install it without what it asks for, which does not go with ours: "
            "pip install --no-deps mosaicml-streaming python-snappy cramjam catalogue xxhash zstd"
        ) from None
    return MDSWriter
