"""Embeddings: `ROOT/<scorer>/<shard>.parquet` (`scores.table_path`), one row a sample, for others to compare.

A table holds `uid` and the scorer's embedding columns (CLIP: `image` and `text`), fixed-size lists of float16 of unit
length, null where there is none; rows in the shard's key order, as in the score table. It is committed before the score
table, which is the commit of both, and its schema metadata `mmcorpus` says what made it, as the score table's does.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import Origin, metadata, table_path

Vectors = npt.NDArray[np.float32]


def write_embeddings(root: str, shard: str, table: pa.Table, origin: Origin) -> None:
    """Commit the embeddings of one shard atomically: `uid` and columns of `fixed_size_list<float16>`."""
    says = {"scorer": origin.scorer, "model": origin.model, "fingerprint": origin.fingerprint}
    table = table.combine_chunks().replace_schema_metadata(metadata(says))
    storage.write_table(table_path(root, origin.scorer, shard), table)


def read_embeddings(root: str, scorer: str, shard: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The embeddings of one shard: `uid` and the columns asked for (None for all that there are).

    Args:
        root: the source's embeddings, `embeddings/<source>`.
        columns: `image`, `text`; see `to_matrix` for their vectors.

    Raises:
        ValueError: the scorer saved none; the message says what to set.
    """
    path = table_path(root, scorer, shard)
    try:
        return storage.read_table(path, None if columns is None else ["uid", *columns])
    except FileNotFoundError:
        raise ValueError(
            f"there are no embeddings at {path}; give the scorer {scorer!r} `save_embeddings: true` and score again"
        ) from None


def unit_vectors(vectors: npt.NDArray[Any]) -> Vectors:
    """Vectors [rows, dimensions] as float32 of length 1; those of zeros stay."""
    vectors = vectors.astype(np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def spherical_k_means(vectors: Vectors, clusters: int, *, iterations: int, seed: int, per_cluster: int) -> Vectors:
    """Unit-length centres, float32 [clusters, dimensions], by faiss, the same at every call.

    Args:
        seed: 1 or more; faiss takes 0 as no seed.
        per_cluster: vectors that are seen for each cluster, at most.
    """
    k_means = faiss().Kmeans(
        vectors.shape[1],
        clusters,
        niter=iterations,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=per_cluster,
    )
    k_means.train(vectors)
    return np.asarray(k_means.centroids, np.float32)


def faiss() -> Any:
    """The package. Raises RuntimeError if it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise RuntimeError("clustering embeddings needs faiss; install it with: pip install faiss-cpu") from error
    return faiss


def to_matrix(column: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """A column of vectors as float16 [rows, dimensions], and which rows have one, bool [rows]; the rest are zeros."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    known = np.asarray(array.is_valid().to_numpy(zero_copy_only=False), bool)
    matrix = np.zeros((len(array), array.type.list_size), np.float16)
    # `flatten` leaves out what stands under a null.
    matrix[known] = array.flatten().to_numpy(zero_copy_only=False).reshape(-1, array.type.list_size)
    return matrix, known
