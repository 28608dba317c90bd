"""What a recipe takes of its own run: `${run}/training/STAGE`, the checkpoint that one of its stages trains, and
`${run}/exports/NAME`, one as other programs load it.

An encoder's source may be the first (POINTS' encoder that has learned to read first), and a scorer's checkpoint (the
judge that the run itself trains); the second a scorer's model, which the run serves. Stages that read it wait for it.
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
TRAINING: Final = "training"
EXPORTS: Final = "exports"
"""The run's folders of what it trains, and of that as others load it."""
_FORMS: Final = {TRAINING: f"{RUN}/{TRAINING}/STAGE", EXPORTS: f"{RUN}/{EXPORTS}/NAME (of the recipe's `export`)"}
_READS: Final = {"checkpoint": TRAINING, "source": TRAINING, "model_name": EXPORTS}
"""By key, the folder that it takes something of; scorers of one's own may have others, which take of either."""
_PLACE: Final = re.compile(rf"\$\{{run\}}/({TRAINING}|{EXPORTS})/([A-Za-z0-9][A-Za-z0-9_-]*)")


def names_run(value: Any) -> bool:
    """Whether a value is a path in the run's folder."""
    return isinstance(value, str) and RUN in value


def _named(value: Any) -> tuple[str, str] | None:
    """Which folder of the run a value names, `training` or `exports`, and what in it; None if it names neither."""
    found = _PLACE.fullmatch(value) if isinstance(value, str) else None
    return (found[1], found[2]) if found else None


def _run_fields(scorer: Scorer) -> dict[str, str]:
    """A scorer's parameters that are paths in the run's folder."""
    return {
        field.name: value for field in dataclasses.fields(scorer) if names_run(value := getattr(scorer, field.name))
    }


def is_trained(scorer: Scorer) -> bool:
    """Whether a scorer reads what the run trains, so that it judges after the stages of training that it names."""
    return bool(_run_fields(scorer))


def makers_of_scorer(recipe: "Recipe", scorer: Scorer) -> list[str]:
    """The run's stages that write what a scorer reads."""
    named = [found for value in _run_fields(scorer).values() if (found := _named(value))]
    return [f"export/{name}" if place == EXPORTS else trained_stage(recipe, name) for place, name in named]


def scorer_in(scorer: Scorer, root: str) -> Scorer:
    """The scorer of the run in the folder `root`. Its scores are known by what lies there, and not by where the run
    does, so that they outlive moving it."""
    found, root = copy.copy(scorer), root.rstrip("/")
    for name, value in _run_fields(scorer).items():
        object.__setattr__(found, name, value.replace(RUN, root))
    return found.placed({f"{root}/": f"{RUN}/"})


def stages_of_model(model: "ModelConfig") -> list[str]:
    """The stages whose encoders a model begins with."""
    return [found[1] for encoder in model.encoders if (found := _named(encoder.source))]


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
    for name, entry in recipe.file.export.items():
        if entry.stage not in names_trained(recipe):
            told = suggestion(entry.stage, names_trained(recipe), listed="stages")
            yield ("export", name, "stage"), f"unknown stage {entry.stage!r}; {told}"
    yield from _soups(recipe)
    yield from _individual_select(recipe)


def _unknown(recipe: "Recipe", path: Path, value: str) -> Iterable[tuple[Path, str]]:
    """What is wrong with a path in the run's folder; of a checkpoint and an export no reader takes the other."""
    known = {TRAINING: names_trained(recipe), EXPORTS: [*recipe.file.export]}
    only = _READS.get(str(path[-1]))
    place, name = _named(value) or ("", "")
    if place not in (known if only is None else (only,)):
        shown = [form for folder, form in _FORMS.items() if only in (None, folder)]
        yield path, f"{value!r}; of the run's folder, {' and '.join(shown)} can be named"
    elif name not in known[place]:
        what = "stage" if place == TRAINING else "export"
        yield path, f"unknown {what} {name!r}; {suggestion(name, known[place], listed=f'{what}s')}"


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
