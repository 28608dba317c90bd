"""The recipe's `dfn:` section: trust some pairs, train a data filtering network on them, score all pairs with it."""

import dataclasses
from collections.abc import Iterator
from typing import Final

from mmcorpus.curation.engine.made_from import digest, file_digest, plain
from mmcorpus.curation.engine.stage import Result, Stage
from mmcorpus.curation.store import storage
from mmcorpus.filters.dfn import DfnScorer
from mmcorpus.pipelines.recipe.populations import scored, trusted
from mmcorpus.pipelines.recipe.schema import DFN, DfnEntry
from mmcorpus.pipelines.stages.context import RunContext, counts
from mmcorpus.pipelines.stages.score import score_population
from mmcorpus.pipelines.stages.select import selection_files, selection_stage
from mmcorpus.training.clip.config import ContrastiveConfig

TRUSTED: Final = "trusted"
"""`selections/<source>.trusted.parquet`: what is learned from; `.trusted.heldout.parquet`: what tests it."""
TRAIN: Final = f"{DFN}/train"


def dfn_stages(run: RunContext) -> Iterator[Stage]:
    """Trust some pairs of each source, train on them all, score the pairs of every source."""
    entry = run.file.dfn
    if entry is None:
        return
    for source in trusted(run.recipe):
        yield selection_stage(run, run.populations[source], entry.trust, f"{source}.{TRUSTED}", trust=True)
    yield _train(run, entry)
    for source in scored(run.recipe):
        yield _score(run, source, entry)


def _train(run: RunContext, entry: DfnEntry) -> Stage:
    settings = [field.name for field in dataclasses.fields(ContrastiveConfig)]
    config = ContrastiveConfig(**{name: getattr(entry, name) for name in settings})
    files = {source: selection_files(f"{source}.{TRUSTED}", entry.trust) for source in trusted(run.recipe)}

    def work() -> Result:
        from mmcorpus.training.clip import PairSource, train_contrastive

        chosen, heldout = (
            {
                source: PairSource(shards=run.at("shards", source), selection=run.at(paths[name]))
                for source, paths in files.items()
                if name in paths
            }
            for name in ("selection", "heldout")
        )
        report = train_contrastive(config, chosen, run.at(DFN), heldout=heldout, device=entry.device)
        totals = report.totals
        content = [file_digest(storage.join(report.model, name)) for name in storage.list_names(report.model)]
        shown = {**counts(report, "training_pairs", "heldout_pairs"), **counts(totals, "step", "loss", "broken_images")}
        return Result(counts={**shown, **totals.heldout}, failures=report.failures, content=digest(content))

    return Stage(
        name=TRAIN,
        config={**plain(config.result_settings()), "sources": list(files), **_weights(config)},
        needs=tuple(need for source in files for need in (run.populations[source].made_by, f"{source}/trust")),
        outputs=(DFN,),
        translate=lambda before: {
            **config.translate(before),
            **{key: before[key] for key in ("sources", "weights") if key in before},
        },
        run=work,
    )


def _weights(config: ContrastiveConfig) -> dict[str, str]:
    """The identity of local weights that it begins with, to tell them from others of the same path."""
    from mmcorpus.filters.weights import weights_identity

    start = config.pretrained or (config.model if isinstance(config.model, str) else "")
    path = start.removeprefix("local-dir:")
    local = start != path or (config.pretrained is not None and storage.is_local(path) and storage.exists(path))
    return {"weights": weights_identity(path)} if local else {}


def _score(run: RunContext, source: str, entry: DfnEntry) -> Stage:
    population = run.populations[source]
    how = entry.scoring

    def work() -> Result:
        from mmcorpus.training.clip import last_model

        trained = last_model(run.at(DFN))
        scorer = DfnScorer(model_name=trained, device=how.device, dtype=how.dtype, batch_size=how.batch_size)
        return score_population(run, run.populations[source], [scorer])

    return Stage(
        name=f"{source}/{DFN}",
        config={"version": DfnScorer.version, "dtype": how.dtype},
        needs=(TRAIN, *population.needs),
        outputs=(f"scores/{source}/{DFN}",),
        invalidated_by=(population.rows_of,),
        ray="yes",
        run=work,
    )
