"""The runner: what is kept, what is redone and why, what a failure stops."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmcorpus.curation.engine.stage import UNRECORDED, Result, Stage, decide
from mmcorpus.curation.store.lock import RunLocked, lock
from mmcorpus.pipelines.run.runner import Outcome, execute, preview, until
from mmcorpus.pipelines.run.state import RunState


class Chain:
    """list → make (with two parts) → a, b → end: each stage writes what it was given."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.configs: dict[str, dict[str, Any]] = {name: {"x": 1} for name in ("make", "a", "b", "end")}
        self.failing: dict[str, BaseException] = {}
        self.failures: dict[str, list[str]] = {}
        self.ran: list[str] = []
        self.said: list[tuple[str, str, str]] = []
        self.version = "1"

    def stages(self) -> list[Stage]:
        needs = {"make": (), "a": ("make#left",), "b": ("make#right",), "end": ("a", "b")}
        return [
            Stage(
                name=name,
                config=self.configs[name],
                needs=needs[name],
                outputs=(f"{name}.txt",),
                version=self.version if name == "make" else "1",
                ray="yes" if name == "make" else "no",
                run=self._work(name),
            )
            for name in needs
        ]

    def _work(self, name: str) -> Callable[[], Result]:
        def run() -> Result:
            self.ran.append(name)
            if name in self.failing:
                raise self.failing[name]
            (self.root / f"{name}.txt").write_text(json.dumps(self.configs[name]))
            config: Mapping[str, Any] = self.configs[name]
            parts = {side: str(config.get(side, 0)) for side in ("left", "right")} if name == "make" else {}
            content = str(config["x"]) if name in ("a", "b") else None
            return Result(counts={"samples": 3}, failures=self.failures.get(name, ()), content=content, parts=parts)

        return run

    def go(self, **options: Any) -> Outcome:
        self.ran.clear()
        self.said.clear()
        state = RunState.load(str(self.root), name="test")
        return execute(self.stages(), state, say=lambda *event: self.said.append(event), **options)

    def reason(self, name: str) -> str:
        return next(text for kind, stage, text in self.said if kind == "start" and stage == name)


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path)


def test_a_second_run_does_nothing(chain: Chain) -> None:
    assert chain.go().ran == ("make", "a", "b", "end")
    before = (chain.root / "run.json").read_bytes()
    assert chain.go().kept == ("make", "a", "b", "end")
    assert chain.ran == []
    assert (chain.root / "run.json").read_bytes() == before


def test_a_changed_parameter_redoes_what_depends_on_it_and_says_why(chain: Chain) -> None:
    chain.go()
    chain.configs["a"] = {"x": 2}
    assert chain.go().ran == ("a", "end")
    assert chain.reason("a") == "x changed from 1 to 2"
    assert chain.reason("end") == "a changed"


def test_a_part_concerns_only_those_that_need_it(chain: Chain) -> None:
    chain.go()
    chain.configs["make"] = {"x": 1, "left": 7}
    assert chain.go().ran == ("make", "a")
    assert chain.reason("a") == "make of left changed"


def test_equal_content_stops_the_redoing(chain: Chain) -> None:
    chain.go()
    chain.configs["a"] = {"x": 1, "comment": "same output"}
    assert chain.go().ran == ("a",)


def test_a_new_version_of_the_code_redoes_the_stage(chain: Chain) -> None:
    chain.go()
    chain.version = "2"
    assert "make" in chain.go().ran
    assert "version changed from 1 to 2" in chain.reason("make")


def test_an_output_that_is_gone_is_made_again(chain: Chain) -> None:
    chain.go()
    os.remove(chain.root / "b.txt")
    assert chain.go().ran == ("b",)
    assert chain.reason("b") == "b.txt is gone"


def test_a_failing_stage_stops_those_that_need_it_and_no_others(chain: Chain) -> None:
    chain.failing["a"] = RuntimeError("broken")
    outcome = chain.go()
    assert outcome.ran == ("make", "a", "b")
    assert outcome.blocked == ("end",)
    assert outcome.failures == {"a": ("RuntimeError: broken",)}
    assert "RuntimeError: broken" in (chain.root / "errors" / "a.txt").read_text()
    chain.failing.clear()
    assert chain.go().ran == ("a", "end")
    assert chain.reason("a") == "resumed: it had failed"
    assert not (chain.root / "errors" / "a.txt").exists()


def test_failed_shards_let_the_run_go_on_and_are_tried_again(chain: Chain) -> None:
    chain.failures["b"] = ["shard 00003: worker died"]
    outcome = chain.go()
    assert outcome.ran == ("make", "a", "b", "end")
    assert outcome.failures == {"b": ("shard 00003: worker died",)}
    chain.failures.clear()
    assert chain.go().ran == ("b",)
    assert chain.reason("b") == "resumed: some shards had failed"


def test_an_interrupted_stage_keeps_its_output_and_resumes(chain: Chain) -> None:
    chain.go()
    chain.configs["b"] = {"x": 5}
    chain.failing["b"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        chain.go()
    (chain.root / "b.txt").write_text("half of it")
    state = RunState.load(str(chain.root))
    assert state.stages["b"].status == "interrupted"
    decision = decide(chain.stages()[2], state)
    assert decision.action == "run"
    assert not decision.clear


def test_output_that_can_be_gone_on_with_is_not_cleared(chain: Chain) -> None:
    chain.go()
    before = RunState.load(str(chain.root))
    chain.configs["a"] = {"x": 2}
    stage = chain.stages()[1]
    asked = list[Mapping[str, Any]]()

    def answer(says: bool) -> Callable[[Mapping[str, Any]], bool]:
        return lambda config: asked.append(config) is None and says

    for says in (True, False):
        decision = decide(replace(stage, goes_on=answer(says)), before)
        assert (decision.action, decision.clear) == ("run", not says)
    assert asked == [{"x": 1}] * 2


def test_stale_output_goes_only_when_its_turn_comes(chain: Chain) -> None:
    chain.go()
    chain.configs["a"] = {"x": 2}
    chain.failing["a"] = RuntimeError("broken")
    chain.go()
    assert not (chain.root / "a.txt").exists()
    assert (chain.root / "end.txt").exists()


def test_a_kill_while_clearing_clears_again(chain: Chain) -> None:
    chain.go()
    path = chain.root / "run.json"
    stored = json.loads(path.read_text())
    stored["stages"]["a"]["status"] = "clearing"
    stored = {key: stored[key] for key in ("format", "name", "order", "stages")}  # without its digest
    path.write_text(json.dumps(stored))
    decision = decide(chain.stages()[1], RunState.load(str(chain.root)))
    assert (decision.action, decision.clear) == ("run", True)


def test_a_kill_while_clearing_clears_again_though_the_config_changes_as_well(chain: Chain) -> None:
    chain.go()
    path = chain.root / "run.json"
    stored = json.loads(path.read_text())
    stored["stages"]["a"]["status"] = "clearing"
    stored = {key: stored[key] for key in ("format", "name", "order", "stages")}  # without its digest
    path.write_text(json.dumps(stored))
    chain.configs["a"] = {"x": 3}
    stage = replace(chain.stages()[1], invalidated_by=("make#left",))
    decision = decide(stage, RunState.load(str(chain.root)))
    assert (decision.action, decision.clear) == ("run", True)


def test_a_stage_that_never_ran_is_blocked_and_not_stale(chain: Chain) -> None:
    decision = decide(chain.stages()[1], RunState.load(str(chain.root)))
    assert (decision.action, decision.reason, decision.stale) == (
        "blocked",
        "needs make, which has not been run",
        False,
    )


def test_ray_starts_once_when_needed_and_stops_when_no_longer(chain: Chain) -> None:
    calls: list[str] = []
    chain.go(start_ray=lambda: calls.append("start"), stop_ray=lambda: calls.append("stop"))
    assert calls[0] == "start"
    assert calls[1] == "stop"
    calls.clear()
    chain.go(start_ray=lambda: calls.append("start"))
    assert calls == []


def test_a_full_disk_stops_the_run(chain: Chain) -> None:
    chain.failing["a"] = OSError(28, "the disk is full")
    with pytest.raises(OSError, match="disk is full"):
        chain.go()
    assert chain.ran == ["make", "a"]


def test_preview_says_what_a_run_would_do(chain: Chain) -> None:
    chain.go()
    chain.configs["a"] = {"x": 2}
    real = preview(chain.stages(), RunState.load(str(chain.root)))
    assert [(d.stage.name, d.action) for d in real] == [("make", "keep"), ("a", "run"), ("b", "keep"), ("end", "run")]
    assert real[3].reason == "needs a"
    assert chain.ran == ["make", "a", "b", "end"]


def test_until_takes_what_the_target_needs(chain: Chain) -> None:
    assert [stage.name for stage in until(chain.stages(), "a")] == ["make", "a"]
    with pytest.raises(ValueError, match="there is no stage 'c'; this recipe has: make, a, b, end"):
        until(chain.stages(), "c")


def test_a_folder_has_one_run_at_a_time(tmp_path: Path) -> None:
    with lock(str(tmp_path)), pytest.raises(RunLocked, match=f"process {os.getpid()}"), lock(str(tmp_path)):
        pass
    with lock(str(tmp_path)):
        pass


def test_a_foreign_run_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"hello": 1}')
    with pytest.raises(ValueError, match="not the record of a run"):
        RunState.load(str(tmp_path))


def test_the_record_follows_the_recipe(chain: Chain) -> None:
    chain.go()
    state = RunState.load(str(chain.root))
    state.take_order(["b", "a", "make"])
    assert list(RunState.load(str(chain.root)).stages) == ["b", "a", "make"]


def test_a_stage_that_comes_back_is_known_by_what_it_left(chain: Chain) -> None:
    chain.go()
    state = RunState.load(str(chain.root))
    state.take_order(["make"])
    state.take_order(["make", "a", "b", "end"])
    chain.configs["a"] = {"x": 2}
    decision = decide(chain.stages()[1], RunState.load(str(chain.root)))
    assert (decision.action, decision.clear, decision.reason) == ("run", True, "x changed from 1 to 2")


def test_without_a_record_nothing_is_cleared(chain: Chain) -> None:
    """What folders hold is for the stages' calls to adopt or refuse: downloads took days (hostile case 14)."""
    chain.go()
    os.remove(chain.root / "run.json")
    said = {one.stage.name: one.reason for one in preview(chain.stages(), RunState.load(str(chain.root)))}
    assert all(UNRECORDED in said[name] for name in ("make", "a", "b", "end")), "a preview says so beforehand"
    (chain.root / "a.txt").unlink()
    (chain.root / "a.txt").mkdir()
    (chain.root / "a.txt" / "00000.tar").write_text("days of work")
    assert chain.go().failures.keys() == {"a"}, "the call itself says what it makes of it"
    assert (chain.root / "a.txt" / "00000.tar").read_text() == "days of work"


def test_a_stage_whose_settings_were_regrouped_is_kept(chain: Chain) -> None:
    """Checkpoints are days of work: a setting of another name is no other setting."""
    chain.go()
    chain.configs["a"] = {"group.x": 1}
    stages = chain.stages()
    stages[1] = replace(stages[1], translate=lambda before: {f"group.{name}": value for name, value in before.items()})
    state = RunState.load(str(chain.root))
    assert [decision.action for decision in preview(stages, state)] == ["keep"] * 4
    chain.configs["a"] = {"group.x": 2}
    decision = decide(replace(chain.stages()[1], translate=stages[1].translate), state)
    assert (decision.action, decision.clear, decision.reason) == ("run", True, "group.x changed from 1 to 2")
