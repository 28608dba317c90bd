"""Plain data → a typed, frozen config by pydantic; every problem by its key, its line and what it should have been."""

import ast
import copy
import dataclasses
import inspect
import itertools
import json
import re
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar, cast

from mmcorpus.pipelines.recipe.problems import Path, Problem, suggestion
from mmcorpus.pipelines.recipe.yaml_source import YamlSource

Config = TypeVar("Config")

_WANTED: Final = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "dataclass_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
}
"""YAML's words for pydantic's, which are JSON's."""


def check(
    kind: type[Config], data: Any, source: YamlSource, path: Path, *, also: Sequence[str] = ()
) -> tuple[Config | None, list[Problem]]:
    """Build `kind` (a dataclass) from the data that stands at `path`, and say what is wrong with the data.

    What is wrong is taken out and the rest built, so that one mistake does not hide another; None where what is left is
    no config. `also` names keys that may stand beside its own, for the suggestions.
    """
    from pydantic import TypeAdapter, ValidationError

    # Inside a mapping, because a config of a user's own (a scorer) need not forbid what it does not know.
    adapter = TypeAdapter(dict[str, kind], config={"extra": "forbid"})  # type: ignore[valid-type]
    data = {} if data is None else copy.deepcopy(data)  # `image:` with nothing after it means `image: {}`
    problems: list[Problem] = []
    taken: list[Path] = []
    while True:
        try:
            return adapter.validate_json(json.dumps({"": data}), strict=True)[""], problems
        except ValidationError as error:
            found = dict(_mistakes(error.errors(include_url=False), data, kind, also))
        problems += [source.problem((*path, *inner), found[inner]) for inner in found if inner not in taken]
        taken += found
        if not all(_take_out(data, inner) for inner in found):
            return None, problems


def _take_out(data: Any, path: Path) -> bool:
    """Take out the mapping's key at `path`, or what needs it if it is missing; False if nothing is left then."""
    while path:
        *outer, last = path
        inside = data
        for part in outer:
            inside = inside[part] if _has(inside, part) else None
        if inside is None:
            return True  # it went with another one's key
        if isinstance(inside, dict) and last in inside:
            del inside[last]
            return True
        path = tuple(outer)
    return False


def _has(data: Any, part: str | int) -> bool:
    if isinstance(data, dict):
        return part in data
    return isinstance(data, list) and isinstance(part, int) and part < len(data)


def _mistakes(details: Sequence[Any], data: Any, kind: Any, also: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Pydantic's errors by key path, in words; a union's are one."""
    found: dict[Path, list[Any]] = {}
    for detail in details:
        path: Path = ()
        inside = data
        for part in detail["loc"][1:]:  # the names of a union's branches stand between the keys
            if _has(inside, part):
                path, inside = (*path, part), inside[part]
        if detail["type"].startswith("missing"):
            path = (*path, detail["loc"][-1])
        if detail["type"] == "value_error":
            # A config's own check opens with the name of the field that it complains of.
            first = str(detail["ctx"]["error"]).partition(" ")[0].strip("`'\":,").rpartition(".")[2]
            path = (*path, first) if first in _fields(kind, path) else path
        found.setdefault(path, []).append(detail)
    for path, told in found.items():
        if not any(path == other[: len(path)] != other for other in found):  # else a branch that was not meant
            yield path, _message(told, path, kind, also if len(path) == 1 else ())


def _message(told: Sequence[Any], path: Path, kind: Any, also: Iterable[str]) -> str:
    name, owners = str(path[-1]) if path else "", _fields(kind, path[:-1])
    help_text = field_help(owners[name], name) if name in owners else ""
    tail = f" – {help_text}" if help_text else ""
    codes = {detail["type"]: detail for detail in told}
    if "value_error" in codes:
        return str(codes["value_error"]["ctx"]["error"]).removeprefix(f"{name}: ")  # the path says it already
    detail = told[0]
    if detail["type"] == "unexpected_keyword_argument":
        moved = [owner.moved()[name] for owner in set(owners.values()) if name in getattr(owner, "moved", dict)()]
        return f"it is now {moved[0]}" if moved else f"unknown key; {suggestion(name, [*owners, *also])}"
    if detail["type"].startswith("missing"):
        return f"missing{tail}"
    value = detail["input"]
    shown = json.dumps(value, ensure_ascii=False, default=str)
    if detail["type"] == "literal_error" and isinstance(value, str):
        choices = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
        return f"{shown} is none of its values; {suggestion(value, choices)}{tail}"
    wanted = [_WANTED.get(one["type"], one["msg"].removeprefix("Input should be ")) for one in told]
    wanted += ["null"] if type(None) in _declared(kind, path) else []
    return f"should be {' or '.join(wanted)}, is {shown if len(shown) <= 60 else shown[:57] + '…'}{tail}"


def _declared(kind: Any, path: Path) -> list[Any]:
    """The types that may stand at `path` in `kind`."""
    kinds = [kind]
    for part in path:
        inner = [
            [field_types(one).get(str(part))] if dataclasses.is_dataclass(one) else typing.get_args(one)
            for one in kinds
        ]
        kinds = [branch for one in itertools.chain.from_iterable(inner) for branch in _branches(one)]
    return kinds


def _branches(declared: Any) -> Sequence[Any]:
    union = typing.get_origin(declared) in (typing.Union, types.UnionType)
    return typing.get_args(declared) if union else [declared]


def _fields(kind: Any, path: Path) -> dict[str, Any]:
    """The keys of a mapping at `path`, each with the config that it belongs to."""
    owners = [one for one in _declared(kind, path) if dataclasses.is_dataclass(one)]
    return {name: owner for owner in owners for name in field_types(owner)}


def field_types(kind: Any) -> dict[str, Any]:
    """The fields of a config that a recipe may give, with their types."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def field_docs(kind: Any) -> dict[str, str]:
    """The docstring under each field of a dataclass, its parents' included.

    Pydantic reads them (`use_attribute_docstrings`) where each class asks for it, which a user's own does not, and not
    those of parents.
    """
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        try:
            (defined,) = ast.parse(textwrap.dedent(inspect.getsource(cast(type, base)))).body
        except (OSError, TypeError, SyntaxError):
            continue
        for field, text in itertools.pairwise(getattr(defined, "body", [])):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[ast.unparse(field.target)] = inspect.cleandoc(str(text.value.value))
    return found


def field_help(kind: Any, name: str) -> str:
    """The first sentence of a field's docstring; empty if it has none."""
    text = " ".join(field_docs(kind).get(name, "").split())
    return re.split(r"(?<!e\.g)(?<!i\.e)\. ", text, maxsplit=1)[0].rstrip(".")
