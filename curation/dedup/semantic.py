"""Semantic duplicates (SemDeDup: Abbas et al. 2023, arXiv 2303.09540, §3): saved embeddings, k-means, and a threshold
on the cosine within each cluster of it.

The paper keeps, of what is too similar, the sample that is least like its cluster's centre; here the pass's own rule
says who survives.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmcorpus.curation.dedup.method import Indices, Keys, Learned, Method
from mmcorpus.curation.store.embeddings import Vectors, spherical_k_means, to_matrix, unit_vectors

_PER_CLUSTER: Final = 256
"""Rows that k-means sees for each cluster; faiss uses no more."""
_SAMPLE: Final = 65_536
"""Rows that k-means sees where the number of clusters follows from the sample."""
_ITERATIONS: Final = 20
_SEED: Final = 1234
_BLOCK: Final = 1024
"""Rows that are compared with all others of their cluster at a time."""
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)
"""Odd: makes well-hashed keys of the clusters' numbers."""


@dataclass(frozen=True, kw_only=True)
class Semantic(Method):
    """Embeddings of a scorer that saves them, compared by their cosine."""

    chains: ClassVar[bool] = False
    bucketwise: ClassVar[bool] = True

    scorer: str = "clip"
    """Whose embeddings: a scorer with `save_embeddings: true`, by its name in the recipe."""
    of: Literal["image", "text"] = "image"
    """What was embedded."""
    cosine: float = 0.95
    """Samples with at least this cosine are duplicates: 1 - epsilon of the paper."""
    clusters: int | None = None
    """Of k-means. Samples of different clusters are never compared: fewer clusters miss less and take longer. Null: one
    for every 256 samples, at most 256; the paper has 50,000 for 440 M images, 8,800 images in each."""

    def __post_init__(self) -> None:
        if not 0 < self.cosine <= 1:
            raise ValueError(f"cosine: {self.cosine} is not in (0, 1]")
        if self.clusters is not None and self.clusters < 1:
            raise ValueError(f"clusters: {self.clusters}; give 1 or more, or null")

    @property
    def learns_from(self) -> int:
        return _SAMPLE if self.clusters is None else self.clusters * _PER_CLUSTER

    def columns(self) -> tuple[str, ...]:
        return (f"embeddings.{self.scorer}.{self.of}",)

    def learn(self, sample: pa.Table) -> Learned:
        vectors, known = _unit_vectors(sample[self.columns()[0]])
        vectors = vectors[known]
        clusters = min(self.clusters or max(1, len(vectors) // _PER_CLUSTER), max(1, len(vectors)))
        if len(vectors) <= clusters:
            return {"centres": vectors}
        k_means = {"iterations": _ITERATIONS, "seed": _SEED, "per_cluster": _PER_CLUSTER}
        return {"centres": spherical_k_means(vectors, clusters, **k_means)}

    def keys(self, table: pa.Table, learned: Learned) -> Keys:
        vectors, known = _unit_vectors(table[self.columns()[0]])
        nearest = np.zeros(len(vectors), np.uint64)
        if len(learned["centres"]):
            nearest = (vectors @ learned["centres"].T).argmax(axis=1).astype(np.uint64)
        same = [hashlib.blake2b(vector, digest_size=8).digest() for vector in np.ascontiguousarray(vectors)]
        identity = np.frombuffer(b"".join(same), np.uint64)
        return Keys(keys=(nearest[:, None] + np.uint64(1)) * _SPREAD, known=known, identity=identity)

    def near(self, rows: pa.Table) -> tuple[Indices, Indices]:
        vectors, _ = _unit_vectors(rows[self.columns()[0]])
        found = [(np.empty(0, np.int64), np.empty(0, np.int64))]
        for start in range(0, len(vectors), _BLOCK):
            similar = vectors[start : start + _BLOCK] @ vectors[start:].T >= self.cosine
            first, second = np.nonzero(np.triu(similar, 1))
            found.append((first + start, second + start))
        firsts, seconds = zip(*found, strict=True)
        return np.concatenate(firsts), np.concatenate(seconds)


def _unit_vectors(column: Any) -> tuple[Vectors, npt.NDArray[np.bool_]]:
    """float32 [rows, dimensions] of length 1, and which rows have one."""
    matrix, known = to_matrix(column)
    return unit_vectors(matrix), known & matrix.any(axis=1)
