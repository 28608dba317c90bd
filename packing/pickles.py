"""Open-Qwen2VL's packed layout, for its users: one pickle a sequence, written from packs (read: `pickle_reader.py`).

`OUT/{shard}/{sequence}.pkl` is a dict of `image_tensors` (list of PIL RGB images), `input_ids` (torch.long, one -200 an
image, right-padded to the context length in unexpanded tokens), `lengths` (expanded, one a sample) and `labels`: the
ids once more, -100 wherever nothing is to be learned – questions, images, padding –, as their collator takes them.
`OUT/{shard}_stats.json`, written last, commits a shard. What differs from their packer: names are the sequences'
numbers, so a rerun gives the same files; padding is the pack's own tokenizer's and named in the stats; shrinking keeps
the aspect ratio; a sample does not begin with `<s>`.
"""

import functools
import io
import pickle
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from mmcorpus.curation.engine.guard import SetAside, guarded
from mmcorpus.curation.store import storage
from mmcorpus.filters.decode import open_image
from mmcorpus.packing.lengths import IMAGE_TOKEN
from mmcorpus.packing.materialise import MapFn
from mmcorpus.packing.packs import PackReader
from mmcorpus.packing.pickle_reader import PickledSequence as PickledSequence
from mmcorpus.packing.pickle_reader import read_pickle as read_pickle
from mmcorpus.packing.sequence import PackedSequence

IGNORED: Final = -100
"""The label that losses pass over (torch's `ignore_index`)."""
_PROTOCOL: Final = 4


def write_pickles(packs: str, out: str, *, min_side: int | None = 384, map_fn: MapFn = map) -> list[dict[str, Any]]:
    """Write a pack as Open-Qwen2VL's pickles under `out`; returns the shards' stats, by shard.

    Images whose shorter side exceeds `min_side` are shrunk to it, aspect kept; null keeps all sizes. A sample whose
    image cannot be decoded is left out and named in the stats' `undecodable`. Committed shards are kept.
    Raises ValueError for packs in which images have several captions, or are not squares, which that layout cannot say.
    """
    reader = PackReader(packs)
    if reader.layout is not None and reader.layout.kind != "square":
        raise ValueError(
            f"{packs} was packed with the image layout {reader.layout.kind!r}, and Open-Qwen2VL's pickles hold squares:"
            " plan with tokens_per_image, or leave the pickles out"
        )
    if reader.manifest["counts"].get("weighted"):
        raise ValueError(
            f"{packs} has targets with weights, and Open-Qwen2VL's pickles cannot say so: plan without target_weights, "
            "or leave the pickles out"
        )
    if reader.annotated:
        raise ValueError(
            f"{packs} has {reader.annotated:,} images with several captions, which must not see each other, and "
            "Open-Qwen2VL's pickles cannot say so: plan without annotations, or leave the pickles out"
        )
    shards = [shard["name"] for shard in reader.manifest["shards"]]
    written = map_fn(functools.partial(_write_shard, packs, out, min_side), shards)
    return sorted(written, key=lambda stats: str(stats["shard"]))


def _write_shard(packs: str, out: str, min_side: int | None, shard: str) -> dict[str, Any]:
    """Write one pack shard's sequences as pickles, unless that was done; returns its stats."""
    reader = PackReader(packs)
    special = reader.manifest["tokenizer"]["special_ids"]
    record = next(record for record in reader.manifest["shards"] if record["name"] == shard)
    origin = {"sha256": record["sha256"], "min_side": min_side, "pad_token_id": special["pad"], "labels": IGNORED}
    path = storage.join(out, f"{shard}_stats.json")
    if storage.exists(path):
        stats: dict[str, Any] = storage.read_json(path)
        if {name: stats.get(name) for name in origin} == origin:
            return stats
        storage.remove(path)
    storage.remove(storage.join(out, shard))
    lengths, undecodable = [], []
    for number in np.flatnonzero(np.array(reader.index["shard"].to_pylist()) == shard).tolist():
        packed = reader[number]
        images, kept = _decode(packed, min_side)
        undecodable += [uid for uid, keep in zip(packed.uids, kept, strict=True) if not keep]
        there = np.array(kept, dtype=bool)[np.repeat(np.arange(len(kept)), packed.token_counts)]
        sample_lengths = [length for length, keep in zip(packed.lengths, kept, strict=True) if keep]
        data = dump_pickle(
            images, packed.input_ids[there], labels_of(packed)[there], sample_lengths, special["pad"],
            reader.manifest["context_length"],
        )  # fmt: skip
        storage.write_bytes(storage.join(out, shard, f"{packed.sequence:08d}.pkl"), data)
        lengths.append(sum(sample_lengths))
    stats = {"len": lengths, "shard": shard, "undecodable": undecodable, **origin}
    storage.write_json(path, stats)
    return stats


def labels_of(packed: PackedSequence) -> npt.NDArray[np.int64]:
    """A sequence's targets beside its `input_ids`, IGNORED where there is none; shape (tokens,).

    As in training, a sample's first token is never a target: nothing of its own comes before it.
    """
    labels = np.full(len(packed.input_ids), IGNORED, dtype=np.int64)
    for spans in packed.loss_spans:
        for start, end in spans:
            labels[start:end] = packed.input_ids[start:end]
    counts = np.asarray(packed.token_counts)
    labels[(np.cumsum(counts) - counts)[counts > 0]] = IGNORED
    labels[packed.input_ids == IMAGE_TOKEN] = IGNORED
    return labels


def dump_pickle(
    images: Sequence[Image.Image],
    input_ids: npt.NDArray[np.integer],
    labels: npt.NDArray[np.integer],
    lengths: Sequence[int],
    pad: int,
    context_length: int,
) -> bytes:
    """The bytes of one pickle; equal content gives equal bytes."""
    import torch

    def padded(ids: npt.NDArray[np.integer], with_: int) -> torch.Tensor:
        row = np.full(max(context_length, len(ids)), with_, dtype=np.int64)
        row[: len(ids)] = ids
        return torch.from_numpy(row)

    content = {
        "image_tensors": list(images),
        "input_ids": padded(input_ids, pad),
        "lengths": [int(length) for length in lengths],
        "labels": padded(labels, IGNORED),
    }
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=_PROTOCOL)
    # torch's own way writes the tensor's address into the file, so equal tensors would give other bytes.
    pickler.dispatch_table = {torch.Tensor: lambda tensor: (torch.LongTensor, (tensor.tolist(),))}
    pickler.dump(content)
    return file.getvalue()


def _decode(packed: PackedSequence, min_side: int | None) -> tuple[list[Image.Image], list[bool]]:
    """The images of the samples that decode whole, and which samples those are."""
    images: list[Image.Image] = []
    kept: list[bool] = []
    encoded = iter(packed.images)
    for count in packed.image_counts:
        mine = [next(encoded) for _ in range(count)]
        name = f"{packed.sequence}.{len(kept)}"
        try:
            images += guarded(f"pickle@{min_side}", name, lambda mine=mine: [_rgb(one.data, min_side) for one in mine])  # type: ignore[misc]
            kept.append(True)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, SetAside):
            kept.append(False)
    return images, kept


def _rgb(data: bytes, min_side: int | None) -> Image.Image:
    with open_image(data).image as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    shorter = min(image.size)
    if min_side is not None and shorter > min_side:
        width, height = (max(1, round(side * min_side / shorter)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    image.info.clear()  # what the file said of itself would be pickled too
    return image
