"""Images of a pack as they are stored: as they arrived, resized once to what training needs, or by reference."""

import io
import os
import posixpath
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from PIL import Image

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import IMAGE_EXTENSIONS, EncodedImage
from mmcorpus.curation.store.tars import MAX_MEMBER_BYTES
from mmcorpus.filters.decode import DecodeFailure, decode_rgb
from mmcorpus.packing.errors import PackError

Images = Literal["original", "resized", "reference"]
QUALITY: Final = 95
"""Of a JPEG written anew: 45 dB against the pixels it is made of, where the one that arrived is usually 35 to 40."""
ALLOWED: Final = "MMCORPUS_REFERENCES"
"""The environment variable of folders at URLs that packs may refer to though they lie elsewhere themselves."""
_SHARD: Final = re.compile(r"[0-9]{5,12}\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """An image where it arrived: bytes of a source's shard."""

    source: str
    shard: str
    offset: int
    size: int
    crc32: int
    extension: str

    @classmethod
    def read(cls, row: Any) -> "Reference":
        """Of a row of a sequence's `references`; raises ValueError, TypeError for one that is none."""
        source, shard, offset, size, crc32, extension = row
        if not isinstance(source, str) or not _SHARD.match(shard) or extension not in IMAGE_EXTENSIONS:
            raise ValueError(f"a reference to {source!r}, shard {shard!r}, of type {extension!r}")
        numbers = int(offset), int(size), int(crc32)
        if min(numbers) < 0 or numbers[1] > MAX_MEMBER_BYTES:
            raise ValueError(f"a reference to bytes {numbers}")
        offset, size, crc32 = numbers
        return cls(source=source, shard=shard, offset=offset, size=size, crc32=crc32, extension=extension)

    def row(self) -> list[Any]:
        """As the sequence's json has it."""
        return [self.source, self.shard, self.offset, self.size, self.crc32, self.extension]


class GoneError(ValueError):
    """An image is not where its reference says; the text names the file."""


def fetch(references: Sequence[Reference], folders: Mapping[str, str]) -> tuple[EncodedImage, ...]:
    """The images, from the folders of the sources' shards; ranges of one remote store are asked for together.

    Raises GoneError for a shard that is gone, or that has other bytes there than when the pack was written.
    """
    paths = []
    for one in references:
        if one.source not in folders:
            raise GoneError(f"the manifest does not say where the shards of source {one.source!r} are")
        paths.append(storage.join(folders[one.source], f"{one.shard}.tar"))
    images = []
    ranges = [(path, one.offset, one.size) for path, one in zip(paths, references, strict=True)]
    for one, path, data in zip(references, paths, _ranges(ranges), strict=True):
        if data is None:
            raise GoneError(f"{path}, which it refers to, is missing")
        if len(data) != one.size or zlib.crc32(data) != one.crc32:
            raise GoneError(
                f"{path}, which it refers to, has other bytes from {one.offset} on than when it was written"
            )
        images.append(EncodedImage(extension=one.extension, data=data))
    return tuple(images)


def _ranges(wanted: Sequence[tuple[str, int, int]]) -> list[bytes | None]:
    """The bytes of (path, offset, size); None where there is no such file."""
    found: list[bytes | None] = [None] * len(wanted)
    away: dict[Any, list[tuple[int, str]]] = {}
    for number, (path, offset, size) in enumerate(wanted):
        if storage.is_local(path):
            found[number] = _local(path, offset, size)
        else:
            fs, inner = storage.filesystem(path)
            away.setdefault(fs, []).append((number, inner))
    for fs, places in away.items():
        starts = [wanted[number][1] for number, _ in places]
        ends = [start + wanted[number][2] for start, (number, _) in zip(starts, places, strict=True)]
        answers = fs.cat_ranges([inner for _, inner in places], starts, ends, on_error="return")
        for (number, _), answer in zip(places, answers, strict=True):
            if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                raise answer
            found[number] = None if isinstance(answer, Exception) else answer
    return found


def _local(path: str, offset: int, size: int) -> bytes | None:
    try:
        with open(storage.filesystem(path)[1], "rb", buffering=0) as file:
            return os.pread(file.fileno(), size, offset)
    except FileNotFoundError:
        return None


def relative(folder: str, root: str) -> str:
    """A folder of shards as the pack under `root` names it: from there, if both are on this machine, so that a run may
    move; else whole."""
    if storage.is_local(folder) and storage.is_local(root):
        return os.path.relpath(storage.filesystem(folder)[1], storage.filesystem(root)[1])
    return storage.whole(folder)


def resolve(named: str, root: str) -> str:
    """The folder that `relative` named. Raises PackError for one of another host, bucket or kind of store than the
    pack's, which nobody but the pack's writer asked for, unless the variable ALLOWED names it."""
    if "://" in named or "::" in named:
        allowed = (entry.strip().rstrip("/") for entry in os.environ.get(ALLOWED, "").split(","))
        listed = ".." not in named.split("/") and any(one and f"{named}/".startswith(f"{one}/") for one in allowed)
        if listed or _store(named) in (_store(root), _store(storage.whole(root))):
            return named
    elif storage.is_local(root):
        return os.path.normpath(os.path.join(storage.filesystem(root)[1], named))
    else:
        scheme, _, inner = root.partition("://")
        found = posixpath.normpath(posixpath.join(inner, named))
        if found.partition("/")[0] == inner.partition("/")[0]:
            return f"{scheme}://{found}"
    raise PackError(
        f"the images of the packs {root} are to be read from {named}, which is another store than theirs. If you trust "
        f"who wrote them, name that folder in the environment variable {ALLOWED} (several with commas between them)"
    )


def _store(path: str) -> tuple[str, str]:
    """Scheme, and host or bucket; of chained URLs all that comes first, so that they are no store's but their own."""
    scheme, url, inner = path.partition("://")
    if not url and "::" not in path:
        return "file", ""
    return (scheme.lower(), "" if scheme == "file" else inner.partition("/")[0])


def resized(image: EncodedImage, side: int) -> EncodedImage:
    """The image as an upright JPEG whose shorter side is `side`, the aspect kept; as it arrived if it is not larger,
    would take more bytes, or cannot be decoded (the trainer then shows grey, and its sample carries no loss)."""
    decoded = decode_rgb(image.data)
    if isinstance(decoded, DecodeFailure) or min(decoded.size) <= side:
        return image
    shorter = min(decoded.size)
    width, height = (max(1, round(length * side / shorter)) for length in decoded.size)
    file = io.BytesIO()
    decoded.resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=QUALITY, subsampling=0)
    data = file.getvalue()
    return EncodedImage(extension="jpg", data=data) if len(data) < len(image.data) else image
