"""A pack's manifest: what a trainer must know before it reads the first sequence, written last."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mmcorpus.curation.store import storage
from mmcorpus.packing.errors import PackError
from mmcorpus.packing.layout import LayoutConfig, read_layout
from mmcorpus.packing.lengths import IMAGE_TOKEN
from mmcorpus.packing.numbers import MOST_POSITIONS
from mmcorpus.packing.tokens import special_ids, tokenizer_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FORMAT: Final = "mmcorpus-packs"
VERSION: Final = 1
ANNOTATED_VERSION: Final = 2
"""Of packs in which images have several captions: who reads version 1 alone would let them see each other."""
LAYOUT_VERSION: Final = 3
"""Of packs whose images are not squares: who reads earlier versions alone would render each as one."""
REFERENCE_VERSION: Final = 4
"""Of packs that refer to images in the sources' shards."""
WEIGHTED_VERSION: Final = 5
"""Of packs whose targets have weights: who reads earlier versions alone would count all alike."""
_REQUIRED: Final = {
    "tokenizer": dict,
    "image_token": int,
    "tokens_per_image": int,
    "context_length": int,
    "counts": dict,
    "shards": list,
}
_COUNTED: Final = ("sequences", "samples", "images", "tokens", "positions")
_TOKENIZER: Final = {"name", "special_ids", "special_ids_hash"}
_SHARD_NAME = re.compile(r"\d{5,12}\Z")


def layout_of(manifest: Mapping[str, Any]) -> LayoutConfig | None:
    """The layout that a manifest keeps; None if it keeps none. Raises ValueError unless its hash is the layout's."""
    if "layout" not in manifest:
        return None
    layout = read_layout(manifest["layout"])
    if layout.hash != manifest.get("layout_hash"):
        raise ValueError(f"its layout has the hash {layout.hash}, it says {manifest.get('layout_hash')}")
    return layout


def describe_tokenizer(tokenizer: "PreTrainedTokenizerFast", name: str) -> dict[str, Any]:
    """The manifest's `tokenizer`: name, vocabulary_size, special_ids, special_ids_hash, fingerprint."""
    special = special_ids(tokenizer)
    return {
        "name": name,
        "vocabulary_size": len(tokenizer),
        "special_ids": special.as_dict(),
        "special_ids_hash": special.hash,
        "fingerprint": tokenizer_fingerprint(tokenizer),
    }


def write_manifest(
    root: str,
    *,
    tokenizer: dict[str, Any],
    tokens_per_image: int,
    context_length: int,
    shards: Sequence[dict[str, Any]],
    parameters: dict[str, Any],
    layout: LayoutConfig | None = None,
    index: dict[str, Any] | None = None,
    references: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Write `manifest.json` from the shards' records (PackShardWriter.record) and return it; counts are summed.

    `index` is what `write_index` gave; without it readers read the index of each shard. `references`: by source, the
    folder of the shards that images are referred to in (`stored_images.relative`). With a `layout`, `tokens_per_image`
    is its `constant`, or 0 where an image's size decides.
    """
    version = VERSION if layout is None or layout.kind == "square" else LAYOUT_VERSION
    rare = {"annotated": ANNOTATED_VERSION, "weighted": WEIGHTED_VERSION}
    found = [name for name in rare if any(shard.get(name) for shard in shards)]
    counted = (*_COUNTED, *found)
    manifest = {
        "format": FORMAT,
        "version": max([version, REFERENCE_VERSION if references else 0, *(rare[name] for name in found)]),
        "tokenizer": tokenizer,
        "image_token": IMAGE_TOKEN,
        "tokens_per_image": tokens_per_image,
        **({} if layout is None else {"layout": layout.as_dict(), "layout_hash": layout.hash}),
        "context_length": context_length,
        "counts": {name: sum(shard.get(name, 0) for shard in shards) for name in counted},
        **({} if index is None else {"index": index}),
        **({} if references is None else {"references": references}),
        "shards": [{name: shard[name] for name in ("name", "bytes", "sha256", *_COUNTED)} for shard in shards],
        "parameters": parameters,
    }
    storage.write_json(storage.join(root, "manifest.json"), manifest)
    return manifest


def read_manifest(root: str) -> dict[str, Any]:
    """A pack's manifest, checked; raises PackError if there is none, or one of another format or version."""
    path = storage.join(root, "manifest.json")
    try:
        manifest = storage.read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise PackError(f"{path} is missing: there is no pack, or writing it has not finished; pack again") from None
    except storage.Damaged as error:
        raise PackError(f"{path} is not JSON ({error.why}); copy the pack again or write it again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise PackError(f"{path} is not the manifest of an mmcorpus pack; give the folder that holds one")
    if manifest.get("version") not in range(VERSION, WEIGHTED_VERSION + 1):
        read = f"{VERSION} to {WEIGHTED_VERSION}"
        raise PackError(f"{path} is of version {manifest.get('version')}, this program reads {read}; pack again")
    try:
        layout = layout_of(manifest)
    except (ValueError, TypeError, AttributeError) as error:
        raise PackError(f"{path} is damaged or of a newer program: {error}; write the pack again") from error
    wrong = [name for name, kind in _REQUIRED.items() if not isinstance(manifest.get(name), kind)]
    per_image: Any = manifest.get("tokens_per_image")
    if not wrong and not 1 <= manifest["context_length"] <= MOST_POSITIONS:
        wrong = ["context_length"]
    if not wrong and (per_image < 1 if layout is None else per_image != (layout.constant or 0)):
        wrong = ["tokens_per_image"]
    if not wrong and not set(manifest["tokenizer"]) >= _TOKENIZER:
        wrong = ["tokenizer"]
    if wrong or manifest["image_token"] != IMAGE_TOKEN:
        raise PackError(
            f"{path} is damaged: wrong or missing {', '.join(wrong) or 'image token'}; write the pack again"
        )
    folders = manifest.get("references", {})
    if not isinstance(folders, dict) or not all(isinstance(folder, str) for folder in folders.values()):
        raise PackError(f"{path} is damaged: its references are no folders by source; write the pack again")
    names = [shard.get("name") if isinstance(shard, dict) else None for shard in manifest["shards"]]
    if not all(isinstance(name, str) and _SHARD_NAME.match(name) for name in names):
        raise PackError(f"{path} is damaged: a shard's name is not a number; write the pack again")
    return manifest
