"""What every batch has in common, done once: failed decodes, scorers that raise, columns of the wrong shape."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from filters.decode import DecodeFailure
from filters.scorer import INPUTS, REASON, Batch, Columns, Scorer

RAISED: Final = "error"
"""How the reason begins of a sample on which the scorer raised: `error: ValueError: …`."""


def judge_batch(scorer: Scorer, judge: Callable[[Batch], Columns], batch: Mapping[str, Sequence[Any]]) -> pa.Table:
    """The scorer's columns and `reason` for every row of a batch, in its order.

    Rows whose image could not be decoded never reach a scorer that wants one: they are null, with the decoder's reason.
    If the scorer raises, its rows are judged one by one and only those on which it raises are null, with
    `error: Type: message` as the reason; if it raises on each of several, it is the scorer that is broken.

    Args:
        judge: what `scorer.load()` gave.
        batch: columns of equal length; at least the scorer's inputs.

    Raises:
        ValueError: the scorer gave columns that its schema does not have, or of another length.
        Exception: whatever the scorer raised, if it raised on every row of several.
    """
    size = len(next(iter(batch.values())))
    reasons: list[str | None] = [None] * size
    if "image" in scorer.inputs:
        for position, image in enumerate(batch["image"]):
            if isinstance(image, DecodeFailure):
                reasons[position] = image.reason
    usable = [position for position in range(size) if reasons[position] is None]
    columns: dict[str, list[Any]] = {name: [None] * size for name in scorer.schema().names}
    if usable:
        for position, row in zip(usable, _judge_rows(scorer, judge, batch, usable), strict=True):
            reasons[position] = row.pop(REASON, None)
            for name, value in row.items():
                columns[name][position] = value
    schema = table_schema(scorer)
    return pa.table({**columns, REASON: reasons}, schema=schema)


def table_schema(scorer: Scorer) -> pa.Schema:
    """The scorer's columns and `reason`."""
    return scorer.schema().append(pa.field(REASON, pa.string()))


def _judge_rows(
    scorer: Scorer, judge: Callable[[Batch], Columns], batch: Batch, positions: list[int]
) -> list[dict[str, Any]]:
    """The scorer's rows at some positions of the batch; one by one if it raises on them together."""
    names = [name for name in INPUTS if name in scorer.inputs]
    try:
        columns = judge({name: [batch[name][position] for position in positions] for name in names})
    except Exception as error:
        rows: list[dict[str, Any]] = []
        raised = 0
        for position in positions:
            try:
                columns = judge({name: [batch[name][position]] for name in names})
            except Exception as one_error:
                raised += 1
                rows.append({REASON: f"{RAISED}: {type(one_error).__name__}: {one_error}"})
            else:
                rows += _to_rows(scorer, columns, 1)
        if raised == len(positions) > 1:
            raise error
        return rows
    return _to_rows(scorer, columns, len(positions))


def _to_rows(scorer: Scorer, columns: Columns, size: int) -> list[dict[str, Any]]:
    """Columns checked against the schema and turned into rows."""
    expected = set(scorer.schema().names)
    if set(columns) - {REASON} != expected:
        raise ValueError(
            f"scorer {scorer.name!r} returned the columns {sorted(columns)}; its schema says {sorted(expected)}"
        )
    wrong = {name: len(values) for name, values in columns.items() if len(values) != size}
    if wrong:
        raise ValueError(f"scorer {scorer.name!r} returned columns of the wrong length for {size} rows: {wrong}")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
