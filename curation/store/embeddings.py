"""Embeddings: `ROOT/<scorer>/<shard>.parquet`, one row a sample: what a model saw, for others to compare.

A table holds `uid` and the scorer's embedding columns (CLIP: `image` and `text`), fixed-size lists of float16 of unit
length, null where there is none; rows in the shard's key order, as in the score table. It is committed before the score
table, which is the commit of both, and its schema metadata `mmcorpus` says what made it, as the score table's does.
"""

import json
from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import METADATA_KEY, Origin

_SUFFIX: Final = ".parquet"


def embeddings_path(root: str, scorer: str, shard: str) -> str:
    """Where the embeddings that a scorer made of a shard lie; `root` is the source's, `embeddings/<source>`."""
    return storage.join(root, scorer, shard + _SUFFIX)


def list_embeddings(root: str, scorer: str) -> list[str]:
    """The shards that have a scorer's embeddings, sorted."""
    names = storage.list_names(storage.join(root, scorer))
    return [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]


def write_embeddings(root: str, shard: str, table: pa.Table, origin: Origin) -> None:
    """Commit the embeddings of one shard atomically: `uid` and columns of `fixed_size_list<float16>`."""
    says = {"scorer": origin.scorer, "model": origin.model, "fingerprint": origin.fingerprint}
    metadata = {METADATA_KEY: json.dumps(says, sort_keys=True, ensure_ascii=False).encode()}
    table = table.combine_chunks().replace_schema_metadata(metadata)
    storage.write_table(embeddings_path(root, origin.scorer, shard), table)


def read_embeddings(root: str, scorer: str, shard: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The embeddings of one shard: `uid` and the columns asked for (None for all that there are).

    Args:
        root: the source's embeddings, `embeddings/<source>`.
        columns: `image`, `text`; see `to_matrix` for their vectors.

    Raises:
        ValueError: the scorer saved none; the message says what to set.
    """
    path = embeddings_path(root, scorer, shard)
    try:
        return storage.read_table(path, None if columns is None else ["uid", *columns])
    except FileNotFoundError:
        raise ValueError(
            f"there are no embeddings at {path}; give the scorer {scorer!r} `save_embeddings: true` and score again"
        ) from None


def to_matrix(column: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """A column of vectors as float16 [rows, dimensions], and which rows have one, bool [rows]; the rest are zeros."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    known = np.asarray(array.is_valid().to_numpy(zero_copy_only=False), bool)
    matrix = np.zeros((len(array), array.type.list_size), np.float16)
    # `flatten` leaves out what stands under a null.
    matrix[known] = array.flatten().to_numpy(zero_copy_only=False).reshape(-1, array.type.list_size)
    return matrix, known
