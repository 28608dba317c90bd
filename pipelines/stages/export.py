"""The recipe's `export:` section: a stage each, from a checkpoint to a folder that transformers and vLLM load."""

from collections.abc import Iterator

from mmcorpus.curation.engine.made_from import digest, file_digest
from mmcorpus.curation.engine.stage import Result, Stage
from mmcorpus.curation.store import storage
from mmcorpus.pipelines.recipe.schema import ExportEntry
from mmcorpus.pipelines.recipe.trained import EXPORTS, trained_stage
from mmcorpus.pipelines.stages.context import RunContext


def export_stages(run: RunContext) -> Iterator[Stage]:
    """The exports in the recipe's order."""
    yield from (_export(run, name, entry) for name, entry in run.file.export.items())


def _export(run: RunContext, name: str, entry: ExportEntry) -> Stage:
    out = f"{EXPORTS}/{name}"

    def work() -> Result:
        from mmcorpus.training.exchange.export import export_model

        place = run.at(out)
        if storage.exists(storage.join(place, "config.json")):  # an earlier attempt's: it appears whole, or not at all
            storage.remove(place)
        report = export_model(run.at("training", entry.stage), place, dtype=entry.dtype)
        # Scores by a model that was trained again, to the same weights, stay.
        content = digest({file: file_digest(storage.join(place, file)) for file in storage.list_names(place)})
        return Result(counts={"bytes": report.size, "architecture": report.architecture}, content=content)

    return Stage(
        name=f"export/{name}",
        config={"stage": entry.stage, "dtype": entry.dtype},
        needs=(trained_stage(run.recipe, entry.stage),),
        outputs=(out,),
        run=work,
    )
