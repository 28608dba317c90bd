"""Scoring with model servers: those that have to be started run just as long as something is to be asked of them."""

import dataclasses
from collections.abc import Sequence

from curation import scoring, storage
from curation.scores import score_status
from curation.scoring import ScoreReport
from curation.serving.run import served
from curation.shards import list_shards
from filters.scorer import Scorer
from filters.serving import ServedScorer


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
    """`curation.scoring.score`, starting the model servers that scorers ask.

    Scorers that ask servers come after all the others, so that a server's GPUs are free for these before; if every
    table of theirs is there, no server is started.

    Args:
        logs: the folder of the servers' logs.
        answers: the folder of the answers that are kept.
        embeddings: where the embeddings go of scorers that save them, `embeddings/<source>`.

    Raises:
        ValueError, RuntimeError: as `curation.scoring.score` and `served` do.
    """
    scoring.check_scorers(scorers, embeddings)
    asking = [scorer for scorer in scorers if isinstance(scorer, ServedScorer)]
    others = [scorer for scorer in scorers if not isinstance(scorer, ServedScorer)]
    first = None
    if others:
        first = scoring.score(
            shards_root, out_root, others, embeddings_root=embeddings, workers=workers, model_workers=model_workers
        )
    if not asking:
        assert first is not None
        return first
    if _is_done(shards_root, out_root, asking):
        second = scoring.score(shards_root, out_root, asking, workers=workers)
    else:
        with served(asking, logs=logs, answers=answers) as connected:
            second = scoring.score(shards_root, out_root, connected, workers=workers)
    return second if first is None else _merged(first, second)


def _is_done(shards_root: str, out_root: str, scorers: Sequence[Scorer]) -> bool:
    sizes = {shard.name: storage.read_json(shard.stats)["successes"] for shard in list_shards(shards_root)}
    status = score_status(out_root, sizes, scorers)
    return all(set(state.done) == set(sizes) for state in status.values())


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
