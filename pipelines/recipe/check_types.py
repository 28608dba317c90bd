"""Plain data → a typed, frozen config, every problem reported by its key, its line and what it should have been."""

import ast
import dataclasses
import inspect
import json
import re
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from mmcorpus.pipelines.recipe.problems import Path, Problem, suggestion
from mmcorpus.pipelines.recipe.yaml_source import YamlSource

Config = TypeVar("Config")

_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    type(None): "null",
    dict: "a mapping",
    list: "a list",
    tuple: "a list",
}


def check(
    kind: type[Config], data: Any, source: YamlSource, path: Path, *, also: Sequence[str] = ()
) -> tuple[Config | None, list[Problem]]:
    """Build `kind` (a dataclass) from the data that stands at `path`; None if there are problems.

    `also` names keys that may stand beside its own, for the suggestions.
    """
    from pydantic import TypeAdapter, ValidationError

    if data is None:
        data = {}  # `image:` with nothing after it means `image: {}`
    problems: dict[tuple[Path, str], Problem] = {}
    if isinstance(data, Mapping):
        # Said here for every config, because one of a user's own (a scorer) need not forbid what it does not know.
        for name in [str(key) for key in data if str(key) not in field_types(kind)]:
            problem = source.problem((*path, name), _unknown(name, [kind], also))
            problems[problem.path, problem.message] = problem
        data = {key: value for key, value in data.items() if str(key) in field_types(kind)}
    try:
        value = TypeAdapter(kind).validate_json(json.dumps(data), strict=True)
        return (None if problems else value), list(problems.values())
    except ValidationError as error:
        found = error.errors(include_url=False)
    for detail in found:
        inner, declared, branch = _locate(kind, detail["loc"], data)
        if branch is None or branch:
            if detail["type"] == "value_error":
                inner = (*inner, *_named_field(str(detail["ctx"]["error"]), declared))
            problem = source.problem((*path, *inner), _message(detail, inner, declared, kind))
            problems.setdefault((problem.path, problem.message), problem)
    return None, list(problems.values())


def _locate(kind: Any, loc: tuple[Any, ...], data: Any) -> tuple[Path, Any, bool | None]:
    """The key path of pydantic's `loc`, the type declared there, and whether it lies in the right branch of a union.

    A union puts the name of each branch into `loc`: those are taken out here, and a union of mappings is judged by
    the branch that shares the most keys with the data, the others being noise.
    """
    path: Path = ()
    right: bool | None = None
    declared = kind
    for part in loc:
        branches = _branches(declared)
        if len(branches) > 1:
            best = _best_branch(branches, data)
            if best is None:  # no mapping fits: say what the union as a whole wants
                return path, declared, right
            right = part == getattr(best, "__name__", str(best))
            declared = best
            continue
        declared = branches[0] if branches else declared
        path = (*path, part)
        declared = _inside(declared, part)
        data = _child(data, part)
    return path, declared, right


def _named_field(message: str, declared: Any) -> Path:
    """The field that a config's own check complains of: its message opens with the name."""
    first = message.split(maxsplit=1)[0].strip("`'\":,").rpartition(".")[2] if message else ""
    known = [name for kind in _branches(declared) if dataclasses.is_dataclass(kind) for name in field_types(kind)]
    return (first,) if first in known else ()


def _branches(declared: Any) -> list[Any]:
    if typing.get_origin(declared) in (typing.Union, types.UnionType):
        return [branch for branch in typing.get_args(declared) if branch is not type(None)]
    return [declared]


def _best_branch(branches: list[Any], data: Any) -> Any | None:
    if not isinstance(data, Mapping):
        return None
    classes = [branch for branch in branches if dataclasses.is_dataclass(branch)]
    return max(classes, key=lambda branch: len(set(field_types(branch)) & set(data)), default=None)


def _inside(declared: Any, part: str | int) -> Any:
    if dataclasses.is_dataclass(declared) and isinstance(declared, type):
        return field_types(declared).get(str(part), Any)
    arguments = typing.get_args(declared)
    if typing.get_origin(declared) is dict and len(arguments) == 2:
        return arguments[1]
    if typing.get_origin(declared) in (tuple, list) and arguments:
        return arguments[part] if isinstance(part, int) and part < len(arguments) else arguments[0]
    return Any


def _child(data: Any, part: str | int) -> Any:
    if isinstance(data, Mapping):
        return data.get(part)
    if isinstance(data, list) and isinstance(part, int) and part < len(data):
        return data[part]
    return None


def field_types(kind: Any) -> dict[str, Any]:
    """The fields of a config that a recipe may give, with their types."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def _message(detail: Any, path: Path, declared: Any, kind: Any) -> str:
    code, name = detail["type"], str(path[-1]) if path else ""
    owner = kind
    for part in path[:-1]:
        mappings = [branch for branch in _branches(owner) if branch is not str]
        owner = _inside(mappings[0] if mappings else owner, part)
    owners = [branch for branch in _branches(owner) if dataclasses.is_dataclass(branch)]
    if code == "unexpected_keyword_argument":
        return _unknown(name, owners)
    help_text = next((field_help(branch, name) for branch in owners if name in field_types(branch)), "")
    tail = f" – {help_text}" if help_text else ""
    if code in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"missing; give {describe(declared)}{tail}"
    if code == "value_error":
        return str(detail["ctx"]["error"]).removeprefix(f"{name}: ")  # the path says it already
    value = detail["input"]
    shown = "null" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    if code == "literal_error" and isinstance(value, str):
        choices = [str(choice) for choice in typing.get_args(_branches(declared)[0])]
        return f"{shown} is none of its values; {suggestion(value, choices)}{tail}"
    return f"should be {describe(declared)}, is {shown if len(shown) <= 60 else shown[:57] + '…'}{tail}"


def _unknown(name: str, owners: Sequence[Any], also: Sequence[str] = ()) -> str:
    """A key that none of the configs has: its new place, if it was one of theirs once, else the nearest valid name."""
    moved = [owner.moved()[name] for owner in owners if hasattr(owner, "moved") and name in owner.moved()]
    valid = [known for owner in owners for known in field_types(owner)]
    return f"it is now {moved[0]}" if moved else f"unknown key; {suggestion(name, [*valid, *also])}"


def describe(declared: Any) -> str:
    """A type in words: `a whole number or null`."""
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(argument) for argument in arguments)
    if origin is typing.Literal:
        return "one of " + ", ".join(json.dumps(choice) for choice in arguments)
    if origin in (tuple, list) and arguments:
        if origin is tuple and Ellipsis not in arguments:
            return f"a list of {len(arguments)}: " + ", ".join(describe(argument) for argument in arguments)
        return f"a list, each {describe(arguments[0])}"
    if dataclasses.is_dataclass(declared):
        return "a mapping (" + ", ".join(field_types(declared)) + ")"
    return _WORDS.get(origin or declared, getattr(declared, "__name__", str(declared)))


def field_docs(kind: Any) -> dict[str, str]:
    """The docstring under each field of a dataclass, its parents' included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(cast(type, base)))).body[0]
        except (OSError, TypeError, SyntaxError):
            continue
        previous = ""
        for node in getattr(body, "body", []):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                previous = node.target.id
            elif previous and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                found[previous] = inspect.cleandoc(str(node.value.value))
                previous = ""
            else:
                previous = ""
    return found


def field_help(kind: Any, name: str) -> str:
    """The first sentence of a field's docstring; empty if it has none."""
    text = " ".join(field_docs(kind).get(name, "").split())
    return re.split(r"(?<!e\.g)(?<!i\.e)\. ", text, maxsplit=1)[0].rstrip(".")
