"""The steps common to all batches and scorers: failed decodes, scorers that raise, columns of the wrong shape."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyarrow as pa

from mmcorpus.filters.decode import DecodeFailure
from mmcorpus.filters.model import Halves
from mmcorpus.filters.scorer import INPUTS, REASON, Batch, Columns, Scorer, Unavailable

RAISED: Final = "error"
"""Beginning of the reason of a sample on which the scorer raised: `error: ValueError: …`."""
OUT_OF_MEMORY: Final = "memory_limit"
"""The reason of a sample for which the scorer asked for more memory than there was."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A batch as the judging function takes it, and what became of the samples that it is not shown."""

    reasons: list[str | None]
    """For every sample of the batch: None if it is shown."""
    columns: Columns
    """The samples shown, in their order."""


def judge_batch(
    scorer: Scorer,
    judge: Callable[[Batch], Columns],
    batch: Mapping[str, Sequence[Any]],
    aside: Mapping[int, str] = MappingProxyType({}),
) -> pa.Table:
    """The scorer's columns, `reason` and embeddings for every row of a batch, in its order.

    Rows whose image could not be decoded never reach a scorer that wants one: they are null, with the decoder's reason.
    If the scorer raises, its rows are judged one by one and only those on which it raises are null, with
    `error: Type: message` as the reason; if it raises on each of several, it is the scorer that is broken.

    Args:
        judge: what `scorer.load()` gave.
        batch: columns of equal length; at least the scorer's inputs.
        aside: rows that the scorer is not shown, with their reasons.

    Raises:
        ValueError: the scorer gave columns that its schema does not have, or of another length.
        Exception: whatever the scorer raised, if it raised on every row of several.
    """
    if isinstance(judge, Halves):
        return judge_prepared(scorer, judge.judge, prepare_batch(scorer, batch, judge.prepare, aside))
    return judge_prepared(scorer, judge, prepare_batch(scorer, batch, aside=aside))


def prepare_batch(
    scorer: Scorer,
    batch: Mapping[str, Sequence[Any]],
    prepare: Callable[[Batch], Columns] | None = None,
    aside: Mapping[int, str] = MappingProxyType({}),
) -> Prepared:
    """The first half of `judge_batch`: the rows that can be judged, as the first half of a model scorer makes them."""
    size = len(next(iter(batch.values())))
    reasons: list[str | None] = [aside.get(position) for position in range(size)]
    if "image" in scorer.inputs:
        for position, image in enumerate(batch["image"]):
            if isinstance(image, DecodeFailure):
                reasons[position] = reasons[position] or image.reason
    usable = [position for position in range(size) if reasons[position] is None]
    names = [name for name in INPUTS if name in scorer.inputs]
    columns: Columns = {name: [batch[name][position] for position in usable] for name in names}
    if prepare is None or not usable:
        return Prepared(reasons=reasons, columns=columns)
    made: list[Columns] = []
    for rows, result in _attempt(prepare, columns, len(usable)):
        if isinstance(result, str):
            reasons[usable[rows.start]] = result
        else:
            made.append(result)
    columns = {name: _joined([part[name] for part in made]) for name in (made[0] if made else ())}
    return Prepared(reasons=reasons, columns=columns)


def join_prepared(parts: Sequence[Prepared]) -> Prepared:
    """Batches that were prepared apart as one."""
    shown = [part.columns for part in parts if None in part.reasons] or [parts[0].columns]
    columns = {name: _joined([part[name] for part in shown]) for name in shown[0]}
    return Prepared(reasons=[reason for part in parts for reason in part.reasons], columns=columns)


def judge_prepared(scorer: Scorer, judge: Callable[[Columns], Columns], prepared: Prepared) -> pa.Table:
    """The second half of `judge_batch`."""
    reasons = list(prepared.reasons)
    shown = [position for position, reason in enumerate(reasons) if reason is None]
    schema = table_schema(scorer)
    columns: dict[str, list[Any]] = {name: [None] * len(reasons) for name in schema.names if name != REASON}
    for rows, result in _attempt(judge, prepared.columns, len(shown)) if shown else ():
        if isinstance(result, str):
            reasons[shown[rows.start]] = result
            continue
        _check_columns(scorer, result, expected=set(columns), size=len(rows))
        for name, values in result.items():
            into = reasons if name == REASON else columns[name]
            for row, value in zip(rows, values, strict=True):
                into[shown[row]] = value
    return pa.table({**columns, REASON: reasons}, schema=schema)


def table_schema(scorer: Scorer) -> pa.Schema:
    """The scorer's columns, `reason`, and its embeddings if it saves any."""
    schema = scorer.schema().append(pa.field(REASON, pa.string()))
    for field in scorer.embeddings() or ():
        schema = schema.append(field)
    return schema


def _attempt(function: Callable[[Columns], Columns], columns: Columns, size: int) -> list[tuple[range, Columns | str]]:
    """Call a function on all rows together, or, if it raises on them, on each; a reason where it raised.

    If it raises on each of several rows, so does this.
    """
    try:
        return [(range(size), function(columns))]
    except Unavailable:
        raise
    except (Exception, SystemExit) as error:
        raised = _error(error).with_traceback(
            None
        )  # which would hold, row by row, what the batch filled the memory with
    parts: list[tuple[range, Columns | str]] = []
    for row in range(size):
        made: Columns | str
        try:
            made = function({name: values[row : row + 1] for name, values in columns.items()})
        except Unavailable:
            raise
        except MemoryError:
            made = OUT_OF_MEMORY
        except (Exception, SystemExit) as error:
            made = f"{RAISED}: {type(error).__name__}: {error}"
        parts.append((range(row, row + 1), made))
    if size > 1 and all(isinstance(result, str) for _, result in parts):
        raise raised
    return parts


def _error(error: Exception | SystemExit) -> Exception:
    """A library's `sys.exit()` is an error of what called it, and does not end the worker."""
    return RuntimeError(f"SystemExit: {error}") if isinstance(error, SystemExit) else error


def _joined(parts: list[Sequence[Any]]) -> Sequence[Any]:
    """A column in parts as one."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [value for part in parts for value in part]


def _check_columns(scorer: Scorer, columns: Columns, *, expected: set[str], size: int) -> None:
    if set(columns) - {REASON} != expected:
        raise ValueError(
            f"scorer {scorer.name!r} returned the columns {sorted(columns)}; its schema says {sorted(expected)}"
        )
    wrong = {name: len(values) for name, values in columns.items() if len(values) != size}
    if wrong:
        raise ValueError(f"scorer {scorer.name!r} returned columns of the wrong length for {size} rows: {wrong}")
