"""Of each selected uid of a source, whether it was packed or which rule kept it out (the ledger's stage `pack`)."""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.selection.tables import read_selection
from mmcorpus.curation.store import ledger, uid_arrays
from mmcorpus.curation.store.uid import uid_fraction
from mmcorpus.packing.draws import sample_words
from mmcorpus.packing.inputs import uid_bytes
from mmcorpus.packing.numbers import MOST_COPIES
from mmcorpus.packing.samples import Fitted, FittedSample, Rejection

MISSING_SAMPLE: Final = "missing_sample"
"""Selected, but no downloaded row of the shards has this uid."""
LEFT_OUT: Final = "mix"
"""Fits, and is left out so that the mixture comes right."""
_RESERVED, _ABSENT, _KEPT = -1, 0, 1
_SHARES: Final = 0x53686172
"""A seed of its own: which window a sample goes to must not follow its place within one."""


@dataclass(frozen=True, kw_only=True)
class FittedRows:
    """The rows of one shard that go into sequences; arrays of shape (rows,)."""

    uids: npt.NDArray[np.bytes_]
    counts: npt.NDArray[np.int64]
    """How many copies the selection asks for."""
    firsts: npt.NDArray[np.int64]
    """The first of these copies."""
    steps: npt.NDArray[np.int64]
    """From one of them to the next: in how many ways the row is rendered."""
    parts: npt.NDArray[np.int64]
    """Which part of its document a row is; 0 for a sample that is whole."""
    tokens: npt.NDArray[np.int64]
    images: npt.NDArray[np.int64]
    crops: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    captions: list[tuple[str, ...]]
    """What each says instead of its row's caption; empty for that caption."""


class SourceVerdicts:
    """A source's selection, and what becomes of each of its uids as the shards are read.

    With a `factor` each sample's count is multiplied by it; whether it comes once more for the fraction that is left
    over, a hash of its uid and `salt` decides.
    """

    def __init__(self, selection: pa.Table | str, source: str, *, factor: float | None = None, salt: str = "") -> None:
        where = f"the selection of source {source!r}"
        try:
            table = read_selection(selection) if isinstance(selection, str) else selection
        except FileNotFoundError:
            raise ValueError(f"{where} is missing: there is nothing at {selection}; select first") from None
        if not {"uid", "count"} <= set(table.column_names):
            raise ValueError(f"{where} needs the columns uid and count, it has {', '.join(table.column_names)}")
        if not pa.types.is_integer(table["count"].type) or table["count"].null_count:
            raise ValueError(f"{where} has counts of type {table['count'].type}, or none; give whole numbers")
        uids = table["uid"].cast(pa.string())
        if table.num_rows and not pc.all(pc.match_substring_regex(uids, "^[0-9a-f]{32}$")).as_py():
            raise ValueError(f"{where} has a uid that is not 32 lower-case hex digits; select again with mmcorpus")
        pairs = uid_arrays.encode(uids)
        order = uid_arrays.order(pairs)
        first, second = pairs[order]["f0"].copy(), pairs[order]["f1"].copy()
        copies = table["count"].to_numpy().astype(np.int64)[order]
        if ((first[1:] == first[:-1]) & (second[1:] == second[:-1])).any() or (copies < 1).any():
            raise ValueError(f"{where} has a uid twice or a count below 1; a repeated sample is one row with its count")
        if copies.max(initial=0) > MOST_COPIES:
            raise ValueError(f"{where} has a count of {copies.max()}; a sample may be used {MOST_COPIES} times at most")
        self._select((first, second), copies)
        if factor is not None:
            self.copies = _multiplied(self._hexadecimal(), copies * factor, salt)

    def _select(self, uids: tuple[npt.NDArray[np.uint64], ...], copies: npt.NDArray[np.int64]) -> None:
        """Begin with nothing decided."""
        self._uids = uids
        """Sorted, half of each in an array: half as large as their texts, and numbers are found sooner."""
        self.copies = copies
        self.totals = Counter[str]()
        """Of the kept samples those `truncated`, `split`, or `annotated` with several captions, and the
        `captions_left_out`."""
        self._state = np.zeros(len(self.copies), dtype=np.int8)
        self._rules = [MISSING_SAMPLE, ledger.KEPT]
        self._numbers = Counter({_ABSENT: len(self.copies)})
        """How many uids are in each state."""
        self._values: dict[int, str] = {}
        """Of a sample that is dropped why, unless that is the rule alone; of a kept one what was changed."""

    def reserve(self, uids: npt.NDArray[np.bytes_], share: tuple[int, int] = (0, 1)) -> npt.NDArray[np.int64]:
        """The places in the selection of what `wanted` would give; they are decided elsewhere, by a `part` of this."""
        places = self._places(uids)
        reserved: npt.NDArray[np.int64] = np.unique(places[self._undecided(uids, places, share)])
        self._state[reserved] = _RESERVED
        return reserved

    def part(self, places: npt.NDArray[np.int64]) -> Self:
        """The verdicts on reserved uids alone, which know nothing of the others; `places` ascending."""
        own = copy.copy(self)
        own._select(tuple(half[places] for half in self._uids), self.copies[places])
        return own

    def take_in(self, places: npt.NDArray[np.int64], part: Self) -> None:
        """What became of a `part`."""
        numbers = [_ABSENT, _KEPT, *(self._number(rule) for rule in part._rules[_KEPT + 1 :])]
        self._state[places] = np.array(numbers, dtype=np.int8)[part._state]
        for state, count in part._numbers.items():
            if state != _ABSENT:
                self._numbers[_ABSENT] -= count
                self._numbers[numbers[state]] += count
        self.totals.update(part.totals)
        self._values |= {int(places[place]): value for place, value in part._values.items()}

    def uids(self) -> npt.NDArray[np.bytes_]:
        """All of them, sorted; shape (uids,)."""
        return uid_bytes(self._hexadecimal())

    def wanted(self, uids: npt.NDArray[np.bytes_], share: tuple[int, int] = (0, 1)) -> npt.NDArray[np.int64]:
        """Which of a shard's rows are selected and not yet decided; a uid's first row decides. With `share` (i, n) the
        i-th of n parts of them, drawn by a hash of their uids."""
        return self._undecided(uids, self._places(uids), share)

    def _undecided(
        self, uids: npt.NDArray[np.bytes_], places: npt.NDArray[np.int64], share: tuple[int, int]
    ) -> npt.NDArray[np.int64]:
        found = np.flatnonzero(places >= 0)
        part, parts = share
        if parts > 1:
            drawn = sample_words(uids[found], np.zeros(len(found), dtype=np.int64), _SHARES) % np.uint64(parts)
            found = found[drawn == part]
        undecided: npt.NDArray[np.int64] = found[self._state[places[found]] == _ABSENT]
        return undecided

    def seen(self) -> tuple[float, int]:
        """The mean and the largest number of times that a selected sample which fits is packed; what a mixture leaves
        out counts as zero times."""
        fit = self._state == _KEPT
        copies = self.copies[fit]
        left_out = int((self._state == self._rules.index(LEFT_OUT)).sum()) if LEFT_OUT in self._rules else 0
        return float(copies.sum() / max(1, len(copies) + left_out)), int(copies.max(initial=0))

    def copies_of(self, uids: npt.NDArray[np.bytes_]) -> list[int]:
        """The number of times that each of these selected uids is to be packed."""
        copies: list[int] = self.copies[self._places(uids)].tolist()
        return copies

    def keep(self, uids: npt.NDArray[np.bytes_], sizes: Mapping[str, npt.NDArray[np.int64]]) -> FittedRows:
        """Record that rows which `wanted` gave fit as they are, one for each rendering; returns those that are packed.

        `sizes` are their `rendering`, `renderings`, `annotations`, `tokens`, `images`, `crops` and `positions`.
        """
        places = self._places(uids)
        there = self.copies[places] > 0
        self._mark(np.unique(places[there]), _KEPT)
        self._mark(np.unique(places[~there]), self._number(LEFT_OUT))
        first = there & (sizes["rendering"] == 0)
        self.totals["annotated"] += int((sizes["annotations"][first] > 1).sum())
        own = {name: values[there] for name, values in sizes.items()}
        rows = int(there.sum())
        return FittedRows(
            uids=uids[there],
            counts=-((own["rendering"] - self.copies[places[there]]) // own["renderings"]),
            firsts=own["rendering"],
            steps=own["renderings"],
            parts=np.zeros(rows, dtype=np.int64),
            tokens=own["tokens"],
            images=own["images"],
            crops=own["crops"],
            lengths=own["positions"],
            captions=[()] * rows,
        )

    def decide(self, uids: npt.NDArray[np.bytes_], answers: Sequence[Sequence[Fitted]]) -> FittedRows:
        """Record what became of rows that `wanted` gave, each in its renderings, the first of which decides; returns
        those that fit."""
        places = self._places(uids)
        kept: list[int] = []
        fitted: list[FittedSample] = []
        rendered: list[tuple[int, int]] = []
        for number, renderings in enumerate(answers):
            answer = renderings[0]
            place = int(places[number])
            if not self.copies[place] and not isinstance(answer, Rejection):
                answer = Rejection(rule=LEFT_OUT, value=LEFT_OUT)
            if isinstance(answer, Rejection):
                self._mark(places[number : number + 1], self._number(answer.rule))
                if answer.value != answer.rule:
                    self._values[place] = answer.value
                continue
            self._mark(places[number : number + 1], _KEPT)
            for variant, own in enumerate(renderings):
                assert not isinstance(own, Rejection), "what does not fit is rendered as the first"
                kept += [number] * len(own)
                fitted += own
                rendered += [(variant, len(renderings))] * len(own)
            first, changes = answer[0], []
            if first.annotations > 1:
                self.totals["annotated"] += 1
            if first.left_out:
                self.totals["captions_left_out"] += first.left_out
                changes.append(f"captions={first.annotations} of {first.annotations + first.left_out}")
            if len(answer) > 1:
                self.totals["split"] += 1
                changes.append(f"parts={len(answer)}")
            elif first.full_length > first.length:
                self.totals["truncated"] += 1
                changes.append(f"truncated: length={first.full_length}")
            if changes:
                self._values[place] = ", ".join(changes)
        sizes = [(s.part, len(s.tokens.input_ids), s.tokens.image_count, s.crops, s.length) for s in fitted]
        parts, tokens, images, crops, lengths = np.array(sizes, dtype=np.int64).reshape(-1, 5).T
        firsts, steps = np.array(rendered, dtype=np.int64).reshape(-1, 2).T
        return FittedRows(
            uids=uids[kept],
            counts=-((firsts - self.copies[places[kept]]) // steps),
            firsts=firsts,
            steps=steps,
            parts=parts,
            tokens=tokens,
            images=images,
            crops=crops,
            lengths=lengths,
            captions=[sample.captions for sample in fitted],
        )

    def counts(self) -> dict[str, int]:
        """Uids by verdict: `kept`, or the rule; they add up to the selection's size."""
        return dict(sorted((self._rules[state], number) for state, number in self._numbers.items() if number))

    def ledger(self) -> pa.Table:
        """One row a selected uid."""
        state = pa.array(self._state)
        verdicts = [ledger.KEPT if number == _KEPT else ledger.DROPPED for number in range(len(self._rules))]
        rules = [None if number == _KEPT else rule for number, rule in enumerate(self._rules)]
        values = np.array(rules, dtype=object)[self._state]
        values[list(self._values)] = list(self._values.values())
        columns: dict[str, Any] = {
            "uid": self._hexadecimal(),
            "stage": pa.repeat("pack", len(state)),
            "verdict": pa.array(verdicts, pa.string()).take(state),
            "rule": pa.array(rules, pa.string()).take(state),
            "value": pa.array(values, pa.string()),
            "row": pa.nulls(len(state), pa.int64()),
        }
        return pa.table(columns, schema=ledger.SCHEMA)

    def _number(self, rule: str) -> int:
        """The state of what a rule drops."""
        if rule not in self._rules:
            self._rules.append(rule)
        return self._rules.index(rule)

    def _mark(self, places: npt.NDArray[np.int64], state: int) -> None:
        """Give distinct undecided uids a state."""
        self._state[places] = state
        self._numbers[_ABSENT] -= len(places)
        self._numbers[state] += len(places)

    def _places(self, uids: npt.NDArray[np.bytes_]) -> npt.NDArray[np.int64]:
        """Where each uid stands in the selection; -1 for what is not selected."""
        pairs, valid = uid_arrays.encode_bytes(uids)
        return np.where(valid, uid_arrays.find_halves(pairs, *self._uids), -1)

    def _hexadecimal(self) -> pa.Array:
        pairs = np.empty(len(self.copies), uid_arrays.PAIR)
        pairs["f0"], pairs["f1"] = self._uids
        return uid_arrays.decode(pairs)


def _multiplied(uids: pa.Array, copies: npt.NDArray[np.float64], salt: str) -> npt.NDArray[np.int64]:
    """Whole numbers of copies: the fractions' share of the samples, drawn by their hashes, gets one more."""
    whole = np.floor(copies).astype(np.int64)
    drawn = np.fromiter((uid_fraction(uid.as_py(), f"mix:{salt}") for uid in uids), dtype=np.float64, count=len(uids))
    return whole + (drawn < copies - whole)
