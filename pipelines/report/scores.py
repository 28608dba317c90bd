"""The report's scores: histograms with the selection's thresholds, the effect of its rules, provenance."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import list_tables, load_scores, read_origin, table_path
from mmcorpus.pipelines.report import svg


def explained(run: str, source: str) -> Any:
    """The effect of each clause of a source's selection; None where nothing was selected."""
    path = storage.join(run, "selections", f"{source}.explain.json")
    return storage.read_json(path) if storage.exists(path) else None


def thresholds(run: str, source: str) -> dict[str, list[svg.Threshold]]:
    """By column, the numbers that the selection compares it with: `{"image.min_side": [(">=", 100.0)]}`."""
    found: dict[str, list[svg.Threshold]] = {}
    for clause in (explained(run, source) or {"clauses": ()})["clauses"]:
        for threshold in clause["thresholds"]:
            value = threshold["value"]
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(threshold["column"], []).append(svg.Threshold(threshold["op"], float(value)))
    return found


def charts(run: str, source: str) -> list[dict[str, Any]]:
    """A histogram for each numeric or boolean score that varies or has a threshold, thresholded ones first."""
    root = storage.join(run, "scores", source)
    if not storage.list_names(root):
        return []
    table, marks = load_scores(root), thresholds(run, source)
    kept = pc.is_in(table["uid"], value_set=_selected(run, source)).to_numpy()
    names = [name for name in table.column_names if _is_numeric(table.schema.field(name).type)]
    names.sort(key=lambda name: (name not in marks, name))
    result = []
    for name in names:
        column = table[name]
        values = column.cast(pa.float64()).to_numpy()
        known = values[np.isfinite(values)]
        if name not in marks and (not len(known) or known.min() == known.max()):
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
        chart = svg.histogram(values, kept, name, marks.get(name, ()))
        result.append({"column": name, "text": text, "svg": chart, "decides": name in marks})
    return result


def _selected(run: str, source: str) -> pa.Array:
    uids: list[pa.Array] = []
    for name in (f"{source}.parquet", f"{source}.heldout.parquet"):
        path = storage.join(run, "selections", name)
        if storage.exists(path):
            uids.extend(storage.read_table(path, ["uid"])["uid"].chunks)
    return pa.concat_arrays(uids) if uids else pa.array([], pa.string())


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def scorers(run: str, source: str) -> list[dict[str, Any]]:
    """Provenance of score tables: scorer, version, model, parameters, fingerprint, from the first table's metadata."""
    root = storage.join(run, "scores", source)
    origins = {
        name: read_origin(storage.read_schema(table_path(root, name, shards[0])))
        for name, shards in list_tables(root).items()
    }
    return [
        {
            "source": source,
            "scorer": name,
            "version": origin.get("version", ""),
            "model": origin.get("model") or "rule",
            "parameters": json.dumps(origin.get("parameters", {}), sort_keys=True),
            "fingerprint": origin.get("fingerprint", ""),
        }
        for name, origin in origins.items()
    ]
