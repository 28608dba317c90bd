"""The engine: Ray spreads shards over worker processes; one bad shard is one error, not the run's end.

Shards are plain Ray tasks, a few more in flight than there are CPUs. Ray keeps a machine's worker processes from one
run to the next, imports and all, so that a run starts in a fraction of a second; actors (Ray Data's pools) are new
processes each time, which cost 5 s a run. Where a model on a GPU is to be fed by many CPUs, see `curation.scoring.gpu`.
"""

import collections
import contextlib
import gc
import math
import os
import pickle
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, TypeVar

from mmcorpus.curation.engine.guard import guard
from mmcorpus.curation.engine.progress import Progress
from mmcorpus.curation.engine.watch import Watch
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.written import Notes, add, noting
from mmcorpus.filters import web
from mmcorpus.filters.secrets import masked_text

Item = TypeVar("Item")
Work = Callable[[Item], Mapping[str, Any]]
"""What a worker does with one item. It commits its own output and returns counts (other values ride along)."""

WORKER_DIED: Final = "worker died"
"""The kind of failure of an item whose worker process was killed at every attempt."""
IDLE_SECONDS: Final = 30.0
"""How long a worker process without an item keeps what it was set up with (a model) in memory."""
NODE_LOSSES: Final = 5
"""How often an item is begun again because the machine that worked on it was lost: none of its own tries."""
_FAILED: Final = "failed"
_NO_RAY: Final = "Ray is not running. Call ray.init() first, or use the mmcorpus command, which does."


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why an item failed, as a value: what a report shows and what decides whether the run goes on."""

    item: str
    kind: str
    """The error's type, or WORKER_DIED."""
    message: str
    disk_full: str | None = None
    """The path that was being written when the disk was full; None for every other failure."""

    @classmethod
    def of(cls, error: BaseException, item: str) -> "Failure":
        """The failure that an exception is."""
        full = str(getattr(error, "filename", None) or item) if storage.disk_is_full(error) else None
        error = web.explained(error, item) or error
        text = masked_text(str(error))
        return cls(item=masked_text(item), kind=type(error).__name__, message=text, disk_full=full)

    @property
    def reason(self) -> str:
        """`Type: message`, without the item."""
        return f"{self.kind}: {self.message}"

    def __str__(self) -> str:
        return f"{self.reason} (in {self.item})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The outcome of one item."""

    name: str
    """The item's name, e.g. the shard's."""
    result: dict[str, Any] | None
    """What the work returned; None if it failed."""
    error: Failure | None
    """None if the work succeeded."""
    seconds: float
    """Time the worker spent on it."""
    notes: Notes = field(default_factory=Notes)
    """What it committed, and what it could not read."""


def name_of(item: Any) -> str:
    """An item's name: its attribute `name`, or itself."""
    return str(getattr(item, "name", item))


def run_shards(
    make_work: Callable[[], Work[Item]],
    items: Sequence[Item],
    *,
    name: Callable[[Item], str] = name_of,
    title: str,
    workers: int | None = None,
    unit: str = "shard",
    size: Callable[[Item], int] = lambda _: 1,
    max_task_retries: int = 2,
    retries: int = 0,
    shown: bool = True,
    aside: str | None = None,
) -> list[Outcome]:
    """Run `work(item)` for every item on the Ray that is initialised; the outcomes come in the items' order.

    `make_work()` runs once in each worker process, so that models load once. The work must commit atomically, because
    an item whose worker dies is tried again `max_task_retries` times; where it died at a sample of work that is
    guarded (`engine.guard`), as often as it takes, because each time moves on by a sample. A worker has one item at a
    time, so that an item that kills its worker takes no other with it. An exception in the work is that item's
    `error`. Integers in the returned mapping show in the progress bar.

    Args:
        workers: items worked on at a time, each by a process with one CPU; None, or more than the cluster has, means
            as many as it has CPUs. 0 works in this process, without Ray: no process is ended for a sample then, of the
            budget only the processor time is kept, and only in Python code; and `make_work`'s errors are raised as
            they are.
        unit, size: what the progress bar counts, and how many of it an item is.
        retries: items that failed, by an exception or the deaths of their workers, are tried again so often, after all
            others.
        shown: whether to show progress.
        aside: the output's folder, if the work is done under `engine.guard`: it keeps what was set aside.

    Raises:
        RuntimeError: Ray is missing or not initialised, or `make_work` itself failed (a missing model, say).
        KeyboardInterrupt: the work raised it. What is committed is kept.
        OSError: a worker met a full disk.
    """
    here = workers == 0
    if here:
        work_on = _here(make_work, items, name)
    else:
        cpus = cluster_resource("CPU")

        def work_on(indices: Sequence[int], watch: Watch | None) -> Iterator[tuple[int, Outcome]]:
            return _stream(make_work, items, indices, name, workers or cpus, cpus, max_task_retries, watch)

    with contextlib.nullcontext() if aside is None else Watch.over(aside, here=here) as watch:
        return _in_turns(work_on, items, watch, Progress(title, total=sum(map(size, items)), unit=unit, shown=shown),
                         size, retries)  # fmt: skip


def _here(
    make_work: Callable[[], Work[Item]], items: Sequence[Item], name: Callable[[Item], str]
) -> Callable[[Sequence[int], Watch | None], Iterator[tuple[int, Outcome]]]:
    """What works on the items at some indices, one after the other in this process."""
    work = make_work()

    def run(item: Item, watch: Watch | None) -> Outcome:
        def one() -> dict[str, Any]:
            with contextlib.nullcontext() if watch is None else guard(watch, name(item)):
                return dict(work(item))

        return attempt(one, name(item))

    return lambda indices, watch: ((index, run(items[index], watch)) for index in indices)


def _in_turns(
    work_on: Callable[[Sequence[int], Watch | None], Iterator[tuple[int, Outcome]]],
    items: Sequence[Item],
    watch: Watch | None,
    progress: Progress,
    size: Callable[[Item], int],
    retries: int,
) -> list[Outcome]:
    """The outcomes of all items; those that fail are worked on again, after all others, `retries` times."""
    outcomes: dict[int, Outcome] = {}
    left: Sequence[int] = range(len(items))
    with progress:
        for turn in reversed(range(1 + retries)):
            failed = []
            for index, outcome in work_on(left, watch):
                outcomes[index] = outcome
                stop_at_full_disk(outcome)
                if outcome.error is not None and turn:
                    failed.append(index)
                else:
                    show(progress, outcome, size(items[index]))
            left = sorted(failed)
            if not left:
                break
    return [outcomes[index] for index in range(len(items))]


def _stream(
    make_work: Callable[[], Work[Item]],
    items: Sequence[Item],
    indices: Sequence[int],
    name: Callable[[Item], str],
    workers: int,
    cpus: int,
    retries: int,
    watch: Watch | None,
) -> Iterator[tuple[int, Outcome]]:
    """The outcomes of the items at some indices, as they finish."""
    import ray

    setup = Setup.of((make_work, name, watch))
    # Ray would not say that it tried again, and whom the dead worker accused.
    task = ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")(work_on)
    # A few wait in Ray's queue, so that no worker waits for this process.
    limit = workers if workers < cpus else cpus + math.ceil(cpus / 4)
    waiting = collections.deque(indices)
    losses, deaths = collections.Counter[int](), collections.Counter[int]()
    in_flight: dict[Any, int] = {}
    while waiting or in_flight:
        while waiting and len(in_flight) < limit:
            index = waiting.popleft()
            in_flight[task.remote(setup, ray.cloudpickle.dumps(items[index]))] = index
        # When this is interrupted, what is in flight ends with the driver, or commits the bytes that the next run
        # would: ray.cancel aborts Ray 2.60's driver when it meets a task that ends at that moment.
        done, _ = ray.wait(list(in_flight), num_returns=1, timeout=1.0)
        for reference in done:
            index = in_flight.pop(reference)
            try:
                outcome = ray.get(reference)
            except ray.exceptions.RayError as error:
                label = name(items[index])
                if isinstance(error, ray.exceptions.NodeDiedError) and losses[index] < NODE_LOSSES:
                    losses[index] += 1
                    if watch is not None:
                        watch.acquit(label)
                    waiting.appendleft(index)
                    continue
                if watch is not None and watch.accuses(label):
                    waiting.appendleft(index)
                    continue
                deaths[index] += 1
                if deaths[index] <= retries:
                    waiting.appendleft(index)
                    continue
                outcome = dead(label)
            if isinstance(outcome, Failure):
                stop_for(outcome)
            yield index, outcome


def work_on(setup: "Setup", pickled: bytes) -> Outcome | Failure:
    """The remote function: one item's outcome, or why this process could not be set up, or was interrupted.

    Raised out of here, a KeyboardInterrupt would look to Ray like the death of the worker, and be tried again.
    """
    label = "the set-up"
    try:
        with KEPT.use(setup, lambda parts: (parts[0](), *parts[1:])) as made:
            if isinstance(made, Failure):
                return made
            work, name, watch = made
            item = pickle.loads(pickled)
            label = name(item)

            def run() -> dict[str, Any]:
                with contextlib.nullcontext() if watch is None else guard(watch, label):
                    return dict(work(item))

            return attempt(run, label)
    except KeyboardInterrupt as interrupt:
        return Failure.of(interrupt, label)


def stop_for(failure: Failure) -> NoReturn:
    """Raise what a worker's failure is to the run: KeyboardInterrupt, as for Ctrl-C, or RuntimeError for a set-up."""
    if failure.kind == KeyboardInterrupt.__name__:
        raise KeyboardInterrupt(f"raised in the work on {failure.item}")
    raise RuntimeError(f"a worker could not be set up: {failure.reason}")


def attempt(work: Callable[[], dict[str, Any]], label: str) -> Outcome:
    """The outcome of a piece of work."""
    start = time.monotonic()
    result, failure = None, None
    with noting() as notes:
        try:
            result = work()
        except Exception as error:
            failure = Failure.of(error, label)
    return Outcome(name=label, result=result, error=failure, seconds=time.monotonic() - start, notes=notes)


def stop_at_full_disk(outcome: Outcome) -> None:
    """Take an outcome's notes over. Raise OSError if the disk was full: every item after it would fail as well."""
    add(outcome.notes)
    if outcome.error is not None and outcome.error.disk_full is not None:
        raise storage.full_disk(outcome.error.disk_full)


def dead(label: str) -> Outcome:
    """The outcome of an item whose worker was killed once too often."""
    failure = Failure(item=label, kind=WORKER_DIED, message="at every attempt, out of memory or killed")
    return Outcome(name=label, result=None, error=failure, seconds=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What the workers of one run are set up with: a name that no other run has, and the parts, pickled once."""

    token: str
    parts: tuple[Any, ...]
    """An object reference, in a tuple so that Ray does not fetch it for each task."""
    folder: str
    """Of the process that gives the work: what its relative paths are of."""

    @classmethod
    def of(cls, parts: tuple[Any, ...]) -> "Setup":
        """Put the parts into Ray's object store, where every worker can fetch them."""
        import ray

        return cls(token=uuid.uuid4().hex, parts=(ray.put(ray.cloudpickle.dumps(parts)),), folder=os.getcwd())

    def fetch(self) -> tuple[Any, ...]:
        """The parts, in a worker, which goes into the folder: a cluster's are where its nodes were started."""
        import ray

        with contextlib.suppress(FileNotFoundError):  # of a driver whose disk the node does not share
            os.chdir(self.folder)
        parts: tuple[Any, ...] = pickle.loads(ray.get(self.parts[0]))
        return parts


class Kept:
    """What a worker process is set up with, made at a run's first item and kept for its others.

    The process outlives the run, so what it keeps is let go when the next run begins or after `IDLE_SECONDS`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token: str | None = None
        self._made: Any = None
        self._timer: threading.Timer | None = None

    @contextlib.contextmanager
    def use(self, setup: Setup, make: Callable[[tuple[Any, ...]], Any]) -> Iterator[Any]:
        """What `make` made of the setup's parts; a Failure if it failed."""
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            if self._token != setup.token:
                self._drop()
                try:
                    self._made = make(setup.fetch())
                except Exception as error:
                    # Raised here it would reach the user as Ray's account of a task; carried, it reads as what it is.
                    self._made = Failure.of(error, "set-up")
                self._token = setup.token
            try:
                yield self._made
            finally:
                self._timer = threading.Timer(IDLE_SECONDS, self._let_go)
                self._timer.daemon = True
                self._timer.start()

    def _let_go(self) -> None:
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        self._token = self._made = None
        gc.collect()


KEPT: Final = Kept()
"""This process's."""


def show(progress: Progress, outcome: Outcome, size: int = 1) -> None:
    """Advance a progress bar by an item and its counts."""
    result = outcome.result or {}
    counts = {key: value for key, value in result.items() if isinstance(value, int) and not isinstance(value, bool)}
    progress.advance(size, **counts, **({_FAILED: 1} if outcome.error else {}))


def cluster_resource(resource: str) -> int:
    """How many the cluster has of a resource, `CPU` (at least 1) or `GPU`.

    Raises:
        RuntimeError: Ray is missing or not initialised.
    """
    try:
        import ray
    except ImportError as error:
        raise RuntimeError("Ray is not installed. Install it with: pip install 'mmcorpus[curate]'") from error
    if not ray.is_initialized():
        raise RuntimeError(_NO_RAY)
    return max(int(resource == "CPU"), int(ray.cluster_resources().get(resource, 0)))
