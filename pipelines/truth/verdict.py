"""Recall and precision of the rules, against the ground truth of every row that a generated site lists."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow.compute as pc

from mmcorpus.curation.store import ledger, storage

CLEAN: Final = "clean"
SWAPPED: Final = "swapped_caption"
"""The caption belongs to another picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fate:
    """The end of one listed row."""

    stage: str | None
    """The stage that dropped it; None if it was kept."""
    rule: str | None
    """The rule that dropped it: a code, or a selection clause."""

    @property
    def kept(self) -> bool:
        return self.stage is None


KEPT: Final = Fate(stage=None, rule=None)


@dataclass(kw_only=True)
class CorruptionVerdict:
    """Outcomes of the rows corrupted in one way (or of the clean ones)."""

    spoil: str
    listed: int = 0
    expect: str = "kept"
    """The right outcome: `kept` or `dropped`."""
    expect_stage: str | None = None
    expect_rule: str | None = None
    caught: int = 0
    """To be dropped, and dropped by the stage and the kind of rule that were meant to."""
    caught_otherwise: int = 0
    """To be dropped, and dropped by something else."""
    missed: int = 0
    """To be dropped, and kept."""
    kept: int = 0
    """To be kept, and kept."""
    wrongly_dropped: int = 0
    """To be kept, and dropped."""
    other_rules: Counter[str] = field(default_factory=Counter)
    """The rules that dropped them where it was not the one that was meant to."""
    note: str | None = None

    @classmethod
    def of(cls, name: str, row: Mapping[str, Any]) -> "CorruptionVerdict":
        """A verdict on nothing yet, with what a row of the truth expects."""
        expect = ledger.KEPT if row["expect"] == ledger.KEPT else ledger.DROPPED
        return cls(
            spoil=name,
            expect=expect,
            expect_stage=row["expect_stage"],
            expect_rule=row["expect_rule"],
            note=row["note"],
        )

    def count(self, fate: Fate) -> None:
        """Add a row that ended so."""
        self.listed += 1
        if self.expect == ledger.KEPT and fate.kept:
            self.kept += 1
        elif fate.kept:
            self.missed += 1
        elif self.expect == ledger.DROPPED and matches(fate, self.expect_stage, self.expect_rule):
            self.caught += 1
        else:
            self.other_rules[f"{fate.stage}: {fate.rule}"] += 1
            if self.expect == ledger.KEPT:
                self.wrongly_dropped += 1
            else:
                self.caught_otherwise += 1

    @property
    def right(self) -> int:
        """Rows that ended as they should."""
        return self.kept if self.expect == ledger.KEPT else self.caught + self.caught_otherwise

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, for truth.json."""
        return {**vars(self), "other_rules": dict(self.other_rules.most_common())}


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectionVerdict:
    """What one selection drops of a list's samples, as (dropped, listed)."""

    selection: str
    """The source whose selection it is."""
    clean: tuple[int, int]
    """Good pairs: all that are dropped are lost for nothing."""
    swapped: tuple[int, int]
    """Pairs whose caption belongs to another picture."""
    spoiled: tuple[int, int]
    """What else a selection is to drop."""

    @classmethod
    def of(cls, selection: str, verdicts: Sequence[CorruptionVerdict]) -> "SelectionVerdict":
        """What the verdicts on a list's rows (`compare_with_truth`) come to."""

        def summed(chosen: Callable[[CorruptionVerdict], bool]) -> tuple[int, int]:
            there = [one for one in verdicts if chosen(one)]
            lost = sum(one.caught + one.caught_otherwise + one.wrongly_dropped for one in there)
            return lost, sum(one.listed for one in there)

        return cls(
            selection=selection,
            clean=summed(lambda one: one.spoil == CLEAN),
            swapped=summed(lambda one: one.spoil == SWAPPED),
            spoiled=summed(lambda one: one.spoil != SWAPPED and one.expect_stage == "select"),
        )


def compare_with_truth(
    run_dir: str, truth: str, lists: Mapping[str, str], selected_by: str | None = None
) -> list[CorruptionVerdict]:
    """Compare a run's ledger with the truth of the site it downloaded; a verdict for each corruption, clean rows first.

    Of a picture and its copies one is to survive, whichever the rule prefers: an original that was dropped for a copy
    that lives counts as kept, and that copy as caught.

    Args:
        truth: the site's `truth.parquet`.
        lists: by source of the run, the list of the site (`pairs`, `instructions`) it was read from.
        selected_by: the source that selects from that one once more, whose selection counts in its place.
    """
    rows = [row for row in storage.read_table(truth).to_pylist() if row["list"] in lists.values()]
    again = selected_by and storage.join(run_dir, "ledger", selected_by)
    lost = {listed: dropped(storage.join(run_dir, "ledger", source), again) for source, listed in lists.items()}
    fates = [lost[row["list"]].get(row["row"]) or lost[row["list"]].get(row["uid"], KEPT) for row in rows]
    settle_copies(rows, fates, "uid")
    verdicts: dict[str, CorruptionVerdict] = {}
    for row, fate in zip(rows, fates, strict=True):
        verdicts.setdefault(row["spoil"], CorruptionVerdict.of(row["spoil"], row)).count(fate)
    return sorted(verdicts.values(), key=lambda verdict: (verdict.spoil != CLEAN, verdict.expect, verdict.spoil))


def dropped(root: str, selected_by: str | None = None) -> dict[Hashable, Fate]:
    """The fate of each uid that a ledger's stages dropped; what `list` dropped has no uid yet and goes by its row.
    `selected_by` is the ledger whose selection counts in place of this one's.

    What does not fit a pack was judged good all the same, and is left out.
    """
    found: dict[Hashable, Fate] = {}
    stages = dict(ledger.read_stages(root))
    if selected_by is not None:
        stages["select"] = ledger.read_stages(selected_by)["select"]
    for stage, table in stages.items():
        if stage == "pack":
            continue
        for entry in table.filter(pc.field("verdict") == ledger.DROPPED).to_pylist():
            found.setdefault(entry["row" if stage == "list" else "uid"], Fate(stage=stage, rule=entry["rule"]))
    return found


def settle_copies(rows: Sequence[Mapping[str, Any]], fates: list[Fate], identity: str) -> None:
    """Swap the fates of an original dropped as a repeat and a copy that was kept in its place.

    identity: the column of an original by which its copies name it in `duplicate_of`, within a list.
    """
    originals = {(row.get("list"), row[identity]): place for place, row in enumerate(rows) if row["spoil"] == CLEAN}
    for place, row in enumerate(rows):
        first = originals.get((row.get("list"), row["duplicate_of"]))
        if first is None or not fates[place].kept or fates[first].kept or row["expect"] == ledger.KEPT:
            continue
        if matches(fates[first], row["expect_stage"], row["expect_rule"]):
            fates[place], fates[first] = fates[first], fates[place]


def matches(fate: Fate, stage: str | None, rule: str | None) -> bool:
    """Whether it was dropped by the stage that was meant to and by that rule (a code, or a clause over that column).

    None as the stage or rule stands for any.
    """
    if fate.rule is None or (stage is not None and fate.stage != stage):
        return False
    return rule is None or fate.rule == rule or (stage in ("select", None) and rule in fate.rule)
