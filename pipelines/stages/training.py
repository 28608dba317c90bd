"""The recipe's `train:` section: a stage each, from packs to checkpoints."""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from mmcorpus.curation.engine.made_from import plain
from mmcorpus.curation.engine.stage import Result, Stage
from mmcorpus.pipelines.recipe.trained import model_in, stages_of_model, trained_stage
from mmcorpus.pipelines.stages.context import HELDOUT, RunContext
from mmcorpus.pipelines.stages.packing import has_heldout
from mmcorpus.training.config import model_config_from_dict

_SHOWN = ("step", "loss", "heldout_loss", "heldout_loss_blank", "target_tokens", "positions", "images", "broken_images")


def training_stages(run: RunContext) -> Iterator[Stage]:
    """The stages of training in the recipe's order."""
    if run.file.train is not None:
        settings = run.file.train
        yield from (_train(run, name, settings.device, settings.processes) for name in run.recipe.stages)


def _model_of(before: dict[str, Any]) -> Any:
    """A model's config as an earlier version recorded it, in today's words; one that is not understood as it is."""
    try:
        return plain(model_config_from_dict(before))
    except (TypeError, ValueError, KeyError):
        return before


def _train(run: RunContext, name: str, device: str | None, processes: int | None) -> Stage:
    stage = run.recipe.stages[name]
    pack, init = stage.links.pack, stage.links.init
    model = None if init is not None else stage.model or run.recipe.model
    heldout = has_heldout(run, pack)

    def work() -> Result:
        from mmcorpus.training.launch import launch

        report = launch(
            processes,
            stage.config,
            run.at("packs", pack),
            run.at("training", name),
            model=None if model is None else model_in(model, run.root),
            init=run.at("training", init) if init else None,
            heldout_packs=run.at("packs", f"{pack}.{HELDOUT}") if heldout else None,
            device=device,
        )
        totals = dataclasses.asdict(report.totals)
        shown = {name: totals[name] for name in _SHOWN if totals.get(name) is not None}
        return Result(counts={**shown, "checkpoint": os.path.basename(report.checkpoint)})

    return Stage(
        name=f"train/{name}",
        config={
            **plain(stage.config.result_settings()),
            "pack": pack,
            "init": init,
            **({"model": plain(model)} if init is None else {}),
        },
        needs=(
            f"{pack}/packs",
            *([f"{pack}.{HELDOUT}/packs"] if heldout else []),
            *([trained_stage(run.recipe, init)] if init else []),
            *(trained_stage(run.recipe, taken) for taken in (stages_of_model(model) if model else ())),
        ),
        outputs=(f"training/{name}",),
        translate=lambda before: {
            **stage.config.translate(before),
            **{key: before[key] for key in ("pack", "init") if key in before},
            **({"model": _model_of(before["model"])} if "model" in before else {}),
        },
        run=work,
    )
