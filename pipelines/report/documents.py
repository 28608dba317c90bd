"""The report's view of documents: the counts of each rule, opt-out signals, and pages to look at."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.store import ledger, storage
from mmcorpus.pipelines.recipe.populations import IMAGES, PARAGRAPHS, URLS
from mmcorpus.pipelines.report import pages
from mmcorpus.pipelines.report.gallery import texts_by_uid
from mmcorpus.pipelines.report.samples import by_rule, short

OPT_OUT: Final = "opt_out"
SIGNALS: Final = 12
"""Opt-out signals shown, the most frequent ones."""
EXAMPLE_CHARACTERS: Final = 160
_WHOLE: Final = ("meta ", "header ", "X-Robots-Tag ")
"""Signals told apart by their whole text; the others by their kind, as no two sites write the same line."""
_WHAT: Final = {"": "documents", f".{URLS}": "image addresses", f".{IMAGES}": "images", f".{PARAGRAPHS}": "paragraphs"}


def document_sources(run: str, names: Iterable[str]) -> list[str]:
    """Of the names that have ledgers, those of sources that are read from pages."""
    return [
        name
        for name in names
        if not name.endswith(f".{URLS}")
        and storage.exists(storage.join(run, "ledger", name, f"{pages.EXTRACT}.parquet"))
    ]


def population_of(name: str, sources: Sequence[str]) -> str | None:
    """The population that a name stands for: `` (documents), `urls`, `images`, `paragraphs`; None if of none."""
    for source in sources:
        if name == source or name.startswith(f"{source}."):
            return name.removeprefix(source).removeprefix(".")
    return None


def section(run: str, source: str, max_shards: int) -> dict[str, Any]:
    """One source of documents: what each rule dropped, with an example, the opt-out signals, and pages to look at."""
    stages = {name: ledger.read_stages(storage.join(run, "ledger", f"{source}{name}")) for name in _WHAT}
    rules = [row for name in _WHAT for row in _rules(run, source, name, stages[name], max_shards)]
    return {
        "source": source,
        "text": ", ".join(_total(name, found) for name, found in stages.items() if found),
        "rules": rules,
        "signals": _signals(stages),
        "pages": pages.choose(run, source, stages[""], max_shards),
    }


def _total(name: str, stages: dict[str, pa.Table]) -> str:
    """`280 documents of 300` : what came through of what came in."""
    judged = [table for stage, table in stages.items() if stage not in ("split", "pack")]
    first, last = judged[0], judged[-1]
    kept = pc.sum(pc.equal(last["verdict"], ledger.KEPT)).as_py() or 0
    return f"{kept:,} of {first.num_rows:,} {_WHAT[name]} kept"


def _rules(run: str, source: str, name: str, stages: dict[str, pa.Table], max_shards: int) -> list[dict[str, Any]]:
    """Each rule's drops, most first within its stage, with the first example that is at hand."""
    dropped = [(stage, rule, rows) for stage, table in stages.items() for rule, rows in by_rule(table)]
    shown = _shown(run, f"{source}{name}", max_shards) if dropped else {}
    at_hand = pa.array(list(shown), pa.string())
    rows = []
    for stage, rule, table in dropped:
        entries = table.sort_by("uid")
        known = entries.filter(pc.is_in(entries["uid"], value_set=at_hand))
        example = (known if len(known) else entries).slice(0, 1).to_pylist()[0]
        rows.append(
            {
                "of": _WHAT[name],
                "stage": stage,
                "rule": rule,
                "count": len(table),
                "value": _cut(short((example["value"] or "").removeprefix(f"{rule}: "))),
                "example": _cut(shown.get(example["uid"], "")),
            }
        )
    return rows


def _shown(run: str, population: str, max_shards: int) -> dict[str, str]:
    """By uid, what a person knows a row of the first shards by: its address, or of paragraphs the text."""
    kind = population.rpartition(".")[2]
    column = "caption" if kind == PARAGRAPHS else "url"
    folder = "shards" if kind in (PARAGRAPHS, IMAGES, URLS) else "documents"
    return texts_by_uid(storage.join(run, folder, population), column, max_shards)


def _cut(text: str) -> str:
    return text if len(text) <= EXAMPLE_CHARACTERS else f"{text[:EXAMPLE_CHARACTERS]}…"


def _signals(stages: dict[str, dict[str, pa.Table]]) -> list[tuple[str, str]]:
    """Opt-out signals, with the number of documents and image addresses that each excluded."""
    found: dict[str, Counter[str]] = {}
    for name, stage in (("", "trim"), (f".{URLS}", pages.EXTRACT), (f".{URLS}", "download")):
        table = stages[name].get(stage)
        if table is None:
            continue
        for entry in table.filter(pc.field("rule") == OPT_OUT)["value"].value_counts().to_pylist():
            signal = (entry["values"] or "?").removeprefix(f"{OPT_OUT}: ")
            kind = signal if signal.startswith(_WHOLE) else signal.partition(":")[0]
            found.setdefault(kind, Counter())[_WHAT[name]] += entry["counts"]
    most = sorted(found.items(), key=lambda item: (-item[1].total(), item[0]))[:SIGNALS]
    return [
        (_cut(kind), ", ".join(f"{of}: {count:,}" for of, count in sorted(counts.items()))) for kind, counts in most
    ]
