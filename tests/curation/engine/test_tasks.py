"""The engine: outcomes in order, errors kept apart, dead workers tried again."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmcorpus.curation.engine import tasks as engine
from mmcorpus.curation.engine.tasks import WORKER_DIED, Failure, Outcome, run_shards
from tests.processes import interruptible, wait_until


def squares() -> Callable[[int], dict[str, Any]]:
    return lambda number: {"kept": number * number, "where": os.getpid()}


def named(number: int) -> str:
    return f"{number:05d}"


@pytest.mark.usefixtures("ray_local")
def test_outcomes_come_in_the_items_order() -> None:
    import time

    def make() -> Callable[[int], dict[str, Any]]:
        def work(number: int) -> dict[str, Any]:
            time.sleep(0.2 if number == 0 else 0.0)
            return {"kept": number * number}

        return work

    outcomes = run_shards(make, list(range(12)), name=named, title="squares", workers=8)
    assert [outcome.name for outcome in outcomes] == [named(number) for number in range(12)]
    assert [outcome.result for outcome in outcomes] == [{"kept": number * number} for number in range(12)]
    assert all(outcome.error is None for outcome in outcomes)
    assert outcomes[0].seconds >= 0.2


@pytest.mark.usefixtures("ray_local")
def test_an_exception_is_its_items_error_alone(capfd: pytest.CaptureFixture[str]) -> None:
    def make() -> Callable[[int], dict[str, Any]]:
        def work(number: int) -> dict[str, Any]:
            if number == 2:
                raise ValueError("this shard is bad")
            return {"kept": 1}

        return work

    outcomes = run_shards(make, [1, 2, 3], name=named, title="squares", workers=1)
    assert outcomes[1] == Outcome(
        name="00002",
        result=None,
        error=Failure(item="00002", kind="ValueError", message="this shard is bad"),
        seconds=outcomes[1].seconds,
    )
    assert [outcome.error for outcome in outcomes if outcome.name != "00002"] == [None, None]
    assert "squares: 3/3 shard" in capfd.readouterr().err


@pytest.mark.usefixtures("ray_local")
def test_a_worker_that_cannot_be_set_up_ends_the_run_with_its_own_message() -> None:
    def make() -> Callable[[int], dict[str, Any]]:
        raise OSError("there is no model here")

    with pytest.raises(RuntimeError, match="could not be set up: OSError: there is no model here"):
        run_shards(make, [1, 2], title="broken")


class Parts:
    """A setup that needs no Ray."""

    def __init__(self, token: str) -> None:
        self.token = token

    def fetch(self) -> tuple[str]:
        return (self.token,)


def test_what_a_worker_holds_is_made_once_a_run_and_let_go_when_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(engine, "IDLE_SECONDS", 0.05)
    kept, made = engine.Kept(), list[str]()

    def make(parts: tuple[str]) -> list[str]:
        made.append(parts[0])
        return [parts[0]]

    for token in ("a", "a", "b"):
        with kept.use(Parts(token), make) as held:  # type: ignore[arg-type]
            assert held == [token]
    assert made == ["a", "b"]
    deadline = time.monotonic() + 20
    while kept._made is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert kept._made is None
    with kept.use(Parts("b"), make):  # type: ignore[arg-type]
        assert made == ["a", "b", "b"]


def test_no_ray_is_said_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(RuntimeError, match=r"call ray.init\(\) first, or use the mmcorpus command|Call ray.init"):
        run_shards(squares, [1], title="none")


@pytest.mark.usefixtures("ray_local")
def test_nothing_to_do_starts_nothing() -> None:
    assert run_shards(squares, [], title="nothing") == []


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_a_dead_worker_is_tried_again_and_a_deadly_item_kills_no_other(tmp_path: Path) -> None:
    folder = str(tmp_path)

    def make() -> Callable[[int], dict[str, Any]]:
        def work(number: int) -> dict[str, Any]:
            mark = os.path.join(folder, str(number))
            if number == 4:
                os.kill(os.getpid(), 9)
            if number == 1 and not os.path.exists(mark):
                with open(mark, "w"):
                    pass
                os.kill(os.getpid(), 9)
            return {"kept": 1}

        return work

    outcomes = run_shards(make, list(range(10)), name=named, title="deaths", workers=2)
    assert [outcome.result for outcome in outcomes if outcome.name != "00004"] == [{"kept": 1}] * 9
    assert outcomes[4].error is not None
    assert outcomes[4].error.kind == WORKER_DIED
    assert "00004" in str(outcomes[4].error)


@pytest.mark.slow
def test_control_c_ends_a_run_quickly_and_keeps_what_is_committed(tmp_path: Path) -> None:
    program = f"""
    import time
    import ray
    from mmcorpus.curation.engine.tasks import run_shards

    def make():
        def work(number):
            time.sleep(0.2)
            open(f"{tmp_path}/{{number:03d}}", "w").close()
            return {{"kept": 1}}
        return work

    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
    run_shards(make, list(range(1000)), title="long")
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=interruptible,
    )
    wait_until(lambda: list(tmp_path.iterdir()), process)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
    assert 0 < len(list(tmp_path.iterdir())) < 1000
