"""The report as a page: what a finished or half-finished run's folder holds, laid out for a person."""

from datetime import UTC, datetime
from importlib import resources
from typing import Any, Final

import pyarrow as pa

from mmcorpus.curation.store import storage
from mmcorpus.pipelines.recipe.populations import IMAGES, URLS
from mmcorpus.pipelines.report import (
    contamination,
    dfn,
    documents,
    duplicates,
    funnel,
    samples,
    scores,
    svg,
    training,
    truth,
)
from mmcorpus.pipelines.truth.run_verdict import RunVerdict, judge_run

MAX_SHARDS: Final = 8
"""Galleries draw from the first shards of a source only, so that a report of a hundred million samples stays cheap."""


def render_page(run: str, verdict: RunVerdict | None = None) -> str:
    """The report of the run in folder `run`, as one self-contained HTML page.

    verdict: on the samples of a generated site; judged here if None.

    Whatever the run has so far is shown; parts that it does not have are left out. Captions and URLs come from the
    web and are escaped by the template engine.
    """
    import jinja2

    files = resources.files("mmcorpus.pipelines.report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    parts = ("template", "macros", "documents", "duplicates", "dfn")
    texts = {f"{name}.html.jinja": (files / f"{name}.html.jinja").read_text("utf-8") for name in parts}
    environment.loader = jinja2.DictLoader(texts)
    style = "".join((files / name).read_text("utf-8") for name in ("style.css", "documents.css", "duplicates.css"))
    content = _content(run, verdict or judge_run(run))
    return environment.get_template("template.html.jinja").render(style=style, **content)


def _content(run: str, verdict: RunVerdict) -> dict[str, Any]:
    state = _json(run, "run.json") or {"name": "run", "stages": {}, "order": []}
    summary = _json(run, "summary.json") or {}
    sources = _sources(run, state)
    of_pages = documents.document_sources(run, sources)
    page: dict[str, Any] = {
        "title": state.get("name") or "run",
        "funnels": [funnel.funnel(run, source) for source in sources],
        "balance": _balance(summary),
        "truth": truth.section(verdict),
        "explains": [],
        "scores": [],
        "galleries": [],
        "lost": [],
        "documents": [documents.section(run, source, MAX_SHARDS) for source in of_pages],
        "passes": [duplicates.section(run, one, MAX_SHARDS) for one in duplicates.passes(run, sources)],
        "evaluations": contamination.section(run, sources, MAX_SHARDS),
        "dfn": dfn.section(run, sources, MAX_SHARDS),
        "max_shards": MAX_SHARDS,
        "scorers": [],
        "packs": training.packs(run),
        "training": training.training(run, [name.removeprefix("train/") for name in state.get("order", [])]),
        "stages": _stages(state),
        "gallery_lead": f"Drawn from the first {MAX_SHARDS} shards of a source; under each, the value that decided.",
        "recipe": _text(run, "recipe.yaml"),
        "footer": "All of this comes from the run's own tables: ledger, scores, selections, packs, metrics.",
    }
    for source in sources:
        explain = _json(run, f"selections/{source}.explain.json")
        if explain:
            page["explains"].append(_explain(source, explain))
        table = _scores(run, source)
        if table is not None:
            selected = _selected(run, source)
            page["scores"].append({"source": source, "charts": scores.charts(table, selected, _thresholds(explain))})
        population = documents.population_of(source, of_pages)
        if population in (None, IMAGES):  # of documents the images alone are shown one by one
            shown, lost = samples.galleries(run, source, MAX_SHARDS)
            page["galleries"] += shown
            page["lost"] += lost if population is None else []
        page["scorers"] += scores.scorers(run, source)
    page["tiles"] = _tiles(run, sources, of_pages, page, summary)
    page["subtitle"] = _subtitle(state)
    page["contents"] = [
        {"id": key, "title": title}
        for key, title, shown in (
            ("funnel", "Funnel", page["funnels"]),
            ("truth", "Truth", page["truth"]),
            ("rules", "Rules", page["explains"]),
            ("scores", "Scores", page["scores"]),
            ("documents", "Documents", page["documents"]),
            ("lost", "Failures", page["lost"]),
            ("galleries", "Samples", page["galleries"]),
            ("duplicates", "Duplicates", page["passes"]),
            ("evaluations", "Evaluations", page["evaluations"]),
            ("dfn", "Filtering network", page["dfn"]),
            ("packing", "Packing", page["packs"]),
            ("training", "Training", page["training"]),
            ("stages", "Time", page["stages"]),
            ("provenance", "Provenance", page["scorers"]),
            ("recipe", "Recipe", True),
        )
        if shown
    ]
    return page


def _sources(run: str, state: dict[str, Any]) -> list[str]:
    """The sources that have a ledger, in the order in which the run works on them."""
    stages = [name.partition("/")[0] for name in state.get("order", [])]
    names = storage.list_names(storage.join(run, "ledger"))
    return sorted(names, key=lambda name: (stages.index(name) if name in stages else len(stages), name))


def _json(run: str, name: str) -> Any:
    path = storage.join(run, name)
    return storage.read_json(path) if storage.exists(path) else None


def _text(run: str, name: str) -> str:
    path = storage.join(run, name)
    return storage.read_bytes(path).decode() if storage.exists(path) else "(not kept)"


def _scores(run: str, source: str) -> pa.Table | None:
    from mmcorpus.curation.store.scores import load_scores

    root = storage.join(run, "scores", source)
    return load_scores(root) if storage.list_names(root) else None


def _selected(run: str, source: str) -> pa.Array:
    uids: list[pa.Array] = []
    for name in (f"{source}.parquet", f"{source}.heldout.parquet"):
        path = storage.join(run, "selections", name)
        if storage.exists(path):
            uids.extend(storage.read_table(path, ["uid"])["uid"].chunks)
    return pa.concat_arrays(uids) if uids else pa.array([], pa.string())


def _thresholds(explain: dict[str, Any] | None) -> dict[str, list[svg.Threshold]]:
    found: dict[str, list[svg.Threshold]] = {}
    for clause in (explain or {}).get("clauses", []):
        for threshold in clause["thresholds"]:
            value = threshold["value"]
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(threshold["column"], []).append(svg.Threshold(operator=threshold["op"], value=value))
    return found


def _explain(source: str, explain: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": source,
        "kept": f"{explain['kept'] + explain['heldout']:,}",
        "total": f"{explain['samples']:,}",
        "clauses": [
            {
                "text": clause["clause"],
                "alone": f"{clause['alone']:,}",
                "in_order": f"{clause['in_order']:,}",
                "unscored": f"{clause['unscored']:,}" if clause["unscored"] else "–",
            }
            for clause in explain["clauses"]
        ],
    }


def _balance(summary: dict[str, Any]) -> str:
    if "balance" not in summary:
        return ""
    if summary["balance"]:
        return "UNACCOUNTED FOR: " + "; ".join(summary["balance"])
    return "Nothing is unaccounted for: in = kept + dropped at every stage, checked from the ledger."


def _stages(state: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name in state.get("order", list(state["stages"])):
        record = state["stages"][name]
        counts = {
            k: v for k, v in record.get("counts", {}).items() if isinstance(v, int | float) and not isinstance(v, bool)
        }
        seconds = record.get("seconds", 0.0)
        samples_done = counts.get("samples") or counts.get("rows") or counts.get("count")
        rows.append(
            {
                "name": name,
                "status": record["status"],
                "bad": record["status"] not in ("done",),
                "seconds": f"{seconds:.1f}",
                "rate": f"{samples_done / seconds:,.0f}/s" if samples_done and seconds > 0 else "–",
                "counts": ", ".join(
                    f"{key.replace('_', ' ')} {value:,.6g}"
                    if isinstance(value, float)
                    else f"{key.replace('_', ' ')} {value:,}"
                    for key, value in counts.items()
                ),
            }
        )
    return rows


def _tiles(
    run: str, sources: list[str], of_pages: list[str], page: dict[str, Any], summary: dict[str, Any]
) -> list[dict[str, Any]]:
    listed = downloaded = selected = 0
    for source in sources:
        totals = funnel.stage_totals(run, source)
        population = documents.population_of(source, of_pages)
        if population in (None, URLS):
            listed += totals.get("list", (0, 0))[0]
            downloaded += totals.get("download", (0, 0))[1]
        if not population:
            selected += totals.get("select", totals.get("trim", (0, 0)))[1]
    read = [funnel.stage_totals(run, source)["extract"] for source in of_pages]
    tiles = [{"value": f"{sum(kept for _, kept in read):,}", "label": "documents read", "bad": False}] if read else []
    tiles += [
        {"value": f"{listed:,}", "label": "rows listed", "bad": False},
        {"value": f"{downloaded:,}", "label": "images downloaded", "bad": False},
        {"value": f"{selected:,}", "label": "samples selected", "bad": False},
    ]
    tiles += [
        {"value": pack["fill"], "label": f"of {pack['name']} packs filled", "bad": False}
        for pack in page["packs"]
        if "heldout" not in pack["name"]
    ]
    if page["training"]:
        tiles += [
            {"value": stage["heldout"], "label": f"held-out loss, {stage['name']}", "bad": False}
            for stage in page["training"]["stages"]
            if stage["heldout"] != "–"
        ][:3]
    if summary.get("balance"):
        tiles.append({"value": str(len(summary["balance"])), "label": "accounting errors", "bad": True})
    return tiles


def _subtitle(state: dict[str, Any]) -> str:
    records = list(state["stages"].values())
    if not records:
        return "nothing has run yet"
    started = datetime.fromtimestamp(min(r.get("started", 0.0) for r in records), UTC)
    seconds = sum(r.get("seconds", 0.0) for r in records)
    failed = sum(1 for r in records if r["status"] != "done")
    return f"started {started:%Y-%m-%d %H:%M} UTC, {seconds:,.0f} s of work, " + (
        f"{failed} of {len(records)} stages not finished" if failed else f"all {len(records)} stages finished"
    )
