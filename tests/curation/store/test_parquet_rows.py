"""Page headers of parquet files that lie about their lengths cost what their bytes do, and no more."""

import io
import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.store import parquet_rows
from mmcorpus.curation.store.parquet_rows import ParquetRows, TooLarge, column_chunk, pages, python_rows


def varint(number: int) -> bytes:
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def found(headers: bytes) -> list[tuple[int, int]]:
    """The pages that Thrift's bytes speak of, as a column chunk."""
    chunk = SimpleNamespace(dictionary_page_offset=None, data_page_offset=0, total_compressed_size=len(headers))
    return list(pages(io.BytesIO(headers), chunk))


PAGE = bytes([0x15, 0, 0x15, 20, 0x15, 0, 0x2C, 0x15, 6, 0, 0])
"""A data page of 10 bytes once decompressed, none of them here, with 3 values."""
LIES = {
    "a list of 2^60 numbers of 8 bytes": b"\x19\xf7" + varint(1 << 60),
    "a list of 2^60 bytes": b"\x19\xf3" + varint(1 << 60),
    "a list of 2^60 truth values": b"\x19\xf1" + varint(1 << 60),
    "a text of 2^62 bytes": b"\x18" + varint(1 << 62),
    "lists in lists": b"\x19\xf9" * 5000,
    "a number that does not end": b"\x15" + b"\xff" * 60_000,
    "structs in structs": b"\x1c" * 60_000,
    "a negative size": bytes([0x15, 0, 0x15, 21, 0x15, 0, 0]),
    "negative compressed bytes": bytes([0x15, 0, 0x15, 20, 0x15, 1, 0]),
    "no sizes": b"\x15\0\0",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_page_header_that_lies_ends_the_pages(lie: str) -> None:
    assert found(PAGE + LIES[lie] + PAGE) == [(10, 3)]


def test_pages_that_say_what_they_are_are_told() -> None:
    with_statistics = PAGE[:8] + bytes([6, 0x4C, 0x18, 2, 65, 66, 0x15, 0, 0, 0, 0])
    assert found(PAGE * 3) == [(10, 3)] * 3
    assert found(with_statistics + PAGE) == [(10, 3)] * 2


def test_statistics_of_any_length_are_passed() -> None:
    long = PAGE[:8] + bytes([6, 0x4C, 0x18]) + varint(200_000) + b"a" * 200_000 + bytes([0x15, 0, 0, 0, 0])
    assert found(long + PAGE) == [(10, 3)] * 2


def test_a_page_that_is_larger_than_the_footer_says_is_not_decompressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    texts = pa.array([b"a" * (1 << 19)] * 8, pa.binary())
    pq.write_table(pa.table({"url": texts}), path, compression="zstd", use_dictionary=False, data_page_size=1 << 30)
    said = varint(2 * pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size)
    path.write_bytes(path.read_bytes().replace(said, bytes([200, *[128] * (len(said) - 2), 0])))  # 36, as long
    monkeypatch.setattr(parquet_rows, "MAX_PAGE", 1 << 20)
    with open(path, "rb") as file:
        rows = ParquetRows(file)
        assert rows.metadata.row_group(0).column(0).total_uncompressed_size == 36
        with pytest.raises(TooLarge, match="has a page of 4,1"):
            next(rows.batches(0, ["url"], 10))


def with_footer(path: Path, change: Callable[[bytes], bytes]) -> Path:
    """The file with another footer."""
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    footer = change(data[-8 - length : -8])
    path.write_bytes(data[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    return path


def read(path: Path) -> list[tuple[object, ...] | str]:
    with open(path, "rb") as file:
        table = ParquetRows(file)
        groups = range(table.metadata.num_row_groups)
        batches = itertools.chain.from_iterable(table.batches(group, table.names, 1000) for group in groups)
        return [row for batch in batches for row in python_rows(batch, table.names, 1 << 20)]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"url": [f"u{number}" for number in range(400)]}), tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


def test_a_footer_that_contradicts_itself_is_an_error_and_no_end_of_the_process(table: Path) -> None:
    def one_level_less(footer: bytes) -> bytes:
        at = footer.index(b"\x19\x06\x19\x26\0")  # no repetition levels, and how often definition levels 0 and 1 occur
        return footer[: at + 3] + b"\x16" + footer[at + 5 :]

    bad = with_footer(table, one_level_less)
    with pytest.raises(OSError, match="histogram"):
        read(bad)
    with pytest.raises(OSError, match="histogram"):
        column_chunk(pq.ParquetFile(bad), 0, 0)


def test_a_footer_that_says_more_rows_than_can_be_is_refused(table: Path) -> None:
    """Each of them would be told of."""
    right, wrong = (b"\x16" + varint(2 * rows) for rows in (400, 1 << 60))
    with pytest.raises(pa.ArrowInvalid, match=r"1,152,921,504,606,846,976 rows in [\d,]+ bytes"):
        read(with_footer(table, lambda footer: footer.replace(right, wrong)))


@pytest.mark.parametrize("said", [3, 399, 401])
def test_rows_that_a_footer_does_not_know_are_not_lost_without_a_word(table: Path, said: int) -> None:
    right, wrong = (b"\x16" + varint(2 * rows) for rows in (400, said))
    with pytest.raises((pa.ArrowException, OSError)):
        read(with_footer(table, lambda footer: footer.replace(right, wrong, 1)))


@pytest.mark.parametrize("coded", [True, False])
def test_a_text_that_is_not_utf8_costs_its_row(tmp_path: Path, coded: bool) -> None:
    path = tmp_path / "a.parquet"
    texts = pa.array([b"one", b"caf\xe9", None, b"four"], pa.binary())
    pq.write_table(pa.table({"url": texts.view(pa.string()), "n": [1, 2, 3, 4]}), path, use_dictionary=coded)
    assert read(path) == [("one", 1), "not UTF-8: caf\ufffd", (None, 3), ("four", 4)]


def test_a_column_whose_name_is_not_utf8_is_an_error_of_the_file(table: Path) -> None:
    with pytest.raises(pa.ArrowInvalid, match="name of a column is not UTF-8"):
        read(with_footer(table, lambda footer: footer.replace(b"\x03url", b"\x03u\xff\xfe")))
