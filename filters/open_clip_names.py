"""The source of an open_clip model: a registered name and tag, the hub, a weights file, a folder; its revision."""

import difflib
import functools
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmcorpus.filters.weights import is_remote, local_copy, weights_identity

HUB: Final = "hf-hub:"
CONFIG: Final = "open_clip_config.json"
OPENAI: Final = "openai"
_FOLDER: Final = "local-dir:"
_WEIGHTS: Final = (".safetensors", ".bin", ".pth", ".pt", ".npz")


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A model as open_clip names it."""

    model_name: str
    """An architecture that open_clip lists (`ViT-L-14`), `hf-hub:organisation/name`, or a folder, which may be a URL,
    with open_clip_config.json and weights."""
    pretrained: str | None
    """With a listed architecture: a tag that open_clip has for it, or a file of weights, which may be a URL; None takes
    `openai`."""

    def check(self) -> None:
        """Raise ValueError if the package, or what should lie on this machine, is not there; nobody else is asked."""
        known = [path.stem for path in _configs().glob("*.json")]
        if not self._has_own_weights():
            if self.model_name not in known:
                near = difflib.get_close_matches(self.model_name, known, n=3, cutoff=0.3) or sorted(known)[:3]
                raise ValueError(
                    f"model_name {self.model_name!r} is no folder, and open_clip lists no such architecture; "
                    f"it has {', '.join(near)}, … (open_clip.list_models())"
                )
            tag = self.pretrained or OPENAI
            if ("/" in tag or tag.endswith(_WEIGHTS)) and not is_remote(tag) and not os.path.isfile(tag):
                raise ValueError(f"pretrained: there is no file of weights at {os.path.abspath(tag)}")
        elif self.pretrained is not None:
            raise ValueError(f"pretrained is {self.pretrained!r}, but {self.model_name} has its own weights; drop it")
        elif not self.model_name.startswith(HUB) and not is_remote(self.model_name):
            folder = Path(self.model_name).expanduser()
            if not (folder / CONFIG).is_file():
                raise ValueError(f"model_name: there is no {CONFIG} in {folder.absolute()}")
            if not any(path.suffix in _WEIGHTS for path in folder.iterdir()):
                raise ValueError(f"model_name: there are no weights ({', '.join(_WEIGHTS)}) in {folder.absolute()}")

    def revision(self) -> str:
        """The identity of the weights: `NAME@REVISION`, the hub's commit or a hash of the files.

        Raises:
            ValueError: there is no such model, or its revision cannot be found out from here.
        """
        self.check()
        if self.model_name.startswith(HUB):
            return f"{HUB}{weights_identity(self.model_name.removeprefix(HUB))}"
        if self._has_own_weights():
            return weights_identity(self.model_name)
        tag = self.pretrained or OPENAI
        if is_remote(tag) or os.path.isfile(tag):
            return f"{self.model_name} {weights_identity(tag)}"
        return f"{self.model_name} {tag} {_tag_identity(self.model_name, tag)}"

    def dimensions(self) -> int:
        """Numbers in one embedding."""
        return _dimensions(self.model_name)

    def open_clip_names(self) -> tuple[str, str | None]:
        """`model_name` and `pretrained` as open_clip's functions take them; what lies at a URL is fetched."""
        if self.model_name.startswith(HUB):
            return self.model_name, None
        if self._has_own_weights():
            return f"{_FOLDER}{os.path.abspath(local_copy(self.model_name))}", None
        tag = self.pretrained or OPENAI
        return self.model_name, local_copy(tag) if is_remote(tag) else tag

    def __str__(self) -> str:
        return " ".join(part for part in (self.model_name, self.pretrained) if part)

    def _has_own_weights(self) -> bool:
        name = self.model_name
        return name.startswith((HUB, "/", "./", "../", "~")) or is_remote(name) or os.path.isdir(name)


def _configs() -> Path:
    """open_clip's folder of architectures, found without importing it."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError("CLIP scorers need open_clip; install it with: pip install 'mmcorpus[models]'")
    return Path(spec.submodule_search_locations[0]) / "model_configs"


@functools.lru_cache(maxsize=64)
def _dimensions(model_name: str) -> int:
    if model_name.startswith(HUB):
        from open_clip.factory import get_model_config

        return int(get_model_config(model_name)["embed_dim"])
    listed = _configs() / f"{model_name}.json"
    path = listed if listed.is_file() else Path(local_copy(model_name)) / CONFIG
    config = json.loads(path.read_bytes())
    return int(config.get("model_cfg", config)["embed_dim"])


def _tag_identity(model_name: str, tag: str) -> str:
    """The source of a tag's weights in open_clip: a hub repository and its commit, or a URL, which holds their hash."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    source = get_pretrained_cfg(model_name, tag)
    if not source:
        tags = ", ".join(list_pretrained_tags_by_model(model_name)) or "none"
        raise ValueError(
            f"pretrained {tag!r} is no file, and open_clip has no such weights for {model_name}; it has {tags}"
        )
    if source.get("hf_hub"):
        return weights_identity(os.path.dirname(source["hf_hub"]))
    return str(source["url"])
