"""Open-Qwen2VL's packed layout, for its users: one pickle a sequence, written from packs and read without trusting it.

`OUT/{shard}/{sequence}.pkl` is a dict of `image_tensors` (list of PIL RGB images), `input_ids` (torch.long, one -200 an
image, right-padded to the context length in unexpanded tokens) and `lengths` (expanded, one a sample);
`OUT/{shard}_stats.json`, written last, commits a shard. What differs from their packer: names are the sequences'
numbers, so a rerun gives the same files; padding is the pack's own tokenizer's and named in the stats; shrinking keeps
the aspect ratio; a sample does not begin with `<s>`.
"""

import functools
import io
import pickle
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from mmcorpus.curation.engine.guard import SetAside, guarded
from mmcorpus.curation.store import storage
from mmcorpus.packing.manifest import PackError
from mmcorpus.packing.materialise import MapFn
from mmcorpus.packing.packs import PackReader
from mmcorpus.packing.sequence import PackedSequence

_PROTOCOL: Final = 4
_MOST_PIXELS: Final = 1 << 28


@dataclass(frozen=True, kw_only=True)
class PickledSequence:
    """One of their pickles, as plain data."""

    images: tuple[Image.Image, ...]
    input_ids: npt.NDArray[np.int64]
    """Shape (context,), padding included."""
    lengths: tuple[int, ...]
    """Positions of each sample, its images expanded."""


def write_pickles(packs: str, out: str, *, min_side: int | None = 384, map_fn: MapFn = map) -> list[dict[str, Any]]:
    """Write a pack as Open-Qwen2VL's pickles under `out`; returns the shards' stats, by shard.

    Images whose shorter side exceeds `min_side` are shrunk to it, aspect kept; null keeps all sizes. A sample whose
    image cannot be decoded is left out and named in the stats' `undecodable`. Committed shards are kept.
    Raises ValueError for packs in which images have several captions, which that layout cannot say.
    """
    reader = PackReader(packs)
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
    origin = {"sha256": record["sha256"], "min_side": min_side, "pad_token_id": special["pad"]}
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
        sample = np.repeat(np.arange(len(kept)), packed.token_counts)
        input_ids = packed.input_ids[np.array(kept, dtype=bool)[sample]]
        sample_lengths = [length for length, keep in zip(packed.lengths, kept, strict=True) if keep]
        data = dump_pickle(images, input_ids, sample_lengths, special["pad"], reader.manifest["context_length"])
        storage.write_bytes(storage.join(out, shard, f"{packed.sequence:08d}.pkl"), data)
        lengths.append(sum(sample_lengths))
    stats = {"len": lengths, "shard": shard, "undecodable": undecodable, **origin}
    storage.write_json(path, stats)
    return stats


def dump_pickle(
    images: Sequence[Image.Image],
    input_ids: npt.NDArray[np.integer],
    lengths: Sequence[int],
    pad: int,
    context_length: int,
) -> bytes:
    """The bytes of one pickle; equal content gives equal bytes."""
    import torch

    padded = np.full(max(context_length, len(input_ids)), pad, dtype=np.int64)
    padded[: len(input_ids)] = input_ids
    content = {
        "image_tensors": list(images),
        "input_ids": torch.from_numpy(padded),
        "lengths": [int(length) for length in lengths],
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
    kept = []
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
    with Image.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    shorter = min(image.size)
    if min_side is not None and shorter > min_side:
        width, height = (max(1, round(side * min_side / shorter)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    image.info.clear()  # what the file said of itself would be pickled too
    return image


def read_pickle(path: str) -> PickledSequence:
    """Read one of Open-Qwen2VL's pickles, local or remote, running nothing that it asks for.

    Raises PackError, saying what it asked for, unless it holds dicts, lists, numbers, one tensor and RGB images only.
    """
    data = storage.read_bytes(path)
    try:
        content = _PlainUnpickler(io.BytesIO(data)).load()
        images = tuple(image.build() for image in content["image_tensors"])
        input_ids = content["input_ids"].numpy()
        lengths = tuple(int(length) for length in content["lengths"])
        if input_ids.dtype != np.int64 or input_ids.ndim != 1:
            raise ValueError(f"input_ids is {input_ids.dtype} of shape {input_ids.shape}, not int64 of one dimension")
    except (pickle.UnpicklingError, EOFError, *_MALFORMED) as error:
        raise PackError(f"{path} is not a pickle of Open-Qwen2VL's layout: {error}; nothing in it was run") from error
    return PickledSequence(images=images, input_ids=input_ids, lengths=lengths)


_MALFORMED: Final = (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, MemoryError)


class _PlainUnpickler(pickle.Unpickler):
    """Gives stand-ins for the few names that such a pickle needs, and refuses every other."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._known = _stand_ins()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self._known[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to data outside itself")


def _stand_ins() -> dict[tuple[str, str], Any]:
    """Made anew for each file: a pickle can set attributes on what it was given."""
    import torch

    class PlainImage:
        """An image as pickled, checked before Pillow allocates its pixels."""

        def __setstate__(self, state: Any) -> None:
            _, mode, size, _, data = state[:5]
            width, height = (int(side) for side in size)
            if mode != "RGB" or not 0 < width * height <= _MOST_PIXELS or len(data) != width * height * 3:
                raise ValueError(f"an image of mode {mode!r}, size {size} and {len(data)} bytes")
            self._content = (mode, (width, height), bytes(data))

        def build(self) -> Image.Image:
            return Image.frombytes(*self._content)

    def rebuild_tensor(values: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
        if not isinstance(values, torch.storage.TypedStorage) or values.dtype != torch.int64:
            raise ValueError("a tensor of another type than int64")
        return torch.empty(0, dtype=torch.int64).set_(values, offset, size, stride)

    return {
        ("torch", "LongTensor"): lambda ids: torch.tensor([int(number) for number in ids], dtype=torch.int64),
        ("PIL.Image", "Image"): PlainImage,
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        # torch's own _load_from_bytes unpickles without restriction.
        ("torch.storage", "_load_from_bytes"): lambda data: torch.load(
            io.BytesIO(data), weights_only=True, map_location="cpu"
        ),
    }
