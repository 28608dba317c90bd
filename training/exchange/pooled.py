"""Hugging Face's Llava with our projector: fewer tokens an image than patches, or another width between its layers.

    from mmcorpus.training.exchange.pooled import register
    register()                                        # transformers' Auto classes now load such a folder

Nothing is imported here but torch and transformers, so that a model server needs no more of mmcorpus than its files.
"""

import math
from typing import Any, Final

from huggingface_hub.dataclasses import strict
from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

from mmcorpus.training.connector import PoolingProjector

ARCHITECTURE: Final = "PooledLlavaForConditionalGeneration"
"""The class's name in a model's config, and in vLLM's registry."""


@strict
class PooledLlavaConfig(LlavaConfig):
    """Llava's config; `image_seq_length` is the tokens of an image, a square."""

    model_type = "mmcorpus_llava"

    projector_hidden_size: int | None = None
    """Width between the projector's two layers; None for the decoder's."""


def projector(config: Any) -> PoolingProjector:
    """The projector that a config describes; weights as they come."""
    width = config.text_config.hidden_size
    return PoolingProjector(
        config.vision_config.hidden_size,
        config.projector_hidden_size or width,
        width,
        math.isqrt(config.image_seq_length),
    )


class PooledLlavaForConditionalGeneration(LlavaForConditionalGeneration):
    """Llava whose projector pools the patches to `image_seq_length` tokens."""

    config: PooledLlavaConfig

    def __init__(self, config: PooledLlavaConfig) -> None:
        super().__init__(config)
        self.model.multi_modal_projector = projector(config)


class PooledLlavaProcessor(LlavaProcessor):
    """Llava's processor, which writes `image_seq_length` marks for each image."""

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        patch_size: int | None = None,
        vision_feature_select_strategy: str | None = None,
        chat_template: str | None = None,
        image_token: str = "<image>",
        num_additional_image_tokens: int = 0,
        image_seq_length: int = 144,
        **kwargs: Any,
    ) -> None:
        self.image_seq_length = image_seq_length
        super().__init__(
            image_processor,
            tokenizer,
            patch_size=patch_size,
            vision_feature_select_strategy=vision_feature_select_strategy,
            chat_template=chat_template,
            image_token=image_token,
            num_additional_image_tokens=num_additional_image_tokens,
            **kwargs,
        )

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **kwargs: Any) -> str:
        """What stands for an image in the text."""
        return str(self.image_token) * self.image_seq_length


def register() -> None:
    """Make the class known to transformers' AutoConfig, AutoModelForImageTextToText and AutoProcessor; may be repeated."""
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    AutoConfig.register(PooledLlavaConfig.model_type, PooledLlavaConfig, exist_ok=True)
    AutoModelForImageTextToText.register(PooledLlavaConfig, PooledLlavaForConditionalGeneration, exist_ok=True)
    AutoProcessor.register(PooledLlavaConfig, PooledLlavaProcessor, exist_ok=True)
