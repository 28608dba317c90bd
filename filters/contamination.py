"""Contamination by evaluation sets: a sample's text by shared n-grams, its picture by perceptual hashes.

The evaluation sets are read once, into an index (curation/contamination); samples are compared with that.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mmcorpus.filters import web
from mmcorpus.filters.decode import DecodedImage
from mmcorpus.filters.fingerprint import FingerprintScorer
from mmcorpus.filters.hamming import BITS, NearHashes, check_distances
from mmcorpus.filters.image import area_thumbnail, perceptual_hashes
from mmcorpus.filters.ngrams import Hashes, Indices, hash_ngrams
from mmcorpus.filters.scorer import Batch, Columns, Scorer, fingerprint_of

FORMAT: Final = 2
"""Of the index's files; one that is of another is to be made again."""
MANIFEST: Final = "index.json"
GRAMS: Final = "grams.parquet"
PICTURES: Final = "pictures.parquet"
ITEMS: Final = "items.parquet"

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureHashes:
    """Fingerprints of pictures, a row each."""

    phash: Hashes
    """As `image.phash`; shape (n,)."""
    dct: Bytes
    """As `fingerprint.dct`; shape (n, 32)."""
    color: Bytes
    """As `fingerprint.color`; shape (n, 48)."""
    aspect: npt.NDArray[np.float64]
    """The logarithm of width / height; shape (n,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationIndex:
    """The evaluation sets as what samples are compared with."""

    n: int
    min_words: int
    names: pa.ChunkedArray
    """Of each item, `set/id`."""
    gram_counts: Indices
    """Of each item, its distinct n-grams."""
    grams: Hashes
    """Of all items, sorted, each once."""
    gram_items: Indices
    """The first item that has each."""
    pictures: PictureHashes
    picture_items: Indices
    """The item of each picture."""


def read_manifest(index: str) -> dict[str, Any]:
    """The manifest of an index. Raises `ValueError`, which says how to make one, where there is none."""
    import fsspec

    if not index:
        raise ValueError("index is empty; name the folder that `mmcorpus evaluations` made")
    web.install()
    fs, inner = fsspec.core.url_to_fs(index)
    try:
        with web.reading(index, allow_private=False):
            manifest: dict[str, Any] = json.loads(fs.cat_file(f"{inner}/{MANIFEST}"))
    except FileNotFoundError:
        raise ValueError(
            f"index {index} holds no {MANIFEST}; make one with: mmcorpus evaluations NAME=PATH … --out {index}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"index {index}: its {MANIFEST} is no JSON ({error}); make it again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"index {index} is of another format; make it again with: mmcorpus evaluations")
    return manifest


def read_index(index: str) -> EvaluationIndex:
    """The index in a folder, local or remote; raises `ValueError` where there is none."""
    manifest = read_manifest(index)
    items, grams, pictures = (read_index_table(index, name) for name in (ITEMS, GRAMS, PICTURES))
    return EvaluationIndex(
        n=manifest["n"],
        min_words=manifest["min_words"],
        names=items["name"],
        gram_counts=items["grams"].to_numpy().astype(np.int64),
        grams=grams["hash"].to_numpy(),
        gram_items=grams["item"].to_numpy().astype(np.int64),
        pictures=PictureHashes(
            phash=pictures["phash"].to_numpy(),
            dct=_fixed(pictures["dct"], 32),
            color=_fixed(pictures["color"], 48),
            aspect=pictures["aspect"].to_numpy(),
        ),
        picture_items=pictures["item"].to_numpy().astype(np.int64),
    )


def read_index_table(index: str, name: str) -> pa.Table:
    """One of the index's tables."""
    import fsspec

    with web.reading(index, allow_private=False), fsspec.open(f"{index}/{name}", "rb") as file:
        return pq.read_table(file, page_checksum_verification=True)


def _fixed(column: pa.ChunkedArray, size: int) -> Bytes:
    return np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(-1, size)


@dataclass(frozen=True, kw_only=True)
class ContaminationScorer(Scorer):
    """Columns of one sample against all evaluation sets.

    text_overlap: the share of its distinct word n-grams, of caption and conversation, that some evaluation item has,
    0-1; 0 with none. text_match: the item (`set/id`) with most of them, empty if there is none. text_covered: the share
    of that item's n-grams that the sample has, 0-1: near 1 where a long text holds a short question whole.
    image_distance: bits, 0-64, in which its perceptual hash differs from that of the nearest evaluation picture that
    looks the same (`max_distance` and the three settings after it); 64 if none does. image_match: that picture's item.

    n-grams as in GPT-3, appendix C: 13 words without case and punctuation; see `filters/ngrams.py` for short texts.
    """

    name: ClassVar[str] = "contamination"
    version: ClassVar[str] = "2"
    inputs: ClassVar[tuple[str, ...]] = ("caption", "image", "meta")

    index: str = ""
    """The folder that `mmcorpus evaluations` made of the evaluation sets."""
    compare: tuple[Literal["text", "image"], ...] = ("text", "image")
    """The parts compared. Without `image` no picture is decoded for it."""
    max_distance: int = 8
    """Bits, 0-16, in which the 64-bit perceptual hashes of two copies may differ."""
    fingerprint_distance: int = 40
    """Bits of 256 in which `fingerprint.dct` may differ."""
    color_distance: int = 31
    """Largest difference, 0-255, in any channel of any cell of `fingerprint.color`."""
    aspect_tolerance: float = 0.05
    """Largest relative difference of width / height."""

    def __post_init__(self) -> None:
        if not self.compare:
            raise ValueError("compare is empty; give text, image or both")
        check_distances(self.max_distance, self.fingerprint_distance, self.color_distance, self.aspect_tolerance)
        wanted = (*(("caption", "meta") if "text" in self.compare else ()), *(("image",) * ("image" in self.compare)))
        object.__setattr__(self, "inputs", wanted)

    def schema(self) -> pa.Schema:
        fields: dict[str, pa.DataType] = {}
        if "text" in self.compare:
            fields |= {"text_overlap": pa.float64(), "text_covered": pa.float64(), "text_match": pa.string()}
        if "image" in self.compare:
            fields |= {"image_distance": pa.int32(), "image_match": pa.string()}
        return pa.schema(fields)

    def check(self) -> None:
        read_manifest(self.index)

    def model(self) -> str:
        """The index by what it holds, wherever it lies."""
        return f"evaluations {read_manifest(self.index)['content']}" if self.index else ""

    def fingerprint(self) -> str:
        """As every scorer's, but for the place of the index, which decides nothing."""
        return fingerprint_of(self, {**self.parameters(), "index": bool(self.index)})

    def load(self) -> Callable[[Batch], Columns]:
        index = read_index(self.index)
        near = NearHashes(index.pictures.phash, self.max_distance)

        def judge(batch: Batch) -> Columns:
            columns: Columns = {}
            if "text" in self.compare:
                texts = [texts_of(*row) for row in zip(batch["caption"], batch["meta"], strict=True)]
                columns |= match_texts(index, texts)
            if "image" in self.compare:
                columns |= self._match_images(index, near, batch["image"])
            return columns

        return judge

    def _match_images(self, index: EvaluationIndex, near: NearHashes, images: Sequence[DecodedImage]) -> Columns:
        own, theirs = hash_pictures(images), index.pictures
        distances, items = np.full(len(images), BITS, np.int64), np.full(len(images), -1, np.int64)
        for row in range(len(images)):
            found, bits = near.near(int(own.phash[row]))
            same = np.abs(theirs.aspect[found] - own.aspect[row]) <= math.log1p(self.aspect_tolerance)
            same &= np.bitwise_count(theirs.dct[found] ^ own.dct[row]).sum(1, np.int64) <= self.fingerprint_distance
            shift = np.abs(theirs.color[found].astype(np.int16) - own.color[row]).max(1, initial=0)
            found, bits = found[same & (shift <= self.color_distance)], bits[same & (shift <= self.color_distance)]
            if len(found):
                distances[row], items[row] = bits.min(), index.picture_items[found[bits.argmin()]]
        return {"image_distance": distances.tolist(), "image_match": _names(index, items)}


def texts_of(caption: str | None, meta: Mapping[str, Any] | None) -> list[str]:
    """A sample's texts: its caption, and each turn of its conversation."""
    texts = [caption] if caption else []
    turns = (meta or {}).get("conversations")
    if isinstance(turns, str):
        try:
            turns = json.loads(turns)
        except (ValueError, RecursionError):
            return [*texts, turns]  # no conversation, but still text
    if isinstance(turns, list):
        texts += [turn["value"] for turn in turns if isinstance(turn, dict) and isinstance(turn.get("value"), str)]
    return texts


def match_texts(index: EvaluationIndex, texts: Sequence[Sequence[str]]) -> Columns:
    """The text columns of samples, each with any number of texts."""
    of_sample = np.repeat(np.arange(len(texts)), [len(each) for each in texts])
    hashes, owners = hash_ngrams([text for each in texts for text in each], index.n, index.min_words)
    hashes, samples = distinct_pairs(hashes, of_sample[owners])
    places = np.minimum(np.searchsorted(index.grams, hashes), max(len(index.grams) - 1, 0))
    found = index.grams[places] == hashes if len(index.grams) else np.zeros(len(hashes), bool)
    own = np.bincount(samples, minlength=len(texts))
    shared = np.bincount(samples[found], minlength=len(texts))
    items, covered = np.full(len(texts), -1, np.int64), np.zeros(len(texts))
    codes, counts = np.unique(
        samples[found] * len(index.gram_counts) + index.gram_items[places[found]], return_counts=True
    )
    matched, item = np.divmod(codes, max(len(index.gram_counts), 1))
    for place in np.lexsort((-item, counts, matched)):  # the last of a sample wins: most n-grams, then the first item
        items[matched[place]] = item[place]
        covered[matched[place]] = counts[place] / index.gram_counts[item[place]]
    return {
        "text_overlap": (shared / np.maximum(own, 1)).tolist(),
        "text_covered": covered.tolist(),
        "text_match": _names(index, items),
    }


def distinct_pairs(hashes: Hashes, owners: Indices) -> tuple[Hashes, Indices]:
    """The pairs (hash, owner), each once, sorted by hash, then owner."""
    order = np.lexsort((owners, hashes))
    hashes, owners = hashes[order], owners[order]
    new = np.ones(len(hashes), bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    return hashes[new], owners[new]


def hash_pictures(images: Sequence[DecodedImage]) -> PictureHashes:
    """The fingerprints of these pictures."""
    import cv2

    thumbnails = [area_thumbnail(cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)) for image in images]
    phash = perceptual_hashes(np.stack(thumbnails)) if thumbnails else []
    finer = FingerprintScorer().load()({"image": images})
    return PictureHashes(
        phash=np.array([int(value, 16) for value in phash], np.uint64),
        dct=np.frombuffer(bytes.fromhex("".join(finer["dct"])), np.uint8).reshape(-1, 32),
        color=np.frombuffer(bytes.fromhex("".join(finer["color"])), np.uint8).reshape(-1, 48),
        aspect=np.array([math.log(image.width / image.height) for image in images], np.float64),
    )


def _names(index: EvaluationIndex, items: Indices) -> list[str]:
    """The items' names, empty for -1."""
    matched = np.flatnonzero(items >= 0)
    names = [""] * len(items)
    for row, name in zip(matched, index.names.take(pa.array(items[matched])).to_pylist(), strict=True):
        names[row] = name
    return names
