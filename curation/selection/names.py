"""Names of columns that an expression gets wrong: the nearest ones, and who gives them."""

import ast
import difflib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from mmcorpus.curation.selection.expression import Expression, ExpressionError, column_name
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import list_tables, table_path
from mmcorpus.filters import SCORERS, with_defaults


def scores_schema(scores_root: str) -> pa.Schema:
    """The columns that a source's scores have, as `scorer.column`, without their uid and reason."""
    fields: list[Any] = [pa.field("uid", pa.string())]
    for scorer, shards in list_tables(scores_root).items():
        schema = storage.read_schema(table_path(scores_root, scorer, shards[0]))
        fields += [field.with_name(f"{scorer}.{field.name}") for field in schema if field.name not in ("uid", "reason")]
    return pa.schema(fields)


def shipped_columns() -> dict[str, str]:
    """Every column that the shipped scorers make with their defaults, where they have them, and by which scorer."""
    scorers = {name: scorer for name, kind in SCORERS.items() if (scorer := with_defaults(kind)) is not None}
    return {f"{name}.{column}": name for name, scorer in scorers.items() for column in scorer.schema().names}


def unknown_column(
    expression: Expression, node: ast.AST, names: list[str], scorers: Mapping[str, str]
) -> ExpressionError:
    """The error for a column that is not there: the nearest names, or the scorer to run."""
    name = column_name(node)
    if name in scorers:
        return expression.error(f"no scores for {name}: run the scorer `{scorers[name]}` first", node)
    near = difflib.get_close_matches(name, sorted({*names, *scorers}), n=3, cutoff=0.5)
    prefix = name.partition(".")[0]
    if not near:
        near = sorted(known for known in {*names, *scorers} if known.startswith(f"{prefix}."))
    if near:
        given_by = {known: scorers[known] for known in near if known in scorers and known not in names}
        advice = "; nearest: " + ", ".join(
            f"{known} (run the scorer `{given_by[known]}`)" if known in given_by else known for known in near
        )
    else:
        there = sorted({known.partition(".")[0] for known in names if "." in known})
        advice = (
            f"; no scores of `{prefix}`, only of: {', '.join(there) or 'none'}. Run that scorer first, or mend the name"
        )
    return expression.error(f"unknown column {name} at character {expression.span(node)[0] + 1}{advice}", node)
