"""Pure work on a stream of jobs over Ray, its results in the jobs' order, with few of either held at once."""

import collections
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from mmcorpus.curation.engine.tasks import (
    Outcome,
    Setup,
    cluster_resource,
    name_of,
    stop_at_full_disk,
    stop_for,
    work_on,
)

Job = TypeVar("Job")
RETRIES: Final = 2
"""How often Ray begins a job again whose worker died: it has no output but its result."""


def in_order(work: Callable[[Job], dict[str, Any]], jobs: Iterable[Job]) -> Iterator[dict[str, Any]]:
    """`work(job)` of each job, on the Ray that is initialised, in the jobs' order.

    A job is asked for when there is room for it: of jobs and results as many are held as there are CPUs, and a half
    more. Jobs need a `name`.

    Raises:
        ValueError: the work raised it, so that bad input reads as it does without Ray.
        RuntimeError: Ray is not initialised, or the work failed otherwise.
        OSError: the disk is full.
    """
    import ray

    setup = Setup.of((lambda: work, name_of, None))
    task = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(work_on)
    ahead = math.ceil(1.5 * cluster_resource("CPU"))
    waiting: collections.deque[Any] = collections.deque()
    for job in jobs:
        waiting.append((name_of(job), task.remote(setup, ray.cloudpickle.dumps(job))))
        if len(waiting) > ahead:
            yield _result(*waiting.popleft())
    while waiting:
        yield _result(*waiting.popleft())


def _result(name: str, reference: Any) -> dict[str, Any]:
    import ray

    try:
        outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        raise RuntimeError(f"the worker of {name} died at every attempt, out of memory or killed") from error
    if not isinstance(outcome, Outcome):
        stop_for(outcome)
    stop_at_full_disk(outcome)
    if outcome.error is not None:
        raise (ValueError if outcome.error.kind == ValueError.__name__ else RuntimeError)(outcome.error.message)
    assert outcome.result is not None
    return outcome.result
