"""Megatron-Energon's data sets: WebDataset tars and in `.nv-meta` the index that NVIDIA's own library makes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import pyarrow.compute as pc

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.members import IMAGE_EXTENSIONS
from mmcorpus.curation.store.shards import SUCCESS, Shard, read_rows
from mmcorpus.packing.export.items import kind_of
from mmcorpus.packing.export.webdataset import WebdatasetExporter

META: Final = ".nv-meta"


@dataclass(frozen=True, kw_only=True)
class EnergonExporter(WebdatasetExporter):
    """Writes them: pairs of an image and a caption as Energon's CaptioningSample, all else as CrudeSample, for a cooker
    of one's own."""

    crude: bool = False
    """Whether not all samples are such pairs; found out from the shards (`prepare`)."""

    kind: ClassVar[str] = "energon"

    def prepare(self, out: str, shards: Sequence[Shard]) -> "EnergonExporter":
        _library()
        if not storage.is_local(out):
            raise ValueError(f"{out} is not local, and Energon's library indexes local tars alone: export, then copy")
        return EnergonExporter(crude=not all(storage.threaded(_captions, shards)))

    def finish(self, out: str, names: Sequence[str]) -> None:
        super().finish(out, names)
        _, folder = storage.filesystem(out)
        _library().prepare_dataset(
            folder, [f"{name}.tar" for name in names], split_parts_ratio=[("train", 1.0)], shuffle_seed=None,
            workers=min(len(names), os.cpu_count() or 1),
        )  # fmt: skip
        described: dict[str, Any] = {"__module__": "megatron.energon", "__class__": "CrudeWebdataset"}
        if not self.crude:
            described = {
                "sample_type": {"__module__": "megatron.energon", "__class__": "CaptioningSample"},
                "field_map": {"image": ",".join(sorted(IMAGE_EXTENSIONS)), "caption": "txt"},
            }
        storage.write_json(storage.join(out, META, "dataset.yaml"), described)  # JSON is YAML


def _captions(shard: Shard) -> bool:
    """Whether all samples of a shard are an image and a caption."""
    if kind_of(shard) != "pair":
        return False
    rows = read_rows(shard)
    rows = rows.filter(pc.equal(rows["status"], SUCCESS))
    images = rows["images"].to_pylist() if "images" in rows.column_names else []
    captions = "caption" in rows.column_names and rows["caption"].null_count == 0
    return captions and all(count in (None, 1) for count in images)


def _library() -> Any:
    try:
        from megatron.energon import BaseWebdatasetFactory
    except ImportError:
        raise RuntimeError("Megatron-Energon is not installed. Install it: pip install 'mmcorpus[energon]'") from None
    return BaseWebdatasetFactory
