"""Open-Qwen2VL's pickles (`pickles.py`) read without trusting them: nothing that one asks for is run, and what it makes
takes no more memory and time than its own bytes warrant.

A few bytes of a pickle can ask for a table of 2^32 memo entries, for the same list a million times, for a dict whose
keys collide, for a tensor beyond its storage. So its opcodes are gone through first, as sizes alone.
"""

import io
import pickle
import pickletools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any, Final, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from mmcorpus.curation.store import storage
from mmcorpus.packing.errors import PackError

_MOST_PIXELS: Final = 1 << 28
_MOST_OPCODES: Final = 1 << 19
"""Some three seconds' work. A sample takes a few hundred, and some twenty more for each of its images."""
_EXPANSION: Final = 4
"""What a pickle makes, counted as often as it is used, may be so many times its bytes; their own are below 1."""
_SHORT: Final = 1 << 12
_MUTATORS: Final = frozenset({"APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"})
_CALLS: Final = frozenset({"REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST", "BUILD"})
_SETS: Final = frozenset({"EMPTY_SET", "ADDITEMS", "FROZENSET"})
_TORCH_MAGIC: Final = 0x1950A86A20F9469CFC6C
_MALFORMED: Final = (ArithmeticError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, MemoryError)


@dataclass(frozen=True, kw_only=True)
class PickledSequence:
    """One of their pickles, as plain data."""

    images: tuple[Image.Image, ...]
    input_ids: npt.NDArray[np.int64]
    """Shape (context,), padding included."""
    lengths: tuple[int, ...]
    """Positions of each sample, its images expanded."""
    labels: npt.NDArray[np.int64] | None = None
    """What is to be learned, shape (context,), -100 where nothing is; None in theirs, which learn all but images."""


def read_pickle(path: str) -> PickledSequence:
    """Read one of Open-Qwen2VL's pickles, local or remote, running nothing that it asks for.

    Raises PackError, saying what it asked for, unless it holds dicts, lists, numbers, one tensor and RGB images only.
    """
    data = storage.read_bytes(path)
    try:
        content = _load(io.BytesIO(data), _stand_ins())
        images = [image.built for image in content["image_tensors"]]
        input_ids, lengths = content["input_ids"], content["lengths"]
        if not isinstance(input_ids, np.ndarray) or type(lengths) is not list:
            raise ValueError(f"input_ids is a {type(input_ids).__name__}, lengths is a {type(lengths).__name__}")
        labels = content.get("labels")
        if labels is not None and (not isinstance(labels, np.ndarray) or len(labels) != len(input_ids)):
            raise ValueError("labels are no tensor as long as input_ids")
        return PickledSequence(
            images=tuple(images), input_ids=input_ids, lengths=tuple(map(_integer, lengths)), labels=labels
        )
    except (pickle.UnpicklingError, EOFError, *_MALFORMED) as error:
        reason = str(error) or type(error).__name__
        raise PackError(f"{path} is not a pickle of Open-Qwen2VL's layout: {reason}; nothing in it was run") from error


def _load(file: io.BytesIO, known: dict[tuple[str, str], Any], *, persistent: bool = False) -> Any:
    """The next pickle of a file, with stand-ins for the names that it may ask for; `persistent`: it may name data
    outside itself, whose name is taken for it."""
    _check(_Views(file.getvalue(), file.tell()))
    return _PlainUnpickler(file, known, persistent).load()


class _Views:
    """A pickle as `genops` reads it, its pictures without copying them."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self._view, self._at = data, memoryview(data), at

    def read(self, size: int) -> bytes | memoryview:
        first, self._at = self._at, min(self._at + size, len(self.data))
        return self.data[first : self._at] if size < _SHORT else self._view[first : self._at]

    def readline(self) -> bytes:
        first, end = self._at, self.data.find(b"\n", self._at)
        self._at = len(self.data) if end < 0 else end + 1
        return self.data[first : self._at]


@dataclass(slots=True)
class _Made:
    """What an opcode makes, as its size: one for itself, its bytes, and all that it holds."""

    size: int
    is_text: bool


def _check(file: _Views) -> None:
    """Go through a pickle's opcodes; raises ValueError where they would make more than its bytes warrant."""
    most = _EXPANSION * len(file.data)
    stack: list[_Made | None] = []  # None is a mark
    memo: dict[int, _Made] = {}
    spent = 0
    argument: Any
    for count, (opcode, argument, _) in enumerate(pickletools.genops(cast("IO[bytes]", file))):
        if count == _MOST_OPCODES:
            raise ValueError(f"it has more than {_MOST_OPCODES:,} opcodes")
        name = opcode.name
        if name in _SETS:
            raise ValueError("it holds a set")
        if name == "MARK":
            stack.append(None)
        elif name == "POP":
            stack.pop()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "MEMOIZE" or name.endswith("PUT"):
            number = len(memo) if argument is None else int(argument)
            if number > len(memo):  # picklers count; a table is allocated for the highest number
                raise ValueError(f"it numbers its object {len(memo)} as {number}")
            memo[number] = _top(stack)
        elif name.endswith("GET"):
            stack.append(memo[int(argument)])
        else:
            before, marked = opcode.stack_before, pickletools.markobject in opcode.stack_before
            above = _pop_above_mark(stack) if marked else []
            count = before.index(pickletools.markobject) if marked else len(before)
            taken = [_popped(stack) for _ in range(count)][::-1] + above
            if name in ("DICT", "SETITEM", "SETITEMS"):
                keys = taken[::2] if name == "DICT" else taken[1::2]
                if not all(key.is_text for key in keys):
                    raise ValueError("a dict has a key that is no text")
            held = sum(made.size for made in taken)
            if name in _CALLS:
                spent += held
            size = 1 + held + (len(argument) if isinstance(argument, (str, bytes, bytearray, memoryview)) else 0)
            if max(size, spent) > most:
                raise ValueError("it uses the same data again and again")
            if name in _MUTATORS:
                taken[0].size = size
                stack.append(taken[0])
            else:
                is_text = pickletools.pyunicode in opcode.stack_after
                stack += [_Made(size, is_text) for _ in opcode.stack_after]


def _top(stack: list[_Made | None]) -> _Made:
    if not stack or stack[-1] is None:
        raise ValueError("an opcode lacks what it works on")
    return stack[-1]


def _popped(stack: list[_Made | None]) -> _Made:
    made = _top(stack)
    stack.pop()
    return made


def _pop_above_mark(stack: list[_Made | None]) -> list[_Made]:
    """What lies above the last mark, which goes too."""
    above: list[_Made] = []
    while stack and (made := stack.pop()) is not None:
        above.append(made)
    return above[::-1]


class _PlainUnpickler(pickle.Unpickler):
    """Gives stand-ins for the few names that such a pickle needs, and refuses every other."""

    def __init__(self, file: io.BytesIO, known: dict[tuple[str, str], Any], persistent: bool) -> None:
        super().__init__(file)
        self._known, self._persistent = known, persistent

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self._known[module, name]

    def persistent_load(self, pid: Any) -> Any:
        if not self._persistent:
            raise pickle.UnpicklingError("it refers to data outside itself")
        return pid


def _stand_ins() -> dict[tuple[str, str], Any]:
    """Made anew for each file: a pickle can set attributes on what it was given."""

    class PlainImage:
        """An image as pickled, checked before Pillow allocates its pixels."""

        def __setstate__(self, state: Any) -> None:
            _, mode, size, _, data = state[:5]
            if type(mode) is not str or type(data) is not bytes:
                raise ValueError("an image whose mode is no text or whose pixels are no bytes")
            width, height = map(_integer, size)
            if mode != "RGB" or not 0 < width * height <= _MOST_PIXELS or len(data) != width * height * 3:
                raise ValueError(f"an image of mode {mode[:9]!r}, size {width} x {height} and {len(data)} bytes")
            self.built = Image.frombytes(mode, (width, height), data)

    return {
        ("torch", "LongTensor"): lambda ids: _long_tensor(ids),
        ("PIL.Image", "Image"): PlainImage,
        ("collections", "OrderedDict"): dict,  # a tensor's hooks, of which it has none
        ("torch._utils", "_rebuild_tensor_v2"): lambda *made_of: _rebuild_tensor(*made_of),
        ("torch.storage", "_load_from_bytes"): lambda data: _storage(data),
    }


def _long_tensor(ids: Any) -> npt.NDArray[np.int64]:
    if type(ids) is not list:
        raise ValueError(f"a tensor is made of a {type(ids).__name__}")
    return np.fromiter(map(_integer, ids), np.int64, len(ids))


def _rebuild_tensor(values: Any, offset: Any, size: Sequence[Any], stride: Sequence[Any], *_: Any) -> Any:
    """A tensor over a storage, which must lie in it; torch would make the storage larger."""
    if not isinstance(values, np.ndarray):
        raise ValueError("a tensor of another type than int64")
    (count,), (step,), first = map(_integer, size), map(_integer, stride), _integer(offset)
    if step != 1 or first < 0 or count < 0 or first + count > len(values):
        raise ValueError(f"{count} numbers from {first} on, {step} apart, of a storage of {len(values)}")
    return values[first : first + count]


def _storage(data: Any) -> npt.NDArray[np.int64]:
    """A storage of int64 as torch pickles it inside a tensor, in its old format: five pickles, then the numbers."""
    if type(data) is not bytes:
        raise ValueError("a storage that is no bytes")
    file = io.BytesIO(data)
    if _load(file, {}) != _TORCH_MAGIC:
        raise ValueError("a storage in another format than torch's own of a tensor's")
    for _ in range(2):  # the protocol, and what machine wrote it
        _load(file, {})
    described = _load(file, {("torch", "LongStorage"): "int64"}, persistent=True)
    _load(file, {})  # the keys of its storages
    if type(described) is not tuple or described[:2] != ("storage", "int64"):
        raise ValueError("a tensor of another type than int64")
    rest = data[file.tell() :]
    (count,) = struct.unpack("<q", rest[:8])
    if count < 0 or len(rest) != 8 + 8 * count:
        raise ValueError(f"a storage of {count} numbers in {len(rest)} bytes")
    return np.frombuffer(rest, "<i8", offset=8).astype(np.int64)


def _integer(value: Any) -> int:
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"a {type(value).__name__} instead of a number, or too large a one")
    return value
