"""Embeddings: what is written is read, vectors and gaps."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mmcorpus.curation.store.embeddings import (
    read_embeddings,
    to_matrix,
    write_embeddings,
)
from mmcorpus.curation.store.scores import Origin, shards_of, table_path

ORIGIN = Origin(scorer="clip", version="1", model="tiny", fingerprint="0" * 16)


def table(rows: int) -> pa.Table:
    vectors = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float16)
    values = [None if row % 3 == 1 else vectors[row] for row in range(rows)]
    kind = pa.list_(pa.float16(), 4)
    columns = {"uid": [f"{row:032x}" for row in range(rows)], "image": list(vectors), "text": values}
    return pa.table(columns, schema=pa.schema({"uid": pa.string(), "image": kind, "text": kind}))


@pytest.mark.parametrize("rows", [0, 7])
def test_vectors_come_back_with_what_is_missing(tmp_path: Path, rows: int) -> None:
    root = str(tmp_path / "embeddings")
    write_embeddings(root, "00000", table(rows), ORIGIN)
    assert shards_of(root, "clip") == ["00000"]
    found = read_embeddings(root, "clip", "00000", ["text"])
    assert found.column_names == ["uid", "text"]
    matrix, known = to_matrix(found["text"])
    assert matrix.shape == (rows, 4)
    assert matrix.dtype == np.float16
    assert known.tolist() == [row % 3 != 1 for row in range(rows)]
    whole, _ = to_matrix(table(rows)["image"])
    assert np.array_equal(matrix[known], whole[known])
    assert not matrix[~known].any()
    assert np.array_equal(to_matrix(table(7)["image"].slice(2, 3))[0], to_matrix(table(7)["image"])[0][2:5])


def test_equal_embeddings_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_embeddings(str(tmp_path / name), "00000", table(5), ORIGIN)
    places = [Path(table_path(str(tmp_path / name), "clip", "00000")) for name in ("a", "b")]
    assert places[0].read_bytes() == places[1].read_bytes()


def test_without_embeddings_the_message_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give the scorer 'clip' `save_embeddings: true` and score again"):
        read_embeddings(str(tmp_path), "clip", "00000")
    assert shards_of(str(tmp_path), "clip") == []
