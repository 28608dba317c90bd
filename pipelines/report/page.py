"""The report as a page: what a finished or half-finished run's folder holds, laid out for a person."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Final

from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.ledger import StageCount
from mmcorpus.filters.secrets import masked_text
from mmcorpus.pipelines.recipe.populations import IMAGES, URLS
from mmcorpus.pipelines.report import (
    contamination,
    dfn,
    documents,
    duplicates,
    evaluation,
    reselected,
    samples,
    scores,
    training,
    truth,
)
from mmcorpus.pipelines.truth.run_verdict import RunVerdict, judge_run

MAX_SHARDS: Final = 8
"""Galleries draw from the first shards of a source only, so that a report of a hundred million samples stays cheap."""
_SECTIONS: Final = {
    "funnel": "Funnel", "truth": "Truth", "rules": "Rules", "scores": "Scores", "documents": "Documents",
    "lost": "Failures", "galleries": "Samples", "reselected": "Selected once more", "duplicates": "Duplicates",
    "evaluations": "Evaluations",
    "dfn": "Filtering network", "packing": "Packing", "training": "Training", "evaluation": "Evaluation",
    "stages": "Time", "provenance": "Provenance", "recipe": "Recipe",
}  # fmt: skip
"""Titles of the sections in page order, by what the template calls them."""
_STAGE_NAMES: Final = {
    "index": "found", "extract": "extracted", "capture": "latest captures", "trim": "with nodes left", "list": "listed",
    "download": "downloaded", "write": "written", "select": "selected", "split": "split", "pack": "packed",
}  # fmt: skip


def render_page(run: str, verdict: RunVerdict | None = None) -> str:
    """The report of the run in folder `run`, as one self-contained HTML page.

    verdict: on the samples of a generated site; judged here if None.

    Whatever the run has so far is shown; parts that it does not have are left out. Captions and URLs come from the
    web and are escaped by the template engine.
    """
    import jinja2

    files = resources.files("mmcorpus.pipelines.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_without_secrets
    )
    environment.filters |= {"n": _formatted(","), "share": _formatted(".1%"), "nats": _formatted(".3f")}
    parts = ("template", "macros", "documents", "duplicates", "dfn", "reselected")
    texts = {f"{name}.html.jinja": (files / f"{name}.html.jinja").read_text("utf-8") for name in parts}
    environment.loader = jinja2.DictLoader(texts)
    style = "".join((files / name).read_text("utf-8") for name in ("style.css", "documents.css", "duplicates.css"))
    content = _content(run, verdict or judge_run(run))
    return environment.get_template("template.html.jinja").render(style=style, **content)


def _without_secrets(value: Any) -> Any:
    """Each value as the page shows it: addresses of images can be signed, and details of errors can quote them."""
    return masked_text(value) if type(value) is str else value


def _formatted(form: str) -> Callable[[Any], str]:
    return lambda value: "–" if value is None else format(value, form)


def _content(run: str, verdict: RunVerdict) -> dict[str, Any]:
    state = _json(run, "run.json") or {"name": "run", "stages": {}, "order": []}
    balance = (_json(run, "summary.json") or {}).get("balance")
    sources = _sources(run, state)
    of_pages = documents.document_sources(run, sources)
    populations = {source: documents.population_of(source, of_pages) for source in sources}
    populations |= dict.fromkeys(populations.keys() & reselected.sources(run).keys(), reselected.RESELECTED)
    asked = evaluation.section(run, [name.removeprefix("evaluate/") for name in state.get("order", [])])
    funnels = {source: ledger.funnel(storage.join(run, "ledger", source)) for source in sources}
    # Of documents the images alone are shown one by one.
    drawn = {
        source: samples.galleries(run, source, MAX_SHARDS)
        for source, population in populations.items()
        if population in (None, IMAGES)
    }
    page: dict[str, Any] = {
        "title": state.get("name") or "run",
        "subtitle": _subtitle(state),
        "balance": balance,
        "stage_names": _STAGE_NAMES,
        "funnel": funnels,
        "truth": truth.section(verdict),
        "rules": {source: found for source in sources if (found := scores.explained(run, source))},
        "scores": {source: charts for source in sources if (charts := scores.charts(run, source))},
        "documents": [documents.section(run, source, MAX_SHARDS) for source in of_pages],
        "lost": [row for source, (_, lost) in drawn.items() if populations[source] is None for row in lost],
        "galleries": [gallery for shown, _ in drawn.values() for gallery in shown],
        "reselected": reselected.section(run, asked, MAX_SHARDS),
        "duplicates": [duplicates.section(run, one, MAX_SHARDS) for one in duplicates.passes(run, sources)],
        "evaluations": contamination.section(run, sources, MAX_SHARDS),
        "dfn": dfn.section(run, sources, MAX_SHARDS),
        "packing": training.packs(run, state["stages"]),
        "training": training.training(run, [name.removeprefix("train/") for name in state.get("order", [])]),
        "evaluation": asked,
        "stages": [_stage(name, state["stages"][name]) for name in state.get("order", state["stages"])],
        "provenance": [row for source in sources for row in scores.scorers(run, source)],
        "recipe": _text(run, "recipe.yaml"),
        "max_shards": MAX_SHARDS,
    }
    page["tiles"] = _tiles(populations, funnels, page)
    page["contents"] = [(key, title) for key, title in _SECTIONS.items() if page[key]]
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


def _stage(name: str, record: dict[str, Any]) -> dict[str, Any]:
    counts = {
        k: v for k, v in record.get("counts", {}).items() if isinstance(v, int | float) and not isinstance(v, bool)
    }
    seconds = record.get("seconds", 0.0)
    done = counts.get("samples") or counts.get("rows") or counts.get("count")
    return {
        "name": name,
        "status": record["status"],
        "seconds": seconds,
        "rate": f"{done / seconds:,.0f}/s" if done and seconds > 0 else "–",
        "counts": ", ".join(
            f"{key.replace('_', ' ')} {format(value, ',.6g' if isinstance(value, float) else ',')}"
            for key, value in counts.items()
        ),
    }


def _tiles(
    populations: Mapping[str, str | None], funnels: Mapping[str, list[StageCount]], page: dict[str, Any]
) -> list[tuple[str, str]]:
    """Numbers and labels at the head of the page."""
    stages = {source: {count.stage: count for count in counts} for source, counts in funnels.items()}

    def total(of: Sequence[str | None], field: str, *names: str) -> str:
        """Summed over the sources of these populations: a count of the first of the stages that each has."""
        own = [stages[source] for source, population in populations.items() if population in of]
        found = (next((counts[name] for name in names if name in counts), None) for counts in own)
        return f"{sum(getattr(count, field) for count in found if count is not None):,}"

    tiles = [(total([""], "kept", "extract"), "documents read")] if page["documents"] else []
    tiles += [
        (total([None, URLS], "entered", "list"), "rows listed"),
        (total([None, URLS], "kept", "download"), "images downloaded"),
        (total([None, ""], "kept", "select", "trim"), "samples selected"),
    ]
    share, nats = _formatted(".1%"), _formatted(".3f")
    packs = [pack for pack in page["packing"] if "heldout" not in pack["name"]]
    tiles += [(share(pack["fill"]), f"of {pack['name']} packs filled") for pack in packs]
    trained = [stage for stage in (page["training"] or {"stages": ()})["stages"] if stage["heldout"] is not None]
    return tiles + [(nats(stage["heldout"]), f"held-out loss, {stage['name']}") for stage in trained[:3]]


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
