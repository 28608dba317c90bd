"""What a recipe takes of its own run: `${run}/training/STAGE`, the checkpoint that one of its stages trains.

An encoder's source may be one (POINTS' encoder that has learned to read first), and a scorer's checkpoint (the judge
that the run itself trains). Stages that read it wait for that stage.
"""

import copy
import dataclasses
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from mmcorpus.filters.scorer import Scorer
from mmcorpus.pipelines.recipe.problems import Path, suggestion

if TYPE_CHECKING:
    from mmcorpus.pipelines.recipe.schema import Recipe
    from mmcorpus.training.config import ModelConfig

RUN: Final = "${run}"
"""The run's own folder, in a path."""
_TRAINED: Final = re.compile(r"\$\{run\}/training/([A-Za-z0-9][A-Za-z0-9_-]*)")


def names_run(value: Any) -> bool:
    """Whether a value is a path in the run's folder."""
    return isinstance(value, str) and RUN in value


def _stage_of(value: Any) -> str | None:
    """The stage whose checkpoint a value names; None if it names none."""
    found = _TRAINED.fullmatch(value) if isinstance(value, str) else None
    return found[1] if found else None


def _run_fields(scorer: Scorer) -> dict[str, str]:
    """A scorer's parameters that are paths in the run's folder."""
    return {
        field.name: value for field in dataclasses.fields(scorer) if names_run(value := getattr(scorer, field.name))
    }


def is_trained(scorer: Scorer) -> bool:
    """Whether a scorer reads what the run trains, so that it judges after the stages of training that it names."""
    return bool(_run_fields(scorer))


def stages_of_scorer(scorer: Scorer) -> list[str]:
    """The stages whose checkpoints a scorer reads."""
    return [stage for value in _run_fields(scorer).values() if (stage := _stage_of(value))]


def scorer_in(scorer: Scorer, root: str) -> Scorer:
    """The scorer of the run in the folder `root`."""
    found = copy.copy(scorer)
    for name, value in _run_fields(scorer).items():
        object.__setattr__(found, name, value.replace(RUN, root))
    return found


def stages_of_model(model: "ModelConfig") -> list[str]:
    """The stages whose encoders a model begins with."""
    return [stage for encoder in model.encoders if (stage := _stage_of(encoder.source))]


def model_in(model: "ModelConfig", root: str) -> "ModelConfig":
    """The model as the run in the folder `root` begins it."""
    encoders = [
        dataclasses.replace(one, source=one.source.replace(RUN, root)) if isinstance(one.source, str) else one
        for one in model.encoders
    ]
    return dataclasses.replace(model, encoders=tuple(encoders))


def trained_stage(recipe: "Recipe", name: str) -> str:
    """The run's stage that writes `training/NAME`."""
    return f"soup/{name}" if recipe.file.train is not None and name in recipe.file.train.soups else f"train/{name}"


def names_trained(recipe: "Recipe") -> list[str]:
    """What can be named as trained: the stages of training and the soups."""
    return [*recipe.stages, *(recipe.file.train.soups if recipe.file.train is not None else ())]


def findings(recipe: "Recipe") -> Iterable[tuple[Path, str]]:
    """Paths in the run's folder that name no stage, and soups that do not fit."""
    for name, scorer in recipe.scorers.items():
        for field, value in _run_fields(scorer).items():
            yield from _unknown(recipe, ("score", "scorers", name, field), value)
    models: list[tuple[Path, ModelConfig | None]] = [(("train", "model"), recipe.model)]
    models += [(("train", "stages", name, "model"), stage.model) for name, stage in recipe.stages.items()]
    for path, model in models:
        for place, encoder in enumerate(model.encoders if model is not None else ()):
            if names_run(encoder.source):
                yield from _unknown(recipe, (*path, "encoders", place, "source"), str(encoder.source))
        if model is not None and names_run(model.language):
            yield (*path, "language"), "only encoders are taken from a stage; a stage's whole model is its `init`"
    yield from _soups(recipe)
    yield from _individual_select(recipe)


def _unknown(recipe: "Recipe", path: Path, value: str) -> Iterable[tuple[Path, str]]:
    stage, known = _stage_of(value), names_trained(recipe)
    if stage is None:
        yield path, f"{value!r}; of the run's folder, {RUN}/training/STAGE can be named"
    elif stage not in known:
        yield path, f"unknown stage {stage!r}; {suggestion(stage, known, listed='stages')}"


def _soups(recipe: "Recipe") -> Iterable[tuple[Path, str]]:
    for name, soup in (recipe.file.train.soups if recipe.file.train is not None else {}).items():
        path: Path = ("train", "soups", name)
        if name in recipe.stages:
            yield path, "a stage is called so too, and both write training/" + name
        for place, stage in enumerate(soup.stages):
            if stage not in recipe.stages:
                told = suggestion(stage, recipe.stages, listed="stages")
                yield (*path, "stages", place), f"unknown stage {stage!r}; {told}"
        judge, evaluations = soup.judge, recipe.file.evaluate
        if judge is not None and judge not in evaluations:
            told = suggestion(judge, evaluations, listed="evaluations")
            yield (*path, "judge"), f"unknown evaluation {judge!r}; {told}"


def _individual_select(recipe: "Recipe") -> Iterable[tuple[Path, str]]:
    entry, path = recipe.file.individual_select, ("individual_select",)
    if entry is None:
        return
    if entry.judge not in recipe.file.evaluate:
        told = suggestion(entry.judge, recipe.file.evaluate, listed="evaluations")
        yield (*path, "judge"), f"unknown evaluation {entry.judge!r}; {told}"
    stage = recipe.stages.get(entry.stage)
    if stage is None:
        told = suggestion(entry.stage, recipe.stages, listed="stages")
        yield (*path, "stage"), f"unknown stage {entry.stage!r}; {told}"
        return
    pack = recipe.file.pack.get(stage.links.pack)
    for key in ("base", "candidates"):
        for place, source in enumerate(getattr(entry, key)):
            if pack is not None and source not in pack.sources:
                told = suggestion(source, pack.sources, listed="its sources")
                yield (
                    (*path, key, place),
                    f"{source!r} is not in the pack {stage.links.pack!r} of {entry.stage}; {told}",
                )
