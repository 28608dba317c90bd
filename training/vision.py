"""Image encoders: SigLIP's, SigLIP 2's, CLIP's or DINOv2's blocks up to the layer that is read, over uint8 pixels.

Shape legend: N images or crops, C channels, H×W pixels, P patches, Q patches of all crops, E the encoders' width.
"""

import dataclasses
import types
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import nn

from mmcorpus.packing.layout.base import Size
from mmcorpus.training.config import EncoderConfig, RandomVision
from mmcorpus.training.config.model import average_weights

GREY = 128
"""The value that normalises to (almost) zero: a blank image, and one that could not be decoded."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Family:
    """What differs between architectures, by transformers' names."""

    config: str
    model: str
    norm: str
    """The last norm, which is not applied: blocks' outputs are read."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    prefix: int = 0
    """Tokens before the patches (a class token)."""


_HALF: Final = (0.5, 0.5, 0.5)
FAMILIES: Final = {
    "siglip": _Family(
        config="SiglipVisionConfig", model="SiglipVisionModel", norm="post_layernorm", mean=_HALF, std=_HALF
    ),
    "siglip2": _Family(
        config="Siglip2VisionConfig", model="Siglip2VisionModel", norm="post_layernorm", mean=_HALF, std=_HALF
    ),
    "clip": _Family(
        config="CLIPVisionConfig", model="CLIPVisionModel", norm="post_layernorm", prefix=1,
        mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711),
    ),
    "dinov2": _Family(
        config="Dinov2Config", model="Dinov2Model", norm="layernorm", prefix=1,
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
    ),
}  # fmt: skip
"""By family: transformers' classes, and the mean and standard deviation that each was trained with (SigLIP's and CLIP's
image processors, ImageNet's for DINOv2)."""


class VisionEncoder(nn.Module):
    """Patch features of one or several encoders, from the blocks that `layers` name, side by side or averaged.

    The blocks after the last of them, the last norm and the pooling head are not built into the model at all: with
    layer -2 (the reference's choice) they would cost time and memory and never be read. Images of another size than an
    encoder was trained on get its position embeddings interpolated.
    """

    def __init__(self, models: Sequence[tuple[Any, tuple[int, ...]]], weights: Sequence[float] | None = None) -> None:
        """`models`: encoders of transformers, each with the layers to read; `weights`: of each, its share in the
        average of their features (POINTS, arXiv 2409.04828, dual vision encoder), None for features side by side.
        Raises ValueError for encoders whose grids differ, or whose features cannot be averaged."""
        super().__init__()
        self.names: list[str] = []
        self._depths: list[list[int]] = []
        self.weights = None if weights is None else tuple(weights)
        widths: dict[str, int] = {}
        for model, layers in models:
            family = family_of(model.config)
            name = family if family not in self.names else f"{family}_{len(self.names)}"
            self.add_module(name, model)
            self.names.append(name)
            self._depths.append(_shorten(model, layers, FAMILIES[family]))
            widths[name] = model.config.hidden_size * len(layers)
        self.width = sum(widths.values()) if weights is None else next(iter(widths.values()))
        if weights is not None and len(set(widths.values())) > 1:
            raise ValueError(
                "features of different widths cannot be averaged "
                f"({', '.join(f'{name} has {width}' for name, width in widths.items())}): take encoders of one width "
                "and as many layers of each, or leave out their weights"
            )
        first: Any = models[0][0].config
        self.patch: int = first.patch_size
        """Pixels a side of a patch."""
        self.image_size: int = square_side(first.to_dict())
        """Pixels a side of a square image; the first encoder's own size."""
        self.patches: int = (self.image_size // self.patch) ** 2
        """Features of an image of that size."""
        grids = {name: self.image_size // tower.config.patch_size for name, tower in self.towers()}
        if len(set(grids.values())) > 1:
            raise ValueError(
                f"images of {self.image_size} pixels have grids of different sizes in the encoders "
                f"({', '.join(f'{name} {side} a side' for name, side in grids.items())}); their grids must agree"
            )

    def towers(self) -> list[tuple[str, Any]]:
        """The encoders by name: their family's, numbered where there are several of one."""
        return [(name, getattr(self, name)) for name in self.names]

    def blocks(self) -> list[nn.Module]:
        """The transformer blocks of all encoders."""
        return [block for _, tower in self.towers() for block in layers_of(tower)]

    def forward(self, images_NCHW: torch.Tensor, sizes: Sequence[Size] | None = None) -> torch.Tensor:
        """uint8 N×3×H×W → features N×P×E. Normalised here, on the device, as each encoder's processor does.

        With `sizes` (see `crops`) Q×E: one call whatever there is, since of sharded encoders every device must make as
        many calls as the others.
        """
        if sizes is None:
            return self._encoded(images_NCHW)
        parts: list[torch.Tensor] = [images_NCHW.new_zeros(0)] * len(sizes)
        for size in dict.fromkeys(sizes):
            (width, height), rows = size, [row for row, other in enumerate(sizes) if other == size]
            for row, features_PE in zip(rows, self._encoded(images_NCHW[rows, :, :height, :width]), strict=True):
                parts[row] = features_PE
        return torch.cat(parts)

    def _encoded(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        found = []
        for (name, tower), depths in zip(self.towers(), self._depths, strict=True):
            read = _features(tower, FAMILIES[name.partition("_")[0]], images_NCHW, depths)
            found.append(read[0] if len(read) == 1 else torch.cat(read, dim=-1))
        if self.weights is not None:
            parts = [weight * features for weight, features in zip(self.weights, found, strict=True)]
            return sum(parts[1:], start=parts[0])
        return found[0] if len(found) == 1 else torch.cat(found, dim=-1)

    def crops(self, images_NCHW: torch.Tensor, sizes: Sequence[Size] | None) -> torch.Tensor:
        """Crops to the features of all their patches, Q×E, crop by crop; each has the width and height of `sizes`, and
        what lies beyond is not looked at. None: all are whole."""
        return self(images_NCHW).flatten(0, 1) if sizes is None else self(images_NCHW, sizes)


def square_side(config: Mapping[str, Any]) -> int:
    """Pixels a side of a square image for an encoder, by its Hugging Face config as JSON has it."""
    size = config.get("image_size")  # SigLIP 2 (NaFlex) says how many patches an image has
    return int(size or round(config["num_patches"] ** 0.5) * config["patch_size"])


def family_of(config: Any) -> str:
    """The family of an encoder of transformers by its config; raises ValueError for one that is not known."""
    kind = str(config.model_type).removesuffix("_vision_model").removesuffix("_model")
    if kind not in FAMILIES:
        raise ValueError(f"an encoder of the type {config.model_type!r} is not known; there are {', '.join(FAMILIES)}")
    return kind


def layers_of(tower: Any) -> nn.ModuleList:
    """The blocks of an encoder of transformers."""
    blocks: nn.ModuleList = tower.encoder.layer if hasattr(tower.encoder, "layer") else tower.encoder.layers
    return blocks


def _shorten(tower: Any, layers: Sequence[int], family: _Family) -> list[int]:
    """Leave out what stands after the deepest layer read; returns how many blocks are before each that is."""
    blocks = layers_of(tower)
    depths = [len(blocks) + 1 + layer for layer in layers]
    if min(depths) < 1:
        raise ValueError(f"model.vision_layer {min(layers)} asks for more blocks than the encoder's {len(blocks)}")
    setattr(tower.encoder, "layer" if hasattr(tower.encoder, "layer") else "layers", blocks[: max(depths)])
    setattr(tower, family.norm, nn.Identity())
    tower.use_head = False
    if hasattr(tower, "head"):
        del tower.head
    if getattr(tower.embeddings, "mask_token", None) is not None:
        tower.embeddings.mask_token = None  # DINOv2's pretraining alone has a use for it
    return depths


def _features(tower: Any, family: _Family, images_NCHW: torch.Tensor, depths: Sequence[int]) -> list[torch.Tensor]:
    """The outputs of the blocks at `depths`, each N×P×E, without what stands before the patches."""
    embeddings: Any = tower.embeddings
    dino = family.model == "Dinov2Model"
    first: nn.Parameter = embeddings.patch_embeddings.projection.weight if dino else embeddings.patch_embedding.weight
    kind = first.dtype
    if family.mean == _HALF:
        pixels_NCHW = images_NCHW.to(kind) / 127.5 - 1.0
    else:
        mean, std = (
            torch.tensor(each, dtype=kind, device=images_NCHW.device)[:, None, None]
            for each in (family.mean, family.std)
        )
        pixels_NCHW = (images_NCHW.to(kind) / 255.0 - mean) / std
    several: dict[str, Any] = {"output_hidden_states": True} if len(depths) > 1 else {}
    given: dict[str, Any]
    if family.model == "Siglip2VisionModel":
        given = _as_patches(pixels_NCHW, tower.config.patch_size)
    elif dino:
        given = {"pixel_values": pixels_NCHW}  # interpolates by itself
    else:
        other = tuple(images_NCHW.shape[2:]) != (tower.config.image_size,) * 2
        given = {"pixel_values": pixels_NCHW, **({"interpolate_pos_encoding": True} if other else {})}
    output = tower(**given, **several)
    found = [output.hidden_states[depth] for depth in depths] if several else [output.last_hidden_state]
    return [features[:, family.prefix :] for features in found]


def _as_patches(pixels_NCHW: torch.Tensor, patch: int) -> dict[str, torch.Tensor]:
    """Images of one size as SigLIP 2 (NaFlex) takes them: patches in reading order, and the grid's shape."""
    n, c, height, width = pixels_NCHW.shape
    rows, columns = height // patch, width // patch
    cut = pixels_NCHW[:, :, : rows * patch, : columns * patch].reshape(n, c, rows, patch, columns, patch)
    patches = cut.permute(0, 2, 4, 3, 5, 1).reshape(n, rows * columns, patch * patch * c)
    device = pixels_NCHW.device
    return {
        "pixel_values": patches,
        "pixel_attention_mask": torch.ones(n, rows * columns, dtype=torch.int64, device=device),
        "spatial_shapes": torch.tensor([[rows, columns]] * n, device=device),
    }


def build_vision(
    encoders: Sequence[EncoderConfig], taken: Mapping[int, Mapping[str, Any]] = types.MappingProxyType({})
) -> VisionEncoder:
    """The encoders from Hugging Face ids, local folders, or the sizes of random ones; weights fp32. `taken` has, by the
    encoder's number, transformers' configs of those whose weights are to be loaded."""
    models = [_of(taken[place]) if place in taken else _build(one.source) for place, one in enumerate(encoders)]
    layers = [encoder.layers for encoder in encoders]
    return VisionEncoder(list(zip(models, layers, strict=True)), average_weights(encoders))


def empty_vision(encoders: Sequence[EncoderConfig], configs: Sequence[Mapping[str, Any]]) -> VisionEncoder:
    """The encoders of a checkpoint with weights to be loaded, by transformers' configs as it keeps them."""
    if len(configs) != len(encoders):
        raise ValueError(f"{len(encoders)} encoders and {len(configs)} configs of them")
    return build_vision(encoders, dict(enumerate(configs)))


def _of(settings: Mapping[str, Any]) -> Any:
    import transformers
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[settings["model_type"]].from_dict(dict(settings))
    return getattr(transformers, FAMILIES[family_of(config)].model)(config)


def _build(source: str | RandomVision) -> Any:
    import transformers
    from transformers import AutoConfig

    if isinstance(source, str):
        config: Any = AutoConfig.from_pretrained(source, trust_remote_code=False)
        return getattr(transformers, FAMILIES[family_of(config)].model).from_pretrained(source, dtype=torch.float32)
    family = FAMILIES[source.family]
    sizes: dict[str, Any] = {
        "hidden_size": source.hidden_size,
        "num_hidden_layers": source.layers,
        "num_attention_heads": source.heads,
        "patch_size": source.patch_size,
    }
    if source.family == "siglip2":
        sizes["num_patches"] = (source.image_size // source.patch_size) ** 2
    else:
        sizes["image_size"] = source.image_size
    if source.family == "dinov2":
        sizes["mlp_ratio"] = source.intermediate_size // source.hidden_size
    else:
        sizes["intermediate_size"] = source.intermediate_size
    if source.family in ("siglip", "siglip2"):
        sizes["vision_use_head"] = False
    return getattr(transformers, family.model)(getattr(transformers, family.config)(**sizes))
