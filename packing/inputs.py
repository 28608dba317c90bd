"""Reading input shards for packing: texts and nodes from their parquet, images from their tar."""

import contextlib
import functools
import itertools
import json
import os
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.engine.made_from import file_digest
from mmcorpus.curation.store import storage, written
from mmcorpus.curation.store.named_files import state_of
from mmcorpus.curation.store.places import Moved
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
_SIZES: Final = ("width", "height")
_LISTED: Final = ("images", "widths", "heights", *_SIZES)
"""What a conversation's row may say of its images: which or how many there are, their sizes, or the only one's."""

_BLOCK: Final = 8 << 20
"""Bytes that are asked of a remote tar at once: a request then takes about as long to answer as to begin."""

_MOST_IMAGES: Final = 4096
"""More than a row's number of images is believed to be; nothing fits with so many."""

StoredImages = tuple[tuple[int | None, int | None], ...]
"""Width and height of each image stored with a row, in order, as far as they are known."""


def read_texts(shard: Shard, kind: Kind, uids: Collection[str] | None = None, *, sizes: bool = False) -> pa.Table:
    """`uid`, `key` and `text` of a shard's downloaded samples, in its order, the first of each uid; of conversations
    also what `stored_images` reads, of pairs too with `sizes`.

    The tar is not read. Raises ValueError if the parquet lacks the columns.
    """
    column = TEXT_COLUMN[kind]
    present = set(read_schema(shard).names)
    told = [name for name in _LISTED if name in present] if kind == "conversation" else []
    if sizes and not {"widths", "heights"} <= set(told):
        told = [*told, *(name for name in _SIZES if name not in told)]
    lacking = [name for name in ("uid", "key", "status", column, *told) if name not in present]
    if lacking:
        hint = f"is this source of kind {kind!r}?" if column in lacking else "download it with mmcorpus"
        raise ValueError(f"{shard.parquet} has no column {', '.join(lacking)}: {hint}")
    stored = ["uid", "key", column, "status", *told]
    rows = read_rows(shard, columns=stored).select(stored).rename_columns([*_TEXTS.names, *told])
    more = [pa.field(name, pa.int64() if name in _SIZES else rows.schema.field(name).type) for name in told]
    rows = rows.cast(pa.schema([*_TEXTS, *more]))
    rows = rows.filter(_is_there())
    if uids is not None:
        rows = rows.filter(pc.field("uid").isin(list(uids)))
    _, first = np.unique(uid_bytes(rows.column("uid")), return_index=True)
    return rows.take(np.sort(first)).drop_columns(["status"])


def read_uids(shard: Shard) -> npt.NDArray[np.bytes_]:
    """The uids of what `read_texts` reads of a shard, in its order; shape (rows,)."""
    if not {"uid", "status"} <= set(read_schema(shard).names):
        return uid_bytes(pa.array([], pa.string()))  # reading its texts says what is wrong
    rows = read_rows(shard, columns=["uid", "status"])
    return uid_bytes(rows.filter(_is_there())["uid"].cast(pa.string()))


def _is_there() -> pc.Expression:
    # A filter drops rows where it is null: failed downloads may lack a uid.
    return (pc.field("status") == SUCCESS) & (pc.binary_length(pc.field("uid")) == 32)


def stored_images(rows: pa.Table) -> list[StoredImages | None]:
    """What each row of `read_texts` says of the images stored with it; None where it says nothing.

    `widths` and `heights` are lists, an entry an image; or `images` is a list of them (references, say) or their
    number, and `width` and `height` are those of the only one.
    """
    if not set(_LISTED) & set(rows.column_names):
        return [None] * rows.num_rows
    columns = [rows[name].to_pylist() if name in rows.column_names else [None] * rows.num_rows for name in _LISTED]
    return [_stored(*row) for row in zip(*columns, strict=True)]


def _stored(images: Any, widths: Any, heights: Any, width: int | None, height: int | None) -> StoredImages | None:
    across, down = _as_list(widths), _as_list(heights)
    if across is not None and down is not None:
        return tuple(itertools.zip_longest(across, down))
    listed = _as_list(images)
    count = len(listed) if listed is not None else images if isinstance(images, int) else None
    if count not in (None, 1):
        return ((None, None),) * min(count, _MOST_IMAGES)
    return ((width, height),) if count or (width and height) else None


def _as_list(value: Any) -> list[Any] | None:
    """A list, or the JSON of one, as shards without a parquet have it."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    return value if isinstance(value, list) else None


def rows_identity(shard: Shard) -> str:
    """What changes when the rows of a shard do: the digest of its parquet's bytes; where there is none, or one without
    uids, also size and time of the tar, which then says what rows there are."""
    own = content_of(shard.parquet)
    if shard.level or shard.references or (own and "uid" in storage.read_schema(shard.parquet).names):
        return own
    state = state_of(shard.tar)
    return f"{own}:{state.size}:{state.modified}"


def content_of(path: str) -> str:
    """The digest of a file's bytes; empty if it is missing. A file is read again only when it has changed."""
    fs, inner = storage.filesystem(path)
    fs.invalidate_cache()
    return _content(path, str(fs.ukey(inner))) if fs.exists(inner) else ""


@functools.lru_cache(maxsize=4096)
def _content(path: str, version: str) -> str:
    return file_digest(path)


def uid_bytes(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.bytes_]:
    """Uids as 32-byte strings, which numpy sorts and searches fast; shape (rows,)."""
    fixed = column.cast(pa.binary(32))
    parts = fixed.chunks if isinstance(fixed, pa.ChunkedArray) else [fixed]
    found = [np.frombuffer(part.buffers()[1], dtype="S32")[part.offset : part.offset + len(part)] for part in parts]
    return np.concatenate([np.zeros(0, dtype="S32"), *found])


Place = tuple[str, int, int]
"""An image's extension, and offset and size of its bytes in the tar."""


@dataclass(frozen=True, kw_only=True)
class OpenTar:
    """A tar's members by sample; images are read one at a time, by position, from any thread."""

    path: str
    file: IO[bytes] | None
    """The tar itself, or what was copied of a remote one, deleted when nobody holds this any more; None if missing."""
    members: dict[str, dict[int, Place]]
    """Per key, its images by number; a sample's only image may be stored without one, and is its 0."""
    damage: str
    """What ended the reading of the tar early; empty if nothing did."""
    cut: str = ""
    """What is said of a tar that ends without its end, which is no damage while no sample is missing."""
    copied: dict[int, int] | None = None
    """Where `file` has what is at an offset of the tar, if not there too."""

    def places(self, key: str, numbers: Sequence[int] | None = None) -> list[Place]:
        """Where a sample's images lie, all or those of these numbers; raises LookupError saying what is missing."""
        if numbers is not None and not numbers:
            return []
        tar = os.path.basename(self.path)
        there = self.members.get(key, {})
        missing = [number for number in numbers or () if number not in there]
        if self.file is None or not there or missing:
            which = f"image {missing[0]}" if there and missing else "image"
            why = self.damage or self.cut
            raise LookupError(f"no {which} of sample {key} in {tar}{why and ': '}{why}")
        return [there[number] for number in (sorted(there) if numbers is None else numbers)]

    def images(self, key: str, numbers: Sequence[int] | None = None) -> tuple[EncodedImage, ...]:
        """A sample's images as stored, chosen as by `places`, which see for what is raised."""
        images = []
        for extension, offset, size in self.places(key, numbers):
            assert self.file is not None
            data = os.pread(self.file.fileno(), size, offset if self.copied is None else self.copied[offset])
            if len(data) != size:
                raise LookupError(f"{os.path.basename(self.path)} ends inside the image of sample {key}")
            images.append(EncodedImage(extension=extension, data=data))
        return tuple(images)


@dataclass(frozen=True, kw_only=True)
class Referred:
    """The images of a shard of references, as `OpenTar` gives a tar's."""

    references: References
    moved: list[str] = field(default_factory=list)
    """What was wrong with files that hold many images, and with the table of places, as it was met."""

    @property
    def path(self) -> str:
        return self.references.path

    @property
    def damage(self) -> str:
        return self.moved[0] if self.moved else ""

    @property
    def cut(self) -> str:
        return ""

    def images(self, key: str, numbers: Sequence[int] | None = None) -> tuple[EncodedImage, ...]:
        """See `OpenTar.images`; what is gone or has changed since it was indexed is missing."""
        try:
            found = self.references.images(key, numbers)
        except Moved as error:
            if (error.shared or error.wrong) and not self.moved:
                self.moved.append(str(error))
            raise
        return tuple(EncodedImage(extension=extension, data=data) for extension, data in found)


def open_images(shard: Shard, keys: Collection[str] | None = None) -> OpenTar | Referred:
    """The images of a shard, wherever they lie; `keys` as `open_tar` takes them."""
    if shard.references:
        return Referred(references=open_references(shard.root, shard.name))
    return open_tar(shard.tar, keys)


def open_tar(path: str, keys: Collection[str] | None = None) -> OpenTar:
    """Index a tar; what is unreadable is missing from `members`, not an error.

    A remote one is read from front to back once. With `keys`, only these samples' images are copied, to a temporary
    file, and of what lies between them no more than a block is asked for at a time; without, all of it is downloaded.
    Recently opened tars are kept, but for those of `keys`.
    """
    fs, inner = storage.filesystem(path)
    fs.invalidate_cache()
    if not fs.exists(inner):
        return OpenTar(path=path, file=None, members={}, damage="there is no such file")
    if keys is None or storage.is_local(path):
        return _open_tar(path, str(fs.ukey(inner)))
    copy: Any = tempfile.NamedTemporaryFile(suffix=".images")  # noqa: SIM115 - as long as the OpenTar that holds it
    with fs.open(inner, "rb", block_size=_BLOCK, cache_type="readahead") as remote:
        return _scan(path, remote, copy, frozenset(keys))


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
    return _scan(path, file, file)


def _scan(path: str, file: Any, kept: Any, keys: frozenset[str] | None = None) -> OpenTar:
    """Index the tar in `file`; with `keys`, copy their images to `kept`."""
    members: dict[str, list[tuple[str, int, int]]] = {}
    copied: dict[int, int] = {}
    damage = cut = ""
    try:
        with read_tar(file, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise
                key, name = sample_of(member.name)
                extension = name.rpartition(".")[2].lower()
                if not is_readable(member) or extension not in IMAGE_EXTENSIONS:
                    continue
                if keys is not None and key not in keys:
                    continue
                members.setdefault(key, []).append((name, member.offset_data, member.size))
                if keys is not None:
                    file.seek(member.offset_data)
                    copied[member.offset_data] = kept.tell()
                    with storage.naming_full_disk(kept.name):
                        kept.write(file.read(member.size))
            file.seek(tar.offset)
            if len(file.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
                cut = "it has no end: it may have been cut between two of its files"
    except (tarfile.TarError, EOFError, ValueError) as error:
        damage = str(error) or type(error).__name__
        written.note_damaged(storage.filesystem(path)[1], damage)
    numbered = {key: dict(_numbered(found)) for key, found in members.items()}
    if keys is not None:
        with storage.naming_full_disk(kept.name):
            kept.flush()
    places = None if keys is None else copied
    return OpenTar(path=path, file=kept, members=numbered, damage=damage, cut=cut, copied=places)


def _numbered(found: list[tuple[str, int, int]]) -> Iterator[tuple[int, tuple[str, int, int]]]:
    """A sample's images by the numbers in their names (`000.jpg`), or in name order where a name has none."""
    for place, (name, offset, size) in enumerate(sorted(found)):
        stem, _, extension = name.rpartition(".")
        yield int(stem) if stem.isdecimal() else place, (extension.lower(), offset, size)
