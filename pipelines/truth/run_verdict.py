"""A run held against the truth of the generated site that it collected; there is none for the web's own."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mmcorpus.curation.store import storage
from mmcorpus.curation.synthetic.miniweb.site import PAGES_TRUTH
from mmcorpus.pipelines.recipe.populations import first_of
from mmcorpus.pipelines.recipe.schema import WEB
from mmcorpus.pipelines.recipe.yaml_source import read_stored
from mmcorpus.pipelines.truth.page_verdict import compare_pages_with_truth
from mmcorpus.pipelines.truth.verdict import CorruptionVerdict, SelectionVerdict, compare_with_truth

TRUTH_FILE: Final = "truth.json"
"""In a run's folder, beside the report that wrote it."""


@dataclass(kw_only=True)
class RunVerdict:
    """Verdicts on a site's samples."""

    verdicts: list[CorruptionVerdict] = field(default_factory=list)
    """Of listed rows by what was done to them, then of pages and their nodes."""
    selections: list[SelectionVerdict] = field(default_factory=list)
    """Where others select from a source once more, what each of the selections drops, the first one's before."""
    extraction: dict[str, dict[str, float]] = field(default_factory=dict)
    """By source of documents, the means of its pages' scores (`PagesVerdict.means`)."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, for truth.json."""
        return {
            "truth": [verdict.as_dict() for verdict in self.verdicts],
            "selections": [dataclasses.asdict(selection) for selection in self.selections],
            "extraction": self.extraction,
        }


def judge_run(run: str) -> RunVerdict:
    """The verdicts on every source of a run that has a ledger and was read from a site with a truth; empty without."""
    recipe, site = _recipe(run), _site(run)
    sources = {
        name: given
        for name, given in (recipe.get("sources") or {}).items()
        if storage.list_names(storage.join(run, "ledger", name))
    }
    found = RunVerdict()
    truth, pages_truth = (storage.join(site, f"{name}.parquet") for name in ("truth", PAGES_TRUTH))
    lists = {
        name: given["urls"].removeprefix(WEB).strip("/").removesuffix(".parquet")
        for name, given in sources.items()
        if (given.get("urls") or "").startswith(WEB)
    }
    if lists and storage.exists(truth):
        found.verdicts += compare_with_truth(run, truth, lists)
        found.selections += _selections(run, truth, lists, sources)
    for name, given in sources.items():
        pages = given.get("pages") or []
        from_site = any(path.startswith(WEB) for path in ([pages] if isinstance(pages, str) else pages))
        if from_site and given.get("kind") == "document" and storage.exists(pages_truth):
            own = compare_pages_with_truth(run, pages_truth, name)
            found.verdicts += own.verdicts
            if own.pages:
                found.extraction[name] = own.means()
    return found


def _selections(
    run: str, truth: str, lists: Mapping[str, str], sources: Mapping[str, Mapping[str, Any]]
) -> Iterator[SelectionVerdict]:
    """A verdict on each selection from a list of the site that is selected from more than once."""
    reselected = {name: given["reselect"] for name, given in sources.items() if given.get("reselect")}
    for source, listed in lists.items():
        others = [name for name in reselected if first_of(name, reselected) == source]
        others = [name for name in others if storage.exists(storage.join(run, "ledger", name, "select.parquet"))]
        for name in (source, *others) if others else ():
            again = None if name == source else name
            yield SelectionVerdict.of(name, compare_with_truth(run, truth, {source: listed}, again))


def read_truth(run: str) -> dict[str, dict[str, Any]]:
    """By uid, what the run's site knows of each pair (spoil, caption, true_caption); empty if it is not generated."""
    path = storage.join(_site(run), "truth.parquet")
    if not storage.exists(path):
        return {}
    rows = storage.read_table(path, ["uid", "spoil", "caption", "true_caption"]).to_pylist()
    return {row["uid"]: row for row in rows}


def _site(run: str) -> str:
    """The folder in which the run's site is, if it has one."""
    return (_recipe(run).get("web") or {}).get("folder") or storage.join(run, "web")


def _recipe(run: str) -> dict[str, Any]:
    return read_stored(storage.join(run, "recipe.yaml"))
