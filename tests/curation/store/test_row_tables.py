"""Rows of others' tables: no more is read than was asked for."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pytest

from mmcorpus.curation.store.row_tables import rows_of


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
