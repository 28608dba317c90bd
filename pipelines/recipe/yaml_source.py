"""YAML with the line of every key, duplicate keys refused, and YAML 1.2's scalars.

YAML 1.1, PyYAML's own, reads the language `no` as false, `1e-4` as a string and `12:30` as 750; a recipe means what
it says: `true`/`false`, `null`, and numbers as in JSON.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from mmcorpus.curation.store import storage
from mmcorpus.filters.yaml_data import BoundedLoader
from mmcorpus.pipelines.recipe.problems import Path, Problem, RecipeError, dotted

MOST_VALUES: Final = 100_000
"""In one recipe, each alias counted as what it stands for: a few lines of aliases of aliases can mean billions."""
MOST_LEVELS: Final = 50
"""Mappings and lists within each other; a recipe has some eight."""
_PLAIN_TAGS: Final = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "null", "bool", "int", "float")}
_SCALARS: Final = {
    "tag:yaml.org,2002:null": (r"~|null|Null|NULL|", "~nN\0"),
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "tag:yaml.org,2002:int": (r"[-+]?[0-9]+(_[0-9]+)*", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
}


class _Loader(BoundedLoader):
    """Within bounds, with the scalars of YAML 1.2's core schema."""


_Loader.yaml_implicit_resolvers = {}
for _tag, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(
        _tag, re.compile(rf"(?:{_pattern})\Z"), ["" if char == "\0" else char for char in _first]
    )


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> int:
    """PyYAML's own reads `010` as eight. Of more than 4,300 digits Python makes no number, of 20 nobody means one."""
    if len(node.value) > 40 or abs(int(node.value)) >= 1 << 63:
        raise ValueError("it takes more than 64 bits")
    return int(node.value)


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


@dataclass(kw_only=True)
class YamlSource:
    """A parsed file (or text) and where each of its keys stands."""

    name: str
    """As messages should show it."""
    data: Any
    lines: dict[Path, int] = field(default_factory=dict)
    """1-based line of each key and list item."""
    overrides: dict[Path, str] = field(default_factory=dict)
    """Keys that `--set` gave, with the text as typed."""

    def place(self, path: Path) -> str:
        """Where a key stands; of its nearest ancestor if it is not there itself."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.overrides:
                return f"--set {self.overrides[path[:end]]}"
            if path[:end] in self.lines:
                return f"{self.name}:{self.lines[path[:end]]}"
        return f"{self.name}:1" if self.lines else self.name

    def line(self, path: Path) -> int:
        """The line of a key or of its nearest ancestor; 0 if the file has none of them."""
        return next((self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines), 0)

    def problem(self, path: Path, message: str) -> Problem:
        return Problem(place=self.place(path), path=path, message=message)


def parse(text: str, name: str) -> YamlSource:
    """Parse one YAML document. Raises `RecipeError` for bad syntax, duplicate keys, and a text beyond all bounds."""
    try:
        reader = _Reader(text, name)
        node = reader.loader.get_single_node()
        data = {} if node is None else reader.build(node, ())
    except yaml.MarkedYAMLError as error:
        raise RecipeError([_syntax_problem(error, text, name)]) from None
    except RecursionError:
        raise RecipeError([Problem(place=name, path=(), message="an alias that holds itself, or too deep")]) from None
    except yaml.YAMLError as error:
        raise RecipeError([Problem(place=name, path=(), message=f"not readable as YAML: {error}")]) from None
    if reader.problems:
        raise RecipeError(reader.problems)
    return YamlSource(name=name, data=data, lines=reader.lines)


def read_stored(path: str) -> dict[str, Any]:
    """A recipe as a run has stored it; empty if it has not. Raises Damaged if it cannot be read."""
    if not storage.exists(path):
        return {}
    try:
        data = parse(storage.read_bytes(path).decode(), path).data
        if not isinstance(data, dict):
            raise ValueError("it is no mapping")
    except ValueError as error:
        why = error.problems[0] if isinstance(error, RecipeError) else error
        raise storage.Damaged(path, "recipe of a run", why) from error
    return data


class _Reader:
    """Builds plain values of YAML's nodes, and notes where they stand.

    ruamel.yaml was tried: of merged keys it does not know the lines, it stops at the first duplicate, misreads
    `{caption:}`, and takes twice as long, to save 15 lines.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.loader = _Loader(text)
        self.lines: dict[Path, int] = {}
        self.problems: list[Problem] = []
        self.values = 0

    def tell(self, line: int, path: Path, message: str) -> None:
        self.problems.append(Problem(place=f"{self.name}:{line}", path=path, message=message))

    def build(self, node: Any, path: Path) -> Any:
        self.values += 1
        if self.values > MOST_VALUES:
            text = f"more than {MOST_VALUES:,} values, aliases of aliases written out"
            raise RecipeError([Problem(place=f"{self.name}:{node.start_mark.line + 1}", path=path, message=text)])
        if len(path) > MOST_LEVELS:
            text = f"more than {MOST_LEVELS} mappings and lists within each other, or an alias that holds itself"
            raise RecipeError([Problem(place=f"{self.name}:{node.start_mark.line + 1}", path=path[:3], message=text)])
        if node.tag not in _PLAIN_TAGS:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            self.tell(node.start_mark.line + 1, path, f"a recipe has no tags such as {tag}; leave it out")
            return None
        if isinstance(node, yaml.ScalarNode):
            try:
                return self.loader.construct_object(node)
            except (ValueError, KeyError) as error:  # `!!int x`, `!!bool maybe`, a number of thousands of digits
                kind = node.tag.rpartition(":")[2]
                shown = node.value if len(node.value) <= 40 else f"{node.value[:40]}…"
                self.tell(node.start_mark.line + 1, path, f"{shown!r} cannot be read as {kind}: {error}")
                return None
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[(*path, index)] = item.start_mark.line + 1
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line, key = key_node.start_mark.line + 1, key_node.value
            here = (*path, key)
            if not isinstance(key_node, yaml.ScalarNode):
                self.tell(line, path, "a key must be a plain name")
            elif key == "<<" and not key_node.style:
                others = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                if all(isinstance(other, yaml.MappingNode) for other in others):
                    for other in reversed(others):
                        merged |= self.build(other, path)
                else:
                    self.tell(line, path, "<< takes a mapping's *alias")
            elif key in values:
                self.tell(line, here, f"this key stands twice (first on line {self.lines[here]}); keep one of them")
            else:
                self.lines[here] = line
                values[key] = self.build(value_node, here)
        return {**merged, **values}


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, name: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark else 0
    lines = text.splitlines()
    shown = lines[line] if line < len(lines) else ""
    if "\t" in shown[: len(shown) - len(shown.lstrip())]:
        message = "a tab in the indentation; YAML wants spaces"
    else:
        message = f"not valid YAML: {error.problem or error.context}"
        if shown.strip():
            message += f" (near {shown.strip()[:80]!r})"
    return Problem(place=f"{name}:{line + 1}", path=(), message=message)


def apply_override(source: YamlSource, setting: str) -> None:
    """Put `a.b=value` (value read as YAML) into the source's data, making the mappings on the way.

    A key that holds a dot itself, such as a scorer `my.module:MyScorer`, is found by its longest match.
    """
    key, equals, text = setting.partition("=")
    key = key.strip()
    if not equals or not key or ".." in key or key.startswith(".") or key.endswith("."):
        message = "write it as key.path=value, e.g. --set select.pairs.heldout_fraction=0.1"
        raise RecipeError([Problem(place=f"--set {setting}", path=(), message=message)])
    value = parse(text, f"--set {setting}").data if text.strip() else None
    parts = key.split(".")
    target, path = source.data, Path()
    while parts:
        length = 1
        if isinstance(target, dict):
            known = [n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in target]
            length = known[0] if known else 1
        name = ".".join(parts[:length])
        parts = parts[length:]
        if isinstance(target, list) and name.isdecimal() and len(name) < 10 and int(name) < len(target):
            path, index = (*path, int(name)), int(name)
            if not parts:
                target[index] = value
            target = target[index]
        elif isinstance(target, dict):
            path = (*path, name)
            if not parts:
                target[name] = value
            elif not isinstance(target.get(name), dict | list):
                target[name] = {}
            target = target[name]
        else:
            message = f"{dotted(path)} is not a mapping, so it has no {name!r}"
            raise RecipeError([Problem(place=f"--set {setting}", path=path, message=message)])
    for stale in [known for known in source.overrides if known[: len(path)] == path]:
        del source.overrides[stale]
    source.overrides[path] = setting
