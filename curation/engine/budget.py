"""The budget of a sample: how much processor time, time and memory one may cost a worker before it is set aside."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

DIED: Final = "worker_died: twice"
"""The reason of a sample that took its worker down two times."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleBudget:
    """Limits on the cost of one sample – a page, an image, a row that a scorer judges – before it is set aside.

    What is set aside has a reason instead of a result (`cpu_limit`, `time_limit`, `memory_limit`, `worker_died`), and
    its shard is finished without it. The budget is far above what any sane sample takes: it decides nothing else.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    cpu_seconds: float = 20.0
    """Processor time of the thread that works on it, so that a loaded machine sets nothing aside. Code that does not
    come back to Python is stopped, with its process, at twice that and a second, all its threads counted."""
    wall_seconds: float = 600.0
    """Time by the clock, for what waits for ever."""
    memory_gib: float = 8.0
    """What it may allocate beyond what the worker held when it began its shard, in GiB; on Linux. Where GPUs are used
    in the worker's own process it is not watched."""

    def __post_init__(self) -> None:
        for name in ("cpu_seconds", "wall_seconds", "memory_gib"):
            if not getattr(self, name) > 0:
                raise ValueError(f"sample_budget.{name} is {getattr(self, name)}; give a number above 0")

    @property
    def over_cpu(self) -> str:
        """The reason of a sample that took more processor time."""
        return f"cpu_limit: over {self.cpu_seconds:g} s"

    @property
    def over_wall(self) -> str:
        """The reason of a sample that took longer by the clock."""
        return f"time_limit: over {self.wall_seconds:g} s"

    @property
    def over_memory(self) -> str:
        """The reason of a sample that wanted more memory."""
        return f"memory_limit: over {self.memory_gib:g} GiB"

    @property
    def reasons(self) -> frozenset[str]:
        """Those that this budget gives. What another budget set aside is tried again."""
        return frozenset((self.over_cpu, self.over_wall, self.over_memory, DIED))


_budget = SampleBudget()


def current_budget() -> SampleBudget:
    """The budget that work which begins now is given."""
    return _budget


@contextlib.contextmanager
def use_budget(budget: SampleBudget) -> Iterator[None]:
    """Give the work that begins in this block, in this process, another budget than the default."""
    global _budget
    before, _budget = _budget, budget
    try:
        yield
    finally:
        _budget = before
