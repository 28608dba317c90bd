"""Training on all GPUs of this machine from one command: a process each, started here and stopped with us.

Each process is what torchrun would start (RANK and the rest in its environment) and runs `train`; several machines are
for torchrun, which every process may as well be started by. A request to stop is passed on once, so that a checkpoint
is written. If one process fails, the others, which wait for it, are ended, and its error is raised here.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmcorpus.training.errors import carriable
from mmcorpus.training.rendezvous import environments
from mmcorpus.training.signals import TrainingInterrupted, deferred_interrupts

if TYPE_CHECKING:
    from mmcorpus.training.vision_language import TrainReport

_GRACE: Final = 15.0
"""Seconds that the other processes have to end by themselves once one has failed."""


def processes_here(device: str | None, wanted: int | None) -> int:
    """How many processes to start: `wanted`, or one a GPU; 1 inside a process that was started already."""
    if "RANK" in os.environ:
        return 1
    if wanted is not None and wanted < 1:
        raise ValueError(f"processes is {wanted}; give 1 or more, or leave it out for one a GPU")
    if device not in (None, "cuda") or wanted == 1:
        return wanted or 1
    import torch

    gpus = torch.cuda.device_count()
    if wanted is not None and 0 < gpus < wanted:
        raise ValueError(
            f"processes is {wanted}, and each has a GPU of its own, of which there are {gpus} here; leave it out for "
            "one a GPU, or say that the device is the cpu"
        )
    return wanted or max(1, gpus)


def launch(processes: int | None, *arguments: Any, device: str | None = None, **named: Any) -> "TrainReport":
    """`train` with these arguments in so many processes on this machine; None for one a GPU, 1 for this very process.

    Raises what `train` raises.
    """
    count = processes_here(device, processes)
    if count == 1:
        from mmcorpus.training.vision_language import train

        return train(*arguments, device=device, **named)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "call").write_bytes(pickle.dumps((arguments, {**named, "device": device})))
        _run(count, folder)
        report: TrainReport = pickle.loads(Path(folder, "report").read_bytes())
    return report


def _run(count: int, folder: str) -> None:
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // count))
    running = list[subprocess.Popen[bytes]]()
    with deferred_interrupts() as interrupts:
        try:
            for environment in environments(count, folder):
                running.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "mmcorpus.training.launch", folder],
                        env={**environment, "OMP_NUM_THREADS": threads},
                        stdin=subprocess.PIPE,  # closes when we are gone, which ends them
                        start_new_session=True,  # a terminal's Ctrl-C reaches us alone, and is passed on once
                    )
                )
            told, failed_at = False, None
            while any(process.poll() is None for process in running):
                if interrupts.asked and not told:
                    told = True
                    for process in running:
                        process.send_signal(signal.SIGTERM)
                if failed_at is None and any(process.poll() not in (None, 0) for process in running):
                    failed_at = time.monotonic()
                if failed_at is not None and time.monotonic() - failed_at > _GRACE:
                    break
                time.sleep(0.05)
        finally:
            for process in running:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()
    codes = [process.returncode for process in running]
    if any(codes):
        raise _error(folder, codes, stopped=interrupts.asked)


def _error(folder: str, codes: list[int], *, stopped: bool) -> BaseException:
    """What went wrong first, as far as a process could say it; `stopped`: they were asked to."""
    if stopped and -signal.SIGTERM in codes:  # ended at once, and took the others along: it was in no step
        return TrainingInterrupted(
            "stopped while no step was under way; run again to go on from the last checkpoint, or to begin if there is "
            "none"
        )
    told = sorted(Path(folder).glob("error-*"), key=lambda path: path.stat().st_mtime_ns)
    if told:
        error: BaseException = pickle.loads(told[0].read_bytes())
        return error
    rank, code = next((rank, code) for rank, code in enumerate(codes) if code)
    return RuntimeError(f"training process {rank} of {len(codes)} ended with code {code} and without a word")


def _worker(folder: str) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    arguments, named = pickle.loads(Path(folder, "call").read_bytes())
    rank = os.environ["RANK"]
    try:
        from mmcorpus.training.vision_language import train

        report = train(*arguments, **named)
    except BaseException as error:
        part = Path(folder, f"part-{rank}")
        part.write_bytes(pickle.dumps(carriable(error)))
        part.rename(Path(folder, f"error-{rank}"))
        sys.stderr.flush()
        os._exit(1)  # the others wait in a collective: no farewell to them
    if rank == "0":
        Path(folder, "report").write_bytes(pickle.dumps(report))


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    _worker(sys.argv[1])
