"""Whether a function's time grows with its input and not with its square, on a loaded machine too."""

import time
from collections.abc import Callable
from typing import Any

SLACK = 0.05
"""Seconds that say nothing."""


def check_linear(function: Callable[[Any], object], make: Callable[[int], Any], size: int) -> None:
    """Fails if four times the input takes more than eight times as long (a square takes sixteen).

    Args:
        make: the worst input of a size.
        size: so large that a square would take seconds.
    """
    small, large = make(size), make(4 * size)
    function(make(16))  # what is made once
    for attempt in range(3):
        one, other = min(_seconds(function, small) for _ in range(3)), _seconds(function, large)
        if other < 8 * one + SLACK * (attempt + 1):
            return
    raise AssertionError(f"{size:,} take {one:.3f} s, {4 * size:,} take {other:.3f} s")


def _seconds(function: Callable[[Any], object], given: Any) -> float:
    start = time.perf_counter()
    function(given)
    return time.perf_counter() - start
