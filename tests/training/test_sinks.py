"""Metrics beside metrics.jsonl."""

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from mmcorpus.training.config import LogConfig
from mmcorpus.training.sinks import Sinks, scalars

LINE = {"step": 4, "loss": 1.5, "mfu": 0.25, "skipped": ["a"], "loss_by_source": {"pairs": 1.0, "pages": 2.0}}


def test_numbers_of_a_line_have_names_of_their_own() -> None:
    assert dict(scalars(LINE)) == {"loss": 1.5, "mfu": 0.25, "loss_by_source/pairs": 1.0, "loss_by_source/pages": 2.0}


def test_the_terminal_shows_some_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Sinks(LogConfig(terminal=2), str(tmp_path), "pretrain", 0, {}) as sinks:
        for step in range(1, 5):
            sinks.write({**LINE, "step": step})
        sinks.write({"step": 5, "heldout_loss": 1.25})
    shown = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in shown] == ["pretrain step 2", "pretrain step 4", "pretrain step 5"]
    assert "loss 1.5" in shown[0]
    assert "heldout_loss 1.25" in shown[2]


class Recorder:
    """Stands for TensorBoard's writer and for wandb's module and run."""

    def __init__(self, calls: list[tuple[Any, ...]], name: str = "") -> None:
        self._calls, self._name = calls, name

    def __getattr__(self, name: str) -> "Recorder":
        return Recorder(self._calls, name)

    def __call__(self, *arguments: Any, **named: Any) -> "Recorder":
        self._calls.append((self._name, arguments, named))
        return self


def test_tensorboard_and_wandb_get_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    board: Any = types.ModuleType("torch.utils.tensorboard")
    board.SummaryWriter = Recorder(calls, "SummaryWriter")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    wandb: Any = Recorder(calls)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    log = LogConfig(tensorboard=True, wandb="corpora")
    out = tmp_path / "out"
    for _ in range(3):
        with Sinks(log, str(out), "sft", 3, {"seed": 7}) as sinks:
            sinks.write(LINE)
        out = out.rename(tmp_path / "moved")
    out.rename(tmp_path / "aside")
    with Sinks(log, str(out), "sft", 0, {"seed": 7}):
        pass
    assert ("SummaryWriter", (str(tmp_path / "out" / "tensorboard"),), {"purge_step": 4}) in calls
    assert ("add_scalar", ("loss_by_source/pages", 2.0, 4), {}) in calls
    first, second, third, anew = [named for name, _, named in calls if name == "init"]
    assert first == second == third, "the same folder goes on with the same run, wherever it is"
    assert anew["id"] != first["id"], "another run at the same path"
    assert (first["project"], first["resume"], first["config"]) == ("corpora", "allow", {"seed": 7})
    assert [named["step"] for name, _, named in calls if name == "log"] == [4, 4, 4]
    assert [name for name, *_ in calls if name in ("close", "finish")] == ["close", "finish"] * 4


def test_what_is_not_installed_is_said_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Any = None
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", nothing)
    with pytest.raises(ImportError, match=r"mmcorpus\[tensorboard\]"):
        Sinks(LogConfig(tensorboard=True), str(tmp_path), "sft", 0, {})
    monkeypatch.setitem(sys.modules, "wandb", nothing)
    with pytest.raises(ImportError, match=r"mmcorpus\[wandb\]"):
        Sinks(LogConfig(wandb="x"), str(tmp_path), "sft", 0, {})
    with pytest.raises(ValueError, match="local folder"):
        Sinks(LogConfig(tensorboard=True), "memory://runs", "sft", 0, {})
