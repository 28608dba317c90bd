"""What a served model is asked to write: a prompt from a YAML file, ours or a user's."""

import dataclasses
import hashlib
import importlib.resources
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from mmcorpus.filters.plain_tokens import apart
from mmcorpus.filters.written.answer import AnswerRules
from mmcorpus.filters.yaml_data import MOST_CHARACTERS, read_text

_KEYS: Final = ("system", "image", "template", "choices", "answer")
_FIELD: Final = re.compile(r"\{([A-Za-z_][\w-]*(?:\.[A-Za-z_]\w*)?)\}")
"""A place in the template: `{caption}`, `{recaption.text}`."""
_ALMOST: Final = re.compile(r"\{\s*[A-Za-z_][\w.-]*\s*\}")
"""What was meant for one."""
_SUFFIX: Final = ".yaml"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """The question about one sample, and what an answer must be."""

    name: str
    """Its file."""
    system: str | None
    """The system turn."""
    image: bool
    """Whether the sample's image stands before the text."""
    template: str
    """The user turn. `{name}` is the sample's column of this name, `{SCORER.column}` another scorer's, or a choice."""
    choices: dict[str, tuple[str, ...]]
    """By name, texts of which each sample has one, drawn by its uid."""
    answer: AnswerRules

    @property
    def fields(self) -> tuple[str, ...]:
        """The places that the sample fills, each once, in the template's order."""
        return tuple(dict.fromkeys(name for name in _FIELD.findall(self.template) if name not in self.choices))

    def fill(self, uid: str, values: Mapping[str, str]) -> str:
        """The user's text for a sample. Values go in once, so that braces in them mean nothing; tags and special tokens
        that they spell out get a space into them, so that they mean nothing either."""

        def value(place: re.Match[str]) -> str:
            name = place[1]
            if name in self.choices:
                return self.choices[name][_drawn(f"{uid} {name}", len(self.choices[name]))]
            return apart(values[name])

        return _FIELD.sub(value, self.template)

    def messages(self, text: str, image_url: str | None) -> list[dict[str, Any]]:
        """The chat: without an image its contents are plain texts, which every server takes."""
        content: Any = text
        if image_url is not None:
            content = [{"type": "image_url", "image_url": {"url": image_url}}, {"type": "text", "text": text}]
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": content}]

    def digest(self) -> str:
        """16 hex digits of all that is asked and checked."""
        told = {**dataclasses.asdict(self), "name": ""}
        return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()


def _drawn(text: str, count: int) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") % count


def shipped_prompts() -> list[str]:
    """The names of the prompts that ship."""
    files = importlib.resources.files(__package__).joinpath("prompts").iterdir()
    return sorted(file.name.removesuffix(_SUFFIX) for file in files if file.name.endswith(_SUFFIX))


def read_prompt(name: str) -> Prompt:
    """The prompt that ships under a name (`capfusion`), or that of a file, local or remote.

    Raises:
        ValueError: it is not there, or not laid out as those that ship; the message says what is wrong.
    """
    if name in shipped_prompts():
        file = importlib.resources.files(__package__).joinpath("prompts", name + _SUFFIX)
        return _checked(read_text(file.read_text("utf-8")), name)
    import fsspec

    try:
        with fsspec.open(name, "rt", encoding="utf-8") as opened:
            data = read_text(opened.read(MOST_CHARACTERS + 1))
    except FileNotFoundError:
        raise ValueError(f"prompt: there is no file {name}; those that ship: {', '.join(shipped_prompts())}") from None
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
        raise ValueError(f"prompt: {name} is not readable as YAML: {error}") from None
    return _checked(data, name)


def _checked(data: Any, path: str) -> Prompt:
    if not isinstance(data, dict) or not set(data) <= set(_KEYS):
        raise ValueError(f"prompt: {path} must be a mapping of {', '.join(_KEYS)}, as those that ship are")
    system, image, template = data.get("system"), data.get("image", False), data.get("template")
    if not isinstance(template, str) or not template.strip():
        raise ValueError(f"prompt: template in {path} must be a text")
    if system is not None and not isinstance(system, str):
        raise ValueError(f"prompt: system in {path} must be a text, or null")
    if not isinstance(image, bool):
        raise ValueError(f"prompt: image in {path} must be true or false")
    if (almost := _ALMOST.search(_FIELD.sub("", template))) is not None:
        fix = "write {caption}, or {recaption.text} for a column of another scorer"
        raise ValueError(f"prompt: template in {path} has {almost[0]}, which names no column; {fix}")
    choices = data.get("choices") or {}
    if not isinstance(choices, dict):
        raise ValueError(f"prompt: choices in {path} must be a mapping of names to lists of texts")
    for place, texts in choices.items():
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"prompt: choices.{place} in {path} must be a list of texts, with at least one")
        if f"{{{place}}}" not in template:
            raise ValueError(f"prompt: choices.{place} in {path} is not in the template; write {{{place}}} there")
    found = Prompt(
        name=path, system=system, image=image, template=template,
        choices={place: tuple(texts) for place, texts in choices.items()}, answer=_rules(data.get("answer"), path),
    )  # fmt: skip
    if not image and not found.fields:
        raise ValueError(f"prompt: {path} shows no image and has no {{caption}} or other column: all samples are alike")
    return found


def _rules(data: Any, path: str) -> AnswerRules:
    kinds = {field.name: field.type for field in dataclasses.fields(AnswerRules)}
    if data is not None and (not isinstance(data, dict) or not set(data) <= set(kinds)):
        raise ValueError(f"prompt: answer in {path} must be a mapping of {', '.join(kinds)}")
    given: dict[str, Any] = {}
    for name, value in (data or {}).items():
        if name in ("keys", "refusals"):
            if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
                raise ValueError(f"prompt: answer.{name} in {path} must be a list of texts")
            given[name] = tuple(value)
        elif name in ("form", "language"):
            given[name] = value
        elif isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"prompt: answer.{name} in {path} must be a whole number")
        else:
            given[name] = value
    try:
        return AnswerRules(**given)
    except ValueError as error:
        raise ValueError(f"prompt: answer in {path}: {error}") from None
