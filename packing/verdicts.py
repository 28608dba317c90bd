"""Of each selected uid of a source, whether it was packed or which rule kept it out (the ledger's stage `pack`)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.uid import uid_fraction
from mmcorpus.packing.inputs import uid_bytes
from mmcorpus.packing.samples import Fitted, Rejection

MISSING_SAMPLE: Final = "missing_sample"
"""Selected, but no downloaded row of the shards has this uid."""
LEFT_OUT: Final = "mix"
"""Fits, and is left out so that the mixture comes right."""
_ABSENT, _KEPT = 0, 1


@dataclass(frozen=True, kw_only=True)
class FittedRows:
    """The rows of one shard that go into sequences; arrays of shape (rows,)."""

    uids: npt.NDArray[np.bytes_]
    counts: npt.NDArray[np.int64]
    """How many copies the selection asks for."""
    parts: npt.NDArray[np.int64]
    """Which part of its document a row is; 0 for a sample that is whole."""
    tokens: npt.NDArray[np.int64]
    images: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    captions: list[tuple[str, ...]]
    """What each says instead of its row's caption; empty for that caption."""


class SourceVerdicts:
    """A source's selection, and what becomes of each of its uids as the shards are read.

    With a `factor` each sample's count is multiplied by it; whether it comes once more for the fraction that is left
    over, a hash of its uid and `salt` decides.
    """

    def __init__(self, selection: pa.Table | str, source: str, *, factor: float | None = None, salt: str = "") -> None:
        table = storage.read_table(selection) if isinstance(selection, str) else selection
        where = f"the selection of source {source!r}"
        if not {"uid", "count"} <= set(table.column_names):
            raise ValueError(f"{where} needs the columns uid and count, it has {', '.join(table.column_names)}")
        uids = table["uid"].cast(pa.string())
        if table.num_rows and not pc.all(pc.match_substring_regex(uids, "^[0-9a-f]{32}$")).as_py():
            raise ValueError(f"{where} has a uid that is not 32 lower-case hex digits; select again with mmcorpus")
        self.uids = uid_bytes(uids)
        order = np.argsort(self.uids, kind="stable")
        self.uids = self.uids[order]
        self.copies = table["count"].to_numpy().astype(np.int64)[order]
        if (self.uids[1:] == self.uids[:-1]).any() or (self.copies < 1).any():
            raise ValueError(f"{where} has a uid twice or a count below 1; a repeated sample is one row with its count")
        if factor is not None:
            self.copies = _multiplied(self.uids, self.copies * factor, salt)
        self.truncated: dict[int, int] = {}
        """Full length of each kept sample that lost its end."""
        self.split: dict[int, int] = {}
        """Number of parts of each kept sample that has several."""
        self.annotated: int = 0
        """Kept samples with several captions."""
        self.left_out: dict[int, tuple[int, int]] = {}
        """Of each kept sample with more captions than fit, how many it keeps and how many not."""
        self._state = np.zeros(len(self.uids), dtype=np.int8)
        self._rules = [MISSING_SAMPLE, ledger.KEPT]
        self._values: dict[int, str] = {}

    def wanted(self, uids: npt.NDArray[np.bytes_]) -> npt.NDArray[np.int64]:
        """Which of a shard's rows are selected and not yet decided; a uid's first row decides."""
        places = self._places(uids)
        found = np.flatnonzero(self.uids[places] == uids) if len(self.uids) else np.zeros(0, dtype=np.int64)
        undecided: npt.NDArray[np.int64] = found[self._state[places[found]] == _ABSENT]
        return undecided

    def decide(self, uids: npt.NDArray[np.bytes_], answers: Sequence[Fitted]) -> FittedRows:
        """Record what became of rows that `wanted` gave; returns those that fit."""
        places = self._places(uids)
        kept: list[int] = []
        for number, answer in enumerate(answers):
            place = int(places[number])
            if isinstance(answer, Rejection):
                if answer.rule not in self._rules:
                    self._rules.append(answer.rule)
                self._state[place] = self._rules.index(answer.rule)
                self._values[place] = answer.value
                continue
            if not self.copies[place]:
                if LEFT_OUT not in self._rules:
                    self._rules.append(LEFT_OUT)
                self._state[place] = self._rules.index(LEFT_OUT)
                self._values[place] = LEFT_OUT
                continue
            self._state[place] = _KEPT
            kept += [number] * len(answer)
            self.annotated += len(answer[0].captions) > 1
            if answer[0].left_out:
                self.left_out[place] = (len(answer[0].captions), answer[0].left_out)
            if len(answer) > 1:
                self.split[place] = len(answer)
            elif answer[0].full_length > answer[0].length:
                self.truncated[place] = answer[0].full_length
        chosen = [answers[number] for number in dict.fromkeys(kept)]
        fitted = [sample for answer in chosen if not isinstance(answer, Rejection) for sample in answer]
        return FittedRows(
            uids=uids[kept],
            counts=self.copies[places[kept]],
            parts=np.array([sample.part for sample in fitted], dtype=np.int64),
            tokens=np.array([len(sample.tokens.input_ids) for sample in fitted], dtype=np.int64),
            images=np.array([sample.tokens.image_count for sample in fitted], dtype=np.int64),
            lengths=np.array([sample.length for sample in fitted], dtype=np.int64),
            captions=[sample.captions for sample in fitted],
        )

    def counts(self) -> dict[str, int]:
        """Uids by verdict: `kept`, or the rule; they add up to the selection's size."""
        numbers = Counter({self._rules[code]: int(n) for code, n in enumerate(np.bincount(self._state)) if n})
        return dict(sorted(numbers.items()))

    def ledger(self) -> pa.Table:
        """One row a selected uid."""
        rules = [None if rule == ledger.KEPT else rule for rule in self._rules]
        values: list[str | None] = [MISSING_SAMPLE if code == _ABSENT else None for code in self._state.tolist()]
        for place, value in self._values.items():
            values[place] = value
        for place, length in self.truncated.items():
            values[place] = f"truncated: length={length}"
        for place, (kept, lost) in self.left_out.items():
            cut = f", {values[place]}" if place in self.truncated else ""
            values[place] = f"captions={kept} of {kept + lost}{cut}"
        for place, parts in self.split.items():
            values[place] = f"parts={parts}"
        columns: dict[str, Any] = {
            "uid": pa.array(self.uids).cast(pa.string()),
            "stage": pa.repeat("pack", len(self.uids)),
            "verdict": [ledger.KEPT if code == _KEPT else ledger.DROPPED for code in self._state.tolist()],
            "rule": [rules[code] for code in self._state.tolist()],
            "value": values,
            "row": pa.nulls(len(self.uids), pa.int64()),
        }
        return pa.table(columns, schema=ledger.SCHEMA)

    def _places(self, uids: npt.NDArray[np.bytes_]) -> npt.NDArray[np.int64]:
        return np.minimum(np.searchsorted(self.uids, uids), max(0, len(self.uids) - 1))


def _multiplied(uids: npt.NDArray[np.bytes_], copies: npt.NDArray[np.float64], salt: str) -> npt.NDArray[np.int64]:
    """Whole numbers of copies: the fractions' share of the samples, drawn by their hashes, gets one more."""
    whole = np.floor(copies).astype(np.int64)
    drawn = np.array([uid_fraction(uid.decode(), f"mix:{salt}") for uid in uids.tolist()], dtype=np.float64)
    return whole + (drawn < copies - whole)
