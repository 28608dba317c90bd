"""Compressed files as what they decode to: known by their bytes, read and sought in, as far as they are whole."""

import bz2
import gzip
import io
import lzma
from collections.abc import Callable

import pytest
import zstandard

from mmcorpus.curation.store.compressed import DecodeError, breaks_off, chunks, compression_of, decompressed

LINES = b"".join(b"line %d of a table, %x\n" % (number, number * 7919**5) for number in range(6_000))
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zstd": zstandard.compress
}  # fmt: skip


@pytest.mark.parametrize("kind", PACKERS)
def test_a_file_is_known_by_its_bytes_and_read_from_any_place(kind: str) -> None:
    data = PACKERS[kind](LINES[:9_000]) + PACKERS[kind](LINES[9_000:])
    assert compression_of(data[:512], "named.txt") == kind
    file, compressed = decompressed("named.txt", io.BytesIO(data), 0)
    assert compressed
    assert file.readline() == LINES[: LINES.index(b"\n") + 1]
    for place in (100_000, 99_990, 5, len(LINES) - 3, 0):
        assert file.seek(place) == place
        assert file.read(40) == LINES[place : place + 40]
    assert file.seek(10**9) == len(LINES)
    assert file.read() == b""


@pytest.mark.parametrize("kind", PACKERS)
def test_what_is_cut_is_read_up_to_there(kind: str) -> None:
    data = PACKERS[kind](LINES)
    file, _ = decompressed("a", io.BytesIO(data[: len(data) - 9]), 0)
    found: list[bytes] = []
    with pytest.raises(DecodeError, match="cut short") as raised:
        found.extend(iter(file.readline, b""))
    assert breaks_off(raised.value)
    assert LINES.startswith(b"".join(found))
    assert len(b"".join(found)) > (0 if kind == "bz2" else len(LINES) * 0.4)


def test_names_count_where_bytes_say_nothing() -> None:
    assert compression_of(b"a text", "http://a.test/list.csv.GZ?sig=1") is None
    assert compression_of(b"\0\xff\x01\x02", "http://a.test/list.csv.GZ?sig=1") == "gzip"
    assert compression_of(b"BZh is how this text begins") is None
    assert compression_of(b"\0\xff\x01\x02") is None


@pytest.mark.parametrize("kind", PACKERS)
def test_pieces_are_bounded(kind: str) -> None:
    bomb = PACKERS[kind](bytes(9_000_000))
    most = 8 * 2**20 if kind == "zstd" else 4_096
    sizes = [len(piece) for piece in chunks(io.BytesIO(bomb), kind, 4_096)]
    assert sum(sizes) == 9_000_000
    assert max(sizes) <= most
