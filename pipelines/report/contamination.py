"""The report's view of evaluation sets: how many samples they have too, and which is which, side by side."""

import base64
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import pyarrow.compute as pc

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import list_tables, table_path
from mmcorpus.pipelines.report.gallery import Card, load_samples, uids_at_hand

PAIRS: Final = 16
_COLUMNS: Final = (
    {"text_match", "text_overlap"},
    {"image_match", "image_distance"},
    {"evaluation_match", "evaluation_similarity"},
)


def section(run: str, sources: Sequence[str], max_shards: int) -> dict[str, Any] | None:
    """Counts by evaluation set, and matches as pairs: the sample, the evaluation item; None where nothing was compared.

    Of a sample that matches by text and by picture both pairs are shown. Nearest pictures and fullest texts come first.
    """
    rows: list[dict[str, str]] = []
    pairs: list[dict[str, Any]] = []
    compared = False
    for source in sources:
        for scorer in _scorers(run, source):
            compared = True
            own_rows, own_pairs = _matches(run, source, scorer, max_shards)
            rows += own_rows
            pairs += own_pairs
    if not compared:
        return None
    return {"rows": rows, "pairs": pairs}


def _scorers(run: str, source: str) -> list[str]:
    """The names under which samples were compared with evaluation sets."""
    root = storage.join(run, "scores", source)
    return [
        name
        for name, shards in list_tables(root).items()
        if any(columns <= set(storage.read_schema(table_path(root, name, shards[0])).names) for columns in _COLUMNS)
    ]


def _matches(run: str, source: str, scorer: str, max_shards: int) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    from mmcorpus.curation.evaluations import find_matches, read_matched_items
    from mmcorpus.curation.evaluations.matches import index_of

    scores, shards = storage.join(run, "scores", source), storage.join(run, "shards", source)
    table = find_matches(scores, scorer)
    counts: Counter[tuple[str, str]] = Counter()
    for by, item in zip(table["by"].to_pylist(), table["item"].to_pylist(), strict=True):
        counts[item.partition("/")[0], by] += 1
    rows = [
        {"source": source, "set": name, "by": by, "count": f"{count:,}"} for (name, by), count in sorted(counts.items())
    ]
    at_hand = table.filter(pc.field("uid").isin(uids_at_hand(shards, max_shards)))
    found = sorted(
        at_hand.to_pylist(),
        key=lambda row: (_missed(row), row["uid"], row["by"]),
    )[:PAIRS]
    own = load_samples(shards, {row["uid"] for row in found}, max_shards)
    index = index_of(scores, scorer)
    there = index is not None and storage.exists(storage.join(index, "index.json"))
    items = read_matched_items(index, {row["item"] for row in found}) if index is not None and there else {}
    pairs = []
    for row in found:
        if row["uid"] in own:
            picture, caption = own[row["uid"]]
            item = items.get(row["item"])
            shown = base64.b64encode(item.thumbnail).decode() if item else ""
            pairs.append(
                {
                    "sample": Card(uid=row["uid"], picture=picture, caption=caption, note=f"{source}: {_note(row)}"),
                    "item": Card(
                        uid=row["item"],
                        picture=f"data:image/jpeg;base64,{shown}" if shown else "",
                        caption=item.text if item else "(the index is not there any more)",
                        note=row["item"],
                    ),
                    "by": row["by"],
                }
            )
    return rows, pairs


def _missed(row: dict[str, Any]) -> float:
    """Distance from an exact match, 0-1: of a picture, of an embedding, or the share of a text that is missed."""
    if row["by"] == "image":
        return float(row["distance"]) / 64
    return 1 - float(row["similarity"] if row["by"] == "embedding" else row["covered"])


def _note(row: dict[str, Any]) -> str:
    if row["by"] == "image":
        return f"{row['distance']} of 64 bits differ"
    if row["by"] == "embedding":
        return f"cosine {row['similarity']:.3f}"
    return f"{row['overlap']:.0%} of its n-grams, {row['covered']:.0%} of the item's"
