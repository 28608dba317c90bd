"""Packs: sequences of whole samples as WebDataset shards with a byte-offset index, so that any one is a single read.

`00000.tar` holds, per sequence, `00000000.json` (whose tokens are whose), `00000000.input_ids.npy` (int32, one -200 an
image) and `00000000.000.jpg …`, the images as the bytes they arrived in. `00000.index.parquet` gives each sequence's
range in the tar; written after it, it commits the shard. `index.parquet` is all of them (`index.py`), `manifest.json`
is written last. Reading parses JSON and plain arrays only: nothing in a pack can run (invariant 9).
"""

import contextlib
import hashlib
import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmcorpus.curation.store import storage, written
from mmcorpus.curation.store.shards import IMAGE_EXTENSIONS, EncodedImage, add_member
from mmcorpus.curation.store.written import HashedFile
from mmcorpus.packing.errors import MEND, PackError
from mmcorpus.packing.index import INDEX_SCHEMA, costs_of, read_index
from mmcorpus.packing.layout import LayoutConfig, PerImage
from mmcorpus.packing.manifest import layout_of, read_manifest
from mmcorpus.packing.sequence import PER_SAMPLE, PackedSequence
from mmcorpus.packing.stored_images import GoneError, Reference, fetch, resolve

METADATA_KEY: Final = b"mmcorpus"
_BLOCK: Final = 512
_SOMETIMES: Final = ("branches", "sizes", "weights", "tags")
"""What a sequence's json has only where there is something to say."""
_IMAGE_NAME = re.compile(r"(\d{3,6})\.([a-z0-9]{1,5})\Z")


class PackReader:
    """Random access to a pack's sequences, local or remote; cheap to pickle into data-loading workers.

    `reader[i]` is one ranged read. Raises PackError, naming the file and what to do, for a missing or damaged pack.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.manifest: dict[str, Any] = read_manifest(root)
        """`manifest.json` as written; see packing/manifest.py."""
        self.sources: tuple[str, ...] = tuple(sorted(self.manifest.get("parameters", {}).get("sources", ())))
        """Names of the sources that its samples come from."""
        self.layout: LayoutConfig | None = layout_of(self.manifest)
        """How its images become crops and positions; None where only their number of positions is known."""
        constant: int = self.manifest["tokens_per_image"]
        self.per_image: PerImage = constant if self.layout is None else self.layout.constant or self.layout
        """Positions of every image, or the layout that says them of its size."""
        self._folders = {
            source: resolve(folder, root) for source, folder in self.manifest.get("references", {}).items()
        }
        self.index: pa.Table = read_index(root, self.manifest)
        """A row a sequence, in order: INDEX_SCHEMA's columns and `shard`."""
        self._offsets, self._sizes = (self.index.column(name).to_numpy() for name in ("offset", "size"))
        self._checksums = self.index.column("crc32")
        self._sequences = self.index.column("sequence").to_numpy()
        self._shards = self.index.column("shard").combine_chunks().dictionary_encode()

    @property
    def tokens_per_image(self) -> int:
        """Positions of every image. Raises PackError where its size decides."""
        if not isinstance(self.per_image, int):
            raise PackError(
                f"{self.root} was packed with the image layout {self.per_image.kind!r}, in which images of different "
                "sizes take different numbers of positions; ask `per_image`"
            )
        return self.per_image

    @property
    def annotated(self) -> int:
        """How many samples have several annotations."""
        return int(self.manifest["counts"].get("annotated", 0))

    def __len__(self) -> int:
        return int(self.index.num_rows)

    def __getitem__(self, number: int) -> PackedSequence:
        if not -len(self) <= number < len(self):
            raise IndexError(f"{self.root} has {len(self)} sequences, there is no {number}")
        number %= len(self)
        tar = storage.join(self.root, f"{self._shards[number].as_py()}.tar")
        start, size, sequence = int(self._offsets[number]), int(self._sizes[number]), int(self._sequences[number])
        try:
            data = storage.read_bytes(tar, start, start + size)
        except FileNotFoundError:
            raise PackError(f"{tar} is missing; copy the pack again or write it again") from None
        try:
            if len(data) != size:
                raise ValueError(f"the file ends after {len(data)} of {size} bytes")
            packed = _parse(sequence, data, self._folders)
            packed.check(self.per_image)
            if (checksum := self._checksums[number].as_py()) is not None and zlib.crc32(data) != checksum:
                raise ValueError("its bytes are not those that were written")
        except GoneError as error:
            raise PackError(
                f"{tar}: sequence {sequence} cannot be read: {error}. Put it back, or write the pack again"
            ) from error
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
            written.note_damaged(storage.filesystem(tar)[1], str(error))
            raise PackError(
                f"{tar}: sequence {sequence} (bytes {start} to {start + size}) is damaged: {error}. {MEND}"
            ) from error
        return packed

    def __iter__(self) -> Iterator[PackedSequence]:
        return (self[number] for number in range(len(self)))

    def check_files(self) -> None:
        """Raise PackError if a tar is missing or has another size than the manifest says; lists, reads nothing."""
        found = {path.rpartition("/")[2]: stat.size for path, stat in storage.list_files(self.root).items()}
        for shard in self.manifest["shards"]:
            name, expected = f"{shard['name']}.tar", shard.get("bytes")
            size = found.get(name)
            if size is None:
                raise PackError(f"{storage.join(self.root, name)} is missing; copy the pack again or write it again")
            if expected is not None and size != expected:
                raise PackError(
                    f"{storage.join(self.root, name)} has {size:,} of the {expected:,} bytes that were written. {MEND}"
                )

    def verify(self) -> list[str]:
        """The names of the shards whose tar is missing or differs from the manifest's sha256; reads everything."""
        damaged = []
        for shard in self.manifest["shards"]:
            fs, inner = storage.filesystem(storage.join(self.root, f"{shard['name']}.tar"))
            try:
                with fs.open(inner, "rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except FileNotFoundError:
                found = "missing"
            if found != shard["sha256"]:
                damaged.append(str(shard["name"]))
        return damaged


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The plain files in a tar's bytes. tarfile would also follow links, sparse maps and extended headers: not here."""
    position = 0
    while position < len(data):
        header = data[position : position + _BLOCK]
        position += _BLOCK
        checksum = sum(header) - sum(header[148:156]) + 8 * 32
        if len(header) != _BLOCK or int(header[148:156].rstrip(b"\0 ") or b"-1", 8) != checksum:
            raise ValueError("a tar header's checksum is wrong")
        name = header[:100].rstrip(b"\0").decode("ascii")
        size = int(header[124:136].rstrip(b"\0 ") or b"-1", 8)
        if header[156:157] != tarfile.REGTYPE or not 0 <= size <= len(data) - position:
            raise ValueError(f"{name!r} is not a plain file of the pack")
        yield name, data[position : position + size]
        position += -(-size // _BLOCK) * _BLOCK


def _array(data: bytes) -> npt.NDArray[np.int32]:
    """The one-dimensional int32 array of an .npy file; its header is checked before anything is allocated."""
    file = io.BytesIO(data)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("input_ids.npy is not in .npy version 1.0")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    body = data[file.tell() :]
    if dtype != np.dtype("<i4") or len(shape) != 1 or shape[0] * 4 != len(body):
        raise ValueError(f"input_ids.npy is {dtype} of shape {shape} in {len(body)} bytes, not int32 of one dimension")
    return np.frombuffer(body, dtype="<i4").astype(np.int32)


def _parse(sequence: int, data: bytes, folders: Mapping[str, str]) -> PackedSequence:
    """A sequence from its members; `folders` of the sources' shards, where its images may lie."""
    key = f"{sequence:08d}"
    meta: dict[str, Any] | None = None
    input_ids: npt.NDArray[np.int32] | None = None
    images: list[EncodedImage] = []
    for name, content in _members(data):
        member_key, _, extension = name.partition(".")
        image = _IMAGE_NAME.match(extension)
        if member_key != key:
            raise ValueError(f"{name!r} belongs to another sequence")
        if extension == "json":
            meta = json.loads(content)
        elif extension == "input_ids.npy":
            input_ids = _array(content)
        elif image and int(image[1]) == len(images) and image[2] in IMAGE_EXTENSIONS:
            images.append(EncodedImage(extension=image[2], data=content))
        else:
            raise ValueError(f"{name!r} is not part of a pack, or out of order")
    if not isinstance(meta, dict) or input_ids is None:
        raise ValueError("its json or input_ids.npy is missing")
    if "references" in meta:
        if images:
            raise ValueError("it has images, and references to images")
        images.extend(fetch([Reference.read(row) for row in meta["references"]], folders))
    return PackedSequence(
        sequence=sequence,
        input_ids=input_ids,
        uids=tuple(str(uid) for uid in meta["uids"]),
        sources=tuple(str(source) for source in meta["sources"]),
        lengths=tuple(int(length) for length in meta["lengths"]),
        token_counts=tuple(int(count) for count in meta["token_counts"]),
        image_counts=tuple(int(count) for count in meta["image_counts"]),
        loss_spans=tuple(tuple((int(start), int(end)) for start, end in spans) for spans in meta["loss_spans"]),
        images=tuple(images),
        sizes=tuple((int(width), int(height)) for width, height in meta.get("sizes", ())),
        branches=tuple(tuple(int(start) for start in begins) for begins in meta.get("branches", ())),
        weights=tuple(tuple(float(weight) for weight in own) for own in meta.get("weights", ())),
        tags=tuple(tuple(str(tag) for tag in own) for own in meta.get("tags", ())),
    )


class _ChecksummedFile:
    """A file to write to, and the CRC-32 of what was written since it was last asked for."""

    def __init__(self, file: Any) -> None:
        self.file: HashedFile = file
        self._crc32 = 0

    def write(self, data: bytes) -> int:
        self._crc32 = zlib.crc32(data, self._crc32)
        return self.file.write(data)

    def tell(self) -> int:
        return self.file.size

    def take_crc32(self) -> int:
        found, self._crc32 = self._crc32, 0
        return found


class PackShardWriter:
    """Writes one pack shard: the tar, then the index that commits it; equal sequences give equal bytes.

    Use as a context manager; leaving it with an exception leaves nothing behind. `layout` says how many crops an image
    is, where `tokens_per_image` does not; without either, one. `metadata` lands in the schema of the
    index, with the tar's `sha256` and `bytes` and the counts added; afterwards `record` holds it all.
    """

    def __init__(
        self,
        root: str,
        name: str,
        *,
        tokens_per_image: PerImage,
        layout: LayoutConfig | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.root, self.name, self.tokens_per_image = root, name, tokens_per_image
        self.layout = tokens_per_image if layout is None and not isinstance(tokens_per_image, int) else layout
        self.record: dict[str, Any] = dict(metadata or {})
        self._rows: list[dict[str, int]] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "PackShardWriter":
        self._file = _ChecksummedFile(
            self._stack.enter_context(storage.atomic_write(storage.join(self.root, f"{self.name}.tar")))
        )
        self._tar: tarfile.TarFile = self._stack.enter_context(
            tarfile.open(fileobj=self._file, mode="w", format=tarfile.GNU_FORMAT)  # type: ignore[call-overload]
        )
        return self

    def write(self, packed: PackedSequence, references: Sequence[Reference] = ()) -> None:
        """Append a sequence, with `references` in place of its images; raises ValueError if its parts do not fit
        together, or an image has an ending that no reader takes."""
        packed.check(self.tokens_per_image)
        unknown = [image.extension for image in packed.images if image.extension not in IMAGE_EXTENSIONS]
        if unknown:
            raise ValueError(
                f"{unknown[0]!r} is no ending of an image; those are {', '.join(sorted(IMAGE_EXTENSIONS))}"
            )
        offset, key = self._tar.offset, f"{packed.sequence:08d}"
        meta = {name: getattr(packed, name) for name in PER_SAMPLE}
        meta |= {name: told for name in _SOMETIMES if any(told := getattr(packed, name))}
        meta |= {"references": [one.row() for one in references]} if references else {}
        add_member(self._tar, f"{key}.json", json.dumps(meta, sort_keys=True).encode())
        array = io.BytesIO()
        np.lib.format.write_array(array, packed.input_ids.astype("<i4"), version=(1, 0), allow_pickle=False)
        add_member(self._tar, f"{key}.input_ids.npy", array.getvalue())
        for number, image in enumerate(() if references else packed.images):
            add_member(self._tar, f"{key}.{number:03d}.{image.extension}", image.data)
        self._rows.append(
            {
                "sequence": packed.sequence,
                "offset": offset,
                "size": self._tar.offset - offset,
                "length": packed.length,
                "samples": len(packed.uids),
                "images": len(packed.images),
                "crc32": self._file.take_crc32(),
                "tokens": len(packed.input_ids),
                "annotated": sum(map(bool, packed.branches)),
                "weighted": sum(map(bool, packed.weights)),
                **costs_of(packed, self.layout),
            }
        )

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        self._stack.__exit__(kind, *error)
        if kind is not None:
            return
        summed = ("samples", "images", "tokens", "annotated", "weighted", "length")
        totals = {name: sum(row[name] for row in self._rows) for name in summed}
        positions = totals.pop("length")
        rare = {name: count for name in ("annotated", "weighted") if (count := totals.pop(name))}
        self.record |= {
            "name": self.name,
            "bytes": self._file.file.size,
            "sha256": self._file.file.sha256,
            "sequences": len(self._rows),
            **totals,
            "positions": positions,
            **rare,
        }
        metadata = {METADATA_KEY: json.dumps(self.record, sort_keys=True).encode()}
        index = pa.Table.from_pylist(self._rows, schema=INDEX_SCHEMA.with_metadata(metadata))
        storage.write_table(storage.join(self.root, f"{self.name}.index.parquet"), index)
