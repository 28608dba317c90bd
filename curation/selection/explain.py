"""The effect of each clause of a selection: alone, in order, and for want of a score."""

from dataclasses import asdict, dataclass
from typing import Any

from mmcorpus.curation.selection.expression import Threshold


@dataclass(frozen=True, kw_only=True, slots=True)
class ClauseEffect:
    """One clause's share of the work."""

    clause: str
    """Its text, which is the ledger's rule."""
    alone: int
    """Samples it would remove if it were the only clause, the unscored ones included."""
    in_order: int
    """Samples it removed: the first clause, in order, that they fail. These and what is kept add up to all samples."""
    unscored: int
    """Samples it would remove because a score it needs is missing."""
    columns: tuple[str, ...]
    """The score columns it reads."""
    thresholds: tuple[Threshold, ...]
    """Its comparisons of a column to a constant, for drawing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectReport:
    """The samples that a selection kept, and those that each clause removed."""

    samples: int
    """Samples judged: kept + heldout + the sum of the clauses' `in_order`."""
    kept: int
    """Samples in the selection."""
    copies: int
    """The sum of their counts."""
    heldout: int
    """Samples kept aside."""
    restored: int
    """Samples that a clause had removed and a union brought back."""
    clauses: tuple[ClauseEffect, ...]
    missing: dict[str, int]
    """Per selection named: its uids that this source does not have."""

    @property
    def dropped(self) -> int:
        return self.samples - self.kept - self.heldout

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, as written to `<source>.explain.json`."""
        return {
            **asdict(self),
            "dropped": self.dropped,
            "clauses": [
                {**asdict(effect), "thresholds": [threshold._asdict() for threshold in effect.thresholds]}
                for effect in self.clauses
            ],
        }

    def text(self) -> str:
        """A table for the terminal."""
        rows = [(effect.clause, effect.alone, effect.in_order, effect.unscored) for effect in self.clauses]
        width = min(70, max([len("clause"), *(len(row[0]) for row in rows)]))
        lines = [f"{'clause':<{width}}  {'alone':>15}  {'in order':>15}  {'unscored':>9}"] if rows else []
        for clause, alone, in_order, unscored in rows:
            shown = clause if len(clause) <= width else clause[: width - 1] + "…"
            shares = f"{self._share(alone):>15}  {self._share(in_order):>15}"
            lines.append(f"{shown:<{width}}  {shares}  {unscored:>9,}")
        upsampled = f", counted {self.copies:,} times" if self.copies != self.kept else ""
        lines.append(f"kept {self._share(self.kept)} of {self.samples:,} samples{upsampled}; dropped {self.dropped:,}")
        if self.heldout:
            lines.append(f"held out {self._share(self.heldout)}")
        if self.restored:
            lines.append(f"brought back by a union: {self.restored:,}")
        lines += [
            f"{path}: {count:,} of its uids are not in this source" for path, count in self.missing.items() if count
        ]
        return "\n".join(lines)

    def _share(self, count: int) -> str:
        share = 100 * count / self.samples if self.samples else 0.0
        return f"{count:,} ({share:.1f} %)" if count else "0"
