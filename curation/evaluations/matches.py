"""Matches: the samples of a source that an evaluation set has too, with the evaluation items themselves."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.evaluations.index import SHOWN
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import list_tables, read_origin, read_scores, table_path
from mmcorpus.filters.contamination import ITEMS

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

SCORER: Final = "contamination"
_KINDS: Final = {
    "text": ("text_match", "text_overlap", "text_covered"),
    "image": ("image_match", "image_distance"),
    "embedding": ("evaluation_match", "evaluation_similarity"),
}
"""The column that names the item and those that measure, whose last word is the measure's name in `find_matches`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchedItem:
    """An evaluation item, to be shown."""

    name: str
    """`set/id`."""
    text: str
    """All its texts, a line each, cut short."""
    thumbnail: bytes
    """Its first picture as a small JPEG; empty if it has none."""


def find_matches(scores_root: str, scorer: str = SCORER, *, similarity: float = 0.9) -> pa.Table:
    """The samples of a source that match an evaluation item, in the order of shards and rows.

    Columns: uid; item (`set/id`); by (`text`, `image` or `embedding`); overlap and covered (of texts, see the scorer),
    distance (bits, of images), similarity (cosine, of embeddings); null where they say nothing. A sample that matches
    in several ways is there as often.

    Args:
        scores_root: the source's scores, `scores/<source>`.
        scorer: the name under which the recipe has the scorer: `contamination`, or a `clip` with `evaluations`.
        similarity: least cosine of embeddings that is a match; every picture has some nearest one.
    """
    schema = pa.schema(
        {
            "uid": pa.string(),
            "item": pa.string(),
            "by": pa.string(),
            "overlap": pa.float64(),
            "covered": pa.float64(),
            "distance": pa.int32(),
            "similarity": pa.float32(),
        }
    )
    parts = [schema.empty_table()]
    for shard in list_tables(scores_root).get(scorer, []):
        table = read_scores(scores_root, scorer, shard)
        for by, (match, *measures) in _KINDS.items():
            if match in table.column_names:
                matched = pc.fill_null(pc.not_equal(table[match], ""), False)
                if by == "embedding":
                    matched = pc.and_(matched, pc.fill_null(pc.greater_equal(table[measures[0]], similarity), False))
                own = table.filter(matched)
                columns = {"uid": own["uid"], "item": own[match], "by": pa.array([by] * own.num_rows, pa.string())}
                parts.append(pa.table(columns | {measure.rpartition("_")[2]: own[measure] for measure in measures}))
    return pa.concat_tables(parts, promote_options="default")


def index_of(scores_root: str, scorer: str = SCORER) -> str | None:
    """The index with which a source was compared, by its tables; None if it was not."""
    shards = list_tables(scores_root).get(scorer)
    if not shards:
        return None
    parameters = read_origin(storage.read_schema(table_path(scores_root, scorer, shards[0]))).get("parameters", {})
    return parameters.get("index") or parameters.get("evaluations")


def read_matched_items(index: str, names: Collection[str]) -> dict[str, MatchedItem]:
    """The evaluation items of these names, from the index; only the row groups that hold them are read."""
    known = storage.read_table(storage.join(index, ITEMS), columns=["name"])["name"]
    rows = np.flatnonzero(pc.is_in(known, value_set=pa.array(sorted(names), pa.string())).to_numpy())
    found: dict[str, MatchedItem] = {}
    with storage.open_parquet(storage.join(index, SHOWN)) as file:
        start = 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            wanted = rows[(rows >= start) & (rows < end)]
            if len(wanted):
                shown = file.read_row_group(group).take(pa.array(wanted - start)).to_pylist()
                for name, row in zip(known.take(pa.array(wanted)).to_pylist(), shown, strict=True):
                    found[name] = MatchedItem(name=name, text=row["text"], thumbnail=row["thumbnail"])
            start = end
    return found
