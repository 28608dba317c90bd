"""The report's pictures: samples kept, samples dropped by each rule, clusters of duplicates."""

from collections import defaultdict
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from curation import ledger, storage
from pipelines.report.gallery import Card, load_samples, uids_at_hand

CARDS_PER_RULE: Final = 8
CLUSTERS: Final = 12


def galleries(run: str, source: str, max_shards: int) -> list[dict[str, Any]]:
    """Kept samples first, then one gallery for each rule that dropped something, most first."""
    root = storage.join(run, "shards", source)
    at_hand = pa.array(uids_at_hand(root, max_shards), pa.string())
    stages = ledger.read_stages(storage.join(run, "ledger", source))
    chosen: list[tuple[str, str, list[tuple[str, str]], list[tuple[str, str]]]] = []
    if "select" in stages:
        kept = _at_hand(stages["select"], at_hand, pc.field("verdict") == ledger.KEPT)
        picked = [(row["uid"], "") for row in kept.slice(0, 2 * CARDS_PER_RULE).to_pylist()]
        total = stages["select"].filter(pc.field("verdict") == ledger.KEPT).num_rows
        chosen.append((f"{source}: kept", f"{total:,} samples", picked, []))
    for stage, table in stages.items():
        dropped = table.filter(pc.field("verdict") == ledger.DROPPED)
        counts = sorted(
            ((v["counts"], v["values"]) for v in dropped["rule"].value_counts().to_pylist()),
            key=lambda c: (-c[0], c[1]),
        )
        for count, rule in counts:
            of_rule = dropped.filter(pc.field("rule") == rule)
            pictured = _at_hand(of_rule, at_hand, None).slice(0, CARDS_PER_RULE).to_pylist()
            cards = [(row["uid"], row["value"] or "") for row in pictured]
            rows = (
                []
                if cards
                else [(row["uid"][:12] + "…", row["value"] or rule) for row in of_rule.slice(0, 3).to_pylist()]
            )
            chosen.append((f"{source}, {stage}: {rule}", f"dropped {count:,}", cards, rows))
    pictures = load_samples(root, {uid for *_, cards, _ in chosen for uid, _ in cards}, max_shards)
    return [
        {
            "title": title,
            "text": text,
            "cards": [
                Card(uid=uid, picture=pictures[uid][0], caption=pictures[uid][1], note=note)
                for uid, note in cards
                if uid in pictures
            ],
            "rows": rows,
        }
        for title, text, cards, rows in chosen
    ]


def _at_hand(table: pa.Table, at_hand: pa.Array, condition: Any) -> pa.Table:
    if condition is not None:
        table = table.filter(condition)
    return table.filter(pc.is_in(table["uid"], value_set=at_hand)).sort_by("uid")


def clusters(run: str, source: str, scores: pa.Table, max_shards: int) -> tuple[int, int, list[list[Card]]]:
    """(clusters, samples in them, the largest clusters as cards, survivor first), from the `repeats` scores."""
    if "repeats.image_cluster" not in scores.column_names:
        return 0, 0, []
    repeated = scores.filter(pc.greater(scores["repeats.image_copies"], 1))
    members = defaultdict(list)
    columns = ["uid", "repeats.image_cluster", "repeats.image_rank"]
    for row in repeated.select(columns).to_pylist():
        members[row["repeats.image_cluster"]].append((row["repeats.image_rank"], row["uid"]))
    root = storage.join(run, "shards", source)
    at_hand = set(uids_at_hand(root, max_shards))
    whole = [sorted(group) for group in members.values() if all(uid in at_hand for _, uid in group)]
    shown = sorted(whole, key=lambda group: (-len(group), group[0][1]))[:CLUSTERS]
    pictures = load_samples(root, {uid for group in shown for _, uid in group[:6]}, max_shards)
    cards = [
        [
            Card(
                uid=uid,
                picture=pictures[uid][0],
                caption=pictures[uid][1],
                note="" if rank == 0 else f"copy {rank}",
                marked=rank == 0,
            )
            for rank, uid in group[:6]
            if uid in pictures
        ]
        for group in shown
    ]
    return len(members), repeated.num_rows, cards
