"""Scoring: every sample of a population judged by all the scorers that the recipe names for it, one decode an image."""

from collections.abc import Iterator, Sequence

from mmcorpus.curation.engine.made_from import digest, plain
from mmcorpus.curation.engine.stage import Result, Stage
from mmcorpus.filters.scorer import Scorer
from mmcorpus.filters.secrets import as_key
from mmcorpus.pipelines.recipe.populations import Population
from mmcorpus.pipelines.recipe.trained import is_trained, makers_of_scorer, scorer_in
from mmcorpus.pipelines.stages.collect import shards_content
from mmcorpus.pipelines.stages.context import RunContext, counts, failures


def score_stage(run: RunContext, population: Population) -> Stage | None:
    """The stage of a population; None if nothing judges it."""
    name = population.name
    scorers = [own for own in _judging(run, name) if not is_trained(own)]
    if not scorers:
        return None
    saving = [scorer.name for scorer in scorers if scorer.embeddings()]
    return Stage(
        name=f"{name}/score",
        config={
            as_key(scorer.name): {
                "version": scorer.version, "model": scorer.model(), "parameters": plain(scorer.parameters()),
                **({"uses": kind} if (kind := scorer.kind()) else {}),
            }
            for scorer in scorers
        },
        needs=population.needs,
        outputs=(
            *(f"scores/{name}/{scorer.name}" for scorer in scorers),
            *(f"embeddings/{name}/{scorer}" for scorer in saving),
        ),
        # Fetching again what had failed leaves most shards as they were, and their scores with them.
        invalidated_by=(population.rows_of,),
        ray="yes",
        run=lambda: score_population(run, population, scorers),
    )  # fmt: skip


def _judging(run: RunContext, population: str) -> list[Scorer]:
    """The scorers that judge a population."""
    return [scorer for scorer in run.recipe.scorers.values() if population in run.recipe.on[scorer.name]]


def trained_score_stages(run: RunContext, population: Population) -> Iterator[Stage]:
    """A stage for each scorer that judges a population by what this run has trained."""
    for scorer in filter(is_trained, _judging(run, population.name)):
        yield Stage(
            name=f"{population.name}/score-{scorer.name}",
            config={
                "version": scorer.version, "parameters": plain(scorer.parameters()),
                **({"uses": kind} if (kind := scorer.kind()) else {}),
            },
            needs=(*makers_of_scorer(run.recipe, scorer), *population.needs),
            outputs=(f"scores/{population.name}/{scorer.name}",),
            invalidated_by=(population.rows_of,),
            ray="yes",
            run=lambda scorer=scorer: score_population(run, population, [scorer_in(scorer, run.root)]),  # type: ignore[misc]
        )  # fmt: skip


def score_population(run: RunContext, population: Population, scorers: Sequence[Scorer]) -> Result:
    """Score a population of a run; tables made with the same scorers are kept. Each scorer's tables are a part."""
    from mmcorpus.curation.scoring.servers.score import score

    shards = run.at("shards", population.shards)
    report = score(
        shards,
        run.at("scores", population.name),
        scorers,
        embeddings=run.at("embeddings", population.name),
        workers=run.file.score.workers,
        model_workers=run.file.score.model_workers,
        logs=run.at("logs"),
        answers=run.at("answers", population.name),
    )
    shown = {
        **counts(report, "samples", "shards"),
        "shards_kept": report.skipped,
        "unscored": {name: sum(reasons.values()) for name, reasons in report.unscored.items() if reasons},
    }
    failed = failures(report.failed)
    content = shards_content(shards)
    parts = {scorer.name: digest([report.fingerprints[scorer.name], content, *failed]) for scorer in scorers}
    return Result(counts=shown, failures=failed, parts=parts)
