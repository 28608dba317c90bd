"""Scoring: any scorers over shards, one decode an image, resumable at every scorer of every shard (DESIGN §1)."""

import functools
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from curation import storage
from curation.batches import Batched, ShardRows, decode_batches, judge_batches, read_encoded, read_shard_rows, slices
from curation.engine import run_shards
from curation.scores import (
    THREADS,
    Origin,
    ScoreStatus,
    TableInfo,
    list_tables,
    score_status,
    table_path,
    write_scores,
)
from curation.shards import Shard, list_shards
from filters import MAX_PIXELS, Scorer
from filters.scorer import INPUTS, REASON

ROWS_PER_BATCH: Final = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreReport:
    """What scoring did, what was committed before included: a resumed run reports what an uninterrupted one does."""

    shards: int
    """Committed shards found."""
    skipped: int
    """Of these, had every score already."""
    samples: int
    """In the shards, by their stats."""
    scored: dict[str, int]
    """By scorer, samples with scores."""
    unscored: dict[str, dict[str, int]]
    """By scorer and reason, samples without."""
    failed: dict[str, str] = field(default_factory=dict)
    """By shard, why it could not be scored whole; a rerun tries it again."""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """True if every scorer has a table for every shard."""
        return not self.failed

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "ok": self.ok}


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardWork:
    """One shard and the scorers that it still lacks."""

    shard: Shard
    samples: int
    """By its stats file."""
    scorers: tuple[str, ...]


def score(
    shards_root: str,
    out_root: str,
    scorers: Sequence[Scorer],
    *,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    rows_per_batch: int = ROWS_PER_BATCH,
) -> ScoreReport:
    """Judge every sample of the shards with every scorer, on the Ray that is initialised.

    Each image is decoded once for all the scorers that want pixels; if none does, no tar is opened. Tables that are
    committed are kept; those of other parameters are made again, those of shards that are gone are removed. Every
    `success` row of a shard gives one row in each table. The tables' bytes do not depend on `workers`.

    Args:
        shards_root: a folder of shards, `shards/<source>`.
        out_root: where the tables go, `scores/<source>`.
        max_pixels: larger images are not decoded; their reason is `too_many_pixels`.
        rows_per_batch: how many samples a scorer sees at once, at most.

    Raises:
        ValueError: there is nothing to score, or the scorers cannot run together.
        RuntimeError: Ray is not running, or a scorer could not be loaded.
    """
    start = time.monotonic()
    check_scorers(scorers)
    shards = list_shards(shards_root)
    if not shards:
        raise ValueError(f"there are no complete shards (00000_stats.json …) under {shards_root}; download first")
    sizes = _sizes(shards)
    status = _clear(out_root, sizes, scorers)
    todo = [
        ShardWork(shard=shard, samples=sizes[shard.name], scorers=lacking)
        for shard in shards
        if (lacking := tuple(name for name, state in status.items() if shard.name not in state.done))
    ]
    needed = [scorer for scorer in scorers if any(scorer.name in work.scorers for work in todo)]
    make_work = functools.partial(ScoreShard, out_root, needed, max_pixels=max_pixels, rows_per_batch=rows_per_batch)
    outcomes = run_shards(make_work, todo, name=lambda work: work.shard.name, title="score", workers=workers)
    tables = {name: dict(state.done) for name, state in status.items()}
    failed: dict[str, str] = {}
    for outcome in outcomes:
        result = outcome.result or {"tables": {}, "error": outcome.error}
        for name, info in result["tables"].items():
            tables[name][outcome.name] = info
        if result["error"]:
            failed[outcome.name] = result["error"]
    return _report(tables, sizes, failed, skipped=len(shards) - len(todo), seconds=time.monotonic() - start)


def check_scorers(scorers: Sequence[Scorer]) -> None:
    """Raise ValueError for a set of scorers that cannot run together."""
    if not scorers:
        raise ValueError("no scorers were given; name at least one, e.g. image or caption")
    for name, count in Counter(scorer.name for scorer in scorers).items():
        if count > 1:
            raise ValueError(f"two scorers are called {name!r}, and would write the same tables; rename one")
    for scorer in scorers:
        unknown = sorted(set(scorer.inputs) - set(INPUTS))
        if unknown or not scorer.inputs:
            raise ValueError(
                f"scorer {scorer.name!r} asks for {unknown or 'nothing'}; it may ask for {', '.join(INPUTS)}"
            )
        scorer.check()
        reserved = {"uid", REASON} & set(scorer.schema().names)
        if reserved:
            raise ValueError(f"scorer {scorer.name!r}: its schema must not name {', '.join(sorted(reserved))}")


class ScoreShard:
    """The work on one shard: read, decode, judge (`curation.batches`), commit. Made once a worker, models and all."""

    def __init__(self, out_root: str, scorers: Sequence[Scorer], *, max_pixels: int, rows_per_batch: int) -> None:
        self._out_root, self._max_pixels, self._size = out_root, max_pixels, rows_per_batch
        self._scorers = {scorer.name: scorer for scorer in scorers}
        self._judges = {scorer.name: scorer.load() for scorer in scorers}
        if any(_sees(scorer) for scorer in scorers):
            _own_this_process()

    def __call__(self, work: ShardWork) -> dict[str, Any]:
        """Commit one shard's tables; returns counts, `tables` (TableInfo by scorer) and `error`: what spoilt others."""
        scorers = [self._scorers[name] for name in work.scorers]
        inputs = {name for scorer in scorers for name in scorer.inputs}
        rows = read_shard_rows(work.shard, inputs)
        if len(rows.keys) != work.samples:
            raise ValueError(f"{work.shard.stats} counts {work.samples} successes, the parquet {len(rows.keys)}")
        blind = [scorer for scorer in scorers if not _sees(scorer)]
        seeing = [scorer for scorer in scorers if _sees(scorer)]
        done: dict[str, TableInfo] = {}
        errors: list[str] = []
        # Those that need no pixels come first: a damaged tar does not cost them.
        if blind:
            errors += self._commit(work.shard, blind, slices(rows, self._size), rows, done)
        if seeing:
            encoded = read_encoded(work.shard, rows)
            batches = decode_batches(encoded, rows, max_pixels=self._max_pixels, size=self._size, inputs=inputs)
            try:
                errors += self._commit(work.shard, seeing, batches, rows, done)
            except Exception as error:  # whatever the tar or its storage raises, the tables above stand
                if storage.disk_is_full(error):
                    raise
                errors.append(f"{type(error).__name__}: {error} (in {work.shard.tar})")
        reasons: Counter[str] = Counter()
        for info in done.values():
            reasons |= Counter(info.reasons)
        return {**reasons, "samples": len(rows.keys), "tables": done, "error": "; ".join(errors) or None}

    def _commit(
        self,
        shard: Shard,
        scorers: list[Scorer],
        batches: Iterable[Batched],
        rows: ShardRows,
        done: dict[str, TableInfo],
    ) -> list[str]:
        tables, errors = judge_batches(scorers, self._judges, batches, rows)
        for name, table in tables.items():
            done[name] = write_scores(self._out_root, shard.name, table, Origin.of(self._scorers[name]))
        return [f"scorer {name}: {error} (in shard {shard.name})" for name, error in errors.items()]


def _sees(scorer: Scorer) -> bool:
    """Whether it needs the tar."""
    return "image" in scorer.inputs or "encoded" in scorer.inputs


def _own_this_process() -> None:
    """One thread a worker: Ray counts a CPU for each. Files' oddities are told by reasons, not by Pillow's warnings."""
    import cv2

    cv2.setNumThreads(1)
    warnings.filterwarnings("ignore", module="PIL")


def _sizes(shards: Sequence[Shard]) -> dict[str, int]:
    """How many samples each shard has, by its stats file."""
    with ThreadPoolExecutor(THREADS) as pool:
        stats = list(pool.map(lambda shard: storage.read_json(shard.stats), shards))
    for shard, stat in zip(shards, stats, strict=True):
        if not isinstance(stat, dict) or not isinstance(stat.get("successes"), int):
            raise ValueError(f"{shard.stats} does not count its successes; was it written by img2dataset?")
    return {shard.name: stat["successes"] for shard, stat in zip(shards, stats, strict=True)}


def _clear(out_root: str, sizes: dict[str, int], scorers: Sequence[Scorer]) -> dict[str, ScoreStatus]:
    """Remove the tables that must not be read: stale ones, and those of shards that are gone, whoever made them."""
    for name, found in list_tables(out_root).items():
        for shard in found:
            if shard not in sizes:
                storage.remove(table_path(out_root, name, shard))
    status = score_status(out_root, sizes, scorers)
    for name, state in status.items():
        for shard in state.stale:
            storage.remove(table_path(out_root, name, shard))
    return status


def _report(
    tables: dict[str, dict[str, TableInfo]],
    sizes: dict[str, int],
    failed: dict[str, str],
    *,
    skipped: int,
    seconds: float,
) -> ScoreReport:
    unscored = {
        name: sum((Counter(info.reasons) for info in infos.values()), Counter()) for name, infos in tables.items()
    }
    rows = {name: sum(info.rows for info in infos.values()) for name, infos in tables.items()}
    return ScoreReport(
        shards=len(sizes),
        skipped=skipped,
        samples=sum(sizes.values()),
        scored={name: count - unscored[name].total() for name, count in rows.items()},
        unscored={name: dict(sorted(counts.items())) for name, counts in unscored.items()},
        failed=failed,
        seconds=seconds,
    )
