"""WebDataset tars: `uid.jpg`, `uid.txt`, `uid.json` for every sample, and NVIDIA's Megatron-Energon's index of them.

The json holds all that is known of a sample: `conversations` as LLaVA writes them, a document's `nodes`, of which
images have their number. Beside each tar lie its `_stats.json` and the rows, so that mmcorpus reads it as any shard.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mmcorpus.curation.store.shards import Sample, Shard, ShardWriter
from mmcorpus.packing.export.huggingface import write_card
from mmcorpus.packing.export.items import Item, Kind, plain_json
from mmcorpus.packing.export.run import ItemExporter


@dataclass(frozen=True, kw_only=True)
class WebdatasetExporter(ItemExporter):
    """Writes them."""

    kind: ClassVar[str] = "webdataset"
    holds: ClassVar[frozenset[Kind]] = frozenset({"pair", "conversation", "document", "text"})
    version: ClassVar[str] = "2"  # images without a mark open the first question

    def write(self, out: str, name: str, items: Iterator[Item]) -> None:
        with ShardWriter(Shard(root=out, name=name)) as writer:
            for item in items:
                meta = {name: _plain(value) for name, value in item.row.items()} | {"copy": item.copy}
                if item.kind == "conversation":
                    meta["conversations"] = plain_json(item.llava())
                if item.kind == "document":
                    meta["nodes"] = plain_json(item.nodes)
                writer.write(Sample(key=item.key, uid=item.uid, caption=item.caption, images=item.images, meta=meta))

    def finish(self, out: str, names: Sequence[str]) -> None:
        write_card(out, "*.tar")


def _plain(value: Any) -> Any:
    """A value as JSON has it: dates and decimals as text."""
    return value if value is None or isinstance(value, str | int | float | list | dict) else str(value)
