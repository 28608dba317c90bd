"""The work on one shard: read, decode once, judge, commit; and hand on what is for a model that is held elsewhere."""

import functools
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa

from mmcorpus.curation.engine.guard import guarded_batch
from mmcorpus.curation.scoring.batches import (
    Batched,
    Part,
    ShardRows,
    assemble,
    decode_batches,
    read_encoded,
    read_shard_rows,
    slices,
)
from mmcorpus.curation.scoring.reads import read_columns
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.embeddings import write_embeddings
from mmcorpus.curation.store.scores import Origin, TableInfo, write_scores
from mmcorpus.curation.store.shards import Shard
from mmcorpus.filters import Scorer, judge_batch
from mmcorpus.filters.model import ModelScorer
from mmcorpus.filters.run_scorer import Prepared, join_prepared, prepare_batch
from mmcorpus.filters.scorer import Batch

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardWork:
    """One shard and the scorers that it still lacks."""

    shard: Shard
    samples: int
    """By its stats file."""
    scorers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outputs:
    """Destinations of score tables, and what made them."""

    scores: str
    """`scores/<source>`."""
    embeddings: str | None
    """`embeddings/<source>`; needed by scorers that save embeddings."""
    origins: dict[str, Origin]
    """By scorer; settled once a run, because a model's revision may take reading its weights."""
    indexed: str = ""
    """What the shards were indexed from, if they are references (`engine/output.py:indexed_from`)."""

    @classmethod
    def of(
        cls, scorers: Iterable[Scorer], *, scores: str, embeddings: str | None = None, indexed: str = ""
    ) -> "Outputs":
        """The outputs of scorers whose origins are asked of them now."""
        origins = {one.name: Origin.of(one) for one in scorers}
        return cls(scores=scores, embeddings=embeddings, origins=origins, indexed=indexed)

    def commit(self, scorer: Scorer, shard: str, table: Any) -> TableInfo:
        """Write what a scorer made of a shard: its embeddings, if it saves any, then the scores, which commit both."""
        origin, saved = self.origins[scorer.name], scorer.embeddings()
        if saved is not None:
            assert self.embeddings is not None
            write_embeddings(self.embeddings, shard, table.select(["uid", *saved.names]), origin)
            table = table.drop_columns(saved.names)
        return write_scores(self.scores, shard, table, origin, self.indexed)


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedBatch:
    """A batch on its way to models that are held elsewhere."""

    shard: str
    index: int
    """Which of the shard's batches for these scorers."""
    positions: list[int]
    prepared: dict[str, Prepared]
    """By scorer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardScores:
    """What became of a shard where it was decoded: the tables committed there, and what was handed on."""

    shard: str
    samples: int
    tables: dict[str, TableInfo] = field(default_factory=dict)
    """By scorer that judged here, what was committed."""
    errors: list[str] = field(default_factory=list)
    """What stopped others."""
    handed: dict[str, int] = field(default_factory=dict)
    """By scorer whose model is elsewhere, how many batches it was handed; those that broke are missing."""
    uids: list[str] = field(default_factory=list)
    """In key order; only where something was handed."""

    def result(self) -> dict[str, Any]:
        """For `engine.run_shards`: counts, `tables` and `error`."""
        reasons: Counter[str] = Counter()
        for info in self.tables.values():
            reasons |= Counter(info.reasons)
        error = "; ".join(self.errors) or None
        return {**reasons, "samples": self.samples, "tables": self.tables, "error": error}


class ScoreShard:
    """The work on a shard. Made once a worker, models and all."""

    def __init__(
        self,
        outputs: Outputs,
        scorers: Sequence[Scorer],
        *,
        max_pixels: int,
        rows_per_batch: int,
        elsewhere: Sequence[ModelScorer] = (),
    ) -> None:
        """`elsewhere` are scorers whose models are not held here: for them, batches are prepared and handed on."""
        self._outputs, self._max_pixels, self._size = outputs, max_pixels, rows_per_batch
        self._scorers: dict[str, Scorer] = {scorer.name: scorer for scorer in (*scorers, *elsewhere)}
        own_this_process(scorers)
        self._judges = {scorer.name: scorer.load() for scorer in scorers}
        self._prepares = {scorer.name: scorer.load_prepare() for scorer in elsewhere}

    def __call__(self, work: ShardWork) -> dict[str, Any]:
        """Commit one shard's tables; returns counts, `tables` (TableInfo by scorer) and `error`, why others stopped."""
        *_, scored = self.steps(work)
        assert isinstance(scored, ShardScores)
        return scored.result()

    def steps(self, work: ShardWork) -> Iterator[PreparedBatch | ShardScores]:
        """Yields what is for models elsewhere, batch by batch, commits the rest, and yields what became of it."""
        scorers = [self._scorers[name] for name in work.scorers]
        inputs = {name for scorer in scorers for name in scorer.inputs}
        rows = read_shard_rows(work.shard, inputs)
        if reads := dict.fromkeys(column for scorer in scorers for column in scorer.reads()):
            uids = rows.columns["uid"]
            rows.columns["scores"] = read_columns(self._outputs.scores, work.shard.name, list(reads), uids)
        if len(rows.keys) != work.samples:
            raise ValueError(f"{work.shard.stats} counts {work.samples} successes, the parquet {len(rows.keys)}")
        scored = ShardScores(shard=work.shard.name, samples=len(rows.keys))
        blind = [scorer for scorer in scorers if not _sees(scorer)]
        seeing = [scorer for scorer in scorers if _sees(scorer)]
        # Those that need no pixels come first: a damaged tar does not cost them.
        if blind:
            yield from self._judge(blind, slices(rows, self._size), rows, scored)
        if seeing:
            encoded = read_encoded(work.shard, rows)
            batches = decode_batches(encoded, rows, max_pixels=self._max_pixels, size=self._size, inputs=inputs)
            try:
                yield from self._judge(seeing, batches, rows, scored)
            except Exception as error:  # whatever the tar or its storage raises, the tables above stand
                if storage.disk_is_full(error):
                    raise
                scored.errors.append(f"{type(error).__name__}: {error} (in {work.shard.images})")
        if scored.handed:
            scored.uids.extend(rows.columns["uid"])
        yield scored

    def _judge(
        self, scorers: list[Scorer], batches: Iterable[Batched], rows: ShardRows, scored: ShardScores
    ) -> Iterator[PreparedBatch]:
        """Judge or prepare each batch for each scorer until that scorer breaks, which stops it alone."""
        parts: dict[str, list[Part]] = {scorer.name: [] for scorer in scorers}
        errors: dict[str, str] = {}
        count = 0
        for count, batched in enumerate(batches, start=1):
            prepared: dict[str, Prepared] = {}
            for scorer in [scorer for scorer in scorers if scorer.name not in errors]:
                name = scorer.name
                try:
                    if name in self._prepares:
                        prepared[name] = self._prepare(scorer, batched, rows)
                    else:
                        parts[name].append((batched.positions, self._table(scorer, batched, rows)))
                except Exception as error:
                    errors[name] = f"{type(error).__name__}: {error}"
            if prepared:
                yield PreparedBatch(shard=scored.shard, index=count, positions=batched.positions, prepared=prepared)
        for scorer in [scorer for scorer in scorers if scorer.name not in errors]:
            if scorer.name in self._prepares:
                scored.handed[scorer.name] = count
            else:
                table = assemble(scorer, parts[scorer.name], rows.columns["uid"])
                scored.tables[scorer.name] = self._outputs.commit(scorer, scored.shard, table)
        scored.errors.extend(scorer_error(name, error, scored.shard) for name, error in errors.items())

    def _table(self, scorer: Scorer, batched: Batched, rows: ShardRows) -> pa.Table:
        made = self._guarded(scorer, batched, rows, functools.partial(judge_batch, scorer, self._judges[scorer.name]))
        return pa.concat_tables(made) if isinstance(made, list) else made

    def _prepare(self, scorer: Scorer, batched: Batched, rows: ShardRows) -> Prepared:
        prepare = self._prepares[scorer.name]
        made: Prepared | list[Prepared] = self._guarded(
            scorer, batched, rows, lambda batch, aside: prepare_batch(scorer, batch, prepare, aside)
        )
        return join_prepared(made) if isinstance(made, list) else made

    def _guarded(
        self, scorer: Scorer, batched: Batched, rows: ShardRows, judge: Callable[[Batch, dict[int, str]], Made]
    ) -> Made | list[Made]:
        """What is made of a batch, or of each of its rows where one of them stalls or kills its worker."""

        def some(chosen: Sequence[int], aside: dict[int, str]) -> Made:
            batch = batched.batch
            if len(chosen) < len(batched.positions):
                batch = {name: [values[row] for row in chosen] for name, values in batch.items()}
            return judge(batch, {place: aside[row] for place, row in enumerate(chosen) if row in aside})

        step = f"{scorer.name}@{self._outputs.origins[scorer.name].fingerprint}"
        return guarded_batch(step, [rows.keys[position] for position in batched.positions], some)


def scorer_error(scorer: str, error: str, shard: str) -> str:
    """A report's text for what stopped a scorer on a shard."""
    return f"scorer {scorer}: {error} (in shard {shard})"


def own_this_process(scorers: Sequence[Scorer]) -> None:
    """One thread a worker: Ray counts a CPU for each. Files' oddities are told by reasons, not by Pillow's warnings."""
    import cv2

    cv2.setNumThreads(1)
    warnings.filterwarnings("ignore", module="PIL")
    if any(isinstance(scorer, ModelScorer) for scorer in scorers):
        import torch

        torch.set_num_threads(1)


def _sees(scorer: Scorer) -> bool:
    """Whether it needs the tar."""
    return "image" in scorer.inputs or "encoded" in scorer.inputs
