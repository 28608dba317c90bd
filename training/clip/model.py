"""The CLIP that is trained: open_clip's own classes, from a name, a folder, or a small configuration."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from mmcorpus.filters.clip_model import load_open_clip_tokenizer
from mmcorpus.training.clip.config import ContrastiveConfig, SmallClip
from mmcorpus.training.clip.data import Preprocess


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A model with what belongs to it."""

    model: Any
    """open_clip's `CLIP` or `CustomTextCLIP`: encode_image, encode_text, logit_scale."""
    model_cfg: dict[str, Any]
    """As in `open_clip_config.json`."""
    tokenizer: Any
    """open_clip's."""
    preprocess: Preprocess

    def tokenize(self, captions: list[str]) -> torch.Tensor:
        """int64 B×T; what does not fit the context is cut off."""
        return self.tokenizer(captions)

    def encode(self, images: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit vectors of images and texts, B×E each, fp32 whatever the encoders compute in."""
        image = self.model.encode_image(images).float()
        text = self.model.encode_text(tokens).float()
        return torch.nn.functional.normalize(image, dim=-1), torch.nn.functional.normalize(text, dim=-1)


def begin(config: ContrastiveConfig) -> Clip:
    """The model that a run begins with, on the CPU, in fp32.

    Raises:
        ValueError: open_clip has no such model or weights, or it is not one that learns contrastively.
    """
    open_clip = _open_clip()
    torch.manual_seed(config.seed)
    if isinstance(config.model, SmallClip):
        small, model_cfg = config.model, config.model.model_cfg()
        model = open_clip.model.CLIP(**copy.deepcopy(model_cfg))
        shape = {"size": small.image_size, "resize_mode": small.resize_mode}
        preprocess = open_clip.transform.merge_preprocess_dict(open_clip.transform.PreprocessCfg(), shape)
        open_clip.model.set_model_preprocess_cfg(model, preprocess)
        return _assemble(model, model_cfg, open_clip.SimpleTokenizer(context_length=small.context_length))
    try:
        model_cfg = open_clip.get_model_config(config.model)
        model = open_clip.create_model(config.model, pretrained=config.pretrained, precision="fp32")
    except (RuntimeError, FileNotFoundError) as error:
        raise ValueError(f"model {config.model!r} with pretrained {config.pretrained!r}: {error}") from error
    return _assemble(model, model_cfg, load_open_clip_tokenizer(config.model))


def load_folder(folder: str) -> Clip:
    """The model in a local folder with `open_clip_config.json` and weights."""
    open_clip = _open_clip()
    name = f"local-dir:{folder}"
    model = open_clip.create_model(name, precision="fp32")
    return _assemble(model, open_clip.get_model_config(name), load_open_clip_tokenizer(name))


def _open_clip() -> Any:
    try:
        import open_clip
        import open_clip.model
        import open_clip.transform
    except ImportError as error:
        raise ImportError("open_clip is not installed; install it with: pip install 'mmcorpus[models]'") from error
    return open_clip


def _assemble(model: Any, model_cfg: dict[str, Any], tokenizer: Any) -> Clip:
    if model_cfg.get("multimodal_cfg") or getattr(model, "logit_bias", None) is not None:
        raise ValueError("this model learns by captioning (CoCa) or a sigmoid loss (SigLIP); give a CLIP")
    open_clip = _open_clip()
    shape = open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg)
    sides = {shape.size} if isinstance(shape.size, int) else set(shape.size)
    if len(sides) != 1:
        raise ValueError(f"this model's images are {shape.size} pixels; only square ones are trained here")
    evaluate: Callable[[Any], torch.Tensor] = open_clip.transform.image_transform_v2(shape, is_train=False)
    preprocess = Preprocess(
        size=sides.pop(), mean=tuple(shape.mean), std=tuple(shape.std), resize_mode=shape.resize_mode, evaluate=evaluate
    )
    return Clip(model=model, model_cfg=model_cfg, tokenizer=tokenizer, preprocess=preprocess)
