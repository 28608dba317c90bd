"""Rows of others' tables: no more is read than was asked for."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.store.row_tables import image_values, images_of_rows, open_table, rows_of


class Counted:
    """A table of two groups of ten batches of ten rows, which counts the batches that are taken."""

    names = ("number",)
    schema = pa.schema({"number": pa.int64()})
    groups = (100, 100)

    def __init__(self) -> None:
        self.taken = 0

    def batches(self, group: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for start in range(100 * group, 100 * (group + 1), 10):
            self.taken += 1
            yield pa.record_batch({"number": pa.array(range(start, start + 10))})


@pytest.mark.parametrize(
    ("first", "end", "most"), [(0, 3, 1), (0, 10, 1), (35, 42, 5), (95, 103, 11), (0, None, 20), (150, 151, 6)]
)
def test_rows_past_the_end_are_not_read(first: int, end: int | None, most: int) -> None:
    table = Counted()
    found = list(rows_of(table, ["number"], first, end))  # type: ignore[arg-type]
    expected = range(first, 200 if end is None else end)
    assert found == [(number, {"number": number}) for number in expected]
    assert table.taken <= most


STRUCTS = [
    {"bytes": b"one", "path": "1.jpg"}, {"bytes": None, "path": "there.jpg"}, None, {"bytes": b"", "path": "empty.jpg"},
    {"bytes": b"two", "path": None}, {"bytes": None, "path": None},
]  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        STRUCTS,
        [STRUCTS[:2], None, [], STRUCTS[2:5], [None], [STRUCTS[4]]],
        [one and one["bytes"] for one in STRUCTS],
        ["a.jpg", None, "", "b.jpg", "http://a.test/c.jpg", "x"],
        [{"bytes": one and one["bytes"]} for one in STRUCTS],
        [{"url": "http://a.test/1.jpg"}, None] * 3,
        [1, 2, None, 4, 5, 6],
    ],
    ids=["structs", "lists", "bytes", "paths", "bytes alone", "addresses", "none at all"],
)
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_the_images_of_rows_are_those_of_their_values(tmp_path: Path, values: list[Any], kind: str) -> None:
    table, path = pa.table({"other": range(6), "image": values}), tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=4)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as sink:
            sink.write_table(table, max_chunksize=4)
    for wanted in (range(6), [1, 3, 4], [5]):
        found = list(images_of_rows(str(path), ["image"], wanted))
        assert found == [(row, expected(table["image"][row].as_py())) for row in wanted]


def expected(value: Any) -> list[bytes | None]:
    try:
        return [image.data for image in image_values(value)]
    except ValueError:  # what is none, nothing refers to
        return []


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("stream", [True, False])
def test_a_text_that_is_not_utf8_costs_its_row_of_an_arrow_file(tmp_path: Path, kind: Any, stream: bool) -> None:
    bytes_kind = pa.large_binary() if kind == pa.large_string() else pa.binary()
    texts = pa.array([b"one", b"caf\xe9", None, b"four"], bytes_kind).view(kind)
    table = pa.table({"text": texts, "n": [1, 2, 3, 4]})
    path = str(tmp_path / "a.arrow")
    with (
        pa.OSFile(path, "wb") as file,
        (pa.ipc.new_stream if stream else pa.ipc.new_file)(file, table.schema) as writer,
    ):
        writer.write_table(table)
    with open_table(path) as opened:
        found = [row for _, row in rows_of(opened, ["text", "n"])]
    assert [row["text"] if isinstance(row, dict) else None for row in found][::3] == ["one", "four"]
    assert [row["n"] for row in found if isinstance(row, dict)] == [1, 2, 3, 4]
    assert found[1] == {"text": b"caf\xe9", "n": 2}
