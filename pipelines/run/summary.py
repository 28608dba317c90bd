"""`summary.json`: where every sample went, what each stage took, what the rules caught of a generated site's truth."""

import dataclasses
from typing import Any

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.ledger import check_balance, funnel, read_stages
from mmcorpus.curation.synthetic.miniweb.site import PAGES_TRUTH
from mmcorpus.pipelines.recipe.populations import folders
from mmcorpus.pipelines.recipe.schema import WEB, Recipe
from mmcorpus.pipelines.run.state import RunState
from mmcorpus.pipelines.truth.page_verdict import PagesVerdict, compare_pages_with_truth
from mmcorpus.pipelines.truth.verdict import compare_with_truth


def make_summary(recipe: Recipe, root: str, state: RunState) -> dict[str, Any]:
    """The summary of a run as it stands. Invariant 1 is checked; `balance` names every place that breaks it."""

    sources: dict[str, Any] = {}
    balance: list[str] = []
    for source in (name for names in folders(recipe.file).values() for name in names):
        folder = storage.join(root, "ledger", source)
        if not read_stages(folder):
            continue
        sources[source] = [dataclasses.asdict(count) for count in funnel(folder)]
        balance += [str(problem) for problem in check_balance(folder)]
    pages = _page_verdicts(recipe, root, list(sources))
    return {
        "name": recipe.file.name,
        "sources": sources,
        "balance": balance,
        "stages": {
            name: {
                "status": record.status,
                "seconds": round(record.seconds, 3),
                "counts": record.counts,
                "failures": record.failures,
            }
            for name, record in state.stages.items()
        },
        "seconds": round(sum(record.seconds for record in state.stages.values()), 3),
        "truth": [
            verdict.as_dict()
            for verdict in [
                *_verdicts(recipe, root, list(sources)),
                *(one for own in pages.values() for one in own.verdicts),
            ]
        ],
        "extraction": {source: own.means() for source, own in pages.items() if own.pages},
    }


def site_folder(recipe: Recipe, root: str) -> str | None:
    """The folder of the run's site; None if it downloads from the web."""
    web = recipe.file.web
    if web is None:
        return None
    return web.folder or storage.join(root, "web")


def _verdicts(recipe: Recipe, root: str, finished: list[str]) -> list[Any]:
    folder = site_folder(recipe, root)
    if folder is None or not storage.exists(storage.join(folder, "truth.parquet")):
        return []
    lists = {
        name: source.urls.removeprefix(WEB).strip("/").removesuffix(".parquet")
        for name, source in recipe.file.sources.items()
        if source.urls is not None and source.urls.startswith(WEB) and name in finished
    }
    return list(compare_with_truth(root, storage.join(folder, "truth.parquet"), lists)) if lists else []


def _page_verdicts(recipe: Recipe, root: str, finished: list[str]) -> dict[str, PagesVerdict]:
    """By source, how the pages of the run's site were read and judged."""
    folder = site_folder(recipe, root)
    truth = None if folder is None else storage.join(folder, f"{PAGES_TRUTH}.parquet")
    if truth is None or not storage.exists(truth):
        return {}
    return {
        name: compare_pages_with_truth(root, truth, name)
        for name, source in recipe.file.sources.items()
        if source.kind == "document" and name in finished and any(given.startswith(WEB) for given in source.inputs)
    }
