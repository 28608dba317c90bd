"""Encoders taken from checkpoints of ours, as a new model begins with them.

POINTS (Liu et al. 2024, arXiv 2409.04828) first teaches an encoder to read, before a language model on texts found in
images, and gives it to its model beside a general one. Of such a checkpoint the encoder alone is read.
"""

from typing import Any

import torch
from torch import nn

from mmcorpus.curation.store import storage
from mmcorpus.training.checkpoint import open_tensors, read_state, resolve_checkpoint
from mmcorpus.training.config import ModelConfig, RandomVision, model_config_from_dict
from mmcorpus.training.model import VisionLanguageModel, build_model
from mmcorpus.training.tensors import Tensors


def checkpoints_of(config: ModelConfig) -> dict[int, str]:
    """The checkpoints among the sources of a model's encoders, by the encoder's number."""
    found = {}
    for place, encoder in enumerate(config.encoders):
        if isinstance(encoder.source, RandomVision):
            continue
        try:
            found[place] = resolve_checkpoint(encoder.source)
        except FileNotFoundError:
            continue  # a name or folder of Hugging Face's; if it is none, transformers says so
    return found


def begin_model(config: ModelConfig, vocabulary: int, seed: int = 0) -> VisionLanguageModel:
    """`build_model`, with the encoders of the checkpoints that it names. Raises ValueError for a checkpoint that
    has several encoders or none, or lacks a block that is to be read."""
    paths = checkpoints_of(config)
    settings = {place: _settings(path) for place, path in paths.items()}
    model = build_model(config, vocabulary, seed, settings)
    for place, path in paths.items():
        _load(model.vision.towers()[place][1], path)
    return model


def _settings(path: str) -> dict[str, Any]:
    """transformers' config of a checkpoint's encoder."""
    state = read_state(path)
    if "model" not in state:
        raise ValueError(f"{path} is no checkpoint of a vision-language model, which an encoder could be taken from")
    count = len(model_config_from_dict(state["model"]).encoders)
    if count > 1:
        raise ValueError(f"{path} has {count} encoders; name a checkpoint with one, of which it is taken")
    settings: dict[str, Any] = storage.read_json(storage.join(path, "vision", "config.json"))
    return settings


def _load(tower: nn.Module, path: str) -> None:
    """Copy a checkpoint's encoder into one of its architecture, of which as many blocks or fewer are left."""
    own: Tensors = open_tensors(path, "model").renamed(
        lambda name: name.split(".", 2)[2] if name.startswith("vision.") else None
    )
    with torch.no_grad():
        for name, parameter in tower.named_parameters():
            if name not in own:
                raise ValueError(
                    f"the encoder of {path} has no {name}: it keeps the blocks up to the last that was read; name "
                    "one of those in `layers`"
                )
            parameter.copy_(own[name]())
