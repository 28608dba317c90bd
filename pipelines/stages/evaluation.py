"""The recipe's `evaluate:` section: a stage each, from a checkpoint and questions to a table of results."""

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Literal

from mmcorpus.curation.engine.made_from import file_digest, plain
from mmcorpus.curation.engine.stage import Result, Stage
from mmcorpus.curation.store import storage
from mmcorpus.pipelines.recipe.schema import EvaluateEntry
from mmcorpus.pipelines.recipe.trained import trained_stage
from mmcorpus.pipelines.stages.context import RunContext
from mmcorpus.training.evaluation.config import OTHERS, EvaluationConfig

if TYPE_CHECKING:
    from mmcorpus.training.evaluation.results import EvaluationReport

FOLDER: Final = "evaluation"
"""In the run's folder: a folder an evaluation, with its answers and `results.json`."""


def evaluation_stages(run: RunContext) -> Iterator[Stage]:
    """The stages of evaluation in the recipe's order."""
    device = run.file.train.device if run.file.train is not None else None
    yield from (_evaluate(run, name, entry, device) for name, entry in run.file.evaluate.items())


@dataclasses.dataclass(frozen=True)
class Held:
    """How an evaluation is held, whoever answers."""

    run: RunContext
    entry: EvaluateEntry
    device: str | None

    @property
    def config(self) -> EvaluationConfig:
        """Its settings without what the recipe adds."""
        names = [field.name for field in dataclasses.fields(EvaluationConfig)]
        return EvaluationConfig(**{name: getattr(self.entry, name) for name in names})

    def ask(self, checkpoint: str, out: str) -> "EvaluationReport":
        """Ask a checkpoint, its answers under `out`."""
        from mmcorpus.training.evaluation import Checkpoint, evaluate

        source, run = self.entry.source, self.run
        data = self.entry.data if source is None else run.at("shards", run.populations[source].shards)
        assert data is not None, "an entry has either `data` or `source`"
        selection = None if source is None else run.heldout(source)
        judge = self.entry.judge
        if judge is not None and judge.serving() is not None:
            run.start_ray()
        return evaluate(
            self.config,
            Checkpoint(checkpoint, self.device),
            data,
            out,
            selection=selection,
            answers=run.at("answers", FOLDER),
            logs=run.at("logs"),
        )

    def first(self, checkpoint: str, out: str) -> float:
        """A checkpoint's first result, by which models are compared."""
        return self.ask(checkpoint, out).results[0].found.value

    def needs(self) -> tuple[str, ...]:
        """The stages that make its questions."""
        source = self.entry.source
        if source is None:
            return ()
        population = self.run.populations[source]
        return population.made_by, f"{population.judged_as}/select"

    @property
    def ray(self) -> Literal["no", "maybe"]:
        """Whether it may start Ray: a judge of captions is served by it, unless it is asked where it runs already."""
        return "no" if self.entry.judge is None else "maybe"

    def described(self) -> dict[str, Any]:
        """What decides its results beside the model."""
        entry, config, judge = self.entry, self.config, self.entry.judge
        files = [path for path in (entry.data, entry.demonstrations, entry.annotations) if path is not None]
        return {
            **plain(config, leave_out=config.unsaid),
            "data": entry.data,
            "source": entry.source,
            "files": [_identity(path) for path in files],
            **({"judge": {"model": judge.model(), **plain(judge.parameters())}} if judge is not None else {}),
        }


def _evaluate(run: RunContext, name: str, entry: EvaluateEntry, device: str | None) -> Stage:
    held, out = Held(run, entry, device), f"{FOLDER}/{name}"

    def work() -> Result:
        report = held.ask(run.at("training", entry.stage), run.at(out))
        counts: dict[str, Any] = {"questions": report.questions, "unanswered": sum(report.unanswered.values())}
        for result in report.results:
            if not result.category:
                found = {result.metric: result.found, f"{result.metric}_blank": result.blank}
                # What has no value, such as the precision of captions that say nothing, is no number of JSON's.
                counts |= {key: round(own.value, 4) for key, own in found.items() if own and not math.isnan(own.value)}
        return Result(counts=counts)

    return Stage(
        name=f"evaluate/{name}",
        config={**held.described(), "stage": entry.stage},
        needs=(trained_stage(run.recipe, entry.stage), *held.needs()),
        outputs=(out,),
        ray=held.ray,
        run=work,
    )


def _identity(path: str) -> Any:
    """A file's content; of a folder the names and sizes in it; where there is none, of demonstrations, its name."""
    if path == OTHERS:
        return path
    listed = storage.list_files(path) if storage.list_names(path) else {}
    return {name: stat.size for name, stat in listed.items()} or file_digest(path)
