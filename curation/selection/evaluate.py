"""Evaluation of expressions: columns in, one truth value a sample out, in three-valued logic.

Null (and NaN) is "not scored". It passes through arithmetic and comparisons; `and`/`or` follow Kleene: `null or true`
is true, `null and true` is null. Arithmetic is done in doubles; dividing by zero and the logarithm of what is not
positive give null. A constant compared to a column takes the column's precision, so a float32 score stored as 0.3 is
`>= 0.3`.
"""

import ast
import math
from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.selection.dates import seconds_since_1970
from mmcorpus.curation.selection.expression import (
    OPERATORS,
    Expression,
    column_name,
    column_nodes,
    constant_value,
    function_name,
    is_column,
    parse,
)
from mmcorpus.curation.selection.names import unknown_column
from mmcorpus.curation.store import uid_arrays as uids

Column = Any
"""A pa.Array or pa.ChunkedArray (their stubs cannot follow compute functions chosen at run time)."""
Value = Any
"""A Column of doubles, integers, strings or booleans, or a Python constant."""
Resolve = Callable[[str], uids.Pairs]
"""Turns the path in `selected("path")` into distinct pairs, sorted."""

_COMPARE: Final[dict[str, Callable[[Value, Value], Column]]] = {
    "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal, "==": pc.equal, "!=": pc.not_equal,
}  # fmt: skip
_ARITHMETIC: Final[dict[str, Callable[[Value, Value], Column]]] = {
    "+": pc.add, "-": pc.subtract, "*": pc.multiply, "/": pc.divide,
}  # fmt: skip
_TIES: Final = "top"  # the salt of the order among equal scores
_INT64: Final = 2**63


def evaluate(
    text: str | Expression,
    columns: pa.Table | Mapping[str, Column],
    *,
    selected: Resolve | None = None,
    pairs: uids.Pairs | None = None,
) -> pa.ChunkedArray:
    """The truth of an expression for each sample: a boolean column with nulls where a missing score decides.

    Args:
        columns: `scorer.column` (and `uid`, for `top`, `bottom` and `selected`), of equal length n.
        selected: reads the selections that the expression names.
        pairs: `uids.encode` of the uid column, if it is at hand.

    Raises:
        ExpressionError: an unknown column (with the nearest names), or values that do not go together.
    """
    expression = parse(text)
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    value = _Evaluator(expression, table, selected, pairs).truth(expression.tree)
    if isinstance(value, bool):
        value = pa.array(np.full(table.num_rows, value))
    return value if isinstance(value, pa.ChunkedArray) else pa.chunked_array([value])


def evaluate_number(text: str, columns: pa.Table) -> Any:
    """The value of an arithmetic expression for each sample: doubles with nulls, or one number for all.

    Raises:
        ExpressionError: as `evaluate`, or the expression is no number.
    """
    expression = parse(text)
    value = _Evaluator(expression, columns, None).number(expression.tree)
    return _double(value) if _is_column_value(value) else pa.array(np.full(columns.num_rows, float(value)))


def check(text: str | Expression, schema: pa.Schema, scorers: Mapping[str, str] | None = None) -> None:
    """Raise `ExpressionError` if the expression asks for columns that `schema` lacks, or mixes types.

    Args:
        schema: `scorer.column` names and types of the scores there are.
        scorers: for columns that could be made, the scorer that makes each.
    """
    expression = parse(text)
    for node in column_nodes(expression.tree):
        if column_name(node) != "uid" and column_name(node) not in schema.names:
            raise unknown_column(expression, node, schema.names, scorers or {})
    evaluate(expression, schema.empty_table(), selected=lambda path: np.empty(0, uids.PAIR))


class _Evaluator:
    """Walks one expression over one table."""

    def __init__(
        self, expression: Expression, table: pa.Table, selected: Resolve | None, pairs: uids.Pairs | None = None
    ) -> None:
        self.expression, self.table, self.selected = expression, table, selected
        self._pairs = pairs

    def truth(self, node: ast.expr) -> Value:
        value = self.value(node)
        if _kind(value) != "truth value":
            what = "is a number; compare it, e.g. `… > 0`" if _kind(value) == "number" else "is a text; compare it"
            raise self.expression.error(f"a condition is needed, and this {what}", node)
        return value

    def number(self, node: ast.expr) -> Value:
        value = self.value(node)
        if _kind(value) != "number":
            raise self.expression.error(f"a number is needed, and this is a {_kind(value)}", node)
        return value

    def value(self, node: ast.expr) -> Value:
        constant = constant_value(node)
        if constant is not None:
            return constant
        if is_column(node):
            return self.column(node)
        match node:
            case ast.BoolOp():
                values = [self.truth(part) for part in node.values]
                return reduce(partial(_apply, pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene), values)
            case ast.UnaryOp(op=ast.Not()):
                return _apply(pc.invert, self.truth(node.operand))
            case ast.UnaryOp():
                operand = _double(self.number(node.operand))
                return operand if isinstance(node.op, ast.UAdd) else _apply(pc.negate, operand)
            case ast.BinOp():
                return self.arithmetic(node)
            case ast.Compare():
                return self.compare(node)
            case ast.Call():
                return self.call(node)
        raise AssertionError(f"parse let {type(node).__name__} through")

    def column(self, node: ast.AST) -> Column:
        name = column_name(node)
        if name not in self.table.column_names:
            raise unknown_column(self.expression, node, self.table.column_names, {})
        column = self.table[name]
        kind = column.type
        if pa.types.is_floating(kind):
            column = column.cast(pa.float32()) if pa.types.is_float16(kind) else column
            return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        if pa.types.is_uint64(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
            return column.cast(pa.float64())
        if pa.types.is_integer(kind):
            return column.cast(pa.int64())
        if pa.types.is_boolean(kind):
            return column
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
            return column.cast(pa.string())
        if pa.types.is_timestamp(kind):  # seconds since 1970
            return pc.divide(column.cast(pa.timestamp("us", kind.tz)).cast(pa.int64()).cast(pa.float64()), 1e6)
        raise self.expression.error(f"{name} holds {kind}, which has no place in an expression", node)

    def arithmetic(self, node: ast.BinOp) -> Value:
        left, right = _double(self.number(node.left)), _double(self.number(node.right))
        symbol = OPERATORS[type(node.op)]
        if symbol == "/" and not isinstance(right, float):
            right = _null_where(pc.equal(right, pa.scalar(0.0)), right)
        elif symbol == "/" and right == 0:
            raise self.expression.error("division by zero", node.right)
        result = _apply(_ARITHMETIC[symbol], left, right)
        if isinstance(result, float):
            if math.isnan(result):
                raise self.expression.error("this is not a number", node)
            return result
        return _null_where(pc.is_nan(result), result)  # inf - inf is no score

    def compare(self, node: ast.Compare) -> Value:
        parts: list[Value] = []
        left_node, left = node.left, self.value(node.left)
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            if isinstance(right_node, (ast.Tuple, ast.List)):  # after `in`
                part, right = self.contains(left, left_node, right_node), None
                parts.append(_apply(pc.invert, part) if isinstance(op, ast.NotIn) else part)
            else:
                right = self.value(right_node)
                if left is None or _kind(left) != _kind(right):
                    kinds = f"a {_kind(left)} with a {_kind(right)}" if left is not None else "after `in`"
                    raise self.expression.error(f"cannot compare {kinds}", node)
                symbol = OPERATORS[type(op)]
                if _kind(left) == "truth value" and symbol not in ("==", "!="):
                    raise self.expression.error("truth values have no order; use == or !=", node)
                parts.append(_apply(_COMPARE[symbol], *_same_precision(left, right)))
            left, left_node = right, right_node
        return reduce(partial(_apply, pc.and_kleene), parts)

    def contains(self, value: Value, node: ast.expr, choices: ast.Tuple | ast.List) -> Value:
        values = [constant_value(choice) for choice in choices.elts]
        if _kind(values[0]) != _kind(value):
            raise self.expression.error(f"a {_kind(value)} is never among {_kind(values[0])}s", node)
        parts = (_apply(pc.equal, *_same_precision(value, choice)) for choice in values)
        return reduce(partial(_apply, pc.or_kleene), parts)

    def call(self, node: ast.Call) -> Value:
        name = function_name(node)
        if name == "is_null":
            return _apply(pc.is_null, self.value(node.args[0]))
        if name == "selected":
            return self.membership(str(constant_value(node.args[0])), node)
        if name in ("top", "bottom"):
            share = constant_value(node.args[1])
            assert isinstance(share, (int, float))
            return self.extreme(self.number(node.args[0]), share, name == "top", node)
        if name in ("length", "time"):
            return self.of_text(name, node.args[0])
        values = [_double(self.number(argument)) for argument in node.args]
        if name == "abs":
            return _apply(pc.abs, values[0])
        if name == "log":
            if not isinstance(values[0], float):
                values = [_null_where(pc.less_equal(values[0], pa.scalar(0.0)), values[0])]
            elif values[0] <= 0:
                raise self.expression.error("the logarithm of a number that is not positive", node)
            return _apply(pc.ln, values[0])
        element_wise = pc.min_element_wise if name == "min" else pc.max_element_wise
        return _apply(lambda *operands: element_wise(*operands, skip_nulls=False), *values)

    def of_text(self, name: str, node: ast.expr) -> Value:
        """A text's number of characters, or the time that it names."""
        value = self.value(node)
        if _is_column_value(value) and 0 < len(value) == value.null_count:
            return pa.nulls(len(value), pa.float64())  # whatever type a column of nothing has
        if _kind(value) != "text":
            raise self.expression.error(f"`{name}` needs a text, and this is a {_kind(value)}", node)
        if name == "length":
            return _apply(lambda text: pc.utf8_length(text).cast(pa.int64()), value)
        if isinstance(value, str):
            raise self.expression.error("`time` reads a column; compare with a number of seconds since 1970", node)
        return pa.array([seconds_since_1970(text) for text in value.to_pylist()], pa.float64())

    def membership(self, path: str, node: ast.Call) -> Column:
        if self.selected is None:
            raise self.expression.error("no selections can be read here", node)
        return pa.array(uids.find(self.pairs(node), self.selected(path)) >= 0)

    def extreme(self, score: Value, share: float, highest: bool, node: ast.Call) -> Column:
        """True for exactly `round(share * scored)` samples; among equal scores a hash of the uid decides."""
        if isinstance(score, (int, float)):
            raise self.expression.error("the same number for every sample has no top", node.args[0])
        scored = ~np.asarray(pc.is_null(score))
        numbers = np.asarray(pc.fill_null(_double(score), 0.0)) * (-1.0 if highest else 1.0)
        chosen = extreme_mask(numbers, scored, share, self.pairs(node))
        return pa.array(chosen, mask=~scored)

    def pairs(self, node: ast.AST) -> uids.Pairs:
        if self._pairs is None:
            if "uid" not in self.table.column_names:
                raise self.expression.error(f"`{function_name(node)}` needs the uid column", node)  # type: ignore[arg-type]
            self._pairs = uids.encode(self.table["uid"])
        return self._pairs


def extreme_mask(
    numbers: npt.NDArray[np.float64], scored: npt.NDArray[np.bool_], share: float, pairs: uids.Pairs
) -> npt.NDArray[np.bool_]:
    """The lowest of the scored numbers: `share` of them if an int, round(share × scored) if not; ties by uid hash."""
    places = np.flatnonzero(scored)
    wanted = min(share if isinstance(share, int) else round(share * len(places)), len(places))
    chosen = np.zeros(len(numbers), bool)
    if wanted == 0:
        return chosen
    values = numbers[places]
    cut = np.partition(values, wanted - 1)[wanted - 1]
    chosen[places[values < cut]] = True
    tied = places[values == cut]
    among = pairs[tied]
    ranked = tied[np.lexsort((among["f1"], among["f0"], uids.hashes(among, _TIES)))]
    chosen[ranked[: wanted - int((values < cut).sum())]] = True
    return chosen


def _kind(value: Value) -> str:
    if _is_column_value(value):
        if pa.types.is_boolean(value.type):
            return "truth value"
        return "text" if pa.types.is_string(value.type) else "number"
    if isinstance(value, bool):
        return "truth value"
    return "text" if isinstance(value, str) else "number"


def _apply(function: Callable[..., Any], *operands: Value) -> Value:
    """The function of columns and constants; of constants alone a constant."""
    result = function(*(_scalar(operand) for operand in operands))
    return result.as_py() if isinstance(result, pa.Scalar) else result


def _scalar(value: Value) -> Value:
    if isinstance(value, int) and not isinstance(value, bool) and not -_INT64 <= value < _INT64:
        return pa.scalar(float(value))
    return value if _is_column_value(value) else pa.scalar(value)


def _double(value: Value) -> Value:
    return value.cast(pa.float64()) if _is_column_value(value) else float(value)


def _same_precision(left: Value, right: Value) -> tuple[Value, Value]:
    """Ready to be compared: a constant beside a float32 column becomes a float32, unlike columns become doubles."""
    if not _is_column_value(left) or not _is_column_value(right):
        if _is_column_value(left) and pa.types.is_float32(left.type):
            return left, _rounded(right)
        return (_rounded(left), right) if _is_column_value(right) and pa.types.is_float32(right.type) else (left, right)
    return (left, right) if left.type == right.type else (_double(left), _double(right))


def _is_column_value(value: Value) -> bool:
    return isinstance(value, (pa.Array, pa.ChunkedArray))


def _rounded(value: float) -> float:
    return float(np.float32(value)) if abs(value) < np.finfo(np.float32).max else value


def _null_where(condition: Column, values: Column) -> Column:
    return pc.if_else(condition, pa.scalar(None, values.type), values)
