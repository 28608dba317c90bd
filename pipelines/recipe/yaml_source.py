"""YAML with the line of every key, duplicate keys refused, and YAML 1.2's scalars.

YAML 1.1, PyYAML's own, reads the language `no` as false, `1e-4` as a string and `12:30` as 750; a recipe means what
it says: `true`/`false`, `null`, and numbers as in JSON.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from mmcorpus.pipelines.recipe.problems import Path, Problem, RecipeError, dotted

_SCALARS: Final = {
    "tag:yaml.org,2002:null": (r"~|null|Null|NULL|", "~nN\0"),
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "tag:yaml.org,2002:int": (r"[-+]?[0-9]+(_[0-9]+)*", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
}


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema."""


_Loader.yaml_implicit_resolvers = {}
for _tag, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(
        _tag, re.compile(rf"(?:{_pattern})\Z"), ["" if char == "\0" else char for char in _first]
    )


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
    """Parse one YAML document. Raises `RecipeError` for bad syntax and duplicate keys."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        source = YamlSource(name=name, data={})
        problems: list[Problem] = []
        if node is not None:
            source.data = _build(loader, node, (), source, problems)
    except yaml.MarkedYAMLError as error:
        raise RecipeError([_syntax_problem(error, text, name)]) from None
    except RecursionError:
        raise RecipeError([Problem(place=name, path=(), message="an alias that holds itself, or too deep")]) from None
    except yaml.YAMLError as error:
        raise RecipeError([Problem(place=name, path=(), message=f"not readable as YAML: {error}")]) from None
    finally:
        loader.dispose()
    if problems:
        raise RecipeError(problems)
    return source


def _build(loader: _Loader, node: yaml.Node, path: Path, source: YamlSource, problems: list[Problem]) -> Any:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            source.lines[(*path, index)] = item.start_mark.line + 1
        return [_build(loader, item, (*path, index), source, problems) for index, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    values: dict[str, Any] = {}
    merged: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if isinstance(key_node, yaml.ScalarNode) and key_node.value == "<<" and not key_node.style:
            others = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            if not all(isinstance(other, yaml.MappingNode) for other in others):
                problems.append(
                    Problem(place=f"{source.name}:{line}", path=path, message="<< takes a mapping's *alias")
                )
                continue
            for other in reversed(others):
                merged |= _build(loader, other, path, source, problems)
            continue
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(Problem(place=f"{source.name}:{line}", path=path, message="a key must be a plain name"))
            continue
        key = key_node.value
        here = (*path, key)
        if key in values:
            first = source.lines[here]
            message = f"this key stands twice (first on line {first}); keep one of them"
            problems.append(Problem(place=f"{source.name}:{line}", path=here, message=message))
            continue
        source.lines[here] = line
        values[key] = _build(loader, value_node, here, source, problems)
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
        if isinstance(target, list) and name.isdigit() and int(name) < len(target):
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
