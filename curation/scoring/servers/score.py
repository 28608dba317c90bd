"""Scoring with model servers: those that have to be started run just as long as something is to be asked of them."""

import contextlib
import dataclasses
import functools
from collections.abc import Sequence

from mmcorpus.curation.engine.output import indexed_from
from mmcorpus.curation.scoring import run as scoring
from mmcorpus.curation.scoring.run import ScoreReport
from mmcorpus.curation.scoring.servers.run import served, server_key
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import tables_done
from mmcorpus.curation.store.shards import list_shards
from mmcorpus.filters.scorer import Scorer
from mmcorpus.filters.serving import ServedScorer


def score(
    shards_root: str,
    out_root: str,
    scorers: Sequence[Scorer],
    *,
    logs: str,
    answers: str,
    embeddings: str | None = None,
    workers: int | None = None,
    model_workers: int | None = None,
) -> ScoreReport:
    """`mmcorpus.curation.scoring.run.score`, starting the model servers that scorers ask.

    Scorers that ask servers come after all the others, so that a server's GPUs are free for these before, and those of
    one server after those of another. If every table is there that a server is for, it is not started.

    Args:
        logs: the folder of the servers' logs.
        answers: the folder of the answers that are kept.
        embeddings: where the embeddings go of scorers that save them, `embeddings/<source>`.

    Raises:
        ValueError, RuntimeError: as `mmcorpus.curation.scoring.run.score` and `served` do.
    """
    scoring.check_scorers(scorers, embeddings)
    others = [scorer for scorer in scorers if not isinstance(scorer, ServedScorer)]
    reports: list[ScoreReport] = []
    if others:
        reports.append(
            scoring.score(
                shards_root, out_root, others, embeddings_root=embeddings, workers=workers, model_workers=model_workers
            )
        )
    # Those of one server together, and apart from others': two models that each fill a GPU would not fit.
    by_server: dict[str | None, list[ServedScorer]] = {}
    for scorer in scorers:
        if isinstance(scorer, ServedScorer):
            by_server.setdefault(server_key(scorer), []).append(scorer)
    for asking in by_server.values():
        with contextlib.ExitStack() as stack:
            judges: Sequence[Scorer] = asking
            if not _is_done(shards_root, out_root, asking):
                judges = stack.enter_context(served(asking, logs=logs, answers=answers))
            reports.append(scoring.score(shards_root, out_root, judges, workers=workers))
    return functools.reduce(_merged, reports)


def _is_done(shards_root: str, out_root: str, scorers: Sequence[Scorer]) -> bool:
    sizes = {shard.name: storage.read_json(shard.stats)["successes"] for shard in list_shards(shards_root)}
    tables = tables_done(out_root, sizes, scorers, indexed_from(shards_root))
    return all(set(done) == set(sizes) for done in tables.values())


def _merged(first: ScoreReport, second: ScoreReport) -> ScoreReport:
    """One report for two sets of scorers over the same shards."""
    both = set(first.failed) & set(second.failed)
    failed = {**first.failed, **second.failed}
    failed |= {shard: f"{first.failed[shard]}; {second.failed[shard]}" for shard in both}
    return dataclasses.replace(
        first,
        skipped=min(first.skipped, second.skipped),
        scored={**first.scored, **second.scored},
        unscored={**first.unscored, **second.unscored},
        fingerprints={**first.fingerprints, **second.fingerprints},
        failed=failed,
        seconds=first.seconds + second.seconds,
    )
