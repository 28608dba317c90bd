"""A released checkpoint, read: what the readers of its layouts give, and what they share."""

import dataclasses
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from mmcorpus.filters.weights import is_hub_id, local_copy
from mmcorpus.training.exchange.checkpoint import EMBEDDINGS, LANGUAGE, LM_HEAD, VISION
from mmcorpus.training.tensors import Read, Tensors, read_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_INSIDE: Final = "vision_model."
"""Before the encoder's names in the file of a whole SigLIP."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the parts are that a release only names: Hugging Face ids or local folders; None for the ones it names."""

    vision: str | None = None
    language: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Release:
    """A released checkpoint in our terms."""

    vision_name: str
    vision: dict[str, Any]
    """The encoder's Hugging Face config."""
    vision_layer: int
    tokens_per_image: int
    language_name: str
    language: dict[str, Any]
    """The decoder's."""
    tokenizer: "PreTrainedTokenizerFast"
    chat_template: str
    """What it was trained with."""
    weights: Tensors
    """By our names."""


def published(name: str) -> str:
    """One of the chat templates in this folder, without the line breaks that stand in it for the reader."""
    return resources.files(__package__).joinpath(f"{name}.jinja").read_text("utf-8").replace("-%}\n", "-%}").strip()


def fetched(source: str, option: str = "") -> str:
    """The local folder of a model: what is on the hub or at a URL is downloaded.

    Raises ValueError, naming the `option` that gives another place, where it cannot be had.
    """
    if not is_hub_id(source):
        return local_copy(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(source))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        instead = f"; give its folder as {option}" if option else ""
        raise ValueError(
            f"{source!r} is no folder here, and as a Hugging Face id it cannot be downloaded{instead}: {error}"
        ) from error


def config_of(source: str, option: str) -> Any:
    """The Hugging Face config of an encoder or decoder; of a whole SigLIP that of its encoder.

    Raises ValueError, naming the `option` that gives another place, where there is none.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        found = AutoConfig.from_pretrained(local_copy(source), trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise ValueError(f"the config of {source!r} cannot be had; give its folder as {option}: {error}") from error
    return getattr(found, "vision_config", found)


def tower_weights(source: str, blocks: int) -> Tensors:
    """An encoder's own weights by our names, for a release that left it as it was and does not hold it."""
    found = read_folder(fetched(source, "--vision"))
    inside = _INSIDE if any(name.startswith(_INSIDE) for name in found) else ""
    return found.renamed(
        lambda name: tower_name(name.removeprefix(inside), blocks) if name.startswith(inside) else None
    )


def tower_name(name: str, blocks: int) -> str | None:
    """Our name of a SiglipVisionModel's parameter; None for those after the blocks that are run."""
    number = name.removeprefix("encoder.layers.").partition(".")[0]
    kept = name.startswith("embeddings.") or (name.startswith("encoder.layers.") and int(number) < blocks)
    return VISION + name if kept and not name.endswith("position_ids") else None


def untied(weights: Tensors, language: dict[str, Any]) -> Tensors:
    """The weights without an LM head that is the embedding once more; `language` says then and only then that it is.

    Some trainers write both where they are tied, some configs say tied of a head that has parted.
    """
    head, embeddings = weights.get(LM_HEAD), weights[EMBEDDINGS]
    tied = head is None or (bool(language.get("tie_word_embeddings")) and bool((head() == embeddings()).all()))
    language["tie_word_embeddings"] = tied
    return weights.renamed(lambda name: None if tied and name == LM_HEAD else name)


def decoder_name(name: str) -> str | None:
    """Our name of a causal language model's parameter; None for buffers that older releases kept."""
    return None if name.endswith("rotary_emb.inv_freq") else LANGUAGE + name


def joined(*parts: Tensors) -> Tensors:
    """Several files' tensors as one; a name that two have is the later's."""
    readers: dict[str, Read] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for part in parts:
        readers |= part
        shapes |= part.shapes
    return Tensors(readers, shapes)
