"""A selection's verdicts: each uid once, counted as they fall, in little memory however many there are."""

import tracemalloc
from collections import Counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from mmcorpus.packing.samples import Rejection
from mmcorpus.packing.verdicts import LEFT_OUT, MISSING_SAMPLE, SourceVerdicts


def made(count: int, seed: int = 0) -> npt.NDArray[np.bytes_]:
    words = np.random.default_rng(seed).bytes(16 * count).hex()
    return np.array([words[32 * n : 32 * n + 32] for n in range(count)], dtype="S32")


def selection(uids: npt.NDArray[np.bytes_]) -> pa.Table:
    texts = [uid.decode() for uid in uids.tolist()]
    return pa.table({"uid": texts, "count": pa.array([1] * len(texts), pa.int32())})


def sizes(count: int) -> dict[str, npt.NDArray[np.int64]]:
    names = ("rendering", "renderings", "annotations", "tokens", "images", "crops", "positions")
    return {name: np.full(count, name != "rendering", dtype=np.int64) for name in names}


def test_counts_are_those_of_the_ledger_after_every_shard() -> None:
    uids = made(60)
    verdicts = SourceVerdicts(selection(uids), "web", factor=0.5)
    assert verdicts.counts() == {MISSING_SAMPLE: 60}
    verdicts.keep(uids[:40], sizes(40))
    left_out = verdicts.counts()[LEFT_OUT]
    assert 8 < left_out < 32
    too_long = Rejection(rule="too_long", value="length=9")
    no_text = Rejection(rule="missing_text", value="missing_text")
    verdicts.decide(uids[40:50], [[too_long]] * 4 + [[no_text]] * 6)
    rows = verdicts.ledger().to_pylist()
    said = Counter(row["rule"] or "kept" for row in rows)
    assert verdicts.counts() == dict(said)
    assert said == {"kept": 40 - left_out, LEFT_OUT: left_out, "too_long": 4, "missing_text": 6, MISSING_SAMPLE: 10}
    values = Counter((row["rule"], row["value"]) for row in rows if row["rule"])
    assert values == {
        ("too_long", "length=9"): 4,
        ("missing_text", "missing_text"): 6,
        (LEFT_OUT, LEFT_OUT): left_out,
        (MISSING_SAMPLE, MISSING_SAMPLE): 10,
    }
    assert [row["uid"] for row in rows] == sorted(uid.decode() for uid in uids.tolist())


def test_only_the_uid_itself_is_found() -> None:
    """Others' rows may have any 32 bytes for a uid, and many uids may begin alike."""
    alike = np.array([f"{7:016x}{n:016x}" for n in range(5)], dtype="S32")
    uids = np.concatenate([made(5), alike])
    verdicts = SourceVerdicts(selection(uids[::2]), "web")
    assert verdicts.wanted(uids).tolist() == [0, 2, 4, 6, 8]
    upper = np.array([uid.upper() for uid in uids.tolist()], dtype="S32")
    letters = [number for number in (0, 2, 4) if upper[number] != uids[number]]
    strange = np.array([*upper[letters], b"g" * 32, b" " * 32, b"\xff" * 32], dtype="S32")
    assert letters
    assert verdicts.wanted(strange).tolist() == []
    assert SourceVerdicts(selection(uids[:0]), "web").wanted(uids).tolist() == []


def test_a_selected_uid_takes_25_bytes() -> None:
    uids = selection(made(40_000))
    tracemalloc.start()
    verdicts = SourceVerdicts(uids, "web")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert verdicts.counts() == {MISSING_SAMPLE: 40_000}
    assert held < 27 * 40_000


@pytest.mark.parametrize("uid", ["G" * 32, "ab"])
def test_a_selection_of_no_uids_is_refused(uid: str) -> None:
    table = pa.table({"uid": [uid], "count": pa.array([1], pa.int32())})
    with pytest.raises(
        ValueError, match=r"the selection of source 'web' has a uid that is not 32 lower-case hex digits"
    ):
        SourceVerdicts(table, "web")
