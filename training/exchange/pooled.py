"""Hugging Face's Llava with our projector: fewer tokens an image than patches, or another width between its layers.

    from mmcorpus.training.exchange.pooled import register
    register()                                        # transformers' Auto classes now load such a folder

A model server needs no more of mmcorpus than its files: nothing but torch and transformers is imported here, and these
not before the classes are asked for.
"""

import functools
import math
from typing import Any, Final, NamedTuple

ARCHITECTURE: Final = "PooledLlavaForConditionalGeneration"
"""The class's name in a model's config, and in vLLM's registry."""
MODEL_TYPE: Final = "mmcorpus_llava"


class Classes(NamedTuple):
    """transformers' classes of the architecture, made once a process."""

    config: Any
    """LlavaConfig in which `image_seq_length` is the tokens of an image, a square, and `projector_hidden_size` the
    width between the projector's layers (None for the decoder's)."""
    processor: Any
    """LlavaProcessor that writes `image_seq_length` marks for each image."""
    model: Any
    """LlavaForConditionalGeneration whose projector pools the patches to as many."""


def register() -> None:
    """Make the class known to AutoConfig, AutoModelForImageTextToText and AutoProcessor; may be repeated."""
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    own = classes()
    AutoConfig.register(MODEL_TYPE, own.config, exist_ok=True)
    AutoModelForImageTextToText.register(own.config, own.model, exist_ok=True)
    AutoProcessor.register(own.config, own.processor, exist_ok=True)


def projector(config: Any) -> Any:
    """The projector that a config describes, the trainer's own; its weights are any."""
    from mmcorpus.training.connector import PoolingProjector

    width = config.text_config.hidden_size
    return PoolingProjector(
        config.vision_config.hidden_size,
        config.projector_hidden_size or width,
        width,
        math.isqrt(config.image_seq_length),
    )


@functools.cache
def classes() -> Classes:
    """The classes; also this module's attributes by their names, where pickle looks for them."""
    from huggingface_hub.dataclasses import strict
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    @strict
    class PooledLlavaConfig(LlavaConfig):
        model_type = MODEL_TYPE

        projector_hidden_size: int | None = None

    class PooledLlavaForConditionalGeneration(LlavaForConditionalGeneration):
        config: PooledLlavaConfig

        def __init__(self, config: PooledLlavaConfig) -> None:
            super().__init__(config)
            self.model.multi_modal_projector = projector(config)

    class PooledLlavaProcessor(LlavaProcessor):
        # Written out: transformers reads the names of a processor's parts and settings from here.
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

    made = Classes(PooledLlavaConfig, PooledLlavaProcessor, PooledLlavaForConditionalGeneration)
    for one in made:
        one.__module__, one.__qualname__ = __name__, one.__name__
    return made


def __getattr__(name: str) -> Any:
    if name in (ARCHITECTURE, "PooledLlavaConfig", "PooledLlavaProcessor"):
        return next(one for one in classes() if one.__name__ == name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
