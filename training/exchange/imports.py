"""Import: released checkpoints as ours, which then answer, judge, are trained on, exported and served like any other.

Two layouts, each known by its config.json: prismatic-vlms' (`prismatic.py`: Open-Qwen2VL) and LLaVA's (`llava.py`:
MLM-Filter).
"""

import dataclasses
import math
import os
from typing import TYPE_CHECKING

from mmcorpus.curation.store import storage
from mmcorpus.packing.conversations import chat_template
from mmcorpus.training.config import ModelConfig
from mmcorpus.training.exchange import llava, prismatic
from mmcorpus.training.exchange.checkpoint import write_checkpoint
from mmcorpus.training.exchange.release import Release, Sources, fetched

if TYPE_CHECKING:
    from mmcorpus.training.tensors import Tensors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Imported:
    """Report of an imported checkpoint."""

    checkpoint: str
    layout: str
    config: ModelConfig
    parameters: int


def import_model(
    source: str,
    out: str,
    *,
    vision: str | None = None,
    language: str | None = None,
    template: str | None = None,
) -> Imported:
    """Write a released checkpoint into the folder `out` as one of ours, whole or not at all, a tensor at a time.

    Args:
        source: a local folder, a URL of one, or a Hugging Face id.
        vision: the encoder's config, and its weights where the release has none; by default the Hugging Face id that
            the release names.
        language: the decoder's config and tokenizer, for releases that have none of their own; by default likewise.
        template: a file with another chat template than the release was trained with.

    Raises ValueError if there is something at `out`, or no layout that is known at `source`, or a part that cannot be
    had. Nothing in a checkpoint is run.
    """
    if storage.list_names(out):
        raise ValueError(f"{out} is not empty; give another folder, or remove it")
    folder = fetched(source)
    path = os.path.join(folder, "config.json")
    if not os.path.exists(path):
        raise ValueError(f"there is no config.json in {source}: give the folder of a released checkpoint")
    settings = storage.read_json(path)
    readers = {layout.LAYOUT: layout for layout in (prismatic, llava)}
    layout = next((name for name, reader in readers.items() if reader.known(settings)), None)
    if layout is None:
        raise ValueError(
            f"{path} is of no layout that is known: prismatic-vlms' has model.vision_backbone_id, LLaVA's "
            "mm_vision_tower. What transformers loads by itself needs no import: name it as it is"
        )
    try:
        release = readers[layout].read(folder, settings, Sources(vision=vision, language=language))
    except KeyError as error:
        raise ValueError(f"{path} lacks {error}, which the layout {layout!r} has") from error
    told = release.chat_template
    if template is not None:
        with storage.reading(template, "chat template"):
            told = storage.read_bytes(template).decode("utf-8")
    chat_template(release.tokenizer, told)  # tried, before gigabytes are written
    config = ModelConfig(
        vision=release.vision_name,
        language=release.language_name,
        tokens_per_image=release.tokens_per_image,
        vision_layer=release.vision_layer,
    )
    weights = _checked(release, config)
    write_checkpoint(
        out,
        config,
        vision=release.vision,
        language=release.language,
        tokenizer=release.tokenizer,
        chat_template=told,
        weights=weights,
        origin={"layout": layout, "source": source},
    )
    parameters = sum(math.prod(shape) for shape in weights.shapes.values())
    return Imported(checkpoint=out, layout=layout, config=config, parameters=parameters)


def _checked(release: Release, config: ModelConfig) -> "Tensors":
    """The release's weights, if they are all that the model has, in its shapes."""
    expected = _shapes(release, config)
    found = release.weights.shapes
    missing, other = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or other:
        kind = f"lacks {missing[0]}" if missing else f"has {other[0]}, which the model has not"
        raise ValueError(f"the release {kind} ({len(missing)} missing, {len(other)} too many): is it whole?")
    wrong = [name for name in expected if expected[name] != found[name]]
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{name} of the release is {list(found[name])}, but by its configs {list(expected[name])}; "
            "give the config that it was trained with (--vision, --language)"
        )
    return release.weights


def _shapes(release: Release, config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the model's parameters, without making it."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    from mmcorpus.training.model import VisionLanguageModel
    from mmcorpus.training.vision import empty_vision

    with torch.device("meta"):
        decoder = CONFIG_MAPPING[release.language["model_type"]].from_dict(release.language)
        encoders = empty_vision(config.encoders, [release.vision])
        model = VisionLanguageModel(config, encoders, AutoModelForCausalLM.from_config(decoder))
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
