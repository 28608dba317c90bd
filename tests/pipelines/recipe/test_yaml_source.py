"""Lines, duplicate keys, YAML 1.2's scalars, --set."""

import itertools

import pytest

from mmcorpus.filters import yaml_data
from mmcorpus.pipelines.recipe.problems import RecipeError
from mmcorpus.pipelines.recipe.yaml_source import apply_override, parse


def test_scalars_mean_what_they_say() -> None:
    text = "a: no\nb: 1e-4\nc: 12:30\nd: [1, .5, 1_000, -3, .inf]\ne: ~\nf: true\ng: 2020-01-01\nh: on\ni: '1'\nj:\n"
    text += "k: 010\nl: =\n"
    assert parse(text, "x").data == {
        "a": "no",
        "b": 1e-4,
        "c": "12:30",
        "d": [1, 0.5, 1000, -3, float("inf")],
        "e": None,
        "f": True,
        "g": "2020-01-01",
        "h": "on",
        "i": "1",
        "j": None,
        "k": 10,
        "l": "=",
    }


def test_every_key_knows_its_line() -> None:
    source = parse("# a comment\na:\n  b: 1\n  c:\n    - x\n    - y\n", "r.yaml")
    assert source.place(("a", "b")) == "r.yaml:3"
    assert source.place(("a", "c", 1)) == "r.yaml:6"
    assert source.place(("a", "missing", "deep")) == "r.yaml:2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", r"r.yaml:4: b.c: this key stands twice \(first on line 3\)"),
        ("a:\n\t- b\n", "r.yaml:2: a tab in the indentation"),
        ("a: [1\nb: 2\n", "r.yaml:2: not valid YAML"),
        ("a: 'x\n", "not valid YAML"),
        ("a: *nowhere\n", "undefined alias"),
        ("a: &x [*x]\n", "alias that holds itself"),
        ("? [a, b]\n: 1\n", "a key must be a plain name"),
    ],
)
def test_bad_yaml_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse(text, "r.yaml")


def test_set_reaches_nested_keys_list_items_and_keys_with_dots() -> None:
    source = parse("a: {b: 1}\nl: [1, 2]\nscorers:\n  my.mod:Mine: {x: 1}\n", "r.yaml")
    for setting in ("a.b=no", "a.c.d=[1, x]", "l.1=5", "scorers.my.mod:Mine.x=2", "e="):
        apply_override(source, setting)
    assert source.data == {
        "a": {"b": "no", "c": {"d": [1, "x"]}},
        "l": [1, 5],
        "scorers": {"my.mod:Mine": {"x": 2}},
        "e": None,
    }
    assert source.place(("a", "c", "d")) == "--set a.c.d=[1, x]"


@pytest.mark.parametrize("setting", ["a", "=1", "a..b=1", ".a=1", "l.7=1", "a.b.0.c=[", "l.x=1"])
def test_a_bad_set_is_refused(setting: str) -> None:
    with pytest.raises(RecipeError):
        apply_override(parse("a: {b: 1}\nl: [1]\n", "r.yaml"), setting)


def test_a_mapping_takes_over_another_and_says_what_differs() -> None:
    source = parse("a: &base {x: 1, y: {z: 2}}\nb:\n  <<: *base\n  x: 3\n", "r.yaml")
    assert source.data == {"a": {"x": 1, "y": {"z": 2}}, "b": {"x": 3, "y": {"z": 2}}}
    assert source.place(("b", "x")) == "r.yaml:4"
    assert source.place(("b", "y", "z")) == "r.yaml:1"
    with pytest.raises(RecipeError, match="takes a mapping"):
        parse("b:\n  <<: 3\n", "r.yaml")


@pytest.mark.parametrize(
    "level", ["[*a, *a, *a, *a, *a, *a, *a, *a, *a]", "{<<: [*a, *a, *a, *a, *a, *a, *a, *a, *a]}"]
)
def test_aliases_of_aliases_are_bounded(level: str) -> None:
    names = "abcdefghij"
    lines = [
        "a: &a {x: 1}",
        *(f"{new}: &{new} {level.replace('a', old)}" for old, new in itertools.pairwise(names)),
    ]
    with pytest.raises(RecipeError, match=r"r.yaml:\d+: .*more than 100,000 values"):
        parse("\n".join(lines), "r.yaml")


def test_all_duplicates_are_told() -> None:
    with pytest.raises(RecipeError) as caught:
        parse("a: 1\na: 2\nb: {c: 1, c: 2}\n", "r.yaml")
    assert [problem.path for problem in caught.value.problems] == [("a",), ("b", "c")]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\nb: " + "9" * 5000, 2, "64 bits"),
        ("a: 1\nb: -99999999999999999999", 2, "64 bits"),
        ("a: !!int many", 1, "cannot be read as int"),
        ("a: !!bool maybe", 1, "cannot be read as bool"),
        ("a: !!python/object/apply:os.system [echo]", 1, "no tags such as !!python/object/apply:os.system"),
        ("a: 1\nb: !!timestamp 2020-01-01", 2, "no tags"),
        ("a: !own {b: 1}", 1, "no tags such as !own"),
        ("a: " + "[" * 60 + "]" * 60, 1, "within each other"),
        ("a: " + "{b: " * 60 + "1" + "}" * 60, 1, "within each other"),
    ],
)
def test_what_no_recipe_means_is_told_with_its_line(text: str, line: int, says: str) -> None:
    with pytest.raises(RecipeError, match=says) as caught:
        parse(text, "r.yaml")
    assert f"r.yaml:{line}" in str(caught.value)


def test_nesting_of_any_depth_and_aliases_of_aliases_are_refused() -> None:
    laughs = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))])
    merged = "\n".join(["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{b: *a{n - 1}, c: *a{n - 1}}}" for n in range(1, 45))])
    for text in (laughs, merged, "a: " + "[" * 100_000, "- " * 5000 + "x", "a: &a [*a]"):
        with pytest.raises(RecipeError):
            parse(text, "r.yaml")


def test_a_list_of_samples_is_no_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match=r"r.yaml:1: .* 1,048,576 are read at most; is it a list of samples"):
        parse("a: 1\n" * 1_000_000, "r.yaml")
    monkeypatch.setattr(yaml_data, "MOST_NODES", 1000)
    with pytest.raises(RecipeError, match=r"r.yaml:1: .*more than 1,000 values"):
        parse("{" + "a: 1, " * 1000 + "}", "r.yaml")


def test_of_many_problems_some_are_told() -> None:
    with pytest.raises(RecipeError, match=r"^2000 problems in the recipe") as caught:
        parse("a: 1\n" * 2001, "r.yaml")
    assert str(caught.value).endswith("\n  and 1,900 more")
    assert len(str(caught.value).splitlines()) == 102


def test_an_index_of_a_setting_is_a_plain_number() -> None:
    source = parse("a: [1, 2]", "r.yaml")
    for name in ("\u00b2", "9" * 5000):
        with pytest.raises(RecipeError, match="not a mapping"):
            apply_override(source, f"a.{name}=3")
