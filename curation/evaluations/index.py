"""The index of evaluation sets: what the scorer compares with, and what the report shows.

INDEX/grams.parquet      hash (sorted), item                  what of the texts is compared
      pictures.parquet   item, phash, dct, color, aspect      what of the pictures is
      items.parquet      name, grams (how many of its own)
      embeddings.parquet item, image                          what CLIP sees of the pictures, if asked for
      shown.parquet      text, thumbnail                      for people, in the items' order
      index.json         written last: n, sets, content (a hash of all that is compared)
"""

import hashlib
import io
import itertools
import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mmcorpus.curation.engine.progress import Progress
from mmcorpus.curation.evaluations.config import EmbeddingModel, EvaluationsConfig
from mmcorpus.curation.evaluations.sets import Item, read_items
from mmcorpus.curation.store import storage
from mmcorpus.filters import DecodedImage, decode_image
from mmcorpus.filters.contamination import (
    FORMAT,
    GRAMS,
    ITEMS,
    MANIFEST,
    PICTURES,
    PictureHashes,
    distinct_pairs,
    hash_pictures,
)
from mmcorpus.filters.evaluation_embeddings import CLIP, EMBEDDINGS
from mmcorpus.filters.ngrams import Hashes, Indices, hash_ngrams
from mmcorpus.filters.open_clip_names import Checkpoint

SHOWN: Final = "shown.parquet"
THUMBNAIL_SIDE: Final = 128
SHOWN_CHARACTERS: Final = 600
ROW_GROUP: Final = 500
"""Items of `shown.parquet` that are read together."""
_CHUNK: Final = 64


@dataclass(kw_only=True, slots=True)
class SetReport:
    """Counts of what was read of one set."""

    items: int = 0
    texts: int = 0
    pictures: int = 0
    unreadable: int = 0
    """Pictures that are named but not there, or that cannot be decoded."""
    example: str = ""
    """One that could not be read, and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexReport:
    """Counts of an index's contents."""

    sets: dict[str, SetReport]
    grams: int
    """Distinct n-grams (and short texts)."""
    common: int
    """Those left out because more than `max_items` items have them."""
    content: str
    """16 hex digits: equal for equal contents."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chunk:
    """Some items, judged."""

    items: list[Item]
    hashes: Hashes
    owners: Indices
    """Of each hash the item, counted within the chunk."""
    pictures: PictureHashes
    picture_owners: list[int]
    thumbnails: list[bytes]
    """Of each item its first picture, small; empty where it has none."""
    broken: list[list[str]]
    """Of each item, why pictures could not be read."""
    pixels: npt.NDArray[np.uint8] | None
    """The pictures as the model takes them; None without one."""


def build_index(config: EvaluationsConfig, out: str) -> IndexReport:
    """Read the evaluation sets into an index in the folder `out`, local or remote; equal sets give equal bytes.

    Raises `FileNotFoundError` or `ValueError` for a set that cannot be read; the index that was there stays then.
    """
    builder = _Builder(config)
    prepare = builder.embedder.prepare if builder.embedder else None
    with (
        storage.atomic_write(storage.join(out, SHOWN)) as file,
        pq.ParquetWriter(file, builder.shown.schema, **storage.TABLE) as writer,
        Progress("evaluations", total=None, unit="item") as progress,
    ):
        for chunk in _judged(config, prepare):
            builder.add(chunk)
            builder.write_shown(writer, at_least=ROW_GROUP)
            progress.advance(len(chunk.items))
        builder.write_shown(writer, at_least=1)
        # Until all of its parts are new there is no index: a reader must not see some of the old.
        storage.remove(storage.join(out, MANIFEST))
    return builder.write(out)


class _Embedder:
    """A CLIP in its two halves, on a GPU if there is one here."""

    def __init__(self, config: EmbeddingModel) -> None:
        import torch

        from mmcorpus.filters.clip_model import ClipModel, Preprocess

        checkpoint = Checkpoint(model_name=config.model_name, pretrained=config.pretrained)
        self.revision, self.dimensions = checkpoint.revision(), checkpoint.dimensions()
        self._preprocess = Preprocess(checkpoint)
        self._model = ClipModel(checkpoint, device="cuda" if torch.cuda.is_available() else "cpu", dtype="fp32")

    def prepare(self, images: list[DecodedImage]) -> npt.NDArray[np.uint8]:
        """Pictures as the model takes them."""
        return self._preprocess.pixels([image.pixels for image in images]) if images else np.empty(0, np.uint8)

    def embed(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        """Their embeddings, shape (pictures, dimensions)."""
        if not len(pixels):
            return np.empty((0, self.dimensions), np.float16)
        found: npt.NDArray[np.float16] = self._model.embed_images(pixels).half().cpu().numpy()
        return found


_Prepare = Callable[[list[DecodedImage]], npt.NDArray[np.uint8]]


def _judged(config: EvaluationsConfig, prepare: _Prepare | None) -> Iterator[_Chunk]:
    """Chunks in order, several at work: decoding lets go of the interpreter's lock."""
    items = itertools.chain.from_iterable(read_items(name, entry) for name, entry in config.sets.items())
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[_Chunk]] = deque()
        while chunk := list(itertools.islice(items, _CHUNK)):
            waiting.append(pool.submit(_judge, chunk, config, prepare))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _judge(items: list[Item], config: EvaluationsConfig, prepare: _Prepare | None) -> _Chunk:
    texts = [(number, text) for number, item in enumerate(items) for text in item.texts]
    hashes, owners = hash_ngrams([text for _, text in texts], config.n, config.min_words)
    hashes, owners = distinct_pairs(hashes, np.array([number for number, _ in texts], np.int64)[owners])
    decoded: list[DecodedImage] = []
    picture_owners: list[int] = []
    thumbnails, broken = [b""] * len(items), [list(item.unreadable) for item in items]
    for number, item in enumerate(items):
        for data in item.images:
            image = decode_image(data)
            if not isinstance(image, DecodedImage):
                broken[number].append(image.reason)
                continue
            decoded.append(image)
            picture_owners.append(number)
            thumbnails[number] = thumbnails[number] or _thumbnail(image)
    return _Chunk(
        items=items,
        hashes=hashes,
        owners=owners,
        pictures=hash_pictures(decoded),
        picture_owners=picture_owners,
        thumbnails=thumbnails,
        broken=broken,
        pixels=prepare(decoded) if prepare is not None else None,
    )


def _thumbnail(image: DecodedImage) -> bytes:
    picture = Image.fromarray(image.pixels)
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=75, optimize=True)
    return buffer.getvalue()


class _Builder:
    """Holds what is small (hashes, names) until the end; texts and thumbnails go to disk as they come."""

    def __init__(self, config: EvaluationsConfig) -> None:
        self.config = config
        self.sets = {name: SetReport() for name in config.sets}
        self.names: list[str] = []
        self.hashes, self.owners = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
        self.pictures: list[PictureHashes] = []
        self.picture_owners: list[int] = []
        self.embedder = _Embedder(config.clip) if config.clip is not None else None
        self.embeddings: list[npt.NDArray[np.float16]] = []
        self.shown = pa.schema({"text": pa.string(), "thumbnail": pa.binary()}).empty_table()

    def add(self, chunk: _Chunk) -> None:
        """Take in the next items."""
        first = len(self.names)
        self.names += [item.name for item in chunk.items]
        self.hashes.append(chunk.hashes)
        self.owners.append(chunk.owners + first)
        self.pictures.append(chunk.pictures)
        self.picture_owners += [first + number for number in chunk.picture_owners]
        if self.embedder is not None and chunk.pixels is not None:
            self.embeddings.append(self.embedder.embed(chunk.pixels))
        texts = ["\n".join(item.texts)[:SHOWN_CHARACTERS] for item in chunk.items]
        shown = pa.table({"text": texts, "thumbnail": chunk.thumbnails}, schema=self.shown.schema)
        self.shown = pa.concat_tables([self.shown, shown])
        for item, why in zip(chunk.items, chunk.broken, strict=True):
            report = self.sets[item.name.partition("/")[0]]
            report.items += 1
            report.texts += len(item.texts)
            report.pictures += len(item.images) + len(item.unreadable) - len(why)
            report.unreadable += len(why)
            report.example = report.example or (f"{item.name}: {why[0]}" if why else "")

    def write_shown(self, writer: pq.ParquetWriter, at_least: int) -> None:
        """Write row groups of ROW_GROUP items while so many are there, or what is left."""
        while self.shown.num_rows >= at_least:
            writer.write_table(self.shown.slice(0, ROW_GROUP).combine_chunks(), row_group_size=ROW_GROUP)
            self.shown = self.shown.slice(ROW_GROUP)

    def write(self, out: str) -> IndexReport:
        """Write what is compared, then the manifest that commits the index."""
        hashes, owners = distinct_pairs(np.concatenate(self.hashes), np.concatenate(self.owners))
        distinct, first, having = np.unique(hashes, return_index=True, return_counts=True)
        rare = np.ones(len(having), bool) if self.config.max_items is None else having <= self.config.max_items
        of_item = np.bincount(owners[np.repeat(rare, having)], minlength=len(self.names))
        grams = {"hash": distinct[rare], "item": owners[first][rare].astype(np.int32)}
        pictures = {
            "item": pa.array(self.picture_owners, pa.int32()),
            "phash": np.concatenate([np.empty(0, np.uint64), *(each.phash for each in self.pictures)]),
            "dct": pa.array([row.tobytes() for each in self.pictures for row in each.dct], pa.binary()),
            "color": pa.array([row.tobytes() for each in self.pictures for row in each.color], pa.binary()),
            "aspect": np.concatenate([np.empty(0), *(each.aspect for each in self.pictures)]),
        }
        items = {"name": pa.array(self.names, pa.string()), "grams": of_item.astype(np.int32)}
        content = hashlib.blake2b(json.dumps([self.config.n, self.config.min_words]).encode(), digest_size=8)
        for name, columns in ((GRAMS, grams), (PICTURES, pictures), (ITEMS, items)):
            table = pa.table(columns)
            storage.write_table(storage.join(out, name), table)
            for column in table.columns:
                for buffer in column.combine_chunks().buffers():
                    content.update(b"" if buffer is None else buffer)
        if self.embedder is not None:
            # Known by the model, not by its bytes: their last digits differ from machine to machine.
            content.update(self.embedder.revision.encode())
            self._write_embeddings(out)
        report = IndexReport(
            sets=self.sets, grams=int(rare.sum()), common=int((~rare).sum()), content=content.hexdigest()
        )
        says = {"format": FORMAT, "n": self.config.n, "min_words": self.config.min_words, **asdict(report)}
        says |= {"max_items": self.config.max_items, CLIP: self.embedder.revision if self.embedder else None}
        storage.write_json(storage.join(out, MANIFEST), says)
        return report

    def _write_embeddings(self, out: str) -> None:
        assert self.embedder is not None
        dimensions = self.embedder.dimensions
        vectors = np.concatenate([np.empty((0, dimensions), np.float16), *self.embeddings])
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimensions)
        table = pa.table({"item": pa.array(self.picture_owners, pa.int32()), "image": column})
        storage.write_table(storage.join(out, EMBEDDINGS), table)
