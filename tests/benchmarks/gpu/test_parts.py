"""The GPU benchmark's own code at tiny sizes on the CPU: what each part measures, and what an ended part leaves."""

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import training
from benchmarks.gpu.scoring import while_fed
from benchmarks.gpu.sizes import TINY, make_packs, open_packs, rows_of

Part = Callable[..., None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("gpu")
    make_packs(TINY, made)
    return made


def rows(folder: Path, part: Part, name: str, *arguments: Any) -> list[dict[str, Any]]:
    """What a part emits, kept where later parts look for it."""
    found: list[dict[str, Any]] = []
    part(*arguments, TINY, folder, found.append)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return found


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Blocks that are to be compiled, which takes a CPU a minute, run as they are; their classes are noted."""
    compiled: list[str] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    return compiled


def test_packs_are_full(folder: Path) -> None:
    reader = open_packs(folder)
    assert len(reader) == TINY.sequences
    lengths = reader.index["length"].to_pylist()
    assert max(lengths) <= TINY.context
    assert sum(lengths) > 0.85 * TINY.context * len(lengths)


def test_kernels_are_measured_and_the_best_goes_on(folder: Path, uncompiled: list[str]) -> None:
    (peak,) = rows(folder, training.peak, "peak")
    assert peak["TFLOP/s"] > 0
    eager, compiled = rows(folder, training.kernel, "sdpa", "sdpa")
    assert (eager["compile"], compiled["compile"]) == (False, True)
    assert {"Qwen2DecoderLayer", "SiglipEncoderLayer"} <= set(uncompiled)
    for row in (eager, compiled):
        assert 0 < row["MFU useful"] < row["MFU padded"]
        assert row["positions/s"] > row["images/s"] > 0
        assert row["of measured peak"] > 0
        assert 0 <= row["data wait"] < 1
    refused = rows(folder, training.kernel, "varlen", "varlen")[1]
    assert refused["note"].startswith("not offered: compute.attention varlen")
    assert "MFU useful" not in refused
    fast = {**eager, "attention": "varlen", "compile": False, "MFU useful": 9.0}
    (folder / "varlen.jsonl").write_text(json.dumps(fast) + "\n" + '{"cut')
    found = rows(folder, training.memory, "memory")
    assert [(row["attention"], row["micro-batch"], row["checkpointing"]) for row in found] == [
        ("varlen", 2, True), ("varlen", 4, False), ("varlen", 4, True)
    ]  # fmt: skip
    assert all(row["MFU useful"] > 0 for row in found)


def test_what_fails_is_a_row_and_no_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training, "_rates", full)
    assert [row["note"] for row in rows(folder, training.memory, "memory")] == ["out of memory"] * 3


def test_bf16_is_near_fp32_and_another_gradient_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {row["attention"]: row for row in rows(folder, training.parity, "parity")}
    for kernel in ("sdpa", "varlen"):
        assert found[kernel]["ok"], found[kernel]
        assert 0 < found[kernel]["loss off"] < 1e-3
        assert found[kernel]["gradient length"] == pytest.approx(1, abs=0.05)
    assert "CPU" in found["flex"]["note"]
    true = training._gradient

    def wrong(model: Any, batch: Any, precision: str) -> tuple[float, torch.Tensor]:
        loss, gradient = true(model, batch, precision)
        return loss, gradient if precision == "fp32" else gradient.roll(1)

    monkeypatch.setattr(training, "_gradient", wrong)
    assert not any(row["ok"] for row in rows(folder, training.parity, "parity"))


def test_a_trace_is_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "varlen.jsonl").unlink(missing_ok=True)
    monkeypatch.setattr(training, "RESULTS", tmp_path / "benchmarks" / "results")
    (tmp_path / "benchmarks").mkdir()
    monkeypatch.setattr(training, "fastest", lambda folder: {"attention": "sdpa", "compile": False})
    *kernels, last = rows(folder, training.trace, "trace")
    assert [row["ms"] for row in kernels] == sorted((row["ms"] for row in kernels), reverse=True)
    assert (tmp_path / "benchmarks" / "results" / "gpu-tiny-trace.json.gz").stat().st_size > 1000
    assert "benchmarks/results/gpu-tiny-trace.json.gz" in last["kernel"]


def test_a_part_that_fails_or_hangs_ends_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "SECONDS", {"packs": 3, "peak": 3, "sdpa": 1, "trace": 30})
    monkeypatch.setattr(gpu, "GRACE", 0.0)
    written: list[dict[str, Any]] = []
    monkeypatch.setattr(gpu, "write_result", lambda name, result: written.append(result))
    shell = {
        "packs": "echo made",
        "peak": "echo CUDA error: device-side assert >&2; exit 3",
        "sdpa": f"echo '{{\"MFU useful\": 0.4}}' >> {tmp_path}/sdpa.jsonl; echo halfway; sleep 600",
        "trace": f'echo \'{{"kernel": "mm"}}\' >> {tmp_path}/trace.jsonl',
    }
    start = time.monotonic()
    ended = gpu.run_all(list(shell), tmp_path, 8.0, command=lambda part, _: ["sh", "-c", shell[part]])
    assert time.monotonic() - start < 8
    states = {one.part: one.state for one in ended}
    assert states["packs"] == states["trace"] == "ok"
    assert states["peak"] == "ended with code 3 (CUDA error: device-side assert)"
    assert states["sdpa"].startswith("stopped after 0 s (halfway)")
    assert rows_of(tmp_path, "sdpa") == [{"MFU useful": 0.4}]
    assert written[-1]["rows"] == {"packs": [], "peak": [], "sdpa": [{"MFU useful": 0.4}], "trace": [{"kernel": "mm"}]}
    late = gpu.watched("late", ["sh", "-c", "echo"], tmp_path, -1.0)
    assert late == gpu.Ended(part="late", state="not begun: the budget was spent", seconds=0.0)


def test_a_gpu_is_asked_for_with_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"no CUDA device.*--tiny"):
        gpu.main(["--parts", "peak"])
    with pytest.raises(SystemExit):
        gpu.main(["--tiny", "--budget-s", "0"])
    assert "--budget-s is 0" in capsys.readouterr().err
    assert gpu.child(True, "peak", Path("/f")) == [
        sys.executable,
        "-m",
        "benchmarks.gpu",
        "--child",
        "peak",
        "/f",
        "--tiny",
    ]


def test_every_part_has_its_share_of_nine_minutes() -> None:
    assert sum(gpu.SECONDS.values()) <= gpu.BUDGET <= 540
    assert set(training.KERNELS) <= set(gpu.PARTS)


def test_utilisation_while_fed() -> None:
    assert while_fed([0, 0, 50, 0, 100, 0]) == 50
    assert while_fed([0, 0]) is None


def test_fewer_blocks_are_as_wide() -> None:
    vision, whole = TINY.short.vision, TINY.model.vision
    assert dataclasses.replace(vision, layers=3) == whole  # type: ignore[type-var]
