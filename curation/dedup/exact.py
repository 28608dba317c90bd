"""Exact copies: rows that agree in every one of some columns – address, bytes, pixels, words, or columns of one's own.

What is done about a row that occurs often is for the selection to say, over the column `copies`: `same_url.rank == 0`
keeps one, `same_text.rank < 10` ten, and `same_text.copies <= 10` none of those that are seen more than ten times (MM1,
arXiv 2403.09611, appendix A.1).
"""

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa

from mmcorpus.curation.dedup.method import Keys, Learned, Method

_DIGEST: Final = 16
"""Bytes of the hash that stands for a row's values: half is the key, half the identity."""


@dataclass(frozen=True, kw_only=True)
class Exact(Method):
    """Rows whose values agree in all of the method's columns. A row that lacks one is nobody's copy."""

    def keys(self, table: pa.Table, learned: Learned) -> Keys:
        columns = [table[name].to_pylist() for name in self.columns()]
        rows = list(zip(*columns, strict=True))
        known = np.fromiter((all(value is not None for value in row) for row in rows), bool, len(rows))
        halves = np.frombuffer(b"".join(_digest(row) for row in rows), "<u8").astype(np.uint64).reshape(-1, 2)
        return Keys(keys=halves[:, :1], known=known, identity=halves[:, 1])


@dataclass(frozen=True, kw_only=True)
class SameUrl(Exact):
    """The same address, as listed."""

    def columns(self) -> tuple[str, ...]:
        return ("url",)


@dataclass(frozen=True, kw_only=True)
class SameBytes(Exact):
    """The same image file, byte for byte, as it was downloaded (the download must hash: `compute_hash: sha256`)."""

    def columns(self) -> tuple[str, ...]:
        return ("sha256",)


@dataclass(frozen=True, kw_only=True)
class SamePixels(Exact):
    """The same decoded pixels, in whatever file."""

    def columns(self) -> tuple[str, ...]:
        return ("image.pixel_hash",)


@dataclass(frozen=True, kw_only=True)
class SameText(Exact):
    """The same caption but for case, punctuation and spacing."""

    def columns(self) -> tuple[str, ...]:
        return ("caption.text_hash",)


@dataclass(frozen=True, kw_only=True)
class SameTextAndImage(Exact):
    """The same pixels under the same caption."""

    def columns(self) -> tuple[str, ...]:
        return ("image.pixel_hash", "caption.text_hash")


@dataclass(frozen=True, kw_only=True)
class SameColumns(Exact):
    """The same values in columns of one's own choice."""

    version: ClassVar[str] = "2"

    on: tuple[str, ...]
    """Columns that must all agree: of the shards' parquet by name (`md5`), of scores as `scorer.column`. A list is
    compared as a set: with `[image_set]` documents are copies that show the same images in any order."""

    def __post_init__(self) -> None:
        if not self.on:
            raise ValueError("on is empty; name the columns that copies agree in, e.g. [url]")

    def columns(self) -> tuple[str, ...]:
        return self.on


def _digest(row: tuple[Any, ...]) -> bytes:
    """The hash of a row's values."""
    plain = tuple(sorted({repr(each) for each in value}) if isinstance(value, list) else value for value in row)
    return hashlib.blake2b(repr(plain).encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()
