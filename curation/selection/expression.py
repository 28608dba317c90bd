"""The language of selection: Python's grammar cut down to what judges a sample, parsed and checked, never executed.

    image.min_side >= 200 and caption.words > 2 and language.code in ("en", "de")

A column is written `scorer.column` (`uid` alone needs no scorer). Allowed: `and or not`, chained comparisons, `in`,
`+ - * /`, numbers, strings, `true`/`false`, and the calls of FUNCTIONS. `curation.selection.evaluate` gives it meaning.
"""

import ast
import functools
import itertools
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

FUNCTIONS: Final[dict[str, str]] = {
    "is_null": "is_null(x): true where x could not be scored",
    "abs": "abs(x)",
    "min": "min(x, y, …), at least two numbers",
    "max": "max(x, y, …), at least two numbers",
    "log": "log(x), natural; null where x is not positive",
    "length": "length(x): characters of a text",
    "time": "time(x): seconds since 1970 of a date written as ISO 8601 or HTTP does; null for other texts",
    "top": "top(x, 0.3): the highest 30 % of the scored samples; top(x, 1000): the highest 1000",
    "bottom": "bottom(x, 0.2): the lowest 20 % of the scored samples; bottom(x, 1000): the lowest 1000",
    "selected": 'selected("path"): true for the samples of another selection (.parquet, .npy, .txt)',
}

OPERATORS: Final[dict[type[ast.AST], str]] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.In: "in", ast.NotIn: "not in", ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/",
}  # fmt: skip

_MIRRORED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}

_HINTS: Final[dict[type[ast.AST], str]] = {
    ast.BitAnd: "write `and`",
    ast.BitOr: "write `or`",
    ast.Invert: "write `not`",
    ast.Is: "write `is_null(x)` to ask for missing scores, `==` to compare",
    ast.IsNot: "write `not is_null(x)` to ask for scored samples, `!=` to compare",
    ast.IfExp: "write `(condition and a) or (not condition and b)`",
}

# A string (one that does not end, too: it is read once), or a keyword used as a column's name: `language.is`
# (Icelandic), `language.or` (Odia).
_STRING_OR_KEYWORD: Final = re.compile(
    r"""'[^'\\]*+(?:\\.[^'\\]*+)*+'?|"[^"\\]*+(?:\\.[^"\\]*+)*+"?|(?<=\w\.)(?:""" + "|".join(keyword.kwlist) + r")\b"
)
_LONG: Final = 160  # characters; of a longer expression an error shows the part around its place
_CONTEXT: Final = 60
_BOLD_A: Final = 0x1D41A  # 𝐚


class ExpressionError(ValueError):
    """An expression that cannot be understood; the message shows where, with a caret."""

    def __init__(self, problem: str, text: str, start: int, end: int) -> None:
        first = max(0, start - _CONTEXT) if len(text) > _LONG else 0
        shown = text[first : start + 2 * _CONTEXT] if len(text) > _LONG else text
        carets = "^" * max(1, min(end, first + len(shown)) - start)
        super().__init__(f"{problem}\n  {shown}\n  {' ' * (start - first)}{carets}")
        self.problem, self.text, self.start, self.end = problem, text, start, end


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression: every node is one that the evaluator knows."""

    text: str
    """One line; characters are where `node_span` says."""
    tree: ast.expr

    def error(self, problem: str, node: ast.AST) -> ExpressionError:
        """The error that points at a node."""
        return ExpressionError(problem, self.text, *self.span(node))

    def span(self, node: ast.AST) -> tuple[int, int]:
        """The characters [start, end) of `text` that a node came from."""
        places = _characters(self.text)
        start, end = getattr(node, "col_offset", 0), getattr(node, "end_col_offset", None) or len(places) - 1
        return places[start], places[end]


class Threshold(NamedTuple):
    """A column compared to a constant."""

    column: str
    op: str
    """`<`, `<=`, `>`, `>=`, `==`, `!=`, with the column on the left."""
    value: float | int | str | bool


def parse(text: str | Expression) -> Expression:
    """Parse and check an expression; one that is parsed comes back as it is.

    Raises:
        ExpressionError: a syntax error, or something outside the language, with its place and a hint.
    """
    if isinstance(text, Expression):
        return text
    line = re.sub(r"\s", " ", text.rstrip()).lstrip()
    if not line:
        raise ExpressionError("an empty expression; write a condition such as `image.min_side >= 200`", line, 0, 1)
    try:
        tree = ast.parse(_parsable(line), mode="eval").body
        expression = Expression(line, tree)
        _check(expression, tree)
    except SyntaxError as error:
        start = error.offset - 1 if error.offset and error.lineno == 1 else len(line)
        raise ExpressionError(f"syntax error: {error.msg}{_hint(line)}", line, start, start + 1) from None
    except (RecursionError, MemoryError):
        raise ExpressionError("nested too deeply; use several clauses", line, 0, 1) from None
    except ExpressionError:
        raise
    except ValueError as error:
        raise ExpressionError(f"syntax error: {error}", line, 0, 1) from None
    return expression


def columns_of(text: str | Expression) -> tuple[str, ...]:
    """The columns that an expression reads, each once, in order of appearance."""
    return tuple(dict.fromkeys(column_name(node) for node in column_nodes(parse(text).tree)))


def split_clauses(text: str) -> tuple[str, ...]:
    """The operands of the top-level `and`s, as written (outer parentheses left off)."""
    expression = parse(text)
    spans = (expression.span(node) for node in _conjuncts(expression.tree))
    return tuple(expression.text[start:end] for start, end in spans)


def selections_of(text: str | Expression) -> tuple[str, ...]:
    """The paths that an expression names in `selected(…)`."""
    calls = (node for node in ast.walk(parse(text).tree) if isinstance(node, ast.Call))
    return tuple(dict.fromkeys(str(constant_value(n.args[0])) for n in calls if function_name(n) == "selected"))


def thresholds_of(text: str | Expression) -> tuple[Threshold, ...]:
    """The comparisons of a column to a constant in an expression, whatever stands between them."""
    found = []
    for node in ast.walk(parse(text).tree):
        if not isinstance(node, ast.Compare):
            continue
        for op, (left, right) in zip(node.ops, itertools.pairwise([node.left, *node.comparators]), strict=True):
            symbol = OPERATORS[type(op)]
            if is_column(right):
                left, right, symbol = right, left, _MIRRORED.get(symbol, symbol)
            constant = constant_value(right)
            if is_column(left) and constant is not None and symbol in _MIRRORED:
                found.append(Threshold(column_name(left), symbol, constant))
    return tuple(found)


def ranked_column(text: str) -> tuple[str, bool] | None:
    """Of `top(column, share)` or `bottom(column, share)` the column and whether it is the top; None for all else."""
    node = parse(text).tree
    if isinstance(node, ast.Call) and function_name(node) in ("top", "bottom") and is_column(node.args[0]):
        return column_name(node.args[0]), function_name(node) == "top"
    return None


def is_column(node: ast.AST) -> bool:
    """True for `scorer.column` and `uid`."""
    if isinstance(node, ast.Name):
        return node.id not in ("true", "false")
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)


def column_name(node: ast.AST) -> str:
    """The name of a column's node."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    assert isinstance(node, ast.Name)
    return node.id


def column_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes under `node` that read a column, left to right."""
    if is_column(node):
        yield node
        return
    skipped = node.func if isinstance(node, ast.Call) else None
    for child in ast.iter_child_nodes(node):
        if child is not skipped:
            yield from column_nodes(child)


def function_name(node: ast.Call) -> str:
    """The name that a call calls; empty if it is not a plain name."""
    return node.func.id if isinstance(node.func, ast.Name) else ""


def constant_value(node: ast.AST) -> float | int | str | bool | None:
    """The value of a constant's node, a sign included; None for other nodes."""
    if isinstance(node, ast.Name) and node.id in ("true", "false"):
        return node.id == "true"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = constant_value(node.operand)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float, str)):
        return node.value
    return None


def _conjuncts(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        for value in node.values:
            yield from _conjuncts(value)
    else:
        yield node


def _parsable(line: str) -> str:
    """The line with keywords that name columns made ordinary names, character for character.

    Python's grammar sees keywords before it normalises identifiers (PEP 3131), so `language.𝐨r` is an attribute `or`.
    """

    def replace(match: re.Match[str]) -> str:
        word = match[0]
        return word if word[0] in "'\"" else chr(_BOLD_A + ord(word[0].lower()) - ord("a")) + word[1:]

    return _STRING_OR_KEYWORD.sub(replace, line)


@functools.lru_cache(maxsize=16)
def _characters(line: str) -> tuple[int, ...]:
    """By a place in the UTF-8 that was parsed, which is where nodes are said to stand, the place in the line."""
    heads = (int(byte & 0xC0 != 0x80) for byte in _parsable(line).encode())
    return (0, *itertools.accumulate(heads))


def _hint(line: str) -> str:
    if re.search(r"(?<![=!<>])=(?!=)", line):
        return " (compare with `==`)"
    if "&&" in line or "||" in line:
        return " (write `and`, `or`)"
    return ""


def _check(expression: Expression, node: ast.AST) -> None:
    """Refuse every node that is not in the language."""
    for part in (node, getattr(node, "op", None), *getattr(node, "ops", [])):
        if type(part) in _HINTS:
            raise expression.error(f"not part of the language: {_HINTS[type(part)]}", node)
    if is_column(node) or constant_value(node) is not None:
        return
    match node:
        case ast.Constant(value=None):
            raise expression.error("None is not a value; write `is_null(x)`", node)
        case ast.BoolOp() | ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd()) | ast.BinOp():
            if isinstance(node, ast.BinOp) and type(node.op) not in OPERATORS:
                raise expression.error("unknown operator; arithmetic is + - * /", node)
        case ast.Compare():
            for op, right in zip(node.ops, node.comparators, strict=True):
                if isinstance(op, (ast.In, ast.NotIn)):
                    _check_choices(expression, right)
        case ast.Call():
            _check_call(expression, node)
        case ast.Tuple() | ast.List():
            raise expression.error('a list belongs after `in` only, e.g. `language.code in ("en", "de")`', node)
        case ast.Attribute():
            raise expression.error("a column is written `scorer.column`, e.g. `image.min_side`", node)
        case _:
            allowed = "comparisons, and/or/not, in, + - * /, numbers, strings and the functions " + ", ".join(FUNCTIONS)
            raise expression.error(f"not part of the language; it has {allowed}", node)
    for child in ast.iter_child_nodes(node):
        is_choices = isinstance(node, ast.Compare) and isinstance(child, (ast.Tuple, ast.List))
        is_name = isinstance(node, ast.Call) and child is node.func
        if isinstance(child, ast.expr) and not is_choices and not is_name:
            _check(expression, child)


def _check_choices(expression: Expression, node: ast.expr) -> None:
    values = [constant_value(item) for item in node.elts] if isinstance(node, (ast.Tuple, ast.List)) else []
    if not values or any(value is None for value in values):
        raise expression.error('after `in` write a list of constants, e.g. `("en", "de")` or `("en",)`', node)
    if len({"text" if isinstance(value, str) else type(value) is bool for value in values}) > 1:
        raise expression.error("the list after `in` mixes texts, numbers and truth values", node)


def _check_call(expression: Expression, node: ast.Call) -> None:
    name = function_name(node)
    if name not in FUNCTIONS:
        raise expression.error(f"unknown function; there are: {', '.join(FUNCTIONS)}", node.func)
    wanted = {"min": 2, "max": 2, "top": 2, "bottom": 2}.get(name, 1)
    too_many = len(node.args) > wanted and name not in ("min", "max")
    if node.keywords or len(node.args) < wanted or too_many or any(isinstance(a, ast.Starred) for a in node.args):
        raise expression.error(f"use it so: {FUNCTIONS[name]}", node)
    if name == "selected" and not isinstance(constant_value(node.args[0]), str):
        raise expression.error(f"the path is a text in quotes: {FUNCTIONS[name]}", node.args[0])
    if name in ("top", "bottom"):
        share = constant_value(node.args[1])
        good = isinstance(share, (int, float)) and not isinstance(share, bool)
        if not good or not (share >= 1 if isinstance(share, int) else 0 < share <= 1):  # type: ignore[operator]
            problem = f"{name} takes a fraction in (0, 1] with a decimal point, or a whole number of samples"
            raise expression.error(f"{problem}: {FUNCTIONS[name]}", node.args[1])
