"""Models fed by decoders: shards are read and decoded on many CPUs, and their batches stream to models on GPUs.

Ray Data runs both ends and holds the decoders back when the models cannot keep up. Decoders are tasks that yield a
batch at a time; models are actors, one a GPU, that work on one batch while the next is on its way to the device.
Results come back here in any order, are put together shard by shard, and each shard is committed when it is whole.
"""

import contextlib
import functools
import logging
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from mmcorpus.curation.engine.guard import guard
from mmcorpus.curation.engine.progress import Progress
from mmcorpus.curation.engine.tasks import KEPT, Failure, Outcome, Setup, dead, show, stop_at_full_disk, stop_for
from mmcorpus.curation.engine.watch import Watch
from mmcorpus.curation.scoring.batches import Part, assemble
from mmcorpus.curation.scoring.shard import (
    Outputs,
    PreparedBatch,
    ScoreShard,
    ShardScores,
    ShardWork,
    own_this_process,
    scorer_error,
)
from mmcorpus.filters.model import ModelScorer
from mmcorpus.filters.run_scorer import judge_prepared

IN_FLIGHT: Final = 4
"""Batches that wait at a model for the one before to end."""
COMMITTERS: Final = 4
"""Shards that are written at a time."""
_ROUNDS: Final = 2
"""A shard that lost a batch because workers died is done once more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedConfig:
    """Who decodes and who judges."""

    decoders: int
    """Tasks that decode, of one CPU each."""
    models: int
    """Processes that hold the models."""
    gpus: int
    """GPUs that each of those has: 1, or 0 to hold the models on CPUs."""
    retries: int = 2
    """How often a task whose worker died is tried again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """The models' result for one batch."""

    shard: str
    index: int
    positions: list[int]
    tables: dict[str, pa.Table | str]
    """By scorer; text where it broke."""


def feed_models(
    make_decoder: Callable[[], ScoreShard],
    scorers: Sequence[ModelScorer],
    works: Sequence[ShardWork],
    outputs: Outputs,
    config: FeedConfig,
) -> list[Outcome]:
    """Score shards with models that are fed; the outcomes are those of `ScoreShard` and come in the works' order.

    Args:
        make_decoder: makes what reads and decodes, and judges what needs no model; it hands on what is for `scorers`.
        scorers: their models are loaded once in each model process.

    Raises:
        RuntimeError: a decoder or a model could not be set up.
    """
    outcomes: dict[str, Outcome] = {}
    with Watch.over(outputs.scores) as watch, Progress("score", total=len(works), unit="shard") as progress:
        rounds, learnt = _ROUNDS, watch.learnt()
        while rounds and (missing := [work for work in works if work.shard.name not in outcomes]):
            messages = _stream(make_decoder, scorers, missing, config, watch)
            for outcome in _commit(messages, scorers, missing, outputs):
                outcomes[outcome.name] = outcome
                show(progress, outcome)
                stop_at_full_disk(outcome)
            # A round that moved on by a sample that kills its worker is not one of a shard's tries.
            rounds, learnt = rounds - (watch.learnt() == learnt), watch.learnt()
        for work in works:
            if work.shard.name not in outcomes:
                outcomes[work.shard.name] = dead(work.shard.name)
                show(progress, outcomes[work.shard.name])
    return [outcomes[work.shard.name] for work in works]


@dataclass(kw_only=True, slots=True)
class _Shard:
    """What has come back of a shard so far."""

    parts: dict[str, dict[int, Part]] = field(default_factory=dict)
    """By scorer and batch: a batch that is judged twice, because a decoder died after handing it on, is one."""
    errors: dict[str, str] = field(default_factory=dict)
    scores: ShardScores | None = None

    def add(self, message: Result | ShardScores) -> None:
        if isinstance(message, ShardScores):
            self.scores = message
            return
        for scorer, table in message.tables.items():
            if isinstance(table, str):
                self.errors.setdefault(scorer, table)
            else:
                self.parts.setdefault(scorer, {})[message.index] = (message.positions, table)

    def is_whole(self) -> bool:
        return self.scores is not None and all(
            scorer in self.errors or len(self.parts.get(scorer, ())) == count
            for scorer, count in self.scores.handed.items()
        )

    def commit(self, scorers: Sequence[ModelScorer], outputs: Outputs) -> Outcome:
        scores = self.scores
        assert scores is not None
        for scorer in scorers:
            if scorer.name in scores.handed and scorer.name not in self.errors:
                parts = [part for _, part in sorted(self.parts.get(scorer.name, {}).items())]
                table = assemble(scorer, parts, scores.uids)
                scores.tables[scorer.name] = outputs.commit(scorer, scores.shard, table)
        scores.errors.extend(scorer_error(name, error, scores.shard) for name, error in sorted(self.errors.items()))
        return Outcome(name=scores.shard, result=scores.result(), error=None, seconds=0.0)


def _commit(
    messages: Iterable[Result | ShardScores | Outcome],
    scorers: Sequence[ModelScorer],
    works: Sequence[ShardWork],
    outputs: Outputs,
) -> Iterator[Outcome]:
    """The outcomes of shards as they are whole and written; none for one that lost a batch."""
    shards = {work.shard.name: _Shard() for work in works}
    writing: set[Future[Outcome]] = set()
    with ThreadPoolExecutor(COMMITTERS) as pool:
        for message in messages:
            if isinstance(message, Outcome):
                if shards.pop(message.name, None) is not None:
                    yield message
                continue
            shard = shards.get(message.shard)
            if shard is None:
                continue  # a late copy of what a dead worker had sent
            shard.add(message)
            if shard.is_whole():
                del shards[message.shard]
                writing.add(pool.submit(shard.commit, scorers, outputs))
            # No more wait to be written than are, so that what is whole does not pile up here.
            while writing and (done := wait(writing, 0 if len(writing) <= COMMITTERS else None, FIRST_COMPLETED).done):
                writing -= done
                yield from (future.result() for future in done)
        for future in writing:
            yield future.result()


def _stream(
    make_decoder: Callable[[], ScoreShard],
    scorers: Sequence[ModelScorer],
    works: Sequence[ShardWork],
    config: FeedConfig,
    watch: Watch,
) -> Iterator[Result | ShardScores | Outcome]:
    """What decoders and models send back, in any order."""
    import ray
    import ray.data

    rows = [{"work": ray.cloudpickle.dumps(work)} for work in works]
    models = ray.data.ActorPoolStrategy(
        size=config.models,
        max_tasks_in_flight_per_actor=IN_FLIGHT,
        # Two threads on a GPU: one waits for it while the other brings the next batch. On CPUs they would only compete.
        max_concurrent_calls_per_actor=2 if config.gpus else 1,
        enable_true_multi_threading=bool(config.gpus),
    )
    with _quiet_context():
        decoded = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            functools.partial(_decode, setup=Setup.of((make_decoder, watch))),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=1,
            max_retries=config.retries,
            compute=ray.data.TaskPoolStrategy(size=min(config.decoders, len(rows))),
        )
        judged = decoded.map_batches(
            _Models,
            fn_constructor_args=(ray.cloudpickle.dumps(list(scorers)),),
            batch_size=1,
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=models,
            num_cpus=0,
            num_gpus=config.gpus,
            max_restarts=-1,
            max_task_retries=config.retries,
        )
        for block in judged.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for message in _unpack(block):
                if isinstance(message, Failure):
                    stop_for(message)
                yield message


def _decode(block: pa.Table, setup: Setup) -> Iterator[pa.Table]:
    """A task: one shard's batches for the models, then what became of the rest of it."""
    work: ShardWork = pickle.loads(block["work"][0].as_py())
    with KEPT.use(setup, lambda parts: (parts[0](), parts[1])) as made:
        if isinstance(made, Failure):
            yield _pack(made)
            return
        (decoder, watch), name = made, work.shard.name
        try:
            with guard(watch, name):
                for message in decoder.steps(work):
                    yield _pack(message)
        except Exception as error:
            yield _pack(Outcome(name=name, result=None, error=Failure.of(error, name), seconds=0.0))
        except KeyboardInterrupt as interrupt:
            yield _pack(Failure.of(interrupt, name))


class _Models:
    """An actor: holds the models; what is not for them passes through."""

    def __init__(self, pickled: bytes) -> None:
        scorers: list[ModelScorer] = pickle.loads(pickled)
        self._scorers = {scorer.name: scorer for scorer in scorers}
        self._broken: Failure | None = None
        try:
            own_this_process([scorer for scorer in scorers if scorer.device == "cpu"])
            self._judges = {scorer.name: scorer.load_model() for scorer in scorers}
        except Exception as error:
            # Raised here it would reach the user as Ray's account of a dead actor; carried, it reads as what it is.
            self._broken = Failure.of(error, "set-up")

    def __call__(self, block: pa.Table) -> pa.Table:
        if self._broken is not None:
            return _pack(self._broken)
        message = next(_unpack(block))
        try:
            return _pack(self._judge(message)) if isinstance(message, PreparedBatch) else block
        except KeyboardInterrupt as interrupt:
            return _pack(Failure.of(interrupt, message.shard))

    def _judge(self, batch: PreparedBatch) -> Result:
        tables: dict[str, pa.Table | str] = {}
        for name, prepared in batch.prepared.items():
            try:
                tables[name] = judge_prepared(self._scorers[name], self._judges[name], prepared)
            except Exception as error:
                tables[name] = f"{type(error).__name__}: {error}"
        return Result(shard=batch.shard, index=batch.index, positions=batch.positions, tables=tables)


def _pack(message: Any) -> pa.Table:
    """A message as a block of one row. Arrays lie apart from the rest, so that reading them copies nothing."""
    arrays: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=arrays.append)
    parts = [head, *(array.raw() for array in arrays)]
    return pa.table({"parts": pa.array([parts], pa.list_(pa.large_binary()))})


def _unpack(block: pa.Table) -> Iterator[Any]:
    for row in block["parts"]:
        head, *arrays = (part.as_buffer() for part in row.values)
        yield pickle.loads(head, buffers=arrays)


@contextlib.contextmanager
def _quiet_context() -> Iterator[None]:
    """Ray Data without its own bars and chatter, a message a block, and going on past blocks whose worker died; the
    user's settings are put back afterwards."""
    from ray.data import DataContext

    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.enable_operator_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    context.target_max_block_size = 1 << 20
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with DataContext.current(context), warnings.catch_warnings():
            # Without max_task_retries a batch that kills its worker would be tried for ever; no named parameter has it.
            warnings.filterwarnings("ignore", message=".*ray_remote_args.*")
            yield
    finally:
        logger.setLevel(level)
