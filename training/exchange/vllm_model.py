"""vLLM's decoders behind our image side. The class is made when it is asked for: vLLM has an environment of its own."""

import functools
from collections.abc import Mapping
from typing import Any

from mmcorpus.training.exchange.own import ARCHITECTURE, classes, each_image, image_side


def __getattr__(name: str) -> Any:
    if name == ARCHITECTURE:
        return _model_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _model_class() -> type[Any]:
    from torch import nn
    from vllm.config import VllmConfig
    from vllm.model_executor.models import llava
    from vllm.model_executor.models.module_mapping import MultiModelKeys
    from vllm.model_executor.models.utils import WeightsMapper, init_vllm_registered_model, maybe_prefix
    from vllm.multimodal import MULTIMODAL_REGISTRY
    from vllm.multimodal.inputs import MultiModalFieldConfig
    from vllm.multimodal.parse import ImageSize

    from mmcorpus.training.exchange.image_side import INPUTS, longest, positions

    class Info(llava.BaseLlavaProcessingInfo):
        """How many positions an image takes, by its size."""

        def get_hf_processor(self, **kwargs: object) -> Any:
            return self.ctx.get_hf_processor(classes().processor, **kwargs)

        def get_supported_mm_processor_kwargs(self) -> dict[str, set[str]]:
            return {}

        def get_num_image_tokens(self, *, image_width: int, image_height: int) -> int:
            return positions((image_width, image_height), self.get_hf_processor().per_image)

        def get_image_size_with_most_features(self) -> Any:
            processor = self.get_hf_processor()
            width, height = longest(processor.per_image, processor.image_size)
            return ImageSize(width=width, height=height)

    class Processor(llava.BaseLlavaMultiModalProcessor):
        """What is said of images belongs to one each."""

        def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, object]) -> Any:
            return {name: MultiModalFieldConfig.batched("image") for name in INPUTS}

    class MmcorpusForConditionalGeneration(llava.LlavaForConditionalGeneration):
        """The image side is the one that was trained, the decoder vLLM's."""

        hf_to_vllm_mapper = WeightsMapper(
            orig_to_new_prefix={
                "model.language_model.": "language_model.model.",
                "model.image_side.": "image_side.",
                "lm_head.": "language_model.lm_head.",
            }
        )
        supports_tower_connector_lora = False

        def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
            nn.Module.__init__(self)  # not Llava's, which makes a tower
            config = vllm_config.model_config.hf_config
            self.config, self.multimodal_config = config, vllm_config.model_config.multimodal_config
            self.configure_mm_token_handling(
                vocab_size=config.text_config.vocab_size, mm_token_ids=[config.image_token_index]
            )
            with self._mark_tower_model(vllm_config, "image"):
                self.image_side = image_side(config)
            with self._mark_language_model(vllm_config):
                self.language_model = init_vllm_registered_model(
                    vllm_config=vllm_config,
                    hf_config=config.text_config,
                    prefix=maybe_prefix(prefix, "language_model"),
                )
            self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors

        def embed_multimodal(self, **kwargs: Any) -> Any:
            if kwargs.get("pixel_values") is None:
                return []
            return [self.image_side(one) for one in each_image({name: kwargs.get(name) for name in INPUTS})]

        def get_mm_mapping(self) -> MultiModelKeys:
            return MultiModelKeys.from_string_field(
                language_model="language_model", connector="image_side.projector", tower_model="image_side.vision"
            )

    MmcorpusForConditionalGeneration.__module__ = __name__
    MmcorpusForConditionalGeneration.__qualname__ = ARCHITECTURE
    return MULTIMODAL_REGISTRY.register_processor(Processor, info=Info, dummy_inputs=llava.LlavaDummyInputsBuilder)(
        MmcorpusForConditionalGeneration
    )
