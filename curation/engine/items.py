"""The stages of a deduplication as tasks that commit one file each: on Ray, or in this process if there is little."""

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from mmcorpus.curation.engine.partitions import SUFFIX, says
from mmcorpus.curation.engine.progress import Progress
from mmcorpus.curation.engine.tasks import Outcome, attempt, run_shards, show
from mmcorpus.curation.store import storage

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS: Final = 16


def run_items(
    make_work: Callable[[], Callable[[Item], Mapping[str, Any]]],
    items: Sequence[Item],
    *,
    name: Callable[[Item], str],
    title: str,
    workers: int | None,
) -> list[Outcome]:
    """`mmcorpus.curation.engine.tasks.run_shards`, or with 0 workers the same in this process, without Ray."""
    if not items:
        return []
    if workers != 0:
        return run_shards(make_work, items, name=name, title=title, workers=workers, unit="task")
    work, outcomes = make_work(), []
    with Progress(title, total=len(items), unit="task") as progress:
        for item in items:
            outcomes.append(attempt(functools.partial(_plain, work, item), name(item)))
            show(progress, outcomes[-1])
    return outcomes


def _plain(work: Callable[[Item], Mapping[str, Any]], item: Item) -> dict[str, Any]:
    return dict(work(item))


def run_stage(
    folder: str,
    work: Callable[[int], Mapping[str, Any]],
    count: int,
    *,
    title: str,
    workers: int | None,
) -> list[str]:
    """Run the tasks 0 … count - 1 of a stage whose files are not there yet; returns all its files in order.

    Raises:
        RuntimeError: a task failed at every attempt; what the others committed stands.
    """
    paths = [task_path(folder, number) for number in range(count)]
    there = set(storage.list_names(folder))
    missing = [number for number in range(count) if f"{number:05d}{SUFFIX}" not in there]
    for outcome in run_items(lambda: work, missing, name=lambda n: f"{title} {n}", title=title, workers=workers):
        if outcome.error:
            raise RuntimeError(f"{outcome.error}; the rest is kept: run again to go on")
    return paths


def task_path(folder: str, number: int) -> str:
    """The file of one task."""
    return storage.join(folder, f"{number:05d}{SUFFIX}")


def total(paths: Sequence[str], count: str) -> int:
    """The sum of what the files say they counted."""
    return sum(int(said[count]) for said in threaded(says, paths))


def threaded(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Results in order; storage is waited for in threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, items))
