"""Export: a checkpoint as a folder that transformers and vLLM load, with its chat template and processor.

Where Hugging Face's own Llava (`LlavaForConditionalGeneration`) is the same model, it is that, known wherever Llava is;
else it is `own.py`'s class, with the trainer's own image side.
"""

import dataclasses
import os
from collections.abc import Iterator
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from mmcorpus.curation.store import storage
from mmcorpus.packing.conversations import chat_template
from mmcorpus.packing.tokens import special_ids
from mmcorpus.training.config.model import layout_name
from mmcorpus.training.exchange.checkpoint import EMBEDDINGS, HEAD_BIAS, LANGUAGE, LM_HEAD, PROJECTOR, Parts, read_parts
from mmcorpus.training.exchange.moe import as_native
from mmcorpus.training.exchange.own import ARCHITECTURE, classes
from mmcorpus.training.folder import new_folder
from mmcorpus.training.tensors import DTYPES, Dtype, Planned, Read, write_file

if TYPE_CHECKING:
    import torch

LLAVA: Final = "LlavaForConditionalGeneration"
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
    """Report of an exported checkpoint."""

    folder: str
    architecture: str
    """The class that loads it: transformers' and vLLM's own, or ours."""
    images: str
    """What an image becomes, in words."""
    size: int
    """Bytes of the weights."""

    @property
    def own_class(self) -> bool:
        """Whether mmcorpus has to be installed where it is loaded."""
        return self.architecture != LLAVA


def export_model(checkpoint: str, out: str, *, dtype: Dtype = "fp32") -> Exported:
    """Write a checkpoint (or a training folder's latest) into the folder `out`, whole or not at all.

    The weights pass one at a time. fp32 is what the checkpoint holds; bf16 and fp16 are half the size. Raises
    ValueError if there is something at `out`, or no checkpoint that can be exported.
    """
    if storage.list_names(out):
        raise ValueError(f"{out} is not empty; give another folder, or remove it")
    parts = as_native(read_parts(checkpoint))
    template = exported_template(parts.chat_template)
    eos = special_ids(parts.tokenizer)
    ends = [eos.eos]
    if parts.chat_template is not None:
        ends += sorted(chat_template(parts.tokenizer, parts.chat_template).ends - {eos.eos})
    _let_add_nothing(parts.tokenizer)
    image, rows = _image_token(parts.tokenizer), parts.weights.shapes[EMBEDDINGS][0]
    rows = rows if image < rows else -(-(image + 1) // _ROWS) * _ROWS
    config = _config(parts, rows, image, dtype)
    with new_folder(out) as folder:
        planned = [*(_llava_image_side(parts) if parts.is_llava else _own_image_side(parts)), *_decoder(parts, rows)]
        size = write_file(os.path.join(folder, "model.safetensors"), planned, dtype)
        config.save_pretrained(folder)
        _processor(parts, template).save_pretrained(folder)
        generation = {"eos_token_id": ends, "pad_token_id": eos.pad, "do_sample": False}
        storage.write_json(os.path.join(folder, "generation_config.json"), generation)
    images = layout_name(parts.config.layout)
    return Exported(folder=out, architecture=config.architectures[0], images=images, size=size)


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


def _let_add_nothing(tokenizer: Any) -> None:
    """Have the tokenizer put nothing around a text (a BOS, say): training wrote no more than the template does."""
    from tokenizers import processors

    for name in ("add_bos_token", "add_eos_token"):
        if getattr(tokenizer, name, False):
            setattr(tokenizer, name, False)
    if tokenizer("a")["input_ids"] != tokenizer("a", add_special_tokens=False)["input_ids"]:
        tokenizer.backend_tokenizer.post_processor = processors.Sequence([])


def _config(parts: Parts, rows: int, image: int, dtype: Dtype) -> Any:
    from transformers import CONFIG_MAPPING, LlavaConfig, SiglipVisionConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = parts.language["model_type"]
    text = CONFIG_MAPPING[kind].from_dict({**parts.language, "vocab_size": rows})
    text.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind]]
    settings: dict[str, Any] = {
        "text_config": text,
        "image_token_index": image,
        "tie_word_embeddings": LM_HEAD not in parts.weights,
    }
    if parts.is_llava:
        settings["vision_config"] = SiglipVisionConfig.from_dict(
            {**parts.vision, "num_hidden_layers": parts.blocks + 1, "vision_use_head": False}
        )
        config: Any = LlavaConfig(
            **settings,
            image_seq_length=parts.config.tokens_per_image,
            vision_feature_layer=-2,
            vision_feature_select_strategy="full",
            projector_hidden_act="gelu",
        )
    else:
        model = dataclasses.asdict(dataclasses.replace(parts.config, language=kind))
        config = classes().config(
            **settings,
            vision_config=CONFIG_MAPPING[parts.vision["model_type"]].from_dict(parts.vision),
            image_side=model,
            vision_configs=list(parts.visions),
            head_bias=HEAD_BIAS in parts.weights,
        )
    config.architectures = [LLAVA if parts.is_llava else ARCHITECTURE]
    for one in (config, text, config.vision_config):
        one.dtype = DTYPES[dtype]
    return config


def _processor(parts: Parts, template: str) -> Any:
    from transformers import LlavaProcessor, SiglipImageProcessor

    tokenizer, size, layout = parts.tokenizer, parts.image_size, parts.config.layout
    tokenizer.chat_template = template
    if not parts.is_llava:
        given = layout if isinstance(layout, int) else layout.as_dict()
        return classes().processor(tokenizer, chat_template=template, layout=given, image_size=size, image_token=IMAGE)
    return LlavaProcessor(
        image_processor=SiglipImageProcessor(size={"height": size, "width": size}),
        tokenizer=tokenizer,
        patch_size=parts.vision["patch_size"],
        vision_feature_select_strategy="full",
        chat_template=template,
        image_token=IMAGE,
    )


def _llava_image_side(parts: Parts) -> Iterator[Planned]:
    """LLaVA's image side by the names of transformers before 4.52, which all releases and vLLM read; vLLM's tower has
    one level more than that of today's transformers, which takes both."""
    for planned in parts.tower():
        yield Planned(f"vision_tower.vision_model.{planned.name}", planned.shape, planned.read)
    for name, linear in (("fc1", "linear_1"), ("fc2", "linear_2")):
        for kind in ("weight", "bias"):
            own = f"{PROJECTOR}{name}.{kind}"
            yield Planned(f"multi_modal_projector.{linear}.{kind}", parts.weights.shapes[own], parts.weights[own])


def _own_image_side(parts: Parts) -> Iterator[Planned]:
    for name, read in parts.weights.items():
        if not name.startswith(LANGUAGE):
            yield Planned(f"model.image_side.{name}", parts.weights.shapes[name], read)


def _decoder(parts: Parts, rows: int) -> Iterator[Planned]:
    body = "language_model.model." if parts.is_llava else "model.language_model."
    head = "language_model.lm_head." if parts.is_llava else "lm_head."
    for name, read in parts.weights.items():
        if name.startswith(LANGUAGE):
            shape = parts.weights.shapes[name]
            if name in (EMBEDDINGS, LM_HEAD, HEAD_BIAS) and shape[0] < rows:
                shape, read = (rows, *shape[1:]), _grown(read, rows)
            part, _, rest = name.removeprefix(LANGUAGE).partition(".")
            yield Planned((head if part == "lm_head" else body) + rest, shape, read)


def _grown(read: Read, rows: int) -> Read:
    """The tensor with rows of zeros after its own: the image's token is never looked up for its own sake."""

    def grown() -> "torch.Tensor":
        from torch.nn.functional import pad

        tensor = read()
        return pad(tensor, (*(0, 0) * (tensor.dim() - 1), 0, rows - tensor.shape[0]))

    return grown
