"""Items that commit one output each: those that are not there yet, on Ray, or in this process if there is little."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from mmcorpus.curation.engine.partitions import SUFFIX, says
from mmcorpus.curation.engine.tasks import Failure, Outcome, Work, name_of, run_shards
from mmcorpus.curation.store import storage

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """The outcome of a stage's items."""

    resumed: int
    """Items that were committed before."""
    outcomes: list[Outcome]
    """Of the others, in the items' order."""

    @property
    def failed(self) -> dict[str, Failure]:
        """By the item's name, why it failed; a rerun tries it again."""
        return {outcome.name: outcome.error for outcome in self.outcomes if outcome.error is not None}

    def or_raise(self, advice: str = "the rest is kept: run again to go on") -> "Ran":
        """Itself, for a stage of which no item may be missing. Raises RuntimeError with the first failure."""
        failed = list(self.failed.values())
        if failed:
            more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
            raise RuntimeError(f"{failed[0]}{more}; {advice}")
        return self


def run_pending(
    make_work: Callable[[], Work[Item]],
    items: Sequence[Item],
    *,
    committed: Collection[str] = (),
    name: Callable[[Item], str] = name_of,
    title: str,
    workers: int | None = None,
    unit: str = "shard",
    **spread: Any,
) -> Ran:
    """Work on the items that are not committed yet, as `run_shards` does; with 0 workers in this process, without Ray.

    Args:
        committed: names of items whose output is there.
        spread: what else `run_shards` is told: `size`, `retries`, `aside`, …

    Raises:
        RuntimeError: Ray is missing or not initialised, or `make_work` itself failed.
        OSError: the disk is full.
    """
    pending = [item for item in items if name(item) not in committed]
    outcomes: list[Outcome] = []
    if pending:
        outcomes = run_shards(make_work, pending, name=name, title=title, workers=workers, unit=unit, **spread)
    return Ran(resumed=len(items) - len(pending), outcomes=outcomes)


def run_numbered(
    folder: str, work: Callable[[int], Mapping[str, Any]], count: int, *, title: str, workers: int | None
) -> list[str]:
    """Run the tasks 0 … count - 1 whose files are not in the folder yet; returns all its files in order.

    Raises:
        RuntimeError: a task failed at every attempt; what the others committed stands.
    """
    committed = {name.removesuffix(SUFFIX) for name in storage.list_names(folder) if name.endswith(SUFFIX)}
    run_pending(
        lambda: work, range(count), committed=committed, name=lambda number: f"{number:05d}", title=title,
        workers=workers, unit="task",
    ).or_raise()  # fmt: skip
    return [task_path(folder, number) for number in range(count)]


def task_path(folder: str, number: int) -> str:
    """The file of one task."""
    return storage.join(folder, f"{number:05d}{SUFFIX}")


def total(paths: Sequence[str], count: str) -> int:
    """The sum of what the files say they counted."""
    return sum(int(said[count]) for said in storage.threaded(says, paths))
