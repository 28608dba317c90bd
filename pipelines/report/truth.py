"""The report's comparison with the truth of a generated site: what became of each kind of corruption."""

from typing import Any

from mmcorpus.pipelines.truth.run_verdict import RunVerdict


def section(verdict: RunVerdict) -> dict[str, Any] | None:
    """A row for each kind of corruption, and how many samples ended as they should; None without a truth."""
    if not verdict.verdicts:
        return None
    rows = []
    right = total = 0
    for one in verdict.verdicts:
        to_keep = one.expect == "kept"
        good = one.kept if to_keep else one.caught + one.caught_otherwise
        right, total = right + good, total + one.listed
        parts = [
            f"{getattr(one, key):,} {words}"
            for key, words in (
                ("kept", "kept"),
                ("caught", "caught by the rule meant for it"),
                ("caught_otherwise", "caught by another rule"),
                ("missed", "missed"),
                ("wrongly_dropped", "wrongly dropped"),
            )
            if getattr(one, key)
        ]
        others = ", ".join(f"{rule} ×{count}" for rule, count in sorted(one.other_rules.items())[:3])
        rows.append(
            {
                "spoil": one.spoil.replace("_", " "),
                "listed": one.listed,
                "right": good,
                "expected": "kept" if to_keep else f"dropped: {one.expect_rule or one.expect_stage or 'any rule'}",
                "outcome": "; ".join(parts)
                + (f" ({others})" if others else "")
                + (f" – {one.note}" if one.note else ""),
            }
        )
    lead = (
        f"The site that was downloaded keeps the truth of every sample it corrupted. "
        f"{right:,} of {total:,} rows ended as they should."
    )
    return {"rows": rows, "lead": lead}
