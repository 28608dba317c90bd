"""The guard: a sample that stalls or kills its worker is set aside, and its item is finished without it."""

import contextlib
import ctypes
import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmcorpus.curation.engine.budget import SampleBudget, use_budget
from mmcorpus.curation.engine.guard import SetAside, guard, guarded, guarded_batch
from mmcorpus.curation.engine.tasks import WORKER_DIED, run_shards
from mmcorpus.curation.engine.watch import FOLDER, Watch
from mmcorpus.curation.store import storage

BUDGET = SampleBudget(cpu_seconds=0.5, wall_seconds=300, memory_gib=1)
"""Much time by the clock: the machine that tests may be busy."""


def hold_the_interpreter() -> None:
    """Uses the processor in C, under the interpreter's lock, for minutes."""
    pow(3, 10**9)


def wait_for_ever() -> None:
    ctypes.PyDLL(None).sleep(1000)  # holds the lock too


def loop() -> None:
    while True:
        pass


def crash() -> None:
    ctypes.string_at(0)


def fill_memory() -> None:
    held = []
    while True:
        held.append(bytes(1 << 26))


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


BAD: dict[str, Callable[[], None]] = {
    "python": loop, "native": hold_the_interpreter, "crash": crash, "memory": fill_memory, "killed": killed
}  # fmt: skip
REASONS = {
    "python": "cpu_limit: over 0.5 s", "native": "cpu_limit: over 0.5 s", "crash": "worker_died: twice",
    "memory": "memory_limit: over 1 GiB", "killed": "worker_died: twice",
}  # fmt: skip


def one(sample: str) -> str:
    if sample in BAD:
        BAD[sample]()
    return sample.upper()


def commit(folder: str, item: str, rows: list[Any]) -> dict[str, int]:
    storage.write_json(os.path.join(folder, f"{item}.json"), rows)
    return {"rows": len(rows)}


def one_by_one(folder: str, samples: dict[str, list[str]]) -> Callable[[], Callable[[str], dict[str, int]]]:
    def made(sample: str) -> str:
        with open(os.path.join(folder, "seen"), "a") as file:
            file.write(f"{sample}\n")
        return one(sample)

    def work(item: str) -> dict[str, int]:
        rows = []
        for sample in samples[item]:
            try:
                rows.append(guarded("upper", sample, made, sample))
            except SetAside as aside:
                rows.append(str(aside))
        return commit(folder, item, rows)

    return lambda: work


def in_batches(folder: str, samples: dict[str, list[str]]) -> Callable[[], Callable[[str], dict[str, int]]]:
    def work(item: str) -> dict[str, int]:
        def judge(rows: Any, aside: dict[int, str]) -> list[str]:
            shown = len(set(rows) - set(aside))  # scores of a model depend on what else is in the batch
            return [aside[row] if row in aside else f"{one(samples[item][row])} of {shown}" for row in rows]

        made = guarded_batch("upper", samples[item], judge)
        return commit(folder, item, made)

    return lambda: work


@pytest.mark.soak
@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("make", [one_by_one, in_batches])
def test_each_bad_sample_costs_itself_whatever_the_workers(tmp_path: Path, make: Any) -> None:
    samples = {"00000": ["a", *BAD, "z"], "00001": ["b", "c"], "00002": ["killed", "d", "native", "python"]}
    bytes_of = {}
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        with use_budget(BUDGET):
            outcomes = run_shards(
                make(str(folder), samples), list(samples), title="bad", workers=workers, aside=str(folder)
            )
        assert [outcome.error for outcome in outcomes] == [None] * 3
        bytes_of[workers] = {name: (folder / f"{name}.json").read_bytes() for name in samples}
        kept = {path.name: json.loads(path.read_text()) for path in (folder / FOLDER).iterdir()}
        assert kept == {
            f"{name}.json": {f"upper {sample}": REASONS[sample] for sample in sorted(listed) if sample in BAD}
            for name, listed in samples.items()
            if set(listed) & set(BAD)
        }
    assert bytes_of[1] == bytes_of[2]
    good = "{} of 2" if make is in_batches else "{}"
    assert json.loads(bytes_of[1]["00000"]) == [
        good.format("A"),
        *(REASONS[sample] for sample in BAD),
        good.format("Z"),
    ]
    assert not list(Path(folder).glob("*.at"))


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_a_rerun_knows_what_was_set_aside_and_another_budget_tries_again(tmp_path: Path) -> None:
    folder, samples = str(tmp_path), {"0": ["a", "killed", "native"]}
    seen = tmp_path / "seen"
    expected = ["A", "worker_died: twice", "cpu_limit: over 0.5 s"]
    for _ in range(2):
        with use_budget(BUDGET):
            run_shards(one_by_one(folder, samples), ["0"], title="bad", aside=folder)
        assert json.loads((tmp_path / "0.json").read_text()) == expected
        runs = seen.read_text().split()
        seen.write_text("")
    assert runs == ["a"]
    more = SampleBudget(cpu_seconds=0.6, wall_seconds=300, memory_gib=1)
    with use_budget(more):
        run_shards(one_by_one(folder, samples), ["0"], title="bad", aside=folder)
    assert json.loads((tmp_path / "0.json").read_text()) == [*expected[:2], "cpu_limit: over 0.6 s"]


@pytest.mark.soak
@pytest.mark.usefixtures("ray_local")
def test_what_waits_for_ever_is_set_aside_by_the_clock(tmp_path: Path) -> None:
    def work(item: str) -> dict[str, int]:
        rows = [guarded("upper", "a", str.upper, "a")]
        try:
            guarded("upper", "sleep", wait_for_ever)
        except SetAside as aside:
            rows.append(str(aside))
        return commit(str(tmp_path), item, rows)

    with use_budget(SampleBudget(wall_seconds=2)):
        run_shards(lambda: work, ["0"], title="stalls", max_task_retries=0, aside=str(tmp_path))
    assert json.loads((tmp_path / "0.json").read_text()) == ["A", "time_limit: over 2 s"]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_one_death_accuses_nobody(tmp_path: Path) -> None:
    """The machine kills workers for what others did: out of memory, say."""
    mark = tmp_path / "killed once"

    def work(item: str) -> dict[str, int]:
        def dies_once(sample: str) -> str:
            if sample == "b" and not mark.exists():
                mark.touch()
                killed()
            return sample.upper()

        return commit(str(tmp_path), item, [guarded("upper", sample, dies_once, sample) for sample in "abc"])

    outcomes = run_shards(lambda: work, ["0"], title="once", max_task_retries=0, aside=str(tmp_path))
    assert outcomes[0].error is None
    assert json.loads((tmp_path / "0.json").read_text()) == ["A", "B", "C"]
    assert not (tmp_path / FOLDER).exists()


@pytest.mark.soak
@pytest.mark.usefixtures("ray_local")
def test_a_step_that_always_kills_is_one_error_and_no_samples_fault(tmp_path: Path) -> None:
    def work(item: str) -> dict[str, int]:
        for number in range(1000):
            with contextlib.suppress(SetAside):
                guarded("broken", str(number), killed)
        return {}

    (outcome,) = run_shards(lambda: work, ["0"], title="broken", aside=str(tmp_path))
    assert outcome.error is not None
    assert outcome.error.kind == "DeadlyStep"
    assert "broken took its worker down" in outcome.error.message
    record = tmp_path / FOLDER / "0.json"
    assert not record.exists() or json.loads(record.read_text()) == {}


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_a_worker_that_dies_between_samples_is_the_items_own_death(tmp_path: Path) -> None:
    def work(item: str) -> dict[str, int]:
        guarded("upper", "a", one, "a")
        killed()
        return {}

    (outcome,) = run_shards(lambda: work, ["0"], title="between", max_task_retries=1, aside=str(tmp_path))
    assert outcome.error is not None
    assert outcome.error.kind == WORKER_DIED


def watch(folder: Path, budget: SampleBudget) -> Watch:
    (folder / "notes").mkdir(exist_ok=True)
    return Watch(folder=str(folder / "out"), notes=str(folder / "notes"), budget=budget)


QUICK = SampleBudget(cpu_seconds=0.2)


def test_python_that_loops_is_interrupted_and_its_process_goes_on(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGPROF)
    with guard(watch(tmp_path, QUICK), "0"):
        with pytest.raises(SetAside, match=r"cpu_limit: over 0\.2 s"):
            guarded("upper", "python", one, "python")
        assert guarded("upper", "a", one, "a") == "A"
        with pytest.raises(SetAside):
            guarded("upper", "python", one, "python")
    assert signal.getsignal(signal.SIGPROF) == before
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(?:a|a)*$", r"(\w+\s?)*$"])
def test_a_pattern_that_backtracks_for_ever_is_interrupted(pattern: str, tmp_path: Path) -> None:
    """A user's scorer may hold such a pattern: `re` looks at signals."""
    with guard(watch(tmp_path, QUICK), "0"), pytest.raises(SetAside, match="cpu_limit"):
        guarded("pattern", "a", re.match, pattern, "a" * 60 + "!")


def test_an_except_in_the_work_does_not_go_on(tmp_path: Path) -> None:
    def stubborn() -> None:
        while True:
            try:
                loop()
            except Exception:
                continue

    with guard(watch(tmp_path, QUICK), "0"), pytest.raises(SetAside, match="cpu_limit"):
        guarded("stubborn", "a", stubborn)


def test_waiting_costs_no_processor_time(tmp_path: Path) -> None:
    with guard(watch(tmp_path, SampleBudget(cpu_seconds=0.05)), "0"):
        guarded("sleep", "a", time.sleep, 0.3)


def test_without_a_guard_work_is_done_as_it_is() -> None:
    assert guarded("upper", "a", one, "a") == "A"
    assert guarded_batch("upper", ["a", "b"], lambda rows, aside: [*rows, aside]) == [0, 1, {}]


def test_errors_of_the_work_are_its_own(tmp_path: Path) -> None:
    with guard(watch(tmp_path, QUICK), "0"):
        with pytest.raises(KeyError):
            guarded("step", "a", {}.__getitem__, "missing")
        with pytest.raises(ZeroDivisionError):
            guarded_batch("step", ["a"], lambda rows, aside: 1 // 0)
    assert not watch(tmp_path, QUICK).accuses("0")


def test_hostile_names_of_samples_and_items(tmp_path: Path) -> None:
    item, names = "../x/\n", ["a\nsample 0 b", "é" * 5000, ""]
    own = watch(tmp_path, QUICK)
    with guard(own, item):
        for name in names:
            assert guarded("upper", name, one, "a") == "A"
            with pytest.raises(SetAside):
                guarded("loop", name, loop)
    assert [path.parent.name for path in tmp_path.rglob("*.json")] == [FOLDER]
    again = watch(tmp_path, QUICK)
    with guard(again, item):
        start = time.process_time()
        for name in names:
            with pytest.raises(SetAside):
                guarded("loop", name, loop)
        assert time.process_time() - start < 0.1


def accounts(root: str) -> None:
    """What the next worker makes of the notes of workers that died, wherever notes lie."""
    own = Watch(folder=f"{root}/out", notes=f"{root}/notes", budget=QUICK)
    at = own.paths("0")[0]
    with guard(own, "0"):
        guarded("upper", "b", one, "b")
    assert not own.accuses("0")
    storage.write_bytes(at, b"sample 3 upper b\nand what a longer note left")
    assert own.accuses("0")
    assert not own.accuses("0")
    with guard(own, "0"):
        assert guarded("upper", "b", one, "b") == "B"
    storage.write_bytes(at, b"sample 3 upper c\n")
    own.acquit("0")  # the machine was lost
    storage.write_bytes(at, b"sample 3 upper b\n")  # nobody asked whom it accuses
    learnt = own.learnt()
    with guard(own, "0"):
        with pytest.raises(SetAside, match="worker_died: twice"):
            guarded("upper", "b", one, "b")
        assert guarded("upper", "c", one, "c") == "C"
    assert own.learnt() != learnt
    storage.write_bytes(at, b"batch 0 upper a and 2 more\n")
    calls = []

    def judge(rows: Any, aside: dict[int, str]) -> list[int]:
        calls.append((list(rows), aside.copy()))
        return list(rows)

    with guard(own, "0"):
        assert guarded_batch("upper", ["a", "b", "c"], judge) == [0, 1, 2]
    died = {1: "worker_died: twice"}
    assert calls == [([0], {}), ([1], died), ([2], {}), ([0, 1, 2], died)]
    storage.write_bytes(at, b"again 0 upper a and 2 more\n")
    with guard(own, "0"):
        assert guarded_batch("upper", ["a", "b", "c"], judge) == [[0], [1], [2]]
    assert storage.read_json(f"{root}/out/{FOLDER}/0.json") == {"upper b": "worker_died: twice"}


def test_what_dead_workers_left_is_accounted_for(tmp_path: Path) -> None:
    accounts(str(tmp_path))


def test_on_an_object_store_too(s3_root: str) -> None:
    accounts(s3_root)


@pytest.mark.parametrize(
    "note", [b"", b"\n", b"sample", b"sample 1 upper", b"sample x y\n", b"\xff" * 50, b"other 1 a b\n"]
)
def test_a_note_that_was_cut_accuses_nobody(note: bytes, tmp_path: Path) -> None:
    own = watch(tmp_path, QUICK)
    storage.write_bytes(own.paths("0")[0], note)
    assert not own.accuses("0")
    with guard(own, "0"):
        assert guarded("upper", "a", one, "a") == "A"


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    record = tmp_path / "out" / FOLDER / "0.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"upper b": "wor')
    with pytest.raises(ValueError, match=r"0\.json is damaged .*remove it"), guard(watch(tmp_path, QUICK), "0"):
        pass


def test_a_slow_step_is_not_tried_row_by_row_for_ever(tmp_path: Path) -> None:
    """Rows that are slow, but within their own budget each, are judged together in the end, and later ones at once."""
    calls = []

    def judge(rows: Any, aside: dict[int, str]) -> list[int]:
        calls.append(len(rows))
        end = time.thread_time() + 0.05 * len(rows)
        while time.thread_time() < end:
            pass
        return [len(rows)] * len(rows)

    with guard(watch(tmp_path, SampleBudget(cpu_seconds=0.15)), "0"):
        samples = [str(number) for number in range(5)]
        assert guarded_batch("slow", samples, judge) == [5] * 5
        assert calls == [5, 1, 1, 1, 1, 1, 5]
        calls.clear()
        assert guarded_batch("slow", samples, judge) == [5] * 5
        assert calls == [5]


@pytest.mark.parametrize("wrong", [{"cpu_seconds": 0}, {"wall_seconds": -1}, {"memory_gib": float("nan")}])
def test_a_budget_of_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"sample_budget.{next(iter(wrong))}"):
        SampleBudget(**wrong)
