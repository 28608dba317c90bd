"""Configs from plain data: what is said of each mistake."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from mmcorpus.pipelines.recipe.check_types import check, field_help
from mmcorpus.pipelines.recipe.yaml_source import parse


@dataclass(frozen=True, kw_only=True)
class Inner:
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    width: int = 1
    """Pixels. At least 1."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width is {self.width}; give 1 or more")


@dataclass(frozen=True, kw_only=True)
class Outer:
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: str
    """What it is called."""
    rate: float = 0.5
    sides: tuple[int, int] = (1, 2)
    words: tuple[str, ...] = ()
    mode: Literal["fast", "slow"] = "fast"
    part: str | Inner = "x"
    inner: Inner = field(default_factory=Inner)
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class Lenient:
    """A user's own config, which does not forbid what it does not know."""

    alpha: int = 1


def problems(text: str, kind: Any = Outer) -> list[str]:
    source = parse(text, "r.yaml")
    value, found = check(kind, source.data, source, ())
    assert value is not None or found
    return [str(problem) for problem in found]


def test_good_data_becomes_typed_values() -> None:
    source = parse("name: n\nrate: 1\nsides: [3, 4]\nwords: [a]\npart: {width: 2}\nlimit: ~\n", "r.yaml")
    value, found = check(Outer, source.data, source, ())
    assert not found
    assert value == Outer(name="n", rate=1.0, sides=(3, 4), words=("a",), part=Inner(width=2))


def test_all_problems_come_at_once_each_with_its_line() -> None:
    found = problems("nam: x\nrate: '1'\nsides: [1]\nwords: [1]\nmode: fst\ninner:\n  widht: 3\nlimit: 1.5\n")
    text = "\n".join(found)
    assert len(found) == 8
    assert "r.yaml:1: nam: unknown key; did you mean 'name'?" in text
    assert "name: missing – What it is called" in text
    assert 'r.yaml:2: rate: should be a number, is "1"' in text
    assert "r.yaml:3: sides[1]: missing" in text
    assert "r.yaml:4: words[0]: should be text, is 1" in text
    assert "r.yaml:5: mode: \"fst\" is none of its values; did you mean 'fast'?" in text
    assert "r.yaml:7: inner.widht: unknown key; did you mean 'width'? (valid: width)" in text
    assert "r.yaml:8: limit: should be a whole number or null, is 1.5" in text


def test_types_are_strict() -> None:
    for line in ("rate: true", "limit: true", "limit: '3'", "mode: 1", "name: 3", "words: a", "inner: 5"):
        assert problems(f"name: x\n{line}\n" if not line.startswith("name") else f"{line}\n"), line


def test_a_configs_own_check_points_at_its_field() -> None:
    assert problems("name: x\ninner: {width: 0}\n") == ["r.yaml:2: inner.width: width is 0; give 1 or more"]


def test_a_union_is_judged_by_the_branch_that_was_meant() -> None:
    assert problems("name: x\npart: {width: a}\n") == [
        'r.yaml:2: part.width: should be a whole number, is "a" – Pixels'
    ]
    (found,) = problems("name: x\npart: 3\n")
    assert "part: should be text or a mapping, is 3" in found


def test_unknown_keys_of_a_lenient_config_are_refused_too() -> None:
    assert problems("alhpa: 2\n", Lenient) == ["r.yaml:1: alhpa: unknown key; did you mean 'alpha'? (valid: alpha)"]
    assert problems("", Lenient) == []


def test_the_help_of_a_field_is_its_docstrings_first_sentence() -> None:
    assert field_help(Inner, "width") == "Pixels"


def test_what_is_right_is_built_without_what_is_wrong() -> None:
    source = parse("name: n\nrate: fast\nmode: slow\ninner: {width: 0}\nwords: [a, 1]\nodd: 1\n", "r.yaml")
    value, found = check(Outer, source.data, source, ())
    assert value == Outer(name="n", mode="slow")
    assert {problem.path for problem in found} == {("rate",), ("inner", "width"), ("words", 1), ("odd",)}
    assert source.data["rate"] == "fast", "the data are left as they are"
    source = parse("name: 1\nrate: fast\n", "r.yaml")
    value, found = check(Outer, source.data, source, ())
    assert value is None, "a name is needed"
    assert len(found) == 2
