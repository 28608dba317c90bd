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
                }
            )
    return rows


def _shown(result: dict[str, Any], which: str) -> str | None:
    """`71.3 % (68.0 to 74.4)`; None where there is none."""
    found = result[which]
    if found is None or found["value"] is None:
        return None
    factor, form, unit = (100, ".1f", " %") if result["fractions"] else (1, ".2f", "")
    value, low, high = (format(found[name] * factor, form) for name in ("value", "low", "high"))
    return f"{value}{unit} ({low} to {high})"
