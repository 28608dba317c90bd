"""The image encoder: SigLIP's blocks up to the layer that is read, over uint8 pixels.

Shape legend: N images, C channels, H×W pixels, P patches, E the encoder's width.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mmcorpus.training.config import RandomVision

if TYPE_CHECKING:
    from transformers import SiglipVisionModel

GREY = 128
"""The value that normalises to (almost) zero: a blank image, and one that could not be decoded."""


class VisionEncoder(nn.Module):
    """SigLIP's patch features from the block that `layer` names.

    The blocks after it, the last norm and the pooling head are not built into the model at all: with layer -2 (the
    reference's choice) they would cost time and memory and never be read.
    """

    def __init__(self, siglip: "SiglipVisionModel", layer: int) -> None:
        super().__init__()
        config: Any = siglip.config
        blocks: Any = siglip.encoder.layers
        kept = len(blocks) + 1 + layer
        if kept < 1:
            raise ValueError(f"model.vision_layer {layer} asks for more blocks than the encoder's {len(blocks)}")
        siglip.encoder.layers = blocks[:kept]
        siglip.post_layernorm = nn.Identity()  # type: ignore[assignment]
        siglip.use_head = False
        if hasattr(siglip, "head"):
            del siglip.head
        self.siglip = siglip
        self.image_size: int = config.image_size
        self.width: int = config.hidden_size
        self.patches: int = (config.image_size // config.patch_size) ** 2
        """Features of an image."""

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """uint8 N×3×H×W → features N×P×E. Normalised here, on the device, to [-1, 1] as SigLIP's processor does."""
        weight = self.siglip.embeddings.patch_embedding.weight
        pixels_NCHW = images_NCHW.to(weight.dtype) / 127.5 - 1.0
        return self.siglip(pixel_values=pixels_NCHW).last_hidden_state


def build_vision(source: str | RandomVision, layer: int) -> VisionEncoder:
    """The encoder from a Hugging Face id, a local folder, or the sizes of a random one; weights fp32."""
    from transformers import SiglipVisionConfig, SiglipVisionModel

    if isinstance(source, str):
        siglip = SiglipVisionModel.from_pretrained(source, dtype=torch.float32)
    else:
        siglip = SiglipVisionModel(
            SiglipVisionConfig(
                hidden_size=source.hidden_size,
                intermediate_size=source.intermediate_size,
                num_hidden_layers=source.layers,
                num_attention_heads=source.heads,
                image_size=source.image_size,
                patch_size=source.patch_size,
                vision_use_head=False,
            )
        )
    return VisionEncoder(siglip, layer)
