"""The language: what it means, checked against a naive evaluation row by row, and what it says when it is wrong."""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcorpus.curation.selection import ExpressionError, Threshold, check, columns_of, evaluate, split_clauses
from mmcorpus.curation.selection.expression import parse, selections_of, thresholds_of
from mmcorpus.curation.store.uid import pair_uid
from tests.linear import assert_linear

Row = dict[str, Any]
Node = tuple[str, Callable[[Row], Any]]
"""The text of an expression and its naive meaning."""

NUMBERS = ("a.int", "a.float")


def number_nodes() -> st.SearchStrategy[Node]:
    columns = st.sampled_from(NUMBERS).map(lambda name: (name, lambda row: row[name]))
    constants = st.one_of(st.integers(-5, 5), st.sampled_from([0.5, -1.5, 2.0])).map(lambda c: (f"{c}", lambda row: c))

    def combined(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        return st.one_of(
            st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda parts: arithmetic(*parts)),
            columns.flatmap(lambda right: inner.map(lambda left: arithmetic(left, "/", right))),
            inner.map(lambda node: (f"abs({node[0]})", lambda row: strict(abs, node[1](row)))),
            st.tuples(inner, inner).map(
                lambda two: (f"max({two[0][0]}, {two[1][0]})", lambda row: strict(max, two[0][1](row), two[1][1](row)))
            ),
            columns.map(lambda node: (f"log({node[0]})", lambda row: log(node[1](row)))),
        )

    return st.recursive(st.one_of(columns, constants), combined, max_leaves=4)


def strict(function: Callable[..., Any], *values: Any) -> Any:
    return None if any(value is None for value in values) else function(*values)


def log(value: float | None) -> float | None:
    return None if value is None or value <= 0 else math.log(value)


def arithmetic(left: Node, symbol: str, right: Node) -> Node:
    def meaning(row: Row) -> float | None:
        a, b = left[1](row), right[1](row)
        if a is None or b is None or (symbol == "/" and b == 0):
            return None
        return {"+": a + b, "-": a - b, "*": a * b, "/": a / (b or 1)}[symbol]

    return f"({left[0]} {symbol} {right[0]})", meaning


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b, "==": lambda a, b: a == b, "!=": lambda a, b: a != b,
}  # fmt: skip


def comparison(left: Node, symbol: str, right: Node) -> Node:
    return f"{left[0]} {symbol} {right[0]}", lambda row: strict(COMPARE[symbol], left[1](row), right[1](row))


def chained(nodes: tuple[Node, str, Node, str, Node]) -> Node:
    left, first, middle, second, right = nodes
    one, two = comparison(left, first, middle), comparison(middle, second, right)
    return f"{left[0]} {first} {middle[0]} {second} {right[0]}", lambda row: kleene_and(one[1](row), two[1](row))


def kleene_and(a: bool | None, b: bool | None) -> bool | None:
    if a is False or b is False:
        return False
    return None if a is None or b is None else True


def kleene_or(a: bool | None, b: bool | None) -> bool | None:
    if a is True or b is True:
        return True
    return None if a is None or b is None else False


def membership(choices: list[str], negated: bool) -> Node:
    def meaning(row: Row) -> bool | None:
        return None if row["a.text"] is None else (row["a.text"] in choices) != negated

    listed = ", ".join(f'"{choice}"' for choice in choices)
    return f"a.text {'not in' if negated else 'in'} ({listed},)", meaning


def truth_nodes() -> st.SearchStrategy[Node]:
    number, symbols = number_nodes(), st.sampled_from(list(COMPARE))
    leaves = st.one_of(
        st.tuples(number, symbols, number).map(lambda parts: comparison(*parts)),
        st.tuples(number, symbols, number, symbols, number).map(chained),
        st.sampled_from([*NUMBERS, "a.text", "a.flag"]).map(lambda n: (f"is_null({n})", lambda row: row[n] is None)),
        st.builds(membership, st.lists(st.sampled_from(["en", "de", "fr"]), min_size=1), st.booleans()),
        st.just(("a.flag", lambda row: row["a.flag"])),
        st.just(("a.flag == true", lambda row: row["a.flag"])),
    )

    def combined(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        return st.one_of(
            st.tuples(inner, inner).map(
                lambda two: (f"({two[0][0]} and {two[1][0]})", lambda row: kleene_and(two[0][1](row), two[1][1](row)))
            ),
            st.tuples(inner, inner).map(
                lambda two: (f"({two[0][0]} or {two[1][0]})", lambda row: kleene_or(two[0][1](row), two[1][1](row)))
            ),
            inner.map(lambda node: (f"(not {node[0]})", lambda row: strict(lambda v: not v, node[1](row)))),
        )

    return st.recursive(leaves, combined, max_leaves=5)


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "a.int": st.one_of(st.none(), st.integers(-4, 4)),
            "a.float": st.one_of(st.none(), st.sampled_from([-1.5, 0.0, 0.25, 0.5, 3.0, math.nan])),
            "a.text": st.one_of(st.none(), st.sampled_from(["en", "de", "es"])),
            "a.flag": st.one_of(st.none(), st.booleans()),
        }
    ),
    max_size=6,
)
SCHEMA = pa.schema([
    pa.field("a.int", pa.int32()), pa.field("a.float", pa.float64()), pa.field("a.text", pa.string()),
    pa.field("a.flag", pa.bool_()),
])  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(truth_nodes(), ROWS)
def test_against_a_naive_evaluation_row_by_row(node: Node, rows: list[Row]) -> None:
    text, meaning = node
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    scored = [{name: None if value != value else value for name, value in row.items()} for row in rows]
    assert evaluate(text, table).to_pylist() == [meaning(row) for row in scored]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab.1<>=()and ornt'\"+-*/,[]!%&|x\n", max_size=40))
def test_whatever_is_typed_is_either_understood_or_refused_with_a_place(text: str) -> None:
    problem = None
    try:
        columns_of(parse(text))
        split_clauses(text)
    except ExpressionError as error:
        problem = str(error)
    assert problem is None or "^" in problem


def test_ties_are_cut_at_the_exact_number_whatever_the_order_of_rows() -> None:
    uids = [pair_uid(f"{number}", "") for number in range(1000)]
    scores = [None if number % 10 == 0 else number % 4 for number in range(1000)]
    kept = []
    for step in (1, 7):  # two orders of the same rows
        order = [number * step % 1000 for number in range(1000)]
        table = pa.table({"uid": [uids[n] for n in order], "clip.score": [scores[n] for n in order]})
        value = evaluate("top(clip.score, 0.3)", table).to_pylist()
        assert value.count(True) == round(0.3 * 900)
        assert value.count(None) == 100
        kept.append({uids[n] for n, true in zip(order, value, strict=True) if true})
        chosen = [scores[n] for n, true in zip(order, value, strict=True) if true]
        assert set(chosen) == {2, 3}
        assert chosen.count(3) == scores.count(3)
        assert evaluate("bottom(clip.score, 17)", table).to_pylist().count(True) == 17
        assert evaluate("top(clip.score, 1.0)", table).to_pylist().count(True) == 900
        assert evaluate("top(clip.score, 5000)", table).to_pylist().count(True) == 900
    assert kept[0] == kept[1]


def test_a_constant_takes_the_precision_of_a_float32_column() -> None:
    table = pa.table({"clip.score": pa.array([0.7, 0.3], pa.float32())})
    assert evaluate("clip.score >= 0.7", table).to_pylist() == [True, False]
    assert evaluate("clip.score == 0.3", table).to_pylist() == [False, True]
    assert evaluate("clip.score in (0.3, 5)", table).to_pylist() == [False, True]


def test_columns_clauses_thresholds_and_selections_of_an_expression() -> None:
    text = '200 <= image.min_side and (caption.words > 2 or language.is > 0.5) and selected("a and b.npy")'
    assert columns_of(text) == ("image.min_side", "caption.words", "language.is")
    clauses = ("200 <= image.min_side", "caption.words > 2 or language.is > 0.5", 'selected("a and b.npy")')
    assert split_clauses(text) == clauses
    assert thresholds_of(clauses[0]) == (Threshold("image.min_side", ">=", 200),)
    assert selections_of(text) == ("a and b.npy",)
    assert split_clauses("a.b > 1 and (a.c > 1 and\n a.d > 1)") == ("a.b > 1", "a.c > 1", "a.d > 1")
    assert split_clauses("image.größe > 1 and a.b > 2")[1] == "a.b > 2"


def test_languages_whose_codes_are_keywords_are_columns() -> None:
    table = pa.table({"language.is": [0.9, 0.1], "language.or": [0.0, 1.0], "language.text": ["a.or", "b.is"]})
    assert evaluate("language.is > 0.5 or language.or > 0.5", table).to_pylist() == [True, True]
    assert evaluate('language.text == "a.or"', table).to_pylist() == [True, False]


@pytest.mark.parametrize(
    ("text", "problem", "caret_at"),
    [
        ("", "an empty expression", 0),
        ("a.int = 3", "compare with `==`", 6),
        ("a.int >", "syntax error", 7),
        ("a.int > 1 && a.flag", "write `and`, `or`", None),
        ("a.int > 1 & a.flag", "write `and`", 8),
        ("a.flag and a.int is None", "is_null", 11),
        ("a.text == None", "is_null", 10),
        ("a.b.c > 1", "`scorer.column`", 0),
        ("__import__('os').system('x')", "unknown function", None),
        ("[x for x in a.int]", "not part of the language", 0),
        ("exec('1')", "unknown function", 0),
        ("top(a.int, 1.5)", "fraction in", 11),
        ("top(a.int, 0)", "fraction in", 11),
        ("a.text in ()", "list of constants", 10),
        ('a.text in ("en", 1)', "mixes", None),
        ("min(a.int) > 1", "at least two", 0),
        ("a.int ** 2 > 1", "unknown operator", 0),
        ("a.missing > 1", "nearest", 0),
        ("a.flag and a.inte > 1", "nearest: a.int", 11),
        ("clip.score > 1", "run the scorer `clip` first", 0),
        ("nothing.like > 1", "no scores of `nothing`", 0),
        ("a.int", "a condition is needed", 0),
        ("a.text > 3", "cannot compare a text with a number", 0),
        ("a.text + 1 > 2", "a number is needed", 0),
        ("a.flag > true", "no order", 0),
        ('a.int in ("en",)', "never among", 0),
        ("a.int / 0 > 1", "division by zero", 8),
        ("(" * 5000 + "a.flag" + ")" * 5000, "nest", None),
        ("a.int" + "+1" * 20000 + " > 1", "too deeply", None),
    ],
)
def test_a_wrong_expression_says_what_and_where(text: str, problem: str, caret_at: int | None) -> None:
    with pytest.raises(ExpressionError) as caught:
        check(text, SCHEMA, {"clip.score": "clip"})
    message = str(caught.value)
    assert problem in message
    assert max(len(line) for line in message.splitlines()) < 400
    if caret_at is not None:
        assert message.splitlines()[-1].index("^") - 2 == caret_at


def test_texts_have_a_length_and_dates_a_time() -> None:
    dates = ["1970-01-02", "1970-01-01T01:00:00+01:00", "Thu, 01 Jan 1970 00:01:00 GMT", "yesterday", None]
    stamps = pa.array([0, 60_000_000, None, 3, 4], pa.timestamp("us"))
    columns = {"a.text": pa.array(["", "né", "x" * 9, None, "日本"]), "a.date": pa.array(dates), "a.at": stamps}
    assert evaluate("length(a.text) >= 2", columns).to_pylist() == [False, True, True, None, True]
    assert evaluate("time(a.date) > 30", columns).to_pylist() == [True, False, True, None, None]
    assert evaluate("a.at >= 60", columns).to_pylist() == [False, True, None, False, False]
    assert evaluate("length(a.none) > 1", {"a.none": pa.nulls(2)}).to_pylist() == [None, None]
    for text, problem in (("length(a.at) > 1", "needs a text"), ("time('2020-01-01') > 1", "reads a column")):
        with pytest.raises(ExpressionError, match=problem):
            evaluate(text, columns)


@pytest.mark.parametrize(
    "text", ["'" + "\\'" * 1, "a.b == 1 and ", "a.b = ", "a.b in (1, ", "a.b == 'é' and ", "x" * 2]
)
def test_a_long_expression_takes_linear_time(text: str) -> None:
    def read(line: str) -> None:
        with contextlib.suppress(ExpressionError):
            split_clauses(line)

    assert_linear(read, lambda size: text * (size // len(text)) + "a.b == 1", least=20_000)


@pytest.mark.parametrize(
    "text", ["not " * 5000 + "a.b", "-" * 5000 + "1", "(" * 5000, "1" * 5000, "a.b > " + "1+" * 5000 + "1"]
)
def test_what_is_too_deep_or_too_large_is_told(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse(text)


def test_a_string_that_does_not_end_is_a_syntax_error_where_it_begins() -> None:
    with pytest.raises(ExpressionError, match="syntax error") as caught:
        parse("language.is == 'x and language.or > 1")
    assert caught.value.start == 15
