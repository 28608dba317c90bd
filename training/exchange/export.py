"""Export: a checkpoint as a folder that transformers and vLLM load, with its chat template and processor.

Where every patch becomes a token and the projector has the decoder's width it is Hugging Face's own Llava
(`LlavaForConditionalGeneration`), known wherever Llava is; else it is `pooled.py`'s class.
"""

import dataclasses
import os
from collections.abc import Iterator
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from mmcorpus.curation.store import storage
from mmcorpus.packing.conversations import chat_template
from mmcorpus.packing.tokens import special_ids
from mmcorpus.training.checkpoint import new_folder
from mmcorpus.training.exchange.checkpoint import EMBEDDINGS, LANGUAGE, LM_HEAD, PROJECTOR, Parts, read_parts
from mmcorpus.training.exchange.pooled import ARCHITECTURE, classes
from mmcorpus.training.exchange.tensors import DTYPES, Dtype, Planned, Read, write_file

if TYPE_CHECKING:
    import torch

IMAGE: Final = "<image>"
"""The token that stands for an image. It is added to the tokenizer where it is not in it."""
PRETRAINED: Final = (
    "{%- for message in messages -%}{{- message['content'] -}}"
    "{%- if message['role'] == 'assistant' -%}{{- eos_token -}}{%- endif -%}{%- endfor -%}"
)
"""The template of a pretrained checkpoint, which knows no turns: image, line break, the caption's beginning."""
_ROWS: Final = 64
"""Rows of an embedding that has none for the image's token grow to a multiple of this."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written."""

    folder: str
    architecture: str
    """The class that loads it: transformers' and vLLM's own, or ours."""
    tokens_per_image: int
    size: int
    """Bytes of the weights."""

    @property
    def own_class(self) -> bool:
        """Whether mmcorpus has to be installed where it is loaded."""
        return self.architecture != "LlavaForConditionalGeneration"


def export_model(checkpoint: str, out: str, *, dtype: Dtype = "fp32") -> Exported:
    """Write a checkpoint (or a training folder's latest) into the folder `out`, whole or not at all.

    The weights pass one at a time. fp32 is what the checkpoint holds; bf16 and fp16 are half the size. Raises
    ValueError if there is something at `out`, or no checkpoint that can be exported.
    """
    if storage.list_names(out):
        raise ValueError(f"{out} is not empty; give another folder, or remove it")
    parts = read_parts(checkpoint)
    rows, width = parts.weights.shapes[EMBEDDINGS]
    own_class = parts.config.tokens_per_image != parts.patches or parts.projector_hidden != width
    template = exported_template(parts.chat_template)
    eos = special_ids(parts.tokenizer)
    ends = [eos.eos]
    if parts.chat_template is not None:
        ends += sorted(chat_template(parts.tokenizer, parts.chat_template).ends - {eos.eos})
    image = _image_token(parts.tokenizer)
    rows = rows if image < rows else -(-(image + 1) // _ROWS) * _ROWS
    config = _config(parts, rows, image, dtype, own_class=own_class)
    with new_folder(out) as folder:
        size = write_file(
            os.path.join(folder, "model.safetensors"), list(_weights(parts, rows, own_class=own_class)), dtype
        )
        config.save_pretrained(folder)
        _processor(parts, template, own_class=own_class).save_pretrained(folder)
        generation = {"eos_token_id": ends, "pad_token_id": eos.pad, "do_sample": False}
        storage.write_json(os.path.join(folder, "generation_config.json"), generation)
    return Exported(
        folder=out,
        architecture=config.architectures[0],
        tokens_per_image=parts.config.tokens_per_image,
        size=size,
    )


def exported_template(template: str | None) -> str:
    """A checkpoint's chat template for messages whose content is a list of images and texts, too (OpenAI's form).

    Each image becomes `<image>` and a line break, as in training; texts stand as they are.
    """
    flatten = resources.files(__package__).joinpath("template.jinja").read_text("utf-8").replace("-%}\n", "-%}")
    return flatten + (PRETRAINED if template is None else template)


def _image_token(tokenizer: Any) -> int:
    """The id of the image's token, which the tokenizer gets if it has none."""
    tokenizer.add_tokens([IMAGE], special_tokens=True)
    return int(tokenizer.convert_tokens_to_ids(IMAGE))


def _config(parts: Parts, rows: int, image: int, dtype: Dtype, *, own_class: bool) -> Any:
    from transformers import CONFIG_MAPPING, LlavaConfig, SiglipVisionConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = parts.language["model_type"]
    text = CONFIG_MAPPING[kind].from_dict({**parts.language, "vocab_size": rows})
    text.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind]]
    vision = SiglipVisionConfig.from_dict(
        {**parts.vision, "num_hidden_layers": parts.blocks + 1, "vision_use_head": False}
    )
    settings: dict[str, Any] = {
        "vision_config": vision,
        "text_config": text,
        "image_token_index": image,
        "image_seq_length": parts.config.tokens_per_image,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "full",
        "projector_hidden_act": "gelu",
        "tie_word_embeddings": LM_HEAD not in parts.weights,
    }
    if own_class:
        config: Any = classes().config(**settings, projector_hidden_size=parts.projector_hidden)
    else:
        config = LlavaConfig(**settings)
    config.architectures = [ARCHITECTURE if own_class else "LlavaForConditionalGeneration"]
    for one in (config, text, vision):
        one.dtype = DTYPES[dtype]
    return config


def _processor(parts: Parts, template: str, *, own_class: bool) -> Any:
    from transformers import LlavaProcessor, SiglipImageProcessor

    size = parts.vision["image_size"]
    parts.tokenizer.chat_template = template
    settings: dict[str, Any] = {
        "image_processor": SiglipImageProcessor(size={"height": size, "width": size}),
        "tokenizer": parts.tokenizer,
        "patch_size": parts.vision["patch_size"],
        "vision_feature_select_strategy": "full",
        "chat_template": template,
        "image_token": IMAGE,
    }
    if own_class:
        return classes().processor(**settings, image_seq_length=parts.config.tokens_per_image)
    return LlavaProcessor(**settings)


def _weights(parts: Parts, rows: int, *, own_class: bool) -> Iterator[Planned]:
    """What is to be written, by the names of the class that reads it.

    Llava's are those of transformers before 4.52, which all of its releases and vLLM read; vLLM's tower has one level
    more than that of today's transformers, which takes both.
    """
    tower = "model.vision_tower." if own_class else "vision_tower.vision_model."
    linear = {"fc1": "fc1", "fc2": "fc2"} if own_class else {"fc1": "linear_1", "fc2": "linear_2"}
    decoder = "model.language_model." if own_class else "language_model.model."
    head = "lm_head." if own_class else "language_model.lm_head."
    for planned in parts.tower():
        yield Planned(tower + planned.name, planned.shape, planned.read)
    for name, read in parts.weights.items():
        shape = parts.weights.shapes[name]
        if name.startswith(PROJECTOR):
            layer, _, kind = name.removeprefix(PROJECTOR).partition(".")
            projector = "model.multi_modal_projector" if own_class else "multi_modal_projector"
            yield Planned(f"{projector}.{linear[layer]}.{kind}", shape, read)
        elif name.startswith(LANGUAGE):
            if name in (EMBEDDINGS, LM_HEAD) and shape[0] < rows:
                shape, read = (rows, *shape[1:]), _grown(read, rows)
            part, _, rest = name.removeprefix(LANGUAGE).partition(".")
            yield Planned((head if part == "lm_head" else decoder) + rest, shape, read)


def _grown(read: Read, rows: int) -> Read:
    """The tensor with rows of zeros after its own: the image's token is never looked up for its own sake."""

    def grown() -> "torch.Tensor":
        from torch.nn.functional import pad

        tensor = read()
        return pad(tensor, (0, 0, 0, rows - tensor.shape[0]))

    return grown
