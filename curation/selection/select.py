"""Deciding: which samples of a source go on, how often, and which clause removed the others."""

import dataclasses
import functools
import logging
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.selection.config import SelectConfig
from mmcorpus.curation.selection.evaluate import check, evaluate
from mmcorpus.curation.selection.explain import ClauseEffect, SelectReport
from mmcorpus.curation.selection.expression import Threshold, columns_of, ranked_column, thresholds_of
from mmcorpus.curation.selection.names import scores_schema, shipped_columns
from mmcorpus.curation.selection.tables import read_selection, selection_pairs, write_pairs
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.curation.store.scores import load_scores

Mask = npt.NDArray[np.bool_]

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

_log = logging.getLogger(__name__)

UNSCORED: Final = "unscored"
"""The ledger's value where a clause could not be decided for want of a score."""


def select(
    config: SelectConfig,
    scores_root: str,
    out: str,
    *,
    heldout_out: str | None = None,
    ledger_root: str | None = None,
    explain_out: str | None = None,
    required_out: str | None = None,
) -> SelectReport:
    """Decide for every scored sample of a source; write the selection, and what else is asked for.

    Args:
        scores_root: the source's scores, `scores/<source>`.
        out: the selection (.parquet, .npy or .txt).
        heldout_out: the held-out selection, counts 1; needed if `heldout_fraction` is not 0.
        ledger_root: the source's ledger folder; gets the stage `select`.
        explain_out: JSON of the report.
        required_out: a parquet of `uid` and `rule`: the rows that make a clause of `require` false, and the first such.

    Raises:
        ExpressionError: a clause names a column that there is not.
        ValueError: held-out samples without a place for them, or a file that is not a selection.
    """
    return select_table(
        config,
        load_columns(config, scores_root),
        out,
        heldout_out=heldout_out,
        ledger_root=ledger_root,
        explain_out=explain_out,
        required_out=required_out,
    )


def load_columns(config: SelectConfig, scores_root: str) -> pa.Table:
    """The columns that the clauses read, and uid. Raises ExpressionError for one that there is not."""
    schema = scores_schema(scores_root)
    shipped = shipped_columns()
    for text in (*config.clauses, *config.upsample):
        check(text, schema, shipped)
    if config.heldout_by is not None and config.heldout_by not in schema.names:
        raise ValueError(f"heldout_by: there is no column {config.heldout_by!r} in {scores_root}")
    return load_scores(scores_root, columns=list(config.columns))


def select_table(
    config: SelectConfig,
    table: pa.Table,
    out: str,
    *,
    heldout_out: str | None = None,
    ledger_root: str | None = None,
    explain_out: str | None = None,
    required_out: str | None = None,
) -> SelectReport:
    """`select` over scores already in memory: a table of `uid` and `scorer.column`."""
    if config.heldout_fraction and heldout_out is None:
        raise ValueError("heldout_fraction is set, but there is no path for the held-out selection")
    decided = _decide(config, table)
    chosen = decided.kept & ~decided.heldout
    write_pairs(out, decided.pairs[chosen], decided.counts[chosen])
    if heldout_out is not None:
        aside = decided.pairs[decided.heldout]
        write_pairs(heldout_out, aside, np.ones(len(aside), np.int64))
    if required_out is not None:
        storage.write_table(required_out, _required(config, table, decided.pairs))
    if ledger_root is not None:
        ledger.write_stage(ledger_root, "select", _ledger(table, decided))
    report = SelectReport(
        samples=table.num_rows,
        kept=int(chosen.sum()),
        copies=int(decided.counts[chosen].sum()),
        heldout=int(decided.heldout.sum()),
        restored=decided.restored,
        clauses=tuple(decided.effects),
        missing=decided.missing,
    )
    if explain_out is not None:
        storage.write_json(explain_out, report.as_dict())
    return report


def _required(config: SelectConfig, table: pa.Table, pairs: uids.Pairs) -> pa.Table:
    """`uid` and `rule` of the rows that make a clause of `require` false, sorted by uid."""
    lists, first = _Lists(), np.zeros(len(pairs), np.int32)
    for number, clause in enumerate(config.required, start=1):
        passed, unknown = _truth(clause, table, pairs, lists)
        first[(first == 0) & ~passed & ~unknown] = number
    rows = np.flatnonzero(first)
    rules = pa.array([None, *config.required], pa.string())
    found = pa.table({"uid": table["uid"].cast(pa.string()).take(rows), "rule": rules.take(first[rows])})
    return found.sort_by([("uid", "ascending"), ("rule", "ascending")])


@dataclass(kw_only=True)
class _Decided:
    pairs: uids.Pairs
    counts: npt.NDArray[np.int64]
    first: npt.NDArray[np.int32]
    """0 for a kept sample, else 1 + the index of the rule that removed it."""
    unscored: Mask
    """Whether that rule removed it for want of a score."""
    heldout: Mask
    effects: list[ClauseEffect]
    restored: int
    missing: dict[str, int]

    @property
    def kept(self) -> Mask:
        return self.first == 0


def _decide(config: SelectConfig, table: pa.Table) -> _Decided:
    pairs = uids.encode(table["uid"])
    lists = _Lists()
    first = np.zeros(len(pairs), np.int32)
    unscored = np.zeros(len(pairs), bool)
    effects = []
    for number, clause in enumerate(config.clauses, start=1):
        passed, unknown = _truth(clause, table, pairs, lists)
        newly = (first == 0) & ~passed
        first[newly] = number
        unscored[newly] = unknown[newly]
        effects.append(_effect(clause, table, passed, unknown))
    counts = np.ones(len(pairs), np.int64)
    for path in config.intersect:
        if len(pairs) and not lists.counts(path, pairs).any():
            _log.warning("%s: none of its uids is in this source, so that intersect keeps nothing of it", path)
    if config.intersect:
        counts = np.minimum.reduce([lists.counts(path, pairs) for path in config.intersect])
    removed = first != 0
    for path in config.union:
        there = lists.counts(path, pairs)
        counts = np.where(first == 0, np.maximum(counts, there), there)
        first[there > 0] = 0
    restored = int((removed & (first == 0)).sum())
    if config.max_samples is not None:
        surplus = np.flatnonzero(first == 0)
        ranks = uids.hashes(pairs[surplus], f"max_samples:{config.salt}")
        ordered = np.lexsort((pairs["f1"][surplus], pairs["f0"][surplus], ranks))
        first[surplus[ordered[config.max_samples :]]] = len(effects) + 1
        rule = f"max_samples={config.max_samples}"
        alone = max(0, len(pairs) - config.max_samples)
        effects.append(ClauseEffect(clause=rule, alone=alone, in_order=0, unscored=0, columns=(), thresholds=()))
    by_rule = np.bincount(first, minlength=len(effects) + 1)[1:]
    return _Decided(
        pairs=pairs,
        counts=counts * _factors(config, table, pairs, lists),
        first=first,
        unscored=unscored,
        heldout=(first == 0) & _held_out(config, table, pairs),
        effects=[
            dataclasses.replace(effect, in_order=int(removed_now))
            for effect, removed_now in zip(effects, by_rule, strict=True)
        ],
        restored=restored,
        missing={path: lists.missing(path, pairs) for path in dict.fromkeys((*config.intersect, *config.union))},
    )


class _Lists:
    """The selections that a config names, each read once."""

    def __init__(self) -> None:
        self._get = functools.cache(lambda path: selection_pairs(read_selection(path)))

    def resolve(self, path: str) -> uids.Pairs:
        return self._get(path)[0]

    def counts(self, path: str, pairs: uids.Pairs) -> npt.NDArray[np.int64]:
        listed, counts = self._get(path)
        found = uids.find(pairs, listed)
        return np.where(found >= 0, np.append(counts, 0)[found], 0)

    def missing(self, path: str, pairs: uids.Pairs) -> int:
        listed, _ = self._get(path)
        found = uids.find(pairs, listed)
        return len(listed) - len(np.unique(found[found >= 0]))


def _truth(text: str, table: pa.Table, pairs: uids.Pairs, lists: _Lists) -> tuple[Mask, Mask]:
    value: Any = evaluate(text, table, selected=lists.resolve, pairs=pairs)
    passed = pc.fill_null(value, False).to_numpy()
    return passed, value.is_null().to_numpy()


def _effect(clause: str, table: pa.Table, passed: Mask, unknown: Mask) -> ClauseEffect:
    thresholds = thresholds_of(clause)
    if (ranked := ranked_column(clause)) and passed.any():
        # Of `top(column, share)` the threshold is the last score that got in.
        column, highest = ranked
        inside = table[column].filter(pa.array(passed))
        cut = (pc.min(inside) if highest else pc.max(inside)).as_py()
        thresholds = (Threshold(column, ">=" if highest else "<=", cut),)
    return ClauseEffect(
        clause=clause,
        alone=int((~passed).sum()),
        in_order=0,
        unscored=int(unknown.sum()),
        columns=columns_of(clause),
        thresholds=thresholds,
    )


def _factors(config: SelectConfig, table: pa.Table, pairs: uids.Pairs, lists: _Lists) -> npt.NDArray[np.int64]:
    factors = np.ones(table.num_rows, np.int64)
    for text, factor in config.upsample.items():
        met, _ = _truth(text, table, pairs, lists)
        factors[met] = np.maximum(factors[met], factor)
    return factors


def _held_out(config: SelectConfig, table: pa.Table, pairs: uids.Pairs) -> Mask:
    if not config.heldout_fraction:
        return np.zeros(len(pairs), bool)
    groups = pairs
    if config.heldout_by is not None:
        column: Any = table[config.heldout_by]
        groups = uids.encode(pc.coalesce(column, table["uid"]))
    return uids.fractions(groups, f"heldout:{config.salt}") < config.heldout_fraction


def _ledger(table: pa.Table, decided: _Decided) -> pa.Table:
    """The rule that removed each sample, and the values that decided; of what is kept, whether it is held out."""
    rules = pa.array([None, *(effect.clause for effect in decided.effects)], pa.string())
    places = [np.flatnonzero(decided.kept)]
    texts: list[Any] = [pa.array([ledger.HELDOUT] * len(places[0]), pa.string(), mask=~decided.heldout[decided.kept])]
    for number, effect in enumerate(decided.effects, start=1):
        rows = np.flatnonzero(decided.first == number)
        if len(rows):
            places.append(rows)
            values = _deciding_values(effect, table.take(rows))
            texts.append(pc.if_else(pa.array(decided.unscored[rows]), UNSCORED, values))
    back = np.argsort(np.concatenate(places), kind="stable")
    values = pa.concat_arrays(texts).take(back)
    return ledger.verdicts(table["uid"].cast(pa.string()), "select", rules.take(decided.first), values)


def _deciding_values(effect: ClauseEffect, rows: pa.Table) -> Any:
    """`image.width=10, image.height=20` for each row: the columns that the clause reads."""
    if not effect.columns:
        truth = f"{effect.clause.removeprefix('not ')}={str(effect.clause.startswith('not ')).lower()}"
        text = truth if effect.clause.removeprefix("not ").startswith("selected(") else effect.clause
        return pa.repeat(pa.scalar(text), rows.num_rows)
    parts: list[Any] = []
    for name in effect.columns:
        column: Any = rows[name].combine_chunks()
        values: Any = pc.fill_null(column.cast(pa.string()), "null")
        parts.append(pc.binary_join_element_wise(name, values, "="))
    return parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, ", ")
