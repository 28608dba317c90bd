"""Weights from file to file, one tensor at a time: what a conversion holds in memory is its largest tensor.

Format of safetensors: https://huggingface.co/docs/safetensors/index#format: the length of the header (8 bytes, little
endian), the header (JSON: by name the type, shape and place in the data), the data.
"""

import dataclasses
import functools
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import torch

from mmcorpus.curation.store import storage

Dtype = Literal["fp32", "bf16", "fp16"]
DTYPES: Final[dict[Dtype, torch.dtype]] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_NAMES: Final = {
    torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_OFFSETS: Final = "DCP_SHARDING_INFO"
"""Where a file of shards says, as JSON, where in the whole tensor each begins: as PyTorch has it
(torch/distributed/checkpoint/_hf_utils.py), whose HuggingFaceStorageReader reads these files as well."""
_INDICES: Final = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WHOLE: Final = ("model.safetensors", "pytorch_model.bin")
_FILE: Final = re.compile(r"[^/\\]*[^/\\.]\Z")
"""A file's name without a folder."""

Read = Callable[[], torch.Tensor]


class Tensors(Mapping[str, Read]):
    """The tensors of files by name; each is read when its function is called. `shapes` are known before."""

    def __init__(self, readers: Mapping[str, Read], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._readers, self.shapes = readers, shapes

    def __getitem__(self, name: str) -> Read:
        return self._readers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def renamed(self, name: Callable[[str], str | None]) -> "Tensors":
        """The same under other names; those that become None are left out."""
        names = {old: new for old in self if (new := name(old)) is not None}
        return Tensors(
            {new: self[old] for old, new in names.items()}, {new: self.shapes[old] for old, new in names.items()}
        )


class Loaded(Mapping[str, torch.Tensor]):
    """Tensors by name that are read each time they are asked for, and not kept."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def read_file(path: str, kind: str = "weights") -> Tensors:
    """The tensors of one local file, safetensors or torch's; of nested dictionaries (prismatic's) with dots between.

    torch's files are mapped and read as data alone (`weights_only`): no code in them runs. Raises Damaged, with the
    file and what `kind` of file it should be, if it cannot be read.
    """
    with storage.reading(path, kind):
        return _safetensors(path)[0] if path.endswith(".safetensors") else _torch(path)


def read_shards(paths: Sequence[str], kind: str = "weights") -> Tensors:
    """The whole tensors of local files in each of which lies a part of them, as `write_file` with offsets writes it.

    Raises Damaged, with the file, for one that cannot be read, or whose parts do not fill their tensors with the rest.
    """
    parts: dict[str, list[tuple[tuple[int, ...], tuple[int, ...], Read]]] = {}
    for path in paths:
        with storage.reading(path, kind):
            tensors, offsets = _safetensors(path)
            for name, read in tensors.items():
                shape = tensors.shapes[name]
                parts.setdefault(name, []).append((offsets.get(name, (0,) * len(shape)), shape, read))
    shapes = {}
    for name, found in parts.items():
        ends = [[start + size for start, size in zip(offset, shape, strict=True)] for offset, shape, _ in found]
        shapes[name] = tuple(map(max, zip(*ends, strict=True)))
        if sum(math.prod(shape) for _, shape, _ in found) != math.prod(shapes[name]):
            raise storage.Damaged(paths[0], kind, f"the parts of {name} in {len(paths)} files do not fill it")
    return Tensors({name: functools.partial(_joined, found, shapes[name]) for name, found in parts.items()}, shapes)


def _joined(parts: Sequence[tuple[tuple[int, ...], tuple[int, ...], Read]], shape: tuple[int, ...]) -> torch.Tensor:
    whole: torch.Tensor | None = None
    for offset, size, read in parts:
        tensor = read()
        if size == shape:
            return tensor
        whole = torch.empty(shape, dtype=tensor.dtype) if whole is None else whole
        whole[tuple(slice(start, start + length) for start, length in zip(offset, size, strict=True))] = tensor
    assert whole is not None
    return whole


def read_folder(folder: str) -> Tensors:
    """The tensors of a model's local folder, whole or split, as `save_pretrained` writes it; safetensors if there are.

    Raises ValueError if the folder holds no weights, or lacks a file that its index names, or the index names another
    folder's.
    """
    for index, whole in zip(_INDICES, _WHOLE, strict=True):
        names = [whole]
        if os.path.exists(path := os.path.join(folder, index)):
            names = _indexed(path)
        elif not os.path.exists(os.path.join(folder, whole)):
            continue
        missing = [name for name in names if not os.path.exists(os.path.join(folder, name))]
        if missing:
            raise ValueError(f"{folder} lacks {missing[0]} ({len(missing)} of {len(names)} files); download it whole")
        files = [read_file(os.path.join(folder, name)) for name in names]
        return Tensors(
            {name: read for file in files for name, read in file.items()},
            {name: shape for file in files for name, shape in file.shapes.items()},
        )
    raise ValueError(f"{folder} holds no weights: there is neither {' nor '.join(_WHOLE)}")


def _indexed(path: str) -> list[str]:
    """The files that an index names, all beside it. Raises ValueError, with the index, if that is not what it does."""
    index = storage.read_json(path)
    found = index.get("weight_map") if isinstance(index, Mapping) else None
    if not isinstance(found, Mapping) or not found:
        raise ValueError(f"{path} has no weight_map: it is no index of weights")
    elsewhere = [name for name in found.values() if not isinstance(name, str) or not _FILE.match(name)]
    if elsewhere:
        raise ValueError(f"{path} names {elsewhere[0]!r}, which is no file beside it: do not trust this download")
    return sorted(set(found.values()))


def _safetensors(path: str) -> tuple[Tensors, dict[str, tuple[int, ...]]]:
    """A file's tensors, and where in the whole of it each begins, of those that are parts."""
    from safetensors import SafetensorError, safe_open

    try:
        file: Any = safe_open(path, framework="pt")
        names = list(file.keys())
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
        said = json.loads((file.metadata() or {}).get(_OFFSETS, "{}"))
    except SafetensorError as error:
        raise ValueError(error) from error
    tensors = Tensors({name: lambda name=name: file.get_tensor(name) for name in names}, shapes)  # type: ignore[misc]
    return tensors, {name: tuple(map(int, one["saved_offsets"])) for name, one in said.items()}


def _torch(path: str) -> Tensors:
    import pickle

    try:
        tree = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(error) from error
    found = dict(_flat(tree, ""))
    return Tensors(
        {name: lambda tensor=tensor: tensor for name, tensor in found.items()},  # type: ignore[misc]
        {name: tuple(tensor.shape) for name, tensor in found.items()},
    )


def _flat(tree: Any, before: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(tree, torch.Tensor):
        yield before, tree
    elif isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _flat(value, f"{before}.{name}" if before else str(name))


@dataclasses.dataclass(frozen=True, slots=True)
class Planned:
    """A tensor to be written."""

    name: str
    shape: tuple[int, ...]
    read: Read
    dtype: torch.dtype = torch.float32
    """What it is written as where the file has no type for all."""
    offset: tuple[int, ...] | None = None
    """Of a part: where in the whole tensor it begins."""


def planned(tensors: Mapping[str, torch.Tensor]) -> list[Planned]:
    """Tensors to be written as they are, in safetensors' own order: by type, the widest first, then by name."""
    return in_order(
        [
            Planned(name, tuple(tensor.shape), functools.partial(_itself, tensor), tensor.dtype)
            for name, tensor in tensors.items()
        ]
    )


def in_order(planned: Sequence[Planned]) -> list[Planned]:
    """In safetensors' own order, in which every tensor is aligned."""
    return sorted(planned, key=lambda one: (-one.dtype.itemsize, one.name))


def _itself(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def write_file(
    path: str, planned: Sequence[Planned], dtype: Dtype | None, metadata: Mapping[str, str] | None = None
) -> int:
    """Write a safetensors file, each tensor read, converted and written before the next; the bytes that it takes.

    Args:
        path: of a local file.
        planned: the tensors in the file's order.
        dtype: the type of all; None for each one's own.
        metadata: of the file; `{"format": "pt"}`, which transformers asks for, where a type is given.

    Raises:
        ValueError: with the name, for a tensor of another shape than was planned.
    """
    if metadata is None and dtype is not None:
        metadata = {"format": "pt"}
    if offsets := {one.name: {"saved_offsets": list(one.offset)} for one in planned if one.offset is not None}:
        metadata = {**(metadata or {}), _OFFSETS: json.dumps(offsets), "DCP_VERSION": "1.0", "format": "pt"}
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for one in planned:
        kind = DTYPES[dtype] if dtype else one.dtype
        start, end = end, end + math.prod(one.shape) * kind.itemsize
        header[one.name] = {"dtype": _NAMES[kind], "shape": list(one.shape), "data_offsets": [start, end]}
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with storage.naming_full_disk(path), open(path, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for one in planned:
            tensor = one.read()
            if tuple(tensor.shape) != one.shape:
                raise ValueError(f"{one.name} has the shape {tuple(tensor.shape)}, not {one.shape}")
            flat = tensor.detach().to(DTYPES[dtype] if dtype else one.dtype).cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)
    return 8 + len(head) + end
