"""The start of a run: the settings of a new model, or the checkpoint whose weights it goes on from.

Each of the run's checkpoints keeps it, since a folder holds one run: it is not gone on with as another.
"""

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import Any, Final

from mmcorpus.curation.engine.made_from import digest
from mmcorpus.filters.secrets import masked
from mmcorpus.training.checkpoint import OTHER_FOLDER, read_state, resolve_checkpoint
from mmcorpus.training.config import ModelConfig, model_config_from_dict
from mmcorpus.training.taken import checkpoints_of

_TOLD: Final = ("step", "kind", "identity", "model", "chat_template", "begun", "origin")
"""What in a checkpoint's state decides its weights; the same run made again is the same."""


def begun_from(out: str, resumed: str | None, model: ModelConfig | None, init: str | None) -> dict[str, Any]:
    """What the run in `out` was begun from, JSON-able; `resumed` is its last checkpoint, None for a run that begins.

    One of `model` and `init` is given. An `init` that is gone is known by its name when a run is resumed. Checkpoints
    from before this was kept are gone on with as whatever is given.

    Raises:
        ValueError: the run was begun from something else; names both.
        FileNotFoundError: `init` names no checkpoint, and the run begins.
    """
    now = _of_model(model) if init is None else _of_checkpoint(init, resumed is not None)
    before = read_state(resumed).get("begun") if resumed else None
    if not before:
        return now
    changed = _changed(before, now)
    if changed:
        raise ValueError(f"{out} holds a run that was begun from something else ({changed}); {OTHER_FOLDER}")
    return dict(before)


def _of_model(model: ModelConfig | None) -> dict[str, Any]:
    """By its settings, and what tells the checkpoints apart that its encoders are taken from."""
    assert model is not None
    taken = {str(place): digest(_told(read_state(path))) for place, path in checkpoints_of(model).items()}
    return {"model": json.loads(json.dumps(dataclasses.asdict(model))), **({"taken": taken} if taken else {})}


def _of_checkpoint(init: str, may_be_gone: bool) -> dict[str, Any]:
    """By what the checkpoint's state tells of all that it was made from, and of where that led to."""
    name = masked(init)
    try:
        state = read_state(resolve_checkpoint(init))
    except FileNotFoundError:
        if not may_be_gone:
            raise
        return {"init": name}
    return {"init": name, "step": state["step"], "digest": digest(_told(state))}


def _told(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: state.get(key) for key in _TOLD} | {"loss": state.get("totals", {}).get("loss")}


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs, in words; empty if nothing does."""
    if "model" in before and "model" in now:
        both = before.get("taken", {}).keys() & now.get("taken", {}).keys()  # of what is gone the name alone is known
        old, new = (_known_by_content(one, both) for one in (before, now))
        pairs = ((field.name, getattr(old, field.name), getattr(new, field.name)) for field in dataclasses.fields(old))
        return ", ".join(f"model.{name} {was!r} → {given!r}" for name, was, given in pairs if was != given)
    known = "digest" in before and "digest" in now
    if not known and "init" in before and before["init"] == now.get("init"):
        return ""
    if known and before["digest"] == now["digest"]:
        return ""
    return f"{_shown(before)} → {_shown(now)}"


def _known_by_content(begun: Mapping[str, Any], places: Collection[str]) -> ModelConfig:
    """The model that was begun with; the checkpoints that encoders at `places` are of by content, wherever they lie."""
    model = model_config_from_dict(begun["model"])
    encoders = [
        dataclasses.replace(one, source=f"checkpoint {begun['taken'][str(place)]}") if str(place) in places else one
        for place, one in enumerate(model.encoders)
    ]
    return dataclasses.replace(model, encoders=tuple(encoders))


def _shown(begun: Mapping[str, Any]) -> str:
    if "model" in begun:
        return "a new model"
    return f"init {begun['init']}" + (f" at step {begun['step']}" if "step" in begun else "")
