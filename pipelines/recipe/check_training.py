"""Checks of what a recipe's model and stages of training refer to, and that packs fit them."""

from collections.abc import Iterable
from typing import Any, Final

from mmcorpus.packing.layout import PerImage
from mmcorpus.pipelines.recipe.named_places import absolute, missing_local
from mmcorpus.pipelines.recipe.problems import Finding, Path, suggestion
from mmcorpus.pipelines.recipe.schema import Recipe
from mmcorpus.pipelines.recipe.trained import names_run, names_trained
from mmcorpus.training.config.model import ModelConfig, layout_name, same_layout

_MODEL: Final[Path] = ("train", "model")


def findings(recipe: Recipe) -> Iterable[Finding]:
    """What the model and the stages of training name that is not there, or does not fit."""
    file, stages = recipe.file, recipe.stages
    if recipe.model is not None:
        yield from _absent(_MODEL, recipe.model)
    for name, stage in stages.items():
        path: Path = ("train", "stages", name)
        if stage.model is not None:
            yield from _absent((*path, "model"), stage.model)
        pack, init = stage.links.pack, stage.links.init
        if pack not in file.pack:
            yield (*path, "pack"), f"unknown pack {pack!r}; {suggestion(pack, file.pack, listed='packs')}"
        else:
            yield from _fit(recipe, name, pack)
        if init is not None and init not in names_trained(recipe):
            others = [other for other in names_trained(recipe) if other != name]
            yield (*path, "init"), f"unknown stage {init!r}; {suggestion(init, others, listed='stages')}"
        elif init is not None and _circular(name, {key: entry.links.init for key, entry in stages.items()}):
            yield (*path, "init"), "starts from itself, by way of the stages that it starts from"


def _absent(path: Path, model: ModelConfig) -> Iterable[Finding]:
    """The paths that a model is to begin with, and where nothing is."""
    encoders = [one.source for one in model.encoders]
    named: list[tuple[Path, object]] = [(("language",), model.language)]
    named += [(("vision",) if len(encoders) == 1 else ("encoders", place, "source"), source)
              for place, source in enumerate(encoders)]  # fmt: skip
    for part, value in named:
        if isinstance(value, str) and not names_run(value) and missing_local(value):
            yield (*path, *part), f"there is nothing at {absolute(value)}"


def _fit(recipe: Recipe, stage: str, pack: str) -> Iterable[Finding]:
    config = recipe.file.pack[pack]
    layout, place = _image_layout(recipe, stage)
    packed = config.per_image if config.layout is None else config.layout
    if layout is None or same_layout(packed, layout):
        return
    if isinstance(layout, int) and isinstance(config.per_image, int) and config.layout is None:
        numbers = f"{layout}, but pack {pack!r} has {config.per_image}"
        yield place, f"{numbers}; planner and model must agree, or the stage takes a `tokens_per_image` of its own"
    else:
        text = f"{layout_name(layout)}, but pack {pack!r} has {layout_name(packed)}"
        yield place, f"{text}; planner and model must agree, or the stage takes a `layout` of its own"


def _image_layout(recipe: Recipe, stage: str) -> tuple[PerImage | None, Path]:
    """What an image becomes in a stage, and the setting that says so: its own, its predecessors' or the model's."""
    stages, seen, name = recipe.stages, set[str](), stage
    while name in stages and name not in seen:
        seen.add(name)
        config = stages[name].config
        if (own := config.image_layout) is not None:
            return own, ("train", "stages", name, "layout" if config.tokens_per_image is None else "tokens_per_image")
        if stages[name].links.init is None:
            break
        name = str(stages[name].links.init)
        if (soups := recipe.file.train.soups if recipe.file.train else {}) and name in soups:
            name = soups[name].stages[0]
    model, path = recipe.model, _MODEL
    if name in stages and (own_model := stages[name].model) is not None:
        model, path = own_model, ("train", "stages", name, "model")
    if model is None:
        return None, path
    return model.layout, (*path, "tokens_per_image" if isinstance(model.layout, int) else "layout")


def _circular(name: str, parents: dict[str, Any]) -> bool:
    seen, parent = {name}, parents.get(name)
    while parent is not None and parent not in seen:
        seen.add(parent)
        parent = parents.get(parent)
    return parent is not None
