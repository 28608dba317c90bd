"""A class of transformers for what has none: our encoders, connectors and image layouts before any decoder.

    from mmcorpus.training.exchange.own import register
    register()                                        # transformers' Auto classes now load such a folder

The image side is the trainer's own modules (`image_side.py`), and images are prepared by the trainer's own code, so
that logits are the same to rounding. transformers is imported when the classes are asked for.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

ARCHITECTURE: Final = "MmcorpusForConditionalGeneration"
"""The class's name in a model's config, and in vLLM's registry."""
MODEL_TYPE: Final = "mmcorpus_vlm"


class Classes(NamedTuple):
    """transformers' classes of the architecture, made once a process."""

    config: Any
    """LlavaConfig with `image_side`, the settings of encoders, connector and layout, `vision_configs`, and
    `head_bias`: whether the LM head has one."""
    processor: Any
    """Prepares images by `layout`, and writes as many marks for each as it has positions."""
    model: Any


def register() -> None:
    """Make the class known to AutoConfig, AutoModelForImageTextToText and AutoProcessor; may be repeated."""
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    own = classes()
    AutoConfig.register(MODEL_TYPE, own.config, exist_ok=True)
    AutoModelForImageTextToText.register(own.config, own.model, exist_ok=True)
    AutoProcessor.register(own.config, own.processor, exist_ok=True)


def image_side(config: Any) -> Any:
    """The image side that a config describes; its weights are any."""
    from mmcorpus.training.config import model_config_from_dict
    from mmcorpus.training.exchange.image_side import ImageSide

    return ImageSide(model_config_from_dict(config.image_side), config.vision_configs, config.text_config.hidden_size)


def each_image(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is said of images (tensors with a row for each, or lists of tensors), image by image."""
    there = {name: value for name, value in given.items() if value is not None}
    return [dict(zip(there, values, strict=True)) for values in zip(*there.values(), strict=True)]


@functools.cache
def classes() -> Classes:
    """The classes; also this module's attributes by their names, where pickle looks for them."""
    import torch
    from huggingface_hub.dataclasses import strict
    from transformers import AutoModel, BatchFeature, GenerationMixin, LlavaConfig, LlavaPreTrainedModel, ProcessorMixin
    from transformers.modeling_outputs import CausalLMOutputWithPast

    from mmcorpus.training.decoder import LogitShape

    @strict
    class MmcorpusConfig(LlavaConfig):
        model_type = MODEL_TYPE

        image_side: dict[str, Any] | None = None
        vision_configs: list[dict[str, Any]] | None = None
        head_bias: bool = False

    class MmcorpusModel(LlavaPreTrainedModel):
        config: MmcorpusConfig

        def __init__(self, config: MmcorpusConfig) -> None:
            super().__init__(config)
            self.image_side = image_side(config)
            self.language_model = AutoModel.from_config(config.text_config)
            self.post_init()

        def forward(
            self,
            input_ids: torch.Tensor | None = None,
            inputs_embeds: torch.Tensor | None = None,
            pixel_values: Any = None,
            image_template: Any = None,
            image_pool: Any = None,
            image_padding: Any = None,
            image_crops: Any = None,
            **kwargs: Any,
        ) -> Any:
            if inputs_embeds is None:
                inputs_embeds = self.get_input_embeddings()(input_ids)
                there_BL = torch.eq(input_ids, self.config.image_token_index)  # type: ignore[arg-type]
                if pixel_values is not None and there_BL.any():  # none in the steps after the prompt
                    said = {
                        "pixel_values": pixel_values,
                        "image_template": image_template,
                        "image_pool": image_pool,
                        "image_padding": image_padding,
                        "image_crops": image_crops,
                    }
                    features = torch.cat([self.image_side(one) for one in each_image(said)]).to(inputs_embeds)
                    if int(there_BL.sum()) != len(features):
                        raise ValueError(
                            f"the text has {int(there_BL.sum())} image positions, its images fill {len(features)}"
                        )
                    inputs_embeds = inputs_embeds.masked_scatter(there_BL.unsqueeze(-1), features)
            return self.language_model(inputs_embeds=inputs_embeds, **kwargs)

    class MmcorpusForConditionalGeneration(LlavaPreTrainedModel, GenerationMixin):
        config: MmcorpusConfig
        _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}  # noqa: RUF012

        def __init__(self, config: MmcorpusConfig) -> None:
            super().__init__(config)
            text: Any = config.text_config
            self.model = MmcorpusModel(config)
            self.lm_head = torch.nn.Linear(text.hidden_size, text.vocab_size, bias=config.head_bias)
            self.logit_shape = LogitShape.of(text.to_dict())
            self.post_init()

        def get_output_embeddings(self) -> torch.nn.Module:
            return self.lm_head

        def forward(
            self,
            input_ids: torch.Tensor | None = None,
            pixel_values: Any = None,
            image_template: Any = None,
            image_pool: Any = None,
            image_padding: Any = None,
            image_crops: Any = None,
            labels: torch.Tensor | None = None,
            logits_to_keep: int | torch.Tensor = 0,
            **kwargs: Any,
        ) -> Any:
            output = self.model(
                input_ids=input_ids,
                pixel_values=pixel_values,
                image_template=image_template,
                image_pool=image_pool,
                image_padding=image_padding,
                image_crops=image_crops,
                **kwargs,
            )
            hidden = output.last_hidden_state
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.logit_shape.apply(self.lm_head(hidden[:, kept]))
            loss = None
            if labels is not None:
                loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.lm_head.out_features)
            return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=output.past_key_values)

    class MmcorpusProcessor(ProcessorMixin):
        # Written out: transformers reads the names of a processor's parts and settings from here.
        def __init__(
            self,
            tokenizer: Any = None,
            chat_template: str | None = None,
            layout: int | dict[str, Any] = 144,
            image_size: int = 384,
            image_token: str = "<image>",
            **kwargs: Any,
        ) -> None:
            self.layout, self.image_size, self.image_token = layout, image_size, image_token
            super().__init__(tokenizer, chat_template=chat_template)

        @property
        def per_image(self) -> Any:
            """The layout as the trainer has it."""
            from mmcorpus.packing.layout import read_layout

            return self.layout if isinstance(self.layout, int) else read_layout(self.layout)

        def __call__(
            self, images: Any = None, text: Any = None, return_tensors: str | None = None, **kwargs: Any
        ) -> BatchFeature:
            """Texts with a mark for each image, and the images in order, to the model's inputs; either may be missing.

            Images are Pillow's, or arrays H×W×3 of uint8. Raises ValueError for more or fewer marks than images.
            """
            from mmcorpus.training.exchange.image_side import shown

            texts = [text] if isinstance(text, str) else list(text or ())
            said = [shown(_picture(one), self.per_image, self.image_size) for one in _flat(images)]
            if texts and said:
                texts = self._with_marks(texts, said)
            kwargs = {name: value for name, value in kwargs.items() if name in _TOKENIZING}
            data: dict[str, Any] = dict(self.tokenizer(texts, **kwargs)) if texts else {}
            for name in said[0] if said else ():
                arrays = [one[name] for one in said]
                same = len({array.shape for array in arrays}) == 1
                data[name] = _stacked(arrays, return_tensors) if same else [_as(a, return_tensors) for a in arrays]
            ragged = {name: value for name, value in data.items() if isinstance(value, list) and name in _SAID}
            regular = {name: value for name, value in data.items() if name not in ragged}
            return BatchFeature({**BatchFeature(regular, tensor_type=return_tensors), **ragged})

        def _with_marks(self, texts: Sequence[str], said: Sequence[Mapping[str, Any]]) -> list[str]:
            """The texts with as many marks for each image as it has positions."""
            marks = sum(one.count(self.image_token) for one in texts)
            if marks != len(said):
                raise ValueError(f"the text has {marks} marks {self.image_token} for {len(said)} images")
            constant = self.layout if isinstance(self.layout, int) else 0
            filled = (self.image_token * len(one.get("image_template", range(constant))) for one in said)
            whole = []
            for one in texts:
                first, *rest = one.split(self.image_token)
                whole.append(first + "".join(next(filled) + part for part in rest))
            return whole

    made = Classes(MmcorpusConfig, MmcorpusProcessor, MmcorpusForConditionalGeneration)
    for one in (*made, MmcorpusModel):
        one.__module__, one.__qualname__ = __name__, one.__name__
    return made


_TOKENIZING: Final = (
    "padding", "padding_side", "truncation", "max_length", "add_special_tokens", "return_attention_mask",
)  # fmt: skip
"""Settings of the tokenizer that a processor passes on."""
_SAID: Final = ("pixel_values", "image_template", "image_pool", "image_padding", "image_crops")


def _flat(images: Any) -> list[Any]:
    """Images in order, however they are nested."""
    if images is None:
        return []
    if isinstance(images, Sequence):
        return list(itertools.chain.from_iterable(map(_flat, images)))
    return [images]


def _picture(image: Any) -> Any:
    import numpy as np
    from PIL import Image

    return image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))


def _as(array: Any, kind: str | None) -> Any:
    import torch

    return torch.from_numpy(array.copy()) if kind == "pt" else array


def _stacked(arrays: Sequence[Any], kind: str | None) -> Any:
    import numpy as np

    return _as(np.stack(arrays), kind)


def __getattr__(name: str) -> Any:
    for one in classes() if name.startswith("Mmcorpus") else ():
        if one.__name__ == name:
            return one
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
