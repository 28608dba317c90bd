"""The recipe's `train.soups:`: a stage each, from stages' checkpoints to their mean, which is named like a stage's."""

from collections.abc import Iterator
from typing import Any, Final

from mmcorpus.curation.engine.stage import Result, Stage
from mmcorpus.curation.store import storage
from mmcorpus.pipelines.recipe.schema import SoupEntry
from mmcorpus.pipelines.stages.context import RunContext
from mmcorpus.pipelines.stages.evaluation import Held

TRIALS: Final = ".trials"
"""After a soup's folder: its scores and the answers that they are from."""


def soup_stages(run: RunContext) -> Iterator[Stage]:
    """The soups in the recipe's order."""
    if run.file.train is not None:
        yield from (_soup(run, name, entry) for name, entry in run.file.train.soups.items())


def _soup(run: RunContext, name: str, entry: SoupEntry) -> Stage:
    assert run.file.train is not None, "soups are of training"
    out = f"training/{name}"
    judged = run.file.evaluate[entry.judge] if entry.judge is not None else None
    held = Held(run, judged, run.file.train.device) if judged is not None else None

    def work() -> Result:
        from mmcorpus.training.soup import soup

        report = soup(
            [run.at("training", stage) for stage in entry.stages],
            run.at(out),
            method=entry.method,
            top=entry.top,
            score=None if held is None else lambda path: held.first(path, run.at(f"{out}{TRIALS}", "answers")),
            scored_by="" if held is None else repr(held.described()),
        )
        places = {run.at("training", stage): stage for stage in entry.stages}

        def stage_of(path: str) -> str:
            return next((stage for place, stage in places.items() if path.startswith(storage.join(place, ""))), path)

        shown: dict[str, Any] = {"members": [stage_of(path) for path in report.members]}
        shown |= {f"score_{stage_of(path)}": round(score, 4) for path, score in report.scores.items()}
        return Result(counts={**shown, **({} if report.score is None else {"score": round(report.score, 4)})})

    return Stage(
        name=f"soup/{name}",
        config={
            "stages": list(entry.stages), "method": entry.method, "top": entry.top,
            **({} if held is None else {"judge": held.described()}),
        },
        needs=(*(f"train/{stage}" for stage in entry.stages), *(held.needs() if held is not None else ())),
        outputs=(out, f"{out}{TRIALS}") if held is not None else (out,),
        ray="no" if held is None else held.ray,
        run=work,
    )  # fmt: skip
