"""The engine: Ray Data spreads shards over worker processes; one bad shard is one error, not the run's end."""

import contextlib
import logging
import pickle
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from curation import storage
from curation.progress import Progress

Item = TypeVar("Item")
Work = Callable[[Item], Mapping[str, Any]]
"""What a worker does with one item. It commits its own output and returns counts (other values ride along)."""

WORKER_DIED: Final = "worker died"
"""How the error of an item begins whose worker process was killed at every attempt."""
_FAILED: Final = "failed"
_NO_RAY: Final = "Ray is not running. Call ray.init() first, or use the mmcorpus command, which does."


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one item."""

    name: str
    """The item's name, e.g. the shard's."""
    result: dict[str, Any] | None
    """What the work returned; None if it failed."""
    error: str | None
    """`Type: message (in NAME)`; None if the work succeeded."""
    seconds: float
    """Time the worker spent on it."""


def run_shards(
    make_work: Callable[[], Work[Item]],
    items: Sequence[Item],
    *,
    name: Callable[[Item], str] = str,
    title: str,
    workers: int | None = None,
    unit: str = "shard",
    max_task_retries: int = 2,
) -> list[Outcome]:
    """Run `work(item)` for every item on the Ray that is initialised; the outcomes come in the items' order.

    `make_work()` runs once in each worker process, so that models load once. The work must commit atomically, because
    an item whose worker dies is tried again `max_task_retries` times, and then once more with nothing else in flight
    on its worker, so that an item that kills its worker takes no innocent one with it. An exception in the work is
    that item's `error`. Integers in the returned mapping show in the progress bar.

    Args:
        workers: worker processes of one CPU each; None, or more than the cluster has, means as many as it has.

    Raises:
        RuntimeError: Ray is missing or not initialised, or `make_work` itself failed (a missing model, say).
        OSError: a worker met a full disk.
    """
    cpus = _cluster_cpus()
    outcomes: dict[int, Outcome] = {}
    with Progress(title, total=len(items), unit=unit) as progress:
        for retries, in_flight in ((max_task_retries, 2), (0, 1)):
            missing = [index for index in range(len(items)) if index not in outcomes]
            if not missing:
                break
            pool = min(workers or cpus, cpus, len(missing))
            for index, outcome in _stream(make_work, items, missing, name, pool, retries, in_flight):
                outcomes[index] = outcome
                _advance(progress, outcome)
                full = storage.full_disk_in([outcome.error or ""])
                if full is not None:  # every item after it would be worked on for nothing
                    raise full
        for index, item in enumerate(items):
            if index not in outcomes:
                label = name(item)
                error = f"{WORKER_DIED} at every attempt, out of memory or killed (in {label})"
                outcomes[index] = Outcome(name=label, result=None, error=error, seconds=0.0)
                _advance(progress, outcomes[index])
    return [outcomes[index] for index in range(len(items))]


def _stream(
    make_work: Callable[[], Work[Item]],
    items: Sequence[Item],
    chosen: list[int],
    name: Callable[[Item], str],
    pool: int,
    retries: int,
    in_flight: int,
) -> Iterator[tuple[int, Outcome]]:
    """The outcomes of the chosen items as they finish; none for an item whose worker died once too often."""
    import ray

    rows = [{"index": index, "item": ray.cloudpickle.dumps(items[index])} for index in chosen]
    with _quiet_context():
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Worker,
            batch_size=1,
            zero_copy_batch=True,
            fn_constructor_args=(ray.cloudpickle.dumps((make_work, name)),),
            compute=ray.data.ActorPoolStrategy(size=pool, max_tasks_in_flight_per_actor=in_flight),
            num_cpus=1,
            max_restarts=-1,
            max_task_retries=retries,
        )
        for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0):
            for index, pickled in zip(batch["index"], batch["outcome"], strict=True):
                outcome = pickle.loads(pickled)
                if isinstance(outcome, str):
                    raise RuntimeError(f"a worker could not be set up: {outcome}")
                yield int(index), outcome


class _Worker:
    """Lives in a Ray actor: sets up once, then turns one item at a time into its outcome."""

    def __init__(self, pickled: bytes) -> None:
        make_work, self._name = pickle.loads(pickled)
        self._broken: str | None = None
        try:
            self._work = make_work()
        except Exception as error:
            # Raised here it would reach the user as Ray's account of a dead actor; carried, it reads as what it is.
            self._broken = f"{type(error).__name__}: {error}"

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        outcomes = [pickle.dumps(self._broken or self._run(pickle.loads(item))) for item in batch["item"]]
        return {"index": batch["index"], "outcome": outcomes}

    def _run(self, item: Any) -> Outcome:
        label = self._name(item)
        start = time.monotonic()
        try:
            result = dict(self._work(item))
        except Exception as error:
            message = f"{type(error).__name__}: {error} (in {label})"
            return Outcome(name=label, result=None, error=message, seconds=time.monotonic() - start)
        return Outcome(name=label, result=result, error=None, seconds=time.monotonic() - start)


def _advance(progress: Progress, outcome: Outcome) -> None:
    result = outcome.result or {}
    counts = {key: value for key, value in result.items() if isinstance(value, int) and not isinstance(value, bool)}
    progress.advance(1, **counts, **({_FAILED: 1} if outcome.error else {}))


def _cluster_cpus() -> int:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise RuntimeError("Ray Data is not installed. Install it with: pip install 'mmcorpus[curate]'") from error
    if not ray.is_initialized():
        raise RuntimeError(_NO_RAY)
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


@contextlib.contextmanager
def _quiet_context() -> Iterator[None]:
    """Ray Data without its own bars and chatter, and going on past blocks whose worker died; the user's settings are
    put back afterwards."""
    from ray.data import DataContext

    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with DataContext.current(context), warnings.catch_warnings():
            # Without max_task_retries an item that kills its worker would be tried for ever; no named parameter has it.
            warnings.filterwarnings("ignore", message=".*ray_remote_args.*")
            yield
    finally:
        logger.setLevel(level)
