"""Scoring: any scorers over shards, one decode an image, resumable at every scorer of every shard (DESIGN §1)."""

import functools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from mmcorpus.curation.engine.output import indexed_from
from mmcorpus.curation.engine.tasks import cluster_resource, run_shards
from mmcorpus.curation.scoring.gpu import FeedConfig, feed_models
from mmcorpus.curation.scoring.reads import with_tables_read
from mmcorpus.curation.scoring.shard import Outputs, ScoreShard, ShardWork
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import TableInfo, list_tables, shards_of, table_path, tables_done
from mmcorpus.curation.store.shards import Shard, list_shards, no_shards, warn_of_unfinished
from mmcorpus.filters import MAX_PIXELS, Scorer
from mmcorpus.filters.model import ModelScorer
from mmcorpus.filters.scorer import INPUTS, REASON

ROWS_PER_BATCH: Final = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreReport:
    """The counts of scoring, earlier runs' shards included: a resumed run reports the same as an uninterrupted one."""

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
    fingerprints: dict[str, str]
    """By scorer, what its tables say made them; what a scorer left to the machine is settled in it."""
    failed: dict[str, str] = field(default_factory=dict)
    """By shard, why it could not be scored whole; a rerun tries it again."""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """True if every scorer has a table for every shard."""
        return not self.failed


def score(
    shards_root: str,
    out_root: str,
    scorers: Sequence[Scorer],
    *,
    workers: int | None = None,
    embeddings_root: str | None = None,
    model_workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    rows_per_batch: int = ROWS_PER_BATCH,
) -> ScoreReport:
    """Judge every sample of the shards with every scorer, on the Ray that is initialised.

    Each image is decoded once for all the scorers that want pixels; if none does, no tar is opened. Tables that are
    committed are kept; those of other parameters are made again, those of shards that are gone are removed. Every
    `success` row of a shard gives one row in each table. The tables' bytes do not depend on `workers`, nor on who holds
    the models.

    If the cluster has GPUs, models are held by a process each (`gpu.py`), and all other workers decode for
    them; if not, each worker holds the models itself.

    Args:
        shards_root: a folder of shards, `shards/<source>`.
        out_root: where the tables go, `scores/<source>`.
        embeddings_root: where the embeddings go of scorers that save them, `embeddings/<source>`.
        model_workers: processes that hold models; None for one a GPU. On a cluster without GPUs, a number has models
            held apart from the workers all the same.
        max_pixels: larger images are not decoded; their reason is `too_many_pixels`.
        rows_per_batch: how many samples a scorer sees at once, at most.

    Raises:
        ValueError: there is nothing to score, or the scorers cannot run together.
        RuntimeError: Ray is not running, or a scorer could not be loaded.
    """
    start = time.monotonic()
    check_scorers(scorers, embeddings_root)
    shards = list_shards(shards_root)
    if not shards:
        raise no_shards(shards_root)
    warn_of_unfinished(shards_root)
    scorers, gpus = _settled(scorers)
    scorers = with_tables_read(scorers, out_root)
    sizes = _sizes(shards)
    indexed = indexed_from(shards_root)
    tables = _clear(out_root, embeddings_root, tables_done(out_root, sizes, scorers, indexed), sizes, scorers)
    todo = [
        ShardWork(shard=shard, samples=sizes[shard.name], scorers=lacking)
        for shard in shards
        if (lacking := tuple(name for name, done in tables.items() if shard.name not in done))
    ]
    needed = [scorer for scorer in scorers if any(scorer.name in work.scorers for work in todo)]
    outputs = Outputs.of(needed, scores=out_root, embeddings=embeddings_root, indexed=indexed)
    fed = [
        scorer
        for scorer in needed
        if isinstance(scorer, ModelScorer) and (scorer.device == "cuda" or model_workers is not None)
    ]
    here = [scorer for scorer in needed if scorer not in fed]
    make_work = functools.partial(
        ScoreShard, outputs, here, elsewhere=fed, max_pixels=max_pixels, rows_per_batch=rows_per_batch
    )
    if fed:
        config = _feed_config(workers, model_workers, gpus if any(scorer.device == "cuda" for scorer in fed) else 0)
        outcomes = feed_models(make_work, fed, todo, outputs, config)
    else:
        outcomes = run_shards(
            make_work, todo, name=lambda work: work.shard.name, title="score", workers=workers,
            aside=out_root,
        )  # fmt: skip
    failed: dict[str, str] = {}
    for outcome in outcomes:
        result = outcome.result or {"tables": {}, "error": str(outcome.error)}
        for name, info in result["tables"].items():
            tables[name][outcome.name] = info
        if result["error"]:
            failed[outcome.name] = result["error"]
    unscored = {
        name: sum((Counter(info.reasons) for info in infos.values()), Counter()) for name, infos in tables.items()
    }
    rows = {name: sum(info.rows for info in infos.values()) for name, infos in tables.items()}
    return ScoreReport(
        shards=len(shards),
        skipped=len(shards) - len(todo),
        samples=sum(sizes.values()),
        scored={name: count - unscored[name].total() for name, count in rows.items()},
        unscored={name: dict(sorted(counts.items())) for name, counts in unscored.items()},
        fingerprints={scorer.name: scorer.fingerprint() for scorer in scorers},
        failed=failed,
        seconds=time.monotonic() - start,
    )


def check_scorers(scorers: Sequence[Scorer], embeddings_root: str | None = None) -> None:
    """Raise ValueError for a set of scorers that cannot run together, or with nowhere to put embeddings."""
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
        saved = scorer.embeddings()
        if saved is not None and embeddings_root is None:
            raise ValueError(f"scorer {scorer.name!r} saves embeddings; give embeddings_root, where they are to go")
        reserved = {"uid", REASON, *(saved.names if saved is not None else ())} & set(scorer.schema().names)
        if reserved:
            raise ValueError(f"scorer {scorer.name!r}: its schema must not name {', '.join(sorted(reserved))}")


def _settled(scorers: Sequence[Scorer]) -> tuple[list[Scorer], int]:
    """The scorers with what they leave to the machine settled for this cluster, and its GPUs."""
    gpus = cluster_resource("GPU")
    settled = [scorer.on("cuda" if gpus else "cpu") for scorer in scorers]
    for scorer in settled:
        if isinstance(scorer, ModelScorer) and scorer.device == "cuda" and not gpus:
            raise ValueError(f"scorer {scorer.name!r}: device is cuda, but Ray's cluster has no GPU; use auto or cpu")
    return settled, gpus


def _feed_config(workers: int | None, model_workers: int | None, gpus: int) -> FeedConfig:
    cpus = cluster_resource("CPU")
    models = min(model_workers or gpus, gpus) if gpus else model_workers or 1
    # A model process takes a CPU to bring batches to its device; Ray is not told, so that one CPU serves both.
    return FeedConfig(decoders=min(workers or cpus, max(1, cpus - models)), models=models, gpus=min(gpus, 1))


def _sizes(shards: Sequence[Shard]) -> dict[str, int]:
    """How many samples each shard has, by its stats file."""

    def size(shard: Shard) -> int:
        stats = storage.read_json(shard.stats)
        if not isinstance(stats, dict) or not isinstance(stats.get("successes"), int):
            raise ValueError(f"{shard.stats} does not count its successes; was it written by img2dataset?")
        return int(stats["successes"])

    return dict(zip((shard.name for shard in shards), storage.threaded(size, shards), strict=True))


def _clear(
    out_root: str,
    embeddings_root: str | None,
    done: dict[str, dict[str, TableInfo]],
    sizes: dict[str, int],
    scorers: Sequence[Scorer],
) -> dict[str, dict[str, TableInfo]]:
    """Remove the tables that must not be read: stale ones, and those of shards that are gone, whoever made them.

    A table whose embeddings are wanted and not there is stale too.

    Returns:
        by scorer and shard, the tables that are kept.
    """
    for scorer in scorers:
        if scorer.embeddings() is not None:
            assert embeddings_root is not None
            kept = set(shards_of(embeddings_root, scorer.name))
            for shard in kept - set(sizes):
                storage.remove(table_path(embeddings_root, scorer.name, shard))
            done[scorer.name] = {shard: info for shard, info in done[scorer.name].items() if shard in kept}
    for name, found in list_tables(out_root).items():
        for shard in set(found) - set(done.get(name, sizes)):
            storage.remove(table_path(out_root, name, shard))
    return done
