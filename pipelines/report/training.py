"""The report's view of packs and training: fill, loss curves, held-out losses."""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from mmcorpus.curation.store import storage
from mmcorpus.pipelines.report import svg


def packs(run: str) -> list[dict[str, Any]]:
    """One row a pack, from manifests and indexes: fill against the bound, and a histogram of fill."""
    rows = []
    for name in storage.list_names(storage.join(run, "packs")):
        root = storage.join(run, "packs", name)
        if not storage.exists(storage.join(root, "manifest.json")):
            continue
        manifest = storage.read_json(storage.join(root, "manifest.json"))
        indexes = [
            storage.read_table(storage.join(root, n)) for n in storage.list_names(root) if n.endswith(".index.parquet")
        ]
        lengths = np.concatenate([index["length"].to_numpy() for index in indexes] or [np.zeros(0)])
        samples = sum(int(pc.sum(index["samples"]).as_py() or 0) for index in indexes)
        images = sum(int(pc.sum(index["images"]).as_py() or 0) for index in indexes)
        context = int(manifest["context_length"])
        sequences, total = len(lengths), int(lengths.sum())
        least = max(1, math.ceil(total / context))
        rows.append(
            {
                "name": name,
                "samples": f"{samples:,}",
                "sequences": f"{sequences:,}",
                "packing_factor": f"{samples / sequences:.1f}" if sequences else "–",
                "fill": f"{total / (sequences * context):.1%}" if sequences else "–",
                "bound": f"{total / (least * context):.1%}" if sequences else "–",
                "images": f"{images:,}",
                "tokens": f"{total - images * int(manifest['tokens_per_image']):,}",
                "context_length": f"{context:,}",
                "svg": svg.histogram(lengths.astype(np.float64), np.ones(len(lengths), dtype=bool), f"fill of {name}"),
            }
        )
    return rows


def read_metrics(run: str, order: Sequence[str] = ()) -> dict[str, list[dict[str, Any]]]:
    """The metrics of every training stage that has any; those named in `order` first."""
    found = {}
    names = storage.list_names(storage.join(run, "training"))
    for stage in sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name)):
        path = storage.join(run, "training", stage, "metrics.jsonl")
        if storage.exists(path):
            found[stage] = [json.loads(line) for line in storage.read_bytes(path).splitlines() if line.strip()]
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
    """Curves and last values of every training stage, in `order`; None where nothing was trained."""
    metrics = read_metrics(run, order)
    if not metrics:
        return None
    charts = list[dict[str, Any]]()
    for key, title, text, dots in (
        ("loss", "training loss", "nats per target token", False),
        ("heldout_loss", "held-out loss", "nats per target token, samples never trained on", True),
    ):
        charts += curve_chart(title, text, (curve(stage, found, key, dots=dots) for stage, found in metrics.items()))
    stages = []
    for stage, found in metrics.items():
        steps = [line for line in found if "loss" in line]
        heldout = [line["heldout_loss"] for line in found if line.get("heldout_loss") is not None]
        last = steps[-1] if steps else {}
        rates = sorted(line["tokens_per_second"] for line in steps if line.get("tokens_per_second"))
        waits = [line["data_wait"] for line in steps if line.get("data_wait") is not None]
        stages.append(
            {
                "name": stage,
                "steps": f"{last.get('step', 0):,}",
                "loss": f"{last['loss']:.3f}" if last else "–",
                "heldout": f"{heldout[-1]:.3f}" if heldout else "–",
                "tokens": f"{last.get('tokens', 0):,}",
                "rate": f"{rates[len(rates) // 2]:,.0f}" if rates else "–",
                "wait": f"{sum(waits) / len(waits):.1%}" if waits else "–",
            }
        )
    return {"charts": charts, "stages": stages, "lead": _lead(metrics)}


def _lead(metrics: dict[str, list[dict[str, Any]]]) -> str:
    """A comparison of held-out losses, if a stage and its blank-image baseline were both trained."""
    last = {
        stage: heldout[-1]
        for stage, lines in metrics.items()
        if (heldout := [line["heldout_loss"] for line in lines if line.get("heldout_loss") is not None])
    }
    if "pretrain" in last and "baseline" in last:
        gap = last["baseline"] - last["pretrain"]
        return (
            f"Held-out captions cost {last['pretrain']:.3f} nats a token with their images, and "
            f"{last['baseline']:.3f} for the same model trained on blank images: "
            f"{gap:.3f} nats ({gap / last['baseline']:.0%}) come from seeing."
        )
    return "Loss is the mean over all target tokens of a step; held-out samples are never trained on."
