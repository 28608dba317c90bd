"""Processes that tests start in order to stop them, at a moment that is looked for and by a signal that is proven."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any


def interruptible() -> None:
    """The `preexec_fn` of a process that is to hear Ctrl-C.

    Python takes no notice of SIGINT where it starts with that signal ignored, and so do all children of a suite that a
    shell started in the background.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(reached: Callable[[], object], process: "subprocess.Popen[Any]", seconds: float = 240.0) -> None:
    """Wait for something that a process does; fails if it ends before that, or has not done it in time."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None, f"it ended by itself, with {process.returncode}, before it was to be stopped"
        assert time.monotonic() < deadline, f"it did not get so far in {seconds:.0f} s"
        time.sleep(0.005)


def kill(process: "subprocess.Popen[Any]", *, group: bool = False) -> None:
    """SIGKILL for a process, and for its group where it leads one; fails if it had ended by itself."""
    if group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait(60)
    assert process.returncode == -signal.SIGKILL, f"it ended by itself, with {process.returncode}"


def kill_in_the_midst(process: "subprocess.Popen[Any]", amid: Callable[[], object], *, seconds: float = 240.0) -> None:
    """SIGKILL at the first moment at which `amid` holds of the process stopped, so that it holds of what is killed."""
    deadline = time.monotonic() + seconds
    while True:
        wait_until(amid, process, deadline - time.monotonic())
        process.send_signal(signal.SIGSTOP)
        if amid():
            kill(process)
            return
        process.send_signal(signal.SIGCONT)
