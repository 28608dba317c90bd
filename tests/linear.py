"""A check that a function's time is linear in its input, on the input that is worst for it."""

import contextlib
import gc
import time
from collections.abc import Callable
from typing import Any

TICK = 0.02
"""Seconds from which on a time says something."""


def assert_linear(
    function: Callable[[Any], object], make: Callable[[int], Any], *, least: int = 1_000, most: int = 200_000
) -> None:
    """Four times the input may take eight times as long, and a moment; what is quadratic takes sixteen times.

    Args:
        function: gets an input; its result and its `ValueError`s do not matter.
        make: an input of about so many characters or bytes.
        least: the size to begin with. It is doubled until the time can be measured.
        most: the size to double up to. What cannot be measured there takes no time worth it.
    """
    size = least
    while size < most and _seconds(function, make(size)) < TICK:
        size *= 2
    small, large = make(size), make(4 * size)
    tries = []
    for _ in range(3):
        before, after = _seconds(function, small), _seconds(function, large)
        if after < 8 * before + 0.1:
            return
        tries.append(f"{before:.3f} s, {after:.3f} s")
    raise AssertionError(f"of size {size:,} and of four times as much: " + "; ".join(tries))


def _seconds(function: Callable[[Any], object], data: Any) -> float:
    """Without the garbage collector, as `timeit` does: it goes over all that other tests have left in the process, more
    often the more objects a function makes."""
    gc.disable()
    try:
        start = time.process_time()
        with contextlib.suppress(ValueError):
            function(data)
        return time.process_time() - start
    finally:
        gc.enable()
