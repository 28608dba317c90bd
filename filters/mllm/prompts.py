"""The judge's questions: a rubric from a YAML file, ours or a user's."""

import hashlib
import importlib.resources
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from mmcorpus.filters import web
from mmcorpus.filters.plain_tokens import apart
from mmcorpus.filters.yaml_data import MOST_CHARACTERS, read_text

CAPTION: Final = "{caption}"
CRITERION: Final = "{criterion}"
_KEYS: Final = ("system", "template", "metrics")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rubric:
    """The questions about one image and its caption."""

    system: str | None
    """The system turn."""
    template: str
    """The user turn after the image, with `{caption}` and `{criterion}`."""
    criteria: dict[str, str]
    """By metric."""

    def prompt(self, metric: str, caption: str) -> str:
        """The user's text for a metric. The caption goes in last, so that braces in it mean nothing; tags and special
        tokens that it spells out get a space into them, so that they mean nothing either."""
        return self.template.replace(CRITERION, self.criteria[metric]).replace(CAPTION, apart(caption))

    def messages(self, metric: str, caption: str, image_url: str) -> list[dict[str, Any]]:
        """The chat: the image first, so that a prefix cache holds it for all the metrics."""
        content = [
            {"type": "image_url", "image_url": {"url": image_url}},
            {"type": "text", "text": self.prompt(metric, caption)},
        ]
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": content}]

    def digest(self, metrics: Sequence[str]) -> str:
        """16 hex digits of all that is asked for these metrics."""
        asked = {"system": self.system, "template": self.template, "metrics": {m: self.criteria[m] for m in metrics}}
        return hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=8).hexdigest()


def read_rubric(path: str | None = None) -> Rubric:
    """The rubric in a file, local or remote; the one that ships if there is no path.

    Raises:
        ValueError: it is not there, or not laid out as `filters/mllm/prompts.yaml` is; the message says what is wrong.
    """
    if path is None:
        text = importlib.resources.files(__package__).joinpath("prompts.yaml").read_text("utf-8")
        return _checked(read_text(text), "prompts.yaml")
    import fsspec

    web.install()
    try:
        with web.reading(path, allow_private=False), fsspec.open(path, "rt", encoding="utf-8") as file:
            data = read_text(file.read(MOST_CHARACTERS + 1))
    except FileNotFoundError:
        raise ValueError(f"prompts: there is no file {path}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"prompts: {path} is not readable as YAML: {error}") from None
    return _checked(data, path)


def _checked(data: Any, path: str) -> Rubric:
    if not isinstance(data, dict) or not set(data) <= set(_KEYS):
        raise ValueError(f"prompts: {path} must be a mapping of {', '.join(_KEYS)}, as the file that ships is")
    template, system, criteria = data.get("template"), data.get("system"), data.get("metrics")
    if not isinstance(template, str) or template.count(CRITERION) != 1:
        raise ValueError(f"prompts: template in {path} must be a text that holds {CRITERION} once")
    if system is not None and not isinstance(system, str):
        raise ValueError(f"prompts: system in {path} must be a text, or null")
    if not isinstance(criteria, dict) or not criteria:
        raise ValueError(f"prompts: metrics in {path} must be a mapping of names to criteria, with at least one")
    for name, criterion in criteria.items():
        if not isinstance(name, str) or not _NAME.match(name):
            raise ValueError(f"prompts: metric {name!r} in {path} becomes a column: lower-case letters, digits and _")
        if not isinstance(criterion, str) or not criterion.strip():
            raise ValueError(f"prompts: metric {name} in {path} has no text")
        if (template + criterion).count(CAPTION) != 1:
            raise ValueError(f"prompts: template and metric {name} in {path} must hold {CAPTION} once between them")
    return Rubric(system=system, template=template, criteria=criteria)
