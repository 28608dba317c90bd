"""The limits of one sample's work, kept by the kernel: timers that interrupt or end the process, and its memory."""

import faulthandler
import os
import resource
import signal
import sys
import threading
import time
from typing import Any, Final

from mmcorpus.curation.engine.budget import SampleBudget

_PAGE: Final = resource.getpagesize()


class OverBudget(BaseException):
    """Raised in the midst of a sample's work. No Exception, so that code which catches these does not go on."""


class Clock:
    """The kernel's timers and limits over one sample at a time. Timers are a process's, and only its main thread can be
    interrupted: in any other nothing is timed."""

    def __init__(self, budget: SampleBudget, traces: tuple[int, int] | None, *, ends: bool = True) -> None:
        """`ends`: whether a limit may end the process, or only interrupt Python code that is over its time."""
        self._budget, self.running, self._ends = budget, False, ends
        self._limit = self._began = 0.0
        self._memory = resource.getrlimit(resource.RLIMIT_DATA)
        self._statm: int | None = None
        """The file of what this process holds, where the system has one."""
        self._timed = threading.current_thread() is threading.main_thread()
        self._before: Any = None
        if self._timed:
            self._before = signal.signal(signal.SIGPROF, self._over)
            for number, trace in zip((signal.SIGVTALRM, signal.SIGALRM), traces or (None, None), strict=True):
                if trace is not None:
                    faulthandler.register(number, file=trace, all_threads=False, chain=True)
        if ends and sys.platform == "linux" and not _uses_gpu():
            self._statm = os.open("/proc/self/statm", os.O_RDONLY)

    def start(self, share: float) -> None:
        """Begin a sample, or a batch that may take so many samples' time."""
        self._limit = self._budget.cpu_seconds * share
        if self._statm is not None:
            held = int(os.pread(self._statm, 256, 0).split()[5]) * _PAGE
            soft, hard = self._memory
            wanted = held + int(self._budget.memory_gib * 2**30)
            if soft == resource.RLIM_INFINITY or wanted < soft:
                most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
                resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
        self._began, self.running = time.thread_time(), True
        if self._timed:
            signal.setitimer(signal.ITIMER_PROF, self._limit)
        if self._timed and self._ends:
            signal.setitimer(signal.ITIMER_VIRTUAL, 2 * self._limit + 1)
            signal.setitimer(signal.ITIMER_REAL, self._budget.wall_seconds * max(1.0, share / 2))

    def stop(self) -> None:
        """End it; what the clock counted is forgotten."""
        self.running = False
        if self._timed:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        if self._statm is not None:
            resource.setrlimit(resource.RLIMIT_DATA, self._memory)

    def close(self) -> None:
        """Put back what this process did at these signals before."""
        self.stop()
        if self._timed:
            for number in (signal.SIGVTALRM, signal.SIGALRM):
                faulthandler.unregister(number)
            signal.signal(signal.SIGPROF, self._before or signal.SIG_DFL)
        if self._statm is not None:
            os.close(self._statm)
            self._statm = None

    def _over(self, *_: object) -> None:
        if not self.running:
            return
        left = self._limit - (time.thread_time() - self._began)
        if left > 0:  # the timer counts other threads too, of which the sample knows nothing
            signal.setitimer(signal.ITIMER_PROF, max(left, 0.01))
            return
        raise OverBudget


def _uses_gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())
