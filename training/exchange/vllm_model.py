"""vLLM's Llava with our projector. The class is made when it is asked for: vLLM lies in an environment of its own."""

import functools
from typing import Any

from mmcorpus.training.exchange.pooled import ARCHITECTURE, classes, projector


def __getattr__(name: str) -> Any:
    if name == ARCHITECTURE:
        return _model_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _model_class() -> type[Any]:
    from vllm.config import VllmConfig
    from vllm.model_executor.models import llava
    from vllm.model_executor.models.utils import WeightsMapper
    from vllm.multimodal import MULTIMODAL_REGISTRY

    class Info(llava.LlavaProcessingInfo):  # type: ignore[misc]
        """Of an image: so many tokens, whatever its size."""

        def get_hf_processor(self, **kwargs: object) -> Any:
            return self.ctx.get_hf_processor(classes().processor, **kwargs)

        def get_num_image_tokens(self, *, image_width: int, image_height: int) -> int:
            return int(self.get_hf_config().image_seq_length)

    class PooledLlavaForConditionalGeneration(llava.LlavaForConditionalGeneration):  # type: ignore[misc]
        """The tower and the decoder are vLLM's, the projector is the one that was trained."""

        hf_to_vllm_mapper = WeightsMapper(
            orig_to_new_prefix={
                "model.language_model.": "language_model.model.",
                "model.vision_tower.": "vision_tower.vision_model.",
                "model.multi_modal_projector.": "multi_modal_projector.",
                "lm_head.": "language_model.lm_head.",
            }
        )

        def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
            super().__init__(vllm_config=vllm_config, prefix=prefix)
            self.multi_modal_projector = projector(self.config)

    PooledLlavaForConditionalGeneration.__module__ = __name__
    PooledLlavaForConditionalGeneration.__qualname__ = ARCHITECTURE
    return MULTIMODAL_REGISTRY.register_processor(  # type: ignore[no-any-return]
        llava.LlavaMultiModalProcessor, info=Info, dummy_inputs=llava.LlavaDummyInputsBuilder
    )(PooledLlavaForConditionalGeneration)
