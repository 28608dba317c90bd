"""The report's pictures: samples kept, and samples dropped by each rule."""

import re
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.store import ledger, storage
from mmcorpus.pipelines.report.gallery import Card, load_samples, uids_at_hand, urls_by_uid

CARDS_PER_RULE: Final = 7
KEPT_CARDS: Final = 14


def galleries(run: str, source: str, max_shards: int) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """(galleries: kept samples, then those that each rule dropped, most first; what no picture exists of, as rows)."""
    root = storage.join(run, "shards", source)
    at_hand = pa.array(uids_at_hand(root, max_shards), pa.string())
    stages = ledger.read_stages(storage.join(run, "ledger", source))
    chosen: list[tuple[str, str, list[dict[str, Any]]]] = []
    lost: list[dict[str, str]] = []
    if "select" in stages:
        kept = stages["select"].filter(pc.field("verdict") == ledger.KEPT)
        picked = _at_hand(kept, at_hand).slice(0, KEPT_CARDS).select(["uid"]).to_pylist()
        chosen.append((f"{source}: kept", f"{kept.num_rows:,} samples", picked))
    urls = urls_by_uid(root, max_shards)
    for stage, table in stages.items():
        for rule, dropped in _by_rule(table):
            pictured = _at_hand(dropped, at_hand).slice(0, CARDS_PER_RULE).to_pylist()
            if pictured and stage != "list":
                chosen.append((f"{source}, {stage}: {rule}", f"dropped {dropped.num_rows:,}", pictured))
            else:
                example = dropped.slice(0, 1).to_pylist()[0]
                lost.append(
                    {
                        "source": source,
                        "stage": stage,
                        "rule": rule,
                        "count": f"{dropped.num_rows:,}",
                        "detail": (example["value"] or "").removeprefix(f"{rule}: ") or "–",
                        "url": urls.get(example["uid"], ""),
                    }
                )
    pictures = load_samples(root, {row["uid"] for *_, rows in chosen for row in rows}, max_shards)
    shown = [
        {
            "title": title,
            "text": text,
            "cards": [
                Card(
                    uid=row["uid"],
                    picture=pictures[row["uid"]][0],
                    caption=pictures[row["uid"]][1],
                    note=short(row.get("value") or ""),
                )
                for row in rows
                if row["uid"] in pictures
            ],
        }
        for title, text, rows in chosen
    ]
    return shown, lost


def short(value: str) -> str:
    """The deciding value with its numbers cut to four digits after the point."""
    return re.sub(r"(\.\d{4})\d+", r"\1", value)


def _by_rule(table: pa.Table) -> list[tuple[str, pa.Table]]:
    """The dropped rows of each rule, most first."""
    dropped = table.filter(pc.field("verdict") == ledger.DROPPED)
    counts = sorted((-entry["counts"], entry["values"]) for entry in dropped["rule"].value_counts().to_pylist())
    return [(rule, dropped.filter(pc.field("rule") == rule)) for _, rule in counts]


def _at_hand(table: pa.Table, at_hand: pa.Array) -> pa.Table:
    return table.filter(pc.is_in(table["uid"], value_set=at_hand)).sort_by("uid")
