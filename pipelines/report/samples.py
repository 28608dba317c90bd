"""The report's pictures: samples kept, both ends of what is ranked, and samples dropped by each rule."""

import re
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.selection.expression import ranked_column
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.scores import list_tables, load_scores, table_path
from mmcorpus.pipelines.recipe.schema import DFN
from mmcorpus.pipelines.report.gallery import cards, load_samples, texts_by_uid, uids_at_hand
from mmcorpus.pipelines.report.scores import explained

CARDS_PER_RULE: Final = 7
KEPT_CARDS: Final = 14


def galleries(run: str, source: str, max_shards: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(galleries: kept samples, then those that each rule dropped, most first; what no picture exists of, as rows)."""
    root = storage.join(run, "shards", source)
    at_hand = pa.array(uids_at_hand(root, max_shards), pa.string())
    stages = ledger.read_stages(storage.join(run, "ledger", source))
    chosen: list[tuple[str, str, dict[str, str]]] = []  # title, text, and by uid the note under its picture
    lost: list[dict[str, Any]] = []
    if "select" in stages:
        kept = stages["select"].filter(pc.field("verdict") == ledger.KEPT)
        shown = dict.fromkeys(_notes(kept, at_hand, KEPT_CARDS), "")
        chosen.append((f"{source}: kept", f"{kept.num_rows:,} samples", shown))
    chosen += _ends(run, source, at_hand)
    urls = texts_by_uid(root, "url", max_shards)
    for stage, table in stages.items():
        for rule, dropped in by_rule(table):
            pictured = _notes(dropped, at_hand, CARDS_PER_RULE)
            if pictured and stage != "list":
                chosen.append((f"{source}, {stage}: {rule}", f"dropped {dropped.num_rows:,}", pictured))
            else:
                example = dropped.slice(0, 1).to_pylist()[0]
                lost.append(
                    {
                        "source": source,
                        "stage": stage,
                        "rule": rule,
                        "count": dropped.num_rows,
                        "detail": (example["value"] or "").removeprefix(f"{rule}: ") or "–",
                        "url": urls.get(example["uid"], ""),
                    }
                )
    loaded = load_samples(root, {uid for *_, notes in chosen for uid in notes}, max_shards)
    return [{"title": title, "text": text, "cards": cards(loaded, notes)} for title, text, notes in chosen], lost


def _ends(run: str, source: str, at_hand: pa.Array) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Both ends of each perplexity, and of what the selection ranks: what a share cuts off is to be seen. The filtering
    network's are shown with it."""
    root = storage.join(run, "scores", source)
    there = list_tables(root)
    ranked = [found[0] for clause in (explained(run, source) or {"clauses": ()})["clauses"]
              if (found := ranked_column(clause["clause"]))]  # fmt: skip
    ranked += [f"{name}.ppl" for name, shards in there.items()
               if "ppl" in storage.read_schema(table_path(root, name, shards[0])).names]  # fmt: skip
    for column in dict.fromkeys(ranked):
        if column.partition(".")[0] not in there or column.startswith(f"{DFN}."):
            continue
        table = load_scores(root, columns=[column]).drop_null()
        table = table.filter(pc.is_in(table["uid"], value_set=at_hand))
        for order, title in (("ascending", "lowest"), ("descending", "highest")):
            rows = table.sort_by([(column, order), ("uid", "ascending")]).slice(0, CARDS_PER_RULE).to_pylist()
            yield f"{source}: {title} {column}", "", {row["uid"]: f"{row[column]:.4g}" for row in rows}


def short(value: str) -> str:
    """The deciding value with its numbers cut to four digits after the point."""
    return re.sub(r"(\.\d{4})\d+", r"\1", value)


def by_rule(table: pa.Table) -> list[tuple[str, pa.Table]]:
    """The rows of a stage's ledger that each rule dropped, most first."""
    return [(rule, table.filter(pc.field("rule") == rule)) for rule in ledger.dropped_by(table)]


def _notes(table: pa.Table, at_hand: pa.Array, most: int) -> dict[str, str]:
    """The first samples with a picture at hand, each with the value that decided."""
    rows = table.filter(pc.is_in(table["uid"], value_set=at_hand)).sort_by("uid").slice(0, most).to_pylist()
    return {row["uid"]: short(row["value"] or "") for row in rows}
