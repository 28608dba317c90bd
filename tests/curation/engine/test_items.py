"""Only what is not committed is worked on, and a failure is a value."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmcorpus.curation.engine.budget import SampleBudget, use_budget
from mmcorpus.curation.engine.guard import SetAside, guarded
from mmcorpus.curation.engine.items import Ran, run_pending
from mmcorpus.curation.engine.tasks import Failure
from mmcorpus.curation.store import storage


def work(seen: list[str], failing: dict[str, BaseException]) -> Callable[[], Callable[[str], dict[str, Any]]]:
    def one(item: str) -> dict[str, Any]:
        seen.append(item)
        if item in failing:
            raise failing[item]
        return {"kept": 1}

    return lambda: one


def test_what_is_committed_is_not_worked_on_again() -> None:
    seen: list[str] = []
    ran = run_pending(work(seen, {}), ["a", "b", "c"], committed={"a", "c"}, title="test", workers=0)
    assert (seen, ran.resumed, [outcome.name for outcome in ran.outcomes]) == (["b"], 2, ["b"])


def test_nothing_pending_needs_no_ray_and_sets_nothing_up() -> None:
    def never() -> Any:
        raise AssertionError

    assert run_pending(never, ["a"], committed={"a"}, title="test").resumed == 1


def test_a_failure_costs_its_item_and_is_a_value() -> None:
    ran = run_pending(work([], {"b": ValueError("bad (in parts)")}), ["a", "b", "c"], title="test", workers=0)
    assert ran.failed == {"b": Failure(item="b", kind="ValueError", message="bad (in parts)")}
    assert str(ran.failed["b"]) == "ValueError: bad (in parts) (in b)"
    assert ran.failed["b"].reason == "ValueError: bad (in parts)"
    with pytest.raises(RuntimeError, match=r"ValueError: bad \(in parts\) \(in b\); the rest is kept"):
        ran.or_raise()


def test_here_too_what_failed_is_tried_again_after_all_others(capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    def one(item: str) -> dict[str, Any]:
        seen.append(item)
        if item == "a" and seen.count("a") < 2:
            raise OSError("a storage that hiccups")
        return {"kept": 1}

    def run(**spread: Any) -> Ran:
        return run_pending(lambda: one, ["a", "b"], title="here", workers=0, unit="row", size=lambda _: 10, **spread)

    assert run(retries=1).failed == {}
    assert seen == ["a", "b", "a"]
    assert "here: 20/20 row" in capfd.readouterr().err
    seen.clear()
    assert list(run(shown=False).failed) == ["a"]
    assert not capfd.readouterr().err


def test_here_too_a_sample_over_its_budget_is_set_aside_and_remembered(tmp_path: Path) -> None:
    seen: list[str] = []

    def one(item: str) -> dict[str, Any]:
        lost = 0
        for sample in ("fine", "stalls", "fine too"):
            try:
                guarded("step", sample, spin if sample == "stalls" else seen.append, sample)
            except SetAside as reason:
                lost += str(reason) == "cpu_limit: over 0.2 s"
        return {"lost": lost}

    def spin(sample: str) -> None:
        seen.append(sample)
        while True:
            pass

    with use_budget(SampleBudget(cpu_seconds=0.2)):
        for tries in (1, 0):
            seen.clear()
            ran = run_pending(lambda: one, ["item"], title="here", workers=0, aside=str(tmp_path))
            assert [outcome.result for outcome in ran.outcomes] == [{"lost": 1}]
            assert seen.count("stalls") == tries, "the second run knows it"


def test_here_too_an_interrupt_stops_the_run() -> None:
    seen: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_pending(work(seen, {"a": KeyboardInterrupt()}), ["a", "b"], title="test", workers=0)
    assert seen == ["a"]


def test_a_full_disk_ends_the_run_with_the_path() -> None:
    seen: list[str] = []
    full = storage.full_disk("/run/00000.tar")
    with pytest.raises(OSError, match="the disk is full") as raised:
        run_pending(work(seen, {"a": full}), ["a", "b"], title="test", workers=0)
    assert raised.value.filename == "/run/00000.tar"
    assert seen == ["a"], "every item after it would be worked on for nothing"
