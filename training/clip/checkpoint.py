"""Checkpoints whose model open_clip loads (`local-dir:PATH`), and from which a run goes on to the bit.

`checkpoints/step-00000100/model/` holds open_clip's `open_clip_config.json` and `open_clip_model.safetensors`, and a
Hugging Face tokenizer's files if the model has one: nothing but what decides scores, so that equal models are equal
folders. Beside it lie `optimizer.safetensors`, `rng.safetensors` and `state.json`, which is written last. There is no
pickle in it.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch

from mmcorpus.curation.store import storage
from mmcorpus.training.checkpoint import resolve_checkpoint, write_tensors
from mmcorpus.training.clip.model import Clip, load_folder

CONFIG: Final = "open_clip_config.json"
WEIGHTS: Final = "open_clip_model"  # .safetensors
MODEL: Final = "model"


def last_model(path: str) -> str:
    """The model's folder of a checkpoint, or of the latest in a run's folder. Raises FileNotFoundError."""
    return storage.join(resolve_checkpoint(path), MODEL)


def save_model(folder: str, clip: Clip, weights: Mapping[str, torch.Tensor]) -> None:
    """Write the model into a checkpoint's local folder."""
    model = os.path.join(folder, MODEL)
    storage.write_json(os.path.join(model, CONFIG), _open_clip_config(clip))
    write_tensors(folder, f"{MODEL}/{WEIGHTS}", weights)
    if hasattr(clip.tokenizer, "save_pretrained"):
        clip.tokenizer.save_pretrained(model)


def _open_clip_config(clip: Clip) -> dict[str, Any]:
    shape = clip.model.visual.preprocess_cfg
    names = ("mean", "std", "interpolation", "resize_mode", "fill_color")
    return {"model_cfg": clip.model_cfg, "preprocess_cfg": {name: shape[name] for name in names if name in shape}}


def load_clip(path: str) -> Clip:
    """The model of a checkpoint, or of the latest in a run's folder, local or remote."""
    with _at_hand(last_model(path)) as folder:
        return load_folder(folder)


@contextlib.contextmanager
def _at_hand(path: str) -> Iterator[str]:
    """A local folder with what lies in `path`."""
    if storage.is_local(path):
        yield storage.filesystem(path)[1]
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in storage.list_names(path):
            storage.write_bytes(os.path.join(folder, name), storage.read_bytes(storage.join(path, name)))
        yield folder
