"""The layout of our checkpoints, for modules here that read one apart or write one; no other file knows it.

A tower of Hugging Face's has the blocks that ours runs, and one more that changes nothing: its branches are zero, so
that it hands on what it gets. The layer that is read is then always -2, and no reader – some of which put the last norm
on a tower that ends where it is read – can change it.
"""

import dataclasses
import functools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import torch

from mmcorpus.curation.store import storage
from mmcorpus.packing.tokens import load_tokenizer
from mmcorpus.training.checkpoint import chat_template_of, open_tensors, read_state, resolve_checkpoint
from mmcorpus.training.config import ModelConfig, model_config_from_dict
from mmcorpus.training.decoder import LogitShape
from mmcorpus.training.folder import STATE, new_folder
from mmcorpus.training.tensors import Planned, Tensors, write_file
from mmcorpus.training.vision import square_side

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VISION: Final = "vision.siglip."
"""Before the names of the encoder's parameters, which are SiglipVisionModel's."""
PROJECTOR: Final = "projector."
"""Before the projector's two layers, `fc1` and `fc2`."""
LANGUAGE: Final = "language."
"""Before the names of the decoder's parameters, which are those of transformers' causal language model."""
EMBEDDINGS: Final = "language.model.embed_tokens.weight"
LM_HEAD: Final = "language.lm_head.weight"
HEAD_BIAS: Final = "language.lm_head.bias"
_BLOCK: Final = "encoder.layers.{}."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """A checkpoint's configs, tokenizer and weights; the weights are read when they are asked for."""

    config: ModelConfig
    visions: tuple[dict[str, Any], ...]
    """The encoders' Hugging Face configs."""
    language: dict[str, Any]
    """The decoder's."""
    tokenizer: "PreTrainedTokenizerFast"
    chat_template: str | None
    """What an instruction-tuned checkpoint's conversations were written in; None for a pretrained one."""
    weights: Tensors
    step: int

    @property
    def vision(self) -> dict[str, Any]:
        """The first encoder's."""
        return self.visions[0]

    @property
    def image_size(self) -> int:
        """Pixels a side of a square image."""
        return square_side(self.vision)

    @property
    def blocks(self) -> int:
        """The first encoder's blocks that are run."""
        return int(self.vision["num_hidden_layers"]) + 1 + self.config.vision_layer

    @property
    def is_llava(self) -> bool:
        """Whether Hugging Face's Llava is the same model: one SigLIP, one layer of it, all patches through two linear
        layers of the decoder's width, and a decoder whose logits are the LM head's product without a bias."""
        config, width = self.config, self.weights.shapes[EMBEDDINGS][1]
        return (
            self.vision["model_type"] == "siglip_vision_model"
            and [len(one.layers) for one in config.encoders] == [1]
            and config.layout == (self.image_size // self.vision["patch_size"]) ** 2
            and config.connector.kind == "average_mlp"
            and config.connector.hidden in (None, width)
            and LogitShape.of(self.language) == LogitShape()
            and HEAD_BIAS not in self.weights
        )

    def tower(self) -> Iterator[Planned]:
        """The encoder's weights by SiglipVisionModel's names: the blocks that are run, and one that changes nothing."""
        own = self.weights.renamed(lambda name: name.removeprefix(VISION) if name.startswith(VISION) else None)
        yield from (Planned(name, own.shapes[name], read) for name, read in own.items())
        last = _BLOCK.format(self.blocks - 1)
        for name in [name for name in own if name.startswith(last)]:
            scale = name.endswith(("layer_norm1.weight", "layer_norm2.weight"))
            yield _constant(name.replace(last, _BLOCK.format(self.blocks)), own.shapes[name], float(scale))
        width = (int(self.vision["hidden_size"]),)
        yield _constant("post_layernorm.weight", width, 1.0)
        yield _constant("post_layernorm.bias", width, 0.0)


def _constant(name: str, shape: tuple[int, ...], value: float) -> Planned:
    return Planned(name, shape, functools.partial(torch.full, shape, value))


def read_parts(checkpoint: str) -> Parts:
    """The parts of a checkpoint (or a training folder's latest); a remote one's weights are fetched once."""
    path = resolve_checkpoint(checkpoint)
    state = read_state(path)
    if "model" not in state:
        raise ValueError(f"{path} is no checkpoint of a vision-language model")
    config = model_config_from_dict(state["model"])
    folders = ["vision", *(f"vision_{number}" for number in range(1, len(config.encoders))), "language"]
    *visions, language = (storage.read_json(storage.join(path, folder, "config.json")) for folder in folders)
    weights = open_tensors(path, "model")
    if EMBEDDINGS not in weights:
        raise ValueError(f"{path}: decoders of the type {language['model_type']!r} cannot be exported: no {EMBEDDINGS}")
    return Parts(
        config=config,
        visions=tuple(visions),
        language=language,
        tokenizer=load_tokenizer(storage.join(path, "tokenizer")),
        chat_template=chat_template_of(state),
        weights=weights,
        step=state["step"],
    )


def write_checkpoint(
    out: str,
    config: ModelConfig,
    *,
    vision: dict[str, Any],
    language: dict[str, Any],
    tokenizer: "PreTrainedTokenizerFast",
    chat_template: str,
    weights: Tensors,
    origin: dict[str, Any],
) -> None:
    """Write a checkpoint that was not trained here: it answers, judges, is exported and trained on like any other.

    Args:
        weights: by the names above, all that the model has; written as fp32, one at a time.
        origin: where it is from, for its `state.json`.
    """
    planned = [Planned(name, weights.shapes[name], read) for name, read in weights.items()]
    with new_folder(out) as folder:
        write_file(os.path.join(folder, "model.safetensors"), planned, "fp32")
        tokenizer.save_pretrained(os.path.join(folder, "tokenizer"))
        for part, settings in (("vision", vision), ("language", language)):
            storage.write_json(os.path.join(folder, part, "config.json"), settings)
        state = {
            "kind": "sft",
            "step": 0,
            "model": dataclasses.asdict(config),
            "chat_template": chat_template,
            "origin": origin,
        }
        storage.write_json(os.path.join(folder, STATE), state)
