"""The recipe's `evaluate:` section: a stage each, from a checkpoint and questions to a table of results."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Final

from mmcorpus.curation.engine.made_from import file_digest, plain
from mmcorpus.curation.engine.stage import Result, Stage
from mmcorpus.curation.store import storage
from mmcorpus.pipelines.recipe.schema import EvaluateEntry
from mmcorpus.pipelines.stages.context import HELDOUT, RunContext
from mmcorpus.training.evaluation.config import OTHERS, EvaluationConfig

FOLDER: Final = "evaluation"
"""In the run's folder: a folder an evaluation, with its answers and `results.json`."""


def evaluation_stages(run: RunContext) -> Iterator[Stage]:
    """The stages of evaluation in the recipe's order."""
    device = run.file.train.device if run.file.train is not None else None
    yield from (_evaluate(run, name, entry, device) for name, entry in run.file.evaluate.items())


def _evaluate(run: RunContext, name: str, entry: EvaluateEntry, device: str | None) -> Stage:
    config = EvaluationConfig(
        **{field.name: getattr(entry, field.name) for field in dataclasses.fields(EvaluationConfig)}
    )
    source, out, judge = entry.source, f"{FOLDER}/{name}", entry.judge
    files = [path for path in (entry.data, entry.demonstrations, entry.annotations) if path is not None]

    asked = () if source is None else (run.populations[source].made_by, f"{source}/select")

    def work() -> Result:
        from mmcorpus.training.evaluation import Checkpoint, evaluate

        data = entry.data if source is None else run.at("shards", run.populations[source].shards)
        assert data is not None, "an entry has either `data` or `source`"
        if judge is not None and judge.serving() is not None:
            run.start_ray()
        report = evaluate(
            config,
            Checkpoint(run.at("training", entry.stage), device, config.layout),
            data,
            run.at(out),
            selection=None if source is None else run.selection(source, HELDOUT),
            answers=run.at("answers", FOLDER),
            logs=run.at("logs"),
        )
        counts: dict[str, Any] = {"questions": report.questions, "unanswered": sum(report.unanswered.values())}
        for result in report.results:
            if not result.category:
                counts[result.metric] = round(result.found.value, 4)
                if result.blank is not None:
                    counts[f"{result.metric}_blank"] = round(result.blank.value, 4)
        return Result(counts=counts)

    return Stage(
        name=f"evaluate/{name}",
        config={**plain(config, leave_out=config.unsaid), "stage": entry.stage, "data": entry.data, "source": source,
                "files": [_identity(path) for path in files],
                **({"judge": {"model": judge.model(), **plain(judge.parameters())}} if judge is not None else {})},
        needs=(f"train/{entry.stage}", *asked),
        outputs=(out,),
        ray="no" if judge is None else "maybe",
        run=work,
    )  # fmt: skip


def _identity(path: str) -> Any:
    """A file's content; of a folder the names and sizes in it; where there is none, of demonstrations, its name."""
    if path == OTHERS:
        return path
    listed = storage.list_files(path) if storage.list_names(path) else {}
    return {name: stat.size for name, stat in listed.items()} or file_digest(path)
