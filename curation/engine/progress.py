"""Progress of long work: a bar on a terminal, a line every so often in a log file (DESIGN §4)."""

import sys
import time
from collections import Counter
from types import TracebackType
from typing import Any, Final

from tqdm import tqdm

from mmcorpus.curation.engine.terminal import shown as printed
from mmcorpus.filters.secrets import masked_text

LOG_INTERVAL_SECONDS: Final = 15.0


class Progress:
    """Counts work done, with rate, remaining time and the drop counts so far.

    >>> with Progress("score", total=3, unit="shard") as progress:
    ...     progress.advance(1, kept=90, undecodable=10)
    """

    def __init__(self, title: str, *, total: int | None, unit: str = "sample", shown: bool = True) -> None:
        self.title, self.total, self.unit, self._shown = printed(masked_text(title)), total, unit, shown
        self.done = 0
        self.counts: Counter[str] = Counter()
        self._bar: Any = None
        self._told = -1
        self._start = self._last = time.monotonic()

    def __enter__(self) -> "Progress":
        self._start = self._last = time.monotonic()
        if self._shown and sys.stderr.isatty():
            self._bar = tqdm(total=self.total, desc=self.title, unit=self.unit, dynamic_ncols=True, leave=True)
        return self

    def advance(self, amount: int = 1, **counts: int) -> None:
        """Add finished work and what became of it."""
        self.done += amount
        self.counts.update(counts)
        if self._bar is not None:
            self._bar.set_postfix_str(self._tail(), refresh=False)
            self._bar.update(amount)
        elif time.monotonic() - self._last >= LOG_INTERVAL_SECONDS:
            self._last = time.monotonic()
            self._line()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def _tail(self) -> str:
        return ", ".join(f"{name} {count:,}" for name, count in self.counts.most_common(4))

    def _line(self) -> None:
        if not self._shown or self._told == self.done:
            return
        self._told = self.done
        rate = self.done / max(self.seconds, 1e-9)
        of_total = f"/{self.total:,}" if self.total is not None else ""
        remaining = (
            f", {(self.total - self.done) / rate:.0f} s left" if self.total and rate and self.done < self.total else ""
        )
        tail = f" ({self._tail()})" if self.counts else ""
        print(
            f"{self.title}: {self.done:,}{of_total} {self.unit}, {rate:.1f}/s{remaining}{tail}",
            file=sys.stderr,
            flush=True,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None:
            self._line()
