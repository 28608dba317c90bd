"""The report's histograms: every numeric score of a source, with the thresholds that the selection puts on it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.store import storage
from mmcorpus.pipelines.report import svg


def charts(
    scores: pa.Table, selected: pa.Array, thresholds: Mapping[str, Sequence[svg.Threshold]]
) -> list[dict[str, Any]]:
    """A chart for each numeric or boolean column that varies or has a threshold, thresholded ones first."""
    kept = pc.is_in(scores["uid"], value_set=selected).to_numpy()
    names = [name for name in scores.column_names if _is_numeric(scores.schema.field(name).type)]
    names.sort(key=lambda name: (name not in thresholds, name))
    result = []
    for name in names:
        column = scores[name]
        values = column.cast(pa.float64()).to_numpy()
        known = values[np.isfinite(values)]
        if name not in thresholds and (not len(known) or known.min() == known.max()):
            continue
        if not len(known):
            text = ""
        elif pa.types.is_boolean(column.type):
            text = f"true for {np.mean(known):.1%}"
        else:
            text = f"median {svg.number(float(np.median(known)))}"
        missing = len(values) - len(known)
        if missing:
            text += f", {missing:,} unscored"
        result.append(
            {
                "column": name,
                "text": text,
                "svg": svg.histogram(values, kept, name, thresholds.get(name, ())),
                "decides": name in thresholds,
            }
        )
    return result


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def scorers(run: str, source: str) -> list[dict[str, str]]:
    """Provenance of score tables: scorer, version, model, parameters, fingerprint, from the first table's metadata."""
    rows = []
    root = storage.join(run, "scores", source)
    for name in storage.list_names(root):
        tables = [n for n in storage.list_names(storage.join(root, name)) if n.endswith(".parquet")]
        if not tables:
            continue
        metadata = storage.read_schema(storage.join(root, name, tables[0])).metadata or {}
        about = json.loads(metadata.get(b"mmcorpus", b"{}"))
        rows.append(
            {
                "source": source,
                "scorer": name,
                "version": str(about.get("version", "")),
                "model": str(about.get("model", "")) or "rule",
                "parameters": json.dumps(about.get("parameters", {}), sort_keys=True),
                "fingerprint": str(about.get("fingerprint", "")),
            }
        )
    return rows
