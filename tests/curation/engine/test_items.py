"""Only what is not committed is worked on, and a failure is a value."""

from collections.abc import Callable
from typing import Any

import pytest

from mmcorpus.curation.engine.items import run_pending
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


def test_a_full_disk_ends_the_run_with_the_path() -> None:
    seen: list[str] = []
    full = storage.full_disk("/run/00000.tar")
    with pytest.raises(OSError, match="the disk is full") as raised:
        run_pending(work(seen, {"a": full}), ["a", "b"], title="test", workers=0)
    assert raised.value.filename == "/run/00000.tar"
    assert seen == ["a"], "every item after it would be worked on for nothing"
