"""A recipe's stages in order: this is where to read what a run does, one after the other."""

from collections.abc import Callable
from graphlib import CycleError

from mmcorpus.curation.engine.order import in_order
from mmcorpus.curation.engine.stage import Stage
from mmcorpus.pipelines.recipe.schema import DOCUMENTS, Recipe
from mmcorpus.pipelines.stages.collect import download_pairs, web
from mmcorpus.pipelines.stages.context import RunContext
from mmcorpus.pipelines.stages.dedup import dedup_stage
from mmcorpus.pipelines.stages.dfn import dfn_stages
from mmcorpus.pipelines.stages.documents import document_stages
from mmcorpus.pipelines.stages.evaluation import evaluation_stages
from mmcorpus.pipelines.stages.export import export_stages
from mmcorpus.pipelines.stages.index import index_source
from mmcorpus.pipelines.stages.packing import packing_stages
from mmcorpus.pipelines.stages.score import score_stage, trained_score_stages
from mmcorpus.pipelines.stages.select import select_stage
from mmcorpus.pipelines.stages.soup import soup_stages
from mmcorpus.pipelines.stages.training import training_stages
from mmcorpus.pipelines.stages.written import write_texts


def build_stages(
    recipe: Recipe, root: str, *, retry_failed: bool = False, start_ray: Callable[[], None] = lambda: None
) -> list[Stage]:
    """The stages of a recipe, each after those it needs.

    Args:
        root: the run's folder.
        retry_failed: fetch again what failed for reasons that can pass.
        start_ray: for stages that need Ray only if there is enough to do.

    Raises:
        ValueError: some stages need each other.
    """
    run = RunContext(recipe=recipe, root=root, retry_failed=retry_failed, start_ray=start_ray)
    stages: list[Stage | None] = [web(run)] if run.generates_web else []
    for source, entry in run.file.sources.items():
        if entry.reselect is not None:
            continue  # its rows are another's
        if entry.kind in DOCUMENTS:
            stages += document_stages(run, source)
        else:
            make = write_texts if entry.written else index_source if entry.is_indexed else download_pairs
            stages.append(make(run, source))
    stages += [score_stage(run, population) for population in run.populations.values()]
    stages += [dedup_stage(run, found) for found in recipe.passes.values()]
    stages += dfn_stages(run)
    stages += [select_stage(run, population) for population in run.populations.values()]
    stages += packing_stages(run)
    stages += training_stages(run)
    for population in run.populations.values():
        stages += trained_score_stages(run, population)
    stages += soup_stages(run)
    stages += export_stages(run)
    stages += evaluation_stages(run)
    named = {stage.name: stage for stage in stages if stage is not None}
    needs = {name: [need.partition("#")[0] for need in stage.needs] for name, stage in named.items()}
    missing = {need for wanted in needs.values() for need in wanted} - named.keys()
    if missing:
        raise ValueError(f"some stages need {', '.join(sorted(missing))}, which the recipe does not have")
    try:
        return [named[name] for name in in_order(needs)]
    except CycleError as error:
        circle = " needs ".join(reversed(error.args[1]))
        fix = "A model that judges samples is trained on what is selected without it, such as another source"
        if "tokenizer/train" in error.args[1]:
            fix = "Name sources in tokenizer.train.sources that are selected without a model of this run"
        raise ValueError(f"{circle}: no stage can be the first. {fix}") from None
