"""LLaVA's layout, as MLM-Filter's models are released (github.com/Victorwz/LLaVA-Unified): one Hugging Face folder.

    config.json     the decoder's, of the type `llava_qwen`, with `mm_vision_tower`, `mm_projector_type`, …
    *.safetensors   model.layers.…, lm_head.…, model.mm_projector.…, model.vision_tower.vision_tower.vision_model.…
    tokenizer files

The scripts that score with them squash each image to the encoder's square, though `image_aspect_ratio` says `pad`.
"""

import re
from typing import Any, Final

from mmcorpus.packing.tokens import load_tokenizer
from mmcorpus.training.exchange.checkpoint import PROJECTOR
from mmcorpus.training.exchange.release import (
    Release,
    Sources,
    config_of,
    decoder_name,
    joined,
    published,
    tower_name,
    tower_weights,
    untied,
)
from mmcorpus.training.tensors import read_folder

LAYOUT: Final = "llava"
DECODERS: Final = {"llava_qwen": "qwen2", "llava_qwen3": "qwen3", "llava_llama": "llama", "llava_mistral": "mistral"}
"""transformers' types of the decoders, by LLaVA's."""
_TOWER: Final = "model.vision_tower.vision_tower.vision_model."
_PROJECTOR: Final = "model.mm_projector."
_LAYER: Final = re.compile(r"model\.mm_projector\.(?:mlp_projector\.)?([02])\.(weight|bias)\Z")


def known(settings: dict[str, Any]) -> bool:
    """Whether a config.json is of this layout."""
    return "mm_vision_tower" in settings


def read(folder: str, settings: dict[str, Any], sources: Sources) -> Release:
    """The release in `folder`; raises ValueError for a decoder, a projector or images that we have not."""
    kind = settings.get("model_type")
    if kind not in DECODERS:
        raise ValueError(f"its model_type is {kind!r}; {', '.join(DECODERS)} are known")
    _check(settings)
    vision_name = sources.vision or settings["mm_vision_tower"]
    found = config_of(vision_name, "--vision")
    if found.model_type != "siglip_vision_model":
        raise ValueError(f"its encoder {vision_name!r} is a {found.model_type}; SigLIP is known")
    vision: dict[str, Any] = {**found.to_dict(), "vision_use_head": False}
    layer = int(settings.get("mm_vision_select_layer", -2))
    blocks = vision["num_hidden_layers"] + 1 + layer
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    pooled = settings.get("mm_projector_type") == "aapool_mlp"
    file = read_folder(folder)
    language = _decoder(settings)
    tokenizer = load_tokenizer(sources.language or folder)
    own = file.renamed(lambda name: tower_name(name.removeprefix(_TOWER), blocks) if name.startswith(_TOWER) else None)
    rest = file.renamed(_name)
    return Release(
        vision_name=vision_name,
        vision=vision,
        vision_layer=layer,
        tokens_per_image=settings["mm_num_image_tokens"] if pooled else patches,
        language_name=sources.language or folder,
        language=language,
        tokenizer=tokenizer,
        chat_template=_template(kind, tokenizer),
        weights=untied(joined(own if len(own) else tower_weights(vision_name, blocks), rest), language),
    )


def _check(settings: dict[str, Any]) -> None:
    """Raise ValueError for what changes the model's input in a way that we have not."""
    projector = settings.get("mm_projector_type", "linear")
    if projector not in ("aapool_mlp", "mlp2x_gelu"):
        raise ValueError(f"its mm_projector_type is {projector!r}; aapool_mlp and mlp2x_gelu are known")
    for name, plain in (("mm_use_im_start_end", False), ("mm_patch_merge_type", "flat"), ("s2", False)):
        if settings.get(name, plain) != plain:
            raise ValueError(f"its {name} is {settings[name]!r}; {plain!r} is known")
    if settings.get("image_aspect_ratio") == "anyres":
        raise ValueError("its images are cut into tiles (image_aspect_ratio anyres); whole images are known")


def _decoder(settings: dict[str, Any]) -> dict[str, Any]:
    """The decoder's own config: without what LLaVA adds."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING

    plain = {name: value for name, value in settings.items() if not name.startswith("mm_")}
    config: Any = CONFIG_MAPPING[DECODERS[settings["model_type"]]]
    own = set(config().to_dict()) | {"rope_theta", "rope_scaling"}
    kept = {name: value for name, value in plain.items() if name in own and name != "model_type"}
    try:
        found: dict[str, Any] = config.from_dict(kept).to_dict()
    except (StrictDataclassError, TypeError, KeyError) as error:
        raise ValueError(f"its config.json describes no decoder: {error}") from error
    return found


def _template(kind: str, tokenizer: Any) -> str:
    if kind == "llava_qwen":
        return published("llava_qwen")
    if not tokenizer.chat_template:
        raise ValueError("the release has no chat template; give a file with the one it was trained with as --template")
    return str(tokenizer.chat_template)


def _name(name: str) -> str | None:
    """Our name of a parameter that is not the encoder's."""
    if (layer := _LAYER.match(name)) is not None:
        return f"{PROJECTOR}fc{1 if layer[1] == '0' else 2}.{layer[2]}"
    if name.startswith(("model.vision_tower.", _PROJECTOR)):
        return None
    return decoder_name(name)
