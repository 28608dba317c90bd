"""What one GPU reaches: training at Open-Qwen2VL's sizes, and the stages that score. Nothing is fetched.

    python -m benchmarks.gpu                              # at most nine minutes of one H200
    python -m benchmarks.gpu --parts peak flex memory     # some of it
    python -m benchmarks.gpu --tiny                       # the same code on a CPU; its numbers mean nothing

    peak              TFLOP/s of large bf16 products
    sdpa flex varlen  a training step by each attention kernel, eager and with compiled blocks: Qwen2.5-1.5B and
                      SigLIP-SO400M with random weights, packs of 4,096 positions, 144 an image, the encoder frozen
    memory            the fastest of these x activation checkpointing x micro-batch
    parity            loss and gradient in bf16 against fp32, of each kernel
    resume            a run killed by SIGKILL and run again, beside one that was not
    trace             one step under torch's profiler (results/gpu-trace.json.gz)
    clip perplexity   those stages, fed by the CPUs: rate, and the GPU's utilisation

`MFU useful` counts positions that are not padding, attention within samples, the LM head at targets, and the encoder
(`training/speed.py`, the trainer's own), against the data sheet's peak; `of measured peak` against that of `peak`.
Each part is a process of its own with a time-out: what fails or runs out of memory ends that part alone, and the rows
that it had measured stay. Seconds that a part leaves over go to those after it.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.common import show, write_result

SECONDS: Final = {
    "packs": 20, "peak": 20, "sdpa": 70, "flex": 90, "varlen": 30, "memory": 115, "parity": 30, "resume": 50,
    "trace": 30, "clip": 40, "perplexity": 35,
}  # fmt: skip
"""The share that each part has of the time, in seconds of the default budget; `packs` goes before all others."""
PARTS: Final = tuple(part for part in SECONDS if part != "packs")
BUDGET: Final = 530.0
GRACE: Final = 3.0
"""Seconds that ending a part takes, kept back from its time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """How a part ended."""

    part: str
    state: str
    """`ok`, or why it did not come to its end."""
    seconds: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts one after another, show each one's table, and keep results/gpu.json up to date after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS, metavar="PART", help="; ".join(PARTS))
    parser.add_argument("--budget-s", type=float, default=BUDGET, help="seconds for all parts together")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--child", nargs=2, metavar=("PART", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        run_part(given.child[0], Path(given.child[1]), tiny=given.tiny)
        return
    if given.budget_s <= 0:
        parser.error(f"--budget-s is {given.budget_s:g}; give seconds, e.g. {BUDGET:g}")
    if not given.tiny:
        require_cuda()
    parts = [part for part in PARTS if part in given.parts]
    with tempfile.TemporaryDirectory(prefix="mmcorpus-gpu-") as folder:
        ended = run_all(["packs", *parts], Path(folder), given.budget_s, command=functools.partial(child, given.tiny))
    failed = [f"{one.part}: {one.state}" for one in ended if one.state != "ok"]
    if failed:
        raise SystemExit(f"{len(failed)} of {len(ended)} parts did not come to their end:\n  " + "\n  ".join(failed))


def require_cuda() -> None:
    """Exit with words where there is no GPU."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit(
            "no CUDA device is here, and this measures one GPU. `python -m benchmarks.gpu --tiny` runs the same code "
            "on the CPU at tiny sizes"
        )


def child(tiny: bool, part: str, folder: Path) -> list[str]:
    """The command line of a part's process."""
    return [sys.executable, "-m", "benchmarks.gpu", "--child", part, str(folder), *(["--tiny"] if tiny else [])]


def run_all(
    parts: Sequence[str], folder: Path, budget: float, *, command: Callable[[str, Path], list[str]]
) -> list[Ended]:
    """Each part in a process of its own, with its share of the time that is left then."""
    from benchmarks.gpu.sizes import rows_of

    deadline, ended, tables = time.monotonic() + budget, list[Ended](), dict[str, list[dict[str, Any]]]()
    for number, part in enumerate(parts):
        left = deadline - time.monotonic() - GRACE
        share = SECONDS.get(part, 30) / sum(SECONDS.get(later, 30) for later in parts[number:])
        ended.append(watched(part, command(part, folder), folder, left * share))
        rows = tables[part] = rows_of(folder, part)
        state = ended[-1].state
        show(f"{part}: {state}, {ended[-1].seconds:.0f} s", rows or [{"rows": "none"}])
        result = {"budget_s": budget, "parts": [dataclasses.asdict(one) for one in ended], "rows": tables}
        name = "gpu-tiny" if "--tiny" in command(part, folder) else "gpu"
        path = write_result(name, result)
        if part == "packs" and state != "ok":
            break  # all others read them
    print(path)
    return ended


def watched(part: str, command: Sequence[str], folder: Path, seconds: float) -> Ended:
    """Run a part's process, and end it and all that it started if it takes longer."""
    if seconds <= 0:
        return Ended(part=part, state="not begun: the budget was spent", seconds=0.0)
    start = time.monotonic()
    with open(folder / f"{part}.log", "w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(timeout=seconds)
            state = "ok" if code == 0 else f"ended with code {code}"
        except subprocess.TimeoutExpired:
            state = f"stopped after {seconds:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.seek(0)
        said = [line.strip() for line in log.read().splitlines() if line.strip()]
    if state != "ok" and said:
        state += f" ({said[-1][:300]})"
    return Ended(part=part, state=state, seconds=time.monotonic() - start)


def run_part(part: str, folder: Path, *, tiny: bool) -> None:
    """One part, in this process; its rows go to `folder/PART.jsonl` as they are measured."""
    from benchmarks.gpu import resume, scoring, sizes, training

    kernels = {name: functools.partial(training.kernel, name) for name in training.KERNELS}
    parts: dict[str, Callable[[sizes.Sizes, Path, sizes.Emit], None]] = {
        "packs": lambda size, folder, emit: sizes.make_packs(size, folder),
        "peak": training.peak,
        **kernels,
        "memory": training.memory,
        "parity": training.parity,
        "resume": resume.resume,
        "trace": training.trace,
        "clip": scoring.clip,
        "perplexity": scoring.perplexity,
    }
    with open(folder / f"{part}.jsonl", "a", encoding="utf-8") as file:

        def emit(row: dict[str, Any]) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()

        parts[part](sizes.TINY if tiny else sizes.FULL, folder, emit)


if __name__ == "__main__":
    main()
