"""Ctrl-C and SIGTERM finish the step at hand and leave a checkpoint, instead of tearing it apart."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType


class TrainingInterrupted(KeyboardInterrupt):
    """Training stopped on request after writing a checkpoint; running it again goes on from there."""


class Interrupts:
    """Keeps note of a request to stop."""

    def __init__(self) -> None:
        self.asked = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """A signal handler: the first call asks, the second stops at once."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print("stopping after this step, with a checkpoint; once more to stop at once", file=sys.stderr, flush=True)


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[Interrupts]:
    """Catch SIGINT and SIGTERM inside the block, and put the old handlers back.

    Elsewhere than in the main thread, where Python allows no handlers, nothing is caught.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = {number: signal.signal(number, interrupts.handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
