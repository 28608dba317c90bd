"""Recall and precision of the rules, against the ground truth of every row that a generated site lists."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mmcorpus.curation.store import ledger, storage

CLEAN: Final = "clean"


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


@dataclass(kw_only=True)
class SpoilerVerdict:
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

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, for summary.json."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {
            "other_rules": dict(self.other_rules.most_common())
        }


def compare_with_truth(run_dir: str, truth: str, lists: Mapping[str, str]) -> list[SpoilerVerdict]:
    """Compare a run's ledger with the truth of the site it downloaded; one verdict a spoiler, the clean rows first.

    Of a picture and its copies one is to survive, whichever the rule prefers: an original that was dropped for a copy
    that lives counts as kept, and that copy as caught.

    Args:
        truth: the site's `truth.parquet`.
        lists: by source of the run, the list of the site (`pairs`, `instructions`) it was read from.
    """
    rows = [row for row in storage.read_table(truth).to_pylist() if row["list"] in lists.values()]
    fates: dict[tuple[str, int], Fate] = {}
    for source, listed in lists.items():
        own = [row for row in rows if row["list"] == listed]
        for row, fate in zip(own, _fates(storage.join(run_dir, "ledger", source), own), strict=True):
            fates[listed, row["row"]] = fate
    _settle_copies(rows, fates)
    verdicts: dict[str, SpoilerVerdict] = {}
    for row in rows:
        verdict = verdicts.setdefault(
            row["spoil"],
            SpoilerVerdict(
                spoil=row["spoil"],
                expect=row["expect"],
                expect_stage=row["expect_stage"],
                expect_rule=row["expect_rule"],
                note=row["note"],
            ),
        )
        count_fate(verdict, fates[row["list"], row["row"]])
    return sorted(verdicts.values(), key=lambda verdict: (verdict.spoil != CLEAN, verdict.expect, verdict.spoil))


def _fates(root: str, rows: list[dict[str, Any]]) -> list[Fate]:
    """The fate of each truth row of one source, in their order."""
    stages = ledger.read_stages(root)
    dropped: dict[str, Fate] = {}
    dropped_rows: dict[int, Fate] = {}
    for stage, table in stages.items():
        for entry in table.to_pylist():
            if entry["verdict"] != ledger.DROPPED:
                continue
            fate = Fate(stage=stage, rule=entry["rule"])
            if stage == "list":
                dropped_rows[entry["row"]] = fate
            elif stage != "pack":  # what does not fit a pack was judged good all the same
                dropped.setdefault(entry["uid"], fate)
    kept = Fate(stage=None, rule=None)
    return [dropped_rows.get(row["row"]) or dropped.get(row["uid"], kept) for row in rows]


def _settle_copies(rows: list[dict[str, Any]], fates: dict[tuple[str, int], Fate]) -> None:
    """Swap the fates of an original dropped as a repeat and a copy that was kept in its place."""
    originals = {(row["list"], row["uid"]): row for row in rows if row["spoil"] == CLEAN}
    for row in rows:
        if row["duplicate_of"] is None or row["expect"] != ledger.DROPPED:
            continue
        original = originals.get((row["list"], row["duplicate_of"]))
        if original is None:
            continue
        mine, its = (row["list"], row["row"]), (original["list"], original["row"])
        if fates[mine].kept and not fates[its].kept and matches(fates[its], row["expect_stage"], row["expect_rule"]):
            fates[mine], fates[its] = fates[its], fates[mine]


def matches(fate: Fate, stage: str | None, rule: str | None) -> bool:
    """Whether it was dropped by the stage that was meant to and by that rule (a code, or a clause over that column).

    None as the stage or rule stands for any.
    """
    if fate.rule is None or (stage is not None and fate.stage != stage):
        return False
    return rule is None or fate.rule == rule or (stage in ("select", None) and rule in fate.rule)


def count_fate(verdict: SpoilerVerdict, fate: Fate) -> None:
    verdict.listed += 1
    if verdict.expect == ledger.KEPT:
        if fate.kept:
            verdict.kept += 1
        else:
            verdict.wrongly_dropped += 1
            verdict.other_rules[f"{fate.stage}: {fate.rule}"] += 1
    elif fate.kept:
        verdict.missed += 1
    elif matches(fate, verdict.expect_stage, verdict.expect_rule):
        verdict.caught += 1
    else:
        verdict.caught_otherwise += 1
        verdict.other_rules[f"{fate.stage}: {fate.rule}"] += 1
