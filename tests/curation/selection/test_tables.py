"""Uids as numbers, DataComp's files byte for byte, and set algebra with counts."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcorpus.curation.selection import add, difference, intersection, read_selection, union, write_selection
from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.curation.store.uid import pair_uid

UIDS = [pair_uid(f"{number}", "") for number in range(300)]


def as_datacomp(listed: list[str]) -> np.ndarray:
    """A subset as DataComp's baselines make it: integers of the two halves, sorted by numpy."""
    pairs = np.array([(int(uid[:16], 16), int(uid[16:32], 16)) for uid in listed], np.dtype("u8,u8"))
    pairs.sort()
    return pairs


def selection(counts: dict[str, int]) -> pa.Table:
    ordered = sorted(counts)
    return pa.table(
        {"uid": pa.array(ordered, pa.string()), "count": pa.array([counts[u] for u in ordered], pa.int32())}
    )


hex_uids = st.text("01ef", min_size=1, max_size=2).map(lambda text: (text * 32)[:32])
near_uids = st.integers(0, 5).map(lambda low: f"{'a' * 16}{low:016x}")
uid_lists = st.lists(st.one_of(hex_uids, near_uids, st.sampled_from(UIDS)), max_size=30)


@settings(max_examples=200, deadline=None)
@given(uid_lists, uid_lists)
def test_encode_order_count_and_find(listed: list[str], wanted: list[str]) -> None:
    pairs = uids.encode(listed)
    assert uids.decode(pairs).to_pylist() == listed
    assert pairs[uids.order(pairs)].tolist() == as_datacomp(listed).tolist()
    distinct, counts = uids.count(pairs)
    assert dict(zip(uids.decode(distinct).to_pylist(), counts.tolist(), strict=True)) == Counter(listed)
    found = uids.find(uids.encode(wanted), distinct)
    known = uids.decode(distinct).to_pylist()
    assert [known[place] if place >= 0 else None for place in found] == [u if u in listed else None for u in wanted]


def test_encode_reads_slices_and_chunks() -> None:
    array = pa.chunked_array([pa.array(UIDS[:10]).slice(3, 5), pa.array(UIDS[10:20])])
    assert uids.decode(uids.encode(array)).to_pylist() == UIDS[3:8] + UIDS[10:20]
    assert uids.decode(uids.encode(pa.array(UIDS).cast(pa.large_string()))).to_pylist() == UIDS


@pytest.mark.parametrize("wrong", ["A" * 32, "a" * 31, "g" * 32, "", None])
def test_what_is_no_uid_is_named(wrong: str | None) -> None:
    with pytest.raises(ValueError, match="not a uid"):
        uids.encode(pa.array([UIDS[0], wrong], pa.string()))


def test_npy_is_datacomps_byte_for_byte_with_repeats(tmp_path: Path) -> None:
    listed = UIDS + UIDS[:40] + UIDS[:7]
    theirs = io.BytesIO()
    np.save(theirs, as_datacomp(listed))
    path = str(tmp_path / "s.npy")
    write_selection(path, selection(Counter(listed)))
    assert Path(path).read_bytes() == theirs.getvalue()
    assert read_selection(path).equals(selection(Counter(listed)))
    raw = str(tmp_path / "raw.npy")
    as_datacomp(listed).tofile(raw)
    assert read_selection(raw).equals(selection(Counter(listed)))


def test_parquet_and_txt_round_trips_and_what_is_no_selection(tmp_path: Path, s3_root: str) -> None:
    chosen = selection({UIDS[0]: 3, UIDS[1]: 1})
    for path in (str(tmp_path / "s.parquet"), str(tmp_path / "s.txt"), f"{s3_root}/s.parquet", f"{s3_root}/s.npy"):
        write_selection(path, chosen)
        assert read_selection(path).equals(chosen)
    storage.write_table(str(tmp_path / "uids.parquet"), pa.table({"uid": [UIDS[0], UIDS[0], UIDS[1]]}))
    assert read_selection(str(tmp_path / "uids.parquet")).equals(selection({UIDS[0]: 2, UIDS[1]: 1}))
    for name, data, problem in (
        ("a.parquet", b"nonsense", r"a\.parquet is damaged, or no parquet file"),
        ("b.npy", b"12345", "no multiple"),
        ("c.txt", b"not-a-uid\n", "c.txt: not a uid"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=problem):
            read_selection(str(tmp_path / name))
    np.save(tmp_path / "d.npy", np.arange(4))
    with pytest.raises(ValueError, match="expected a one-dimensional array"):
        read_selection(str(tmp_path / "d.npy"))
    np.save(tmp_path / "e.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"e\.npy: .*allow_pickle"):
        read_selection(str(tmp_path / "e.npy"))


multisets = st.dictionaries(st.sampled_from(UIDS[:8]), st.integers(1, 4), max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.lists(multisets, min_size=1, max_size=3))
def test_set_algebra_follows_the_counts(sets: list[dict[str, int]]) -> None:
    tables = [selection(counts) for counts in sets]
    names = set().union(*sets)

    def expected(rule):  # type: ignore[no-untyped-def]
        counts = {name: rule([counted.get(name, 0) for counted in sets]) for name in names}
        return selection({name: count for name, count in counts.items() if count})

    assert union(*tables).equals(expected(max))
    assert add(*tables).equals(expected(sum))
    assert intersection(*tables).equals(expected(min))
    assert difference(*tables).equals(expected(lambda counts: 0 if any(counts[1:]) else counts[0]))


def test_a_count_beyond_32_bits_is_refused() -> None:
    many = pa.table({"uid": [UIDS[0]], "count": pa.array([2**31 - 1], pa.int32())})
    with pytest.raises(ValueError, match="more than a selection can hold"):
        add(many, many)


def test_hashes_are_uniform_and_depend_on_the_salt() -> None:
    pairs = uids.encode([f"{number:032x}" for number in range(20_000)])
    one, two = uids.fractions(pairs, "one"), uids.fractions(pairs, "two")
    assert np.abs(np.histogram(one, bins=10, range=(0, 1))[0] - 2000).max() < 200
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.03
    assert one.max() < 1
    assert np.array_equal(uids.hashes(pairs[::-1], "salt"), uids.hashes(pairs, "salt")[::-1])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: data[:-5], r"l\.npy: cut short: it says 4 uids"),
        (lambda data: data.replace(b"(4,)", b"(9,)"), r"l\.npy: cut short: it says 9 uids"),
        (lambda data: data.replace(b"(4,), }                ", b"(999999999999999,), }  "), r"l\.npy: "),
        (lambda data: data[:30], r"l\.npy: a damaged \.npy"),
        (lambda data: data.replace(b"descr", b"descz"), r"l\.npy: a damaged \.npy"),
    ],
)
def test_a_damaged_npy_is_named(tmp_path: Path, change: Any, problem: str) -> None:
    path = tmp_path / "l.npy"
    uids.write_npy(str(path), as_datacomp(UIDS[:4]))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=problem):
        read_selection(str(path))
