"""What packing reads of the input shards: texts and nodes from their parquet, images from their tar."""

import functools
import os
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.store import storage, written
from mmcorpus.curation.store.references import References, open_references
from mmcorpus.curation.store.shards import IMAGE_EXTENSIONS, SUCCESS, EncodedImage, Shard, read_rows, read_schema
from mmcorpus.curation.store.tars import is_readable, read_tar, sample_of

Kind = Literal["pair", "conversation", "document", "text"]
TEXT_COLUMN: Final[dict[str, str]] = {
    "pair": "caption",
    "conversation": "conversations",
    "document": "nodes",
    "text": "nodes",
}
"""The parquet column that holds the text of each kind of sample."""

_TEXTS: Final = pa.schema([(name, pa.string()) for name in ("uid", "key", "text", "status")])
_SIZES: Final = pa.schema([(name, pa.int64()) for name in ("width", "height")])

IMAGES_PER_SAMPLE: Final = 1
"""Pairs and LLaVA conversations have one image each; a document's nodes name its images."""


def read_texts(shard: Shard, kind: Kind, uids: Collection[str] | None = None, *, sizes: bool = False) -> pa.Table:
    """`uid`, `key` and `text` of a shard's downloaded samples, in its order, the first of each uid; with `sizes` the
    `width` and `height` of the stored image as well.

    The tar is not read. Raises ValueError if the parquet lacks the columns.
    """
    column = TEXT_COLUMN[kind]
    schema = pa.unify_schemas([_TEXTS, _SIZES]) if sizes else _TEXTS
    stored = ["uid", "key", column, *schema.names[3:]]
    present = set(read_schema(shard).names)
    lacking = [name for name in ("uid", "key", "status", column, *schema.names[4:]) if name not in present]
    if lacking:
        hint = f"is this source of kind {kind!r}?" if column in lacking else "download it with mmcorpus"
        raise ValueError(f"{shard.parquet} has no column {', '.join(lacking)}: {hint}")
    rows = read_rows(shard, columns=stored)
    rows = rows.select(stored).rename_columns(schema.names).cast(schema)
    # A filter drops rows where it is null: failed downloads may lack a uid.
    rows = rows.filter((pc.field("status") == SUCCESS) & (pc.binary_length(pc.field("uid")) == 32))
    if uids is not None:
        rows = rows.filter(pc.field("uid").isin(list(uids)))
    _, first = np.unique(uid_bytes(rows.column("uid")), return_index=True)
    return rows.take(np.sort(first)).drop_columns(["status"])


def sizes_of(rows: pa.Table) -> list[tuple[int | None, int | None]]:
    """Width and height of each row's image, as `read_texts` gives them."""
    return list(zip(rows["width"].to_pylist(), rows["height"].to_pylist(), strict=True))


def uid_bytes(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.bytes_]:
    """Uids as 32-byte strings, which numpy sorts and searches fast; shape (rows,)."""
    return np.asarray(column.to_pylist(), dtype="S32")


@dataclass(frozen=True, kw_only=True)
class OpenTar:
    """A tar's members by sample; images are read one at a time, by position, from any thread."""

    path: str
    file: IO[bytes] | None
    """The tar itself, or a remote one's local copy, deleted when nobody holds this any more; None if missing."""
    members: dict[str, dict[int, tuple[str, int, int]]]
    """Per key, its images' (extension, offset, size) by number; a sample's only image may be stored without one, and
    is its 0."""
    damage: str
    """What ended the reading of the tar early; empty if nothing did."""

    def images(self, key: str, numbers: Sequence[int] | None = None) -> tuple[EncodedImage, ...]:
        """A sample's images as stored, all or those of these numbers; raises LookupError saying what is missing."""
        if numbers is not None and not numbers:
            return ()
        tar = os.path.basename(self.path)
        there = self.members.get(key, {})
        missing = [number for number in numbers or () if number not in there]
        if self.file is None or not there or missing:
            which = f"image {missing[0]}" if there and missing else "image"
            raise LookupError(f"no {which} of sample {key} in {tar}{self.damage and ': '}{self.damage}")
        images = []
        for number in sorted(there) if numbers is None else numbers:
            extension, offset, size = there[number]
            data = os.pread(self.file.fileno(), size, offset)
            if len(data) != size:
                raise LookupError(f"{tar} ends inside the image of sample {key}")
            images.append(EncodedImage(extension=extension, data=data))
        return tuple(images)


@dataclass(frozen=True, kw_only=True)
class Referred:
    """The images of a shard of references, as `OpenTar` gives a tar's."""

    references: References

    @property
    def path(self) -> str:
        return self.references.path

    @property
    def damage(self) -> str:
        return self.references.damage

    def images(self, key: str, numbers: Sequence[int] | None = None) -> tuple[EncodedImage, ...]:
        """See `OpenTar.images`; what is gone or has changed since it was indexed is missing."""
        found = self.references.images(key, numbers)
        return tuple(EncodedImage(extension=extension, data=data) for extension, data in found)


def open_images(shard: Shard) -> OpenTar | Referred:
    """The images of a shard, wherever they lie."""
    if shard.references:
        return Referred(references=open_references(shard.root, shard.name))
    return open_tar(shard.tar)


def open_tar(path: str) -> OpenTar:
    """Index a tar, downloading a remote one first; what is unreadable is missing from `members`, not an error.

    Recently opened tars are kept, since the pack shards of one window read the same ones.
    """
    fs, inner = storage.filesystem(path)
    fs.invalidate_cache()
    if not fs.exists(inner):
        return OpenTar(path=path, file=None, members={}, damage="there is no such file")
    return _open_tar(path, str(fs.ukey(inner)))


@functools.lru_cache(maxsize=32)
def _open_tar(path: str, version: str) -> OpenTar:
    fs, inner = storage.filesystem(path)
    file: Any
    if storage.is_local(path):
        file = open(inner, "rb")  # noqa: SIM115 - stays open as long as the OpenTar that holds it
    else:
        file = tempfile.NamedTemporaryFile(suffix=".tar")  # noqa: SIM115
        with storage.naming_full_disk(file.name):
            fs.get_file(inner, file.name)
    members: dict[str, list[tuple[str, int, int]]] = {}
    damage = ""
    try:
        with read_tar(file, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise
                key, name = sample_of(member.name)
                extension = name.rpartition(".")[2].lower()
                if is_readable(member) and extension in IMAGE_EXTENSIONS:
                    members.setdefault(key, []).append((name, member.offset_data, member.size))
    except (tarfile.TarError, EOFError, ValueError) as error:
        damage = str(error) or type(error).__name__
        written.note_damaged(inner, damage)
    numbered = {key: dict(_numbered(found)) for key, found in members.items()}
    return OpenTar(path=path, file=file, members=numbered, damage=damage)


def _numbered(found: list[tuple[str, int, int]]) -> Iterator[tuple[int, tuple[str, int, int]]]:
    """A sample's images by the numbers in their names (`000.jpg`), or in name order where a name has none."""
    for place, (name, offset, size) in enumerate(sorted(found)):
        stem, _, extension = name.rpartition(".")
        yield int(stem) if stem.isdecimal() else place, (extension.lower(), offset, size)
