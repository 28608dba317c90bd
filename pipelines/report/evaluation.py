"""The report's view of evaluations: each metric with its interval, beside the same with grey images."""

from collections.abc import Sequence
from typing import Any

from mmcorpus.curation.store import storage
from mmcorpus.pipelines.stages.evaluation import FOLDER
from mmcorpus.training.evaluation.run import RESULTS


def section(run: str, order: Sequence[str]) -> list[dict[str, Any]]:
    """One row a result of every evaluation that is done, those named in `order` first."""
    root = storage.join(run, FOLDER)
    names = sorted(storage.list_names(root), key=lambda n: (order.index(n) if n in order else len(order), n))
    rows = []
    for name in names:
        path = storage.join(root, name, RESULTS)
        if not storage.exists(path):
            continue
        said = storage.read_json(path)
        for number, result in enumerate(said["results"]):
            lost = sum(said["unanswered"].values())
            rows.append(
                {
                    "name": name if not number else "",
                    "metric": result["title"],
                    "category": result["category"] or "all",
                    "questions": result["found"]["questions"],
                    "unanswered": lost if not number else None,
                    "value": _shown(result, "found"),
                    "blank": _shown(result, "blank"),
                    "constant": _number(result, result["constant"]),
                }
            )
    return rows


def _shown(result: dict[str, Any], which: str) -> str | None:
    """`71.3 % (68.0 to 74.4)`; None where there is none."""
    found = result[which]
    if found is None or found["value"] is None:
        return None
    value, low, high = (_number(result, found[name]) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _number(result: dict[str, Any], value: float | None) -> str | None:
    if value is None:
        return None
    return f"{100 * value:.1f} %" if result["fractions"] else f"{value:.2f}"
