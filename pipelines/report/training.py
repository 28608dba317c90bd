"""The report's view of packs and training: fill, loss curves, held-out losses."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc

from mmcorpus.curation.store import storage
from mmcorpus.packing.manifest import read_manifest
from mmcorpus.pipelines.report import svg
from mmcorpus.training.metrics import read_metrics

_EXPERTS: Final = 8
"""Experts of a layer whose loads the report tells, the busiest."""


def packs(run: str, stages: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a pack, from manifests and indexes: fill, and a histogram of it; from the plan's record in `stages`: the
    bound and the mixing, None where there is none."""
    rows = []
    for name in storage.list_names(storage.join(run, "packs")):
        root = storage.join(run, "packs", name)
        if not storage.exists(storage.join(root, "manifest.json")):
            continue
        manifest = read_manifest(root)
        indexes = [
            storage.read_table(storage.join(root, n)) for n in storage.list_names(root) if n.endswith(".index.parquet")
        ]
        lengths = np.concatenate([index["length"].to_numpy() for index in indexes] or [np.zeros(0)])
        samples, images = (
            sum(int(pc.sum(index[column]).as_py() or 0) for index in indexes) for column in ("samples", "images")
        )
        context, total = int(manifest["context_length"]), int(lengths.sum())
        planned = stages.get(f"{name}/plan", {}).get("counts", {})
        rows.append(
            {
                "name": name,
                "samples": samples,
                "sequences": len(lengths),
                "fill": total / (len(lengths) * context) if len(lengths) else None,
                **{key: planned.get(key) for key in ("bound", "lower_bound", "of_bound", "mixing")},
                "images": images,
                "tokens": int(manifest["counts"]["tokens"]) - images,
                "context_length": context,
                "seen": seen(run, name),
                "svg": svg.histogram(lengths.astype(np.float64), np.ones(len(lengths), dtype=bool), f"fill of {name}"),
            }
        )
    return rows


def seen(run: str, pack: str) -> list[dict[str, Any]]:
    """By source, how often its samples are in a pack: `samples`, `mean`, and `times` ([how often, samples], …).

    Copies of a sample are numbered in the plan, so that columns of it alone tell.
    """
    path = storage.join(run, "plans", f"{pack}.parquet")
    if not storage.exists(path):
        return []
    copies: dict[str, Counter[int]] = {}
    with storage.open_parquet(path) as parquet:
        for window in range(parquet.num_row_groups):
            rows = parquet.read_row_group(window, columns=["source", "copy", "part"])
            rows = rows.filter(pc.equal(rows["part"], 0)).group_by(["source", "copy"]).aggregate([([], "count_all")])
            for row in rows.to_pylist():
                copies.setdefault(row["source"], Counter())[row["copy"]] += row["count_all"]
    found = []
    for source, counted in sorted(copies.items()):
        at_least = [counted[copy] for copy in range(max(counted) + 1)]
        times = [[number, a - b] for number, (a, b) in enumerate(pairwise([*at_least, 0]), start=1) if a > b]
        mean = sum(at_least) / at_least[0] if at_least[0] else 0.0
        found.append({"source": source, "samples": at_least[0], "mean": mean, "times": times})
    return found


def curve(label: str, lines: Sequence[dict[str, Any]], key: str, *, dots: bool = False) -> svg.Line:
    """A metric by step, over the lines that have it."""
    points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
    return svg.Line(label=label, xs=[p[0] for p in points], ys=[p[1] for p in points], dots=dots)


def curve_chart(title: str, text: str, curves: Iterable[svg.Line]) -> list[dict[str, Any]]:
    """A chart of the curves that have points, for the template; none where no curve has any."""
    lines = [line for line in curves if line.xs]
    if not lines:
        return []
    labels = [line.label for line in lines if line.label]
    return [{"title": title, "text": text, "labels": labels, "svg": svg.line_chart(lines, title, "step")}]


def training(run: str, order: Sequence[str] = ()) -> dict[str, Any] | None:
    """Curves and last values of every training stage, those named in `order` first; None where nothing was trained."""
    root = storage.join(run, "training")
    names = sorted(storage.list_names(root), key=lambda n: (order.index(n) if n in order else len(order), n))
    metrics = {n: lines for n in names if (lines := read_metrics(storage.join(root, n, "metrics.jsonl")))}
    if not metrics:
        return None
    charts = list[dict[str, Any]]()
    for key, title, text, dots in (
        ("loss", "training loss", "nats per target token", False),
        ("mfu", "model FLOPs utilisation", "useful FLOPs as a share of the devices' peak", False),
        ("heldout_loss", "held-out loss", "nats per target token, samples never trained on", True),
    ):
        charts += curve_chart(title, text, (curve(stage, found, key, dots=dots) for stage, found in metrics.items()))
    for stage, found in metrics.items():
        for key, what in (("loss_by_source", "source"), ("loss_by_tag", "tag of its targets")):
            names = sorted({name for line in found for name in line.get(key, ())})
            told = [(line["step"], line[key]) for line in found if key in line]
            curves = (curve(name, [{"step": step, name: one.get(name)} for step, one in told], name) for name in names)
            charts += curve_chart(f"{stage}: training loss by {what}", "nats per target token", curves)
        charts += _evenness(stage, found)
    stages = []
    for stage, found in metrics.items():
        steps = [line for line in found if "loss" in line]
        last: dict[str, Any] = steps[-1] if steps else {}
        rates = sorted(line["tokens_per_second"] for line in steps if line.get("tokens_per_second"))
        waits = [line["data_wait"] for line in steps if line.get("data_wait") is not None]
        stages.append(
            {
                "name": stage,
                "steps": last.get("step", 0),
                "loss": last.get("loss"),
                "heldout": _heldout(found),
                "tokens": last.get("tokens", 0),
                "rate": round(rates[len(rates) // 2]) if rates else None,
                "wait": sum(waits) / len(waits) if waits else None,
            }
        )
    return {
        "charts": charts,
        "stages": stages,
        "experts": [row for stage, found in metrics.items() for row in _experts(stage, found)],
        "lead": _lead(metrics),
    }


def _evenness(stage: str, lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How evenly tokens were spread over the experts of a stage that has some: the layers' mean, and the worst."""
    told = [
        {"step": line["step"], "mean": sum(evenness) / len(evenness), "worst": min(evenness)}
        for line in lines
        for evenness in [list(line.get("expert_entropy", {}).values())]
        if evenness
    ]
    curves = [curve("mean of its layers", told, "mean"), curve("least even layer", told, "worst")]
    text = "entropy of the experts' shares of tokens: 1 if each has the same, 0 if one has all"
    return curve_chart(f"{stage}: evenness of the experts' load", text, curves)


def _experts(stage: str, lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By layer, the load of its experts in the last step."""
    last: dict[str, Any] = next((line for line in reversed(lines) if "expert_load" in line), {"expert_load": {}})
    return [
        {
            "stage": stage,
            "step": last["step"],
            "layer": layer,
            "evenness": last["expert_entropy"][layer],
            "shares": " ".join(f"{share:.1%}" for share in sorted(shares, reverse=True)[:_EXPERTS]),
            "more": max(0, len(shares) - _EXPERTS),
            "least": min(shares),
        }
        for layer, shares in last["expert_load"].items()
    ]


def _heldout(lines: Sequence[dict[str, Any]]) -> float | None:
    losses = [line["heldout_loss"] for line in lines if line.get("heldout_loss") is not None]
    return losses[-1] if losses else None


def _lead(stages: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """What seeing is worth to the first stage whose held-out loss was taken with grey images as well."""
    text = "Loss is the mean over all target tokens of a step; held-out samples are never trained on."
    for name, lines in stages.items():
        both = [line for line in lines if None not in (line.get("heldout_loss"), line.get("heldout_loss_blank"))]
        if both:
            seeing, blank = both[-1]["heldout_loss"], both[-1]["heldout_loss_blank"]
            return (
                f"{text} After {name} they cost {seeing:.3f} nats a token with their images, and {blank:.3f} with grey "
                f"ones in their place: {blank - seeing:.3f} nats ({(blank - seeing) / blank:.0%}) come from seeing."
            )
    return text
