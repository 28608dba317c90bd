"""Scoring with model servers: those that have to be started run just as long as something is to be asked of them."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Sequence

from mmcorpus.curation.engine.output import indexed_from
from mmcorpus.curation.scoring import run as scoring
from mmcorpus.curation.scoring.reads import with_tables_read
from mmcorpus.curation.scoring.run import ScoreReport
from mmcorpus.curation.scoring.servers.cost import estimate
from mmcorpus.curation.scoring.servers.run import served, server_key
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import tables_done
from mmcorpus.curation.store.shards import list_shards
from mmcorpus.filters.scorer import Scorer
from mmcorpus.filters.serving import ServedScorer
from mmcorpus.filters.written import WrittenScorer


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
    for rounds in in_turn([scorer for scorer in scorers if isinstance(scorer, ServedScorer)]):
        with contextlib.ExitStack() as stack:
            connected: dict[str, Scorer] = {}
            for asking in rounds:
                judges: Sequence[Scorer] = asking
                if (blocked := _blocked(asking, reports)) is not None:
                    reports.append(blocked)
                    continue
                if not _is_done(shards_root, out_root, asking):
                    _tell_costs(shards_root, out_root, asking)
                    if not connected:
                        every = [scorer for one in rounds for scorer in one]
                        running = stack.enter_context(served(every, logs=logs, answers=answers))
                        connected = {scorer.name: scorer for scorer in running}
                    judges = [connected[scorer.name] for scorer in asking]
                reports.append(scoring.score(shards_root, out_root, judges, workers=workers))
    return functools.reduce(_merged, reports)


def in_turn(scorers: Sequence[ServedScorer]) -> list[list[list[ServedScorer]]]:
    """Scorers that ask servers, a list for each time that a server runs, in rounds: one that reads the tables of others
    comes in a later round than those.

    Those of one server are together, and apart from others': two models that each fill a GPU would not fit.

    Raises:
        ValueError: some read each other's tables in a circle.
    """
    found: list[list[list[ServedScorer]]] = []
    left = list(scorers)
    while left:
        key, rounds = None, list[list[ServedScorer]]()
        while ready := [scorer for scorer in left if not _waits(scorer, left)]:
            key = server_key(ready[0]) if not rounds else key
            now = [scorer for scorer in ready if server_key(scorer) == key]
            if not now:
                break
            rounds.append(now)
            left = [scorer for scorer in left if scorer not in now]
        if not rounds:
            circle = ", ".join(scorer.name for scorer in left)
            raise ValueError(f"the scorers {circle} read each other's tables in a circle; take one of these fields out")
        found.append(rounds)
    return found


def _waits(scorer: ServedScorer, others: Sequence[ServedScorer]) -> bool:
    names = {other.name for other in others}
    return any(column.partition(".")[0] in names for column in scorer.reads())


def _blocked(scorers: Sequence[ServedScorer], reports: Sequence[ScoreReport]) -> ScoreReport | None:
    """The report of scorers that read tables of which not one could be made; None for others."""
    read = {column.partition(".")[0] for scorer in scorers for column in scorer.reads()}
    for report in reports:
        names = sorted(read & report.scored.keys())
        failing = [name for name in names if not report.scored[name] + sum(report.unscored[name].values())]
        if failing and report.failed:
            why = f"it waits for {', '.join(sorted(failing))}, which failed"
            names = [scorer.name for scorer in scorers]
            return dataclasses.replace(
                report, skipped=0, scored=dict.fromkeys(names, 0), unscored={name: {} for name in names}, seconds=0.0,
                fingerprints={scorer.name: scorer.fingerprint() for scorer in scorers},
                failed={shard: f"scorers {', '.join(names)}: {why}" for shard in report.failed},
            )  # fmt: skip
    return None


def _tell_costs(shards_root: str, out_root: str, scorers: Sequence[ServedScorer]) -> None:
    """What asking is going to cost, of those who can say."""
    for scorer in scorers:
        if isinstance(scorer, WrittenScorer):
            print(estimate(scorer, shards_root, out_root).said(), file=sys.stderr, flush=True)


def _is_done(shards_root: str, out_root: str, scorers: Sequence[Scorer]) -> bool:
    scorers = with_tables_read(scorers, out_root)
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
