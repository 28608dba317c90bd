"""The report's view of evaluation sets: how many samples they have too, and which is which, side by side."""

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
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
    found = [_matches(run, source, name, max_shards) for source in sources for name in _scorers(run, source)]
    if not found:
        return None
    return {"rows": [row for rows, _ in found for row in rows], "pairs": [pair for _, pairs in found for pair in pairs]}


def _scorers(run: str, source: str) -> list[str]:
    """The names under which samples were compared with evaluation sets."""
    root = storage.join(run, "scores", source)
    return [
        name
        for name, shards in list_tables(root).items()
        if any(columns <= set(storage.read_schema(table_path(root, name, shards[0])).names) for columns in _COLUMNS)
    ]


def _matches(
    run: str, source: str, scorer: str, max_shards: int
) -> tuple[list[tuple[str, str, str, int]], list[tuple[Card, Card]]]:
    from mmcorpus.curation.evaluations import find_matches, read_matched_items
    from mmcorpus.curation.evaluations.matches import index_of

    scores, shards = storage.join(run, "scores", source), storage.join(run, "shards", source)
    table = find_matches(scores, scorer)
    sets = (item.partition("/")[0] for item in table["item"].to_pylist())
    counts = Counter(zip(sets, table["by"].to_pylist(), strict=True))
    at_hand = table.filter(pc.field("uid").isin(uids_at_hand(shards, max_shards))).to_pylist()
    found = sorted(at_hand, key=lambda row: (_missed(row), row["uid"], row["by"]))[:PAIRS]
    own = load_samples(shards, {row["uid"] for row in found}, max_shards)
    index = index_of(scores, scorer)
    there = index is not None and storage.exists(storage.join(index, "index.json"))
    items = read_matched_items(index, {row["item"] for row in found}) if index is not None and there else {}
    pairs = []
    for row in found:
        if row["uid"] in own:
            name, item = row["item"], items.get(row["item"])
            text = item.text if item else "(the index is not there any more)"
            encoded = base64.b64encode(item.thumbnail).decode() if item else ""
            picture = f"data:image/jpeg;base64,{encoded}" if encoded else ""
            sample = replace(own[row["uid"]], note=f"{source}: {_note(row)}")
            pairs.append((sample, Card(uid=name, picture=picture, caption=text, note=name)))
    return [(source, *key, count) for key, count in sorted(counts.items())], pairs


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
