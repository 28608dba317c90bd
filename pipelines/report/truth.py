"""The report's comparison with the truth of a generated site: what became of each kind of corruption."""

from typing import Any, Final

from mmcorpus.pipelines.truth.run_verdict import RunVerdict
from mmcorpus.pipelines.truth.verdict import CorruptionVerdict

_OUTCOMES: Final = {
    "kept": "kept",
    "caught": "caught by the rule meant for it",
    "caught_otherwise": "caught by another rule",
    "missed": "missed",
    "wrongly_dropped": "wrongly dropped",
}


def section(verdict: RunVerdict) -> dict[str, Any] | None:
    """A row for each kind of corruption, and how many samples ended as they should; None without a truth."""
    if not verdict.verdicts:
        return None
    return {
        "selections": verdict.selections,
        "rows": [(one, _outcome(one)) for one in verdict.verdicts],
        "right": sum(one.right for one in verdict.verdicts),
        "listed": sum(one.listed for one in verdict.verdicts),
    }


def _outcome(one: CorruptionVerdict) -> str:
    text = "; ".join(f"{count:,} {words}" for key, words in _OUTCOMES.items() if (count := getattr(one, key)))
    others = ", ".join(f"{rule} ×{count}" for rule, count in sorted(one.other_rules.items())[:3])
    return text + (f" ({others})" if others else "") + (f" – {one.note}" if one.note else "")
