"""The engine: outcomes in order, errors kept apart, dead workers tried again."""

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from mmcorpus.curation.engine import tasks as engine
from mmcorpus.curation.engine.tasks import NODE_LOSSES, WORKER_DIED, Failure, Outcome, run_shards
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
def test_relative_paths_are_of_the_driver_s_folder_wherever_the_nodes_were_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # Ray's own folder is the one in which it was started before

    def make() -> Callable[[int], dict[str, Any]]:
        Path("set-up").touch()
        return lambda number: {"kept": Path(f"{number}.txt").write_text("here")}

    outcomes = run_shards(make, [1, 2], name=named, title="relative", workers=2)
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.txt", "2.txt", "set-up"]


@pytest.mark.usefixtures("ray_local")
def test_a_worker_that_cannot_be_set_up_ends_the_run_with_its_own_message() -> None:
    def make() -> Callable[[int], dict[str, Any]]:
        raise OSError("there is no model here")

    with pytest.raises(RuntimeError, match="could not be set up: OSError: there is no model here"):
        run_shards(make, [1, 2], title="broken")


@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("where", ["work", "set-up"])
def test_an_interrupt_that_the_work_raises_stops_the_run_and_costs_no_item(tmp_path: Path, where: str) -> None:
    """To Ray it would be the death of a worker, to be tried again, and the item's failure in the end."""
    folder = str(tmp_path)

    def make() -> Callable[[int], dict[str, Any]]:
        if where == "set-up":
            raise KeyboardInterrupt

        def work(number: int) -> dict[str, Any]:
            if number == 2:
                raise KeyboardInterrupt("from a library")
            with open(os.path.join(folder, str(number)), "w"):
                pass
            return {"kept": 1}

        return work

    with pytest.raises(KeyboardInterrupt, match="00002" if where == "work" else "set-up"):
        run_shards(make, [1, 2, 3, 4, 5], name=named, title="interrupted", workers=1)
    assert sorted(os.listdir(folder)) == (["1"] if where == "work" else [])


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


class LosingRay:
    """Ray as the engine sees it, on which the first tries of every task end with the loss of their node."""

    def __init__(self, losses: int) -> None:
        self.losses, self.tries = losses, Counter[bytes]()

    def remote(self, **_: Any) -> Callable[..., Any]:
        return lambda function: SimpleNamespace(remote=self._submit)

    def _submit(self, _: Any, item: bytes) -> tuple[bytes, int]:
        self.tries[item] += 1
        return item, self.tries[item]

    def wait(self, references: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return references[:1], references[1:]

    def get(self, reference: tuple[bytes, int]) -> Outcome:
        if reference[1] <= self.losses:
            raise ray.exceptions.NodeDiedError("the node is gone")
        return Outcome(name="item", result={"kept": 1}, error=None, seconds=0.0)


@pytest.mark.parametrize(("losses", "failed"), [(0, 0), (NODE_LOSSES, 0), (NODE_LOSSES + 1, 2)])
def test_the_loss_of_a_node_is_not_an_items_fault(losses: int, failed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = LosingRay(losses)
    for name in ("remote", "wait", "get"):
        monkeypatch.setattr(ray, name, getattr(fake, name))
    monkeypatch.setattr(ray, "put", lambda value: value)
    monkeypatch.setattr(engine, "cluster_resource", lambda _: 2)
    outcomes = run_shards(squares, [1, 2], title="losses", max_task_retries=0)
    assert sum(outcome.error is not None for outcome in outcomes) == failed


@pytest.mark.usefixtures("ray_local")
def test_what_failed_is_tried_again_after_all_others(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path)

    def make() -> Callable[[int], dict[str, Any]]:
        def work(number: int) -> dict[str, Any]:
            with open(os.path.join(folder, "order"), "a") as file:
                file.write(f"{number} ")
            if number == 3 or (number == 1 and not os.path.exists(os.path.join(folder, "again"))):
                with open(os.path.join(folder, "again"), "w"):
                    pass
                raise OSError("a storage that hiccups")
            return {"kept": number}

        return work

    outcomes = run_shards(make, [1, 2, 3], title="again", unit="row", size=lambda n: 10 * n, workers=1, retries=1)
    assert [outcome.result for outcome in outcomes] == [{"kept": 1}, {"kept": 2}, None]
    assert (tmp_path / "order").read_text() == "1 2 3 1 3 "
    assert "again: 60/60 row" in capfd.readouterr().err
    run_shards(make, [2], title="hidden", shown=False)
    assert not capfd.readouterr().err
