"""The report's duplicates: each pass's clusters by size, the largest as pictures, near pairs, the S-curve."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import list_tables, read_origin, read_scores, table_path
from mmcorpus.curation.store.shards import SUCCESS, list_shards, read_rows
from mmcorpus.pipelines.report import svg
from mmcorpus.pipelines.report.gallery import Card, load_samples, uids_at_hand

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

COLUMNS: Final = ("copies", "rank", "cluster")
"""Columns that every score table of a deduplication has."""
LARGEST: Final = 8
MEMBERS: Final = 6
"""Cards of a cluster."""
PAIRS: Final = 12
CURVE_TEXTS: Final = 1500
"""Texts whose pairs are all compared to measure recall."""
_EDGES: Final = (2, 3, 4, 6, 11, 21, 51, 101, 1001, 10001)
"""Lower edges of the bars of cluster sizes; the last is open."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pass:
    """One deduplication of a run."""

    name: str
    sources: tuple[str, ...]
    parameters: dict[str, Any]
    table: pa.Table
    """Of all its sources: source (its number), uid, copies, rank, cluster."""


def passes(run: str, sources: Sequence[str]) -> list[Pass]:
    """The deduplications whose tables the run holds, by name."""
    found: dict[str, list[str]] = {}
    for source in sources:
        root = storage.join(run, "scores", source)
        for name, shards in list_tables(root).items():
            if set(COLUMNS) <= set(storage.read_schema(table_path(root, name, shards[0])).names):
                found.setdefault(name, []).append(source)
    return [_read_pass(run, name, own) for name, own in sorted(found.items())]


def _read_pass(run: str, name: str, sources: list[str]) -> Pass:
    tables, parameters = [], dict[str, Any]()
    for number, source in enumerate(sources):
        root = storage.join(run, "scores", source)
        for shard in list_tables(root)[name]:
            table = read_scores(root, name, shard, ["uid", *COLUMNS])
            parameters = parameters or read_origin(table.schema).get("parameters", {})
            plain = table.replace_schema_metadata(None)
            tables.append(plain.append_column("source", pa.array(np.full(len(plain), number, np.int32))))
    return Pass(name=name, sources=tuple(sources), parameters=parameters, table=pa.concat_tables(tables))


def section(run: str, one: Pass, max_shards: int) -> dict[str, Any]:
    """All that the page shows of a pass."""
    known = one.table.filter(pc.is_valid(one.table["copies"]))
    survivors = known.filter(pc.equal(known["rank"], 0))
    sizes = np.asarray(survivors["copies"].to_numpy(), np.int64)
    sizes = sizes[sizes > 1]
    groups = _clusters_at_hand(run, one, known, max_shards)
    large = [group for group in groups if len(group) > 2]
    largest = sorted(large, key=lambda group: (-group[0]["copies"], group[0]["uid"]))[:LARGEST]
    near = [group for group in groups if len(group) == 2][: 4 * PAIRS]
    rows = [row for group in [*(group[:MEMBERS] for group in largest), *near] for row in group]
    loaded = {
        (number, uid): card
        for number, source in enumerate(one.sources)
        for uid, card in load_samples(
            storage.join(run, "shards", source), {row["uid"] for row in rows if row["source"] == number}, max_shards
        ).items()
    }
    pairs = [_pair(group, loaded) for group in near]
    pairs.sort(key=lambda pair: not pair["differ"])  # what is the same to the last pixel and letter shows little
    copies = known.num_rows - survivors.num_rows
    return {
        "name": one.name,
        "title": f"{one.name}: {_method(one.parameters)}",
        "text": _account(one, copies, sizes, one.table.num_rows - known.num_rows),
        "charts": _charts(run, one, sizes, max_shards),
        "clusters": [
            {"cards": (cards := _cards(group[:MEMBERS], loaded)), "more": group[0]["copies"] - len(cards)}
            for group in largest
        ],
        "pairs": pairs[:PAIRS],
    }


def _account(one: Pass, copies: int, sizes: np.ndarray, unknown: int) -> str:
    total = f"{one.table.num_rows:,} samples of {', '.join(one.sources)}"
    nothing = f" {unknown:,} had nothing to compare." if unknown else ""
    if not copies:
        return f"No copies in {total}.{nothing}"
    held = f"in {len(sizes):,} clusters of up to {int(sizes.max(initial=1)):,}" if len(sizes) else "all of the index's"
    return f"{copies:,} of {total} are copies, {held}.{nothing}"


def _clusters_at_hand(run: str, one: Pass, known: pa.Table, max_shards: int) -> list[list[dict[str, Any]]]:
    """Clusters of two or more whose members' pictures the page can show, each sorted by rank, in order of uid."""
    roots = [storage.join(run, "shards", source) for source in one.sources]
    at_hand = pa.array(sorted({uid for root in roots for uid in uids_at_hand(root, max_shards)}), pa.string())
    own = known.filter(pc.and_(pc.greater(known["copies"], 1), pc.is_in(known["uid"], value_set=at_hand)))
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in own.sort_by([("cluster", "ascending"), ("rank", "ascending")]).to_pylist():
        groups.setdefault(row["cluster"], []).append(row)
    return [group for group in groups.values() if len(group) > 1 and group[0]["rank"] == 0]


def _cards(group: Sequence[dict[str, Any]], loaded: Mapping[tuple[int, str], Card]) -> list[Card]:
    """The members of a cluster whose pictures were loaded, by source and uid."""
    return [
        replace(card, note=f"copy {row['rank']}" if row["rank"] else "survivor", marked=row["rank"] == 0)
        for row in group
        if (card := loaded.get((row["source"], row["uid"]))) is not None
    ]


def _pair(group: Sequence[dict[str, Any]], loaded: Mapping[tuple[int, str], Card]) -> dict[str, Any]:
    """Survivor and copy, with the words that only one of them has, and whether they differ in anything seen."""
    cards = _cards(group, loaded)
    if len(cards) < 2:
        return {"cards": cards, "texts": [[] for _ in cards], "differ": False}
    first, second = cards
    differ = (first.picture, first.caption) != (second.picture, second.caption)
    return {"cards": cards, "texts": differing(first.caption, second.caption), "differ": differ}


def differing(first: str, second: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Two texts in pieces, each with whether the other lacks it."""
    one, other = (re.findall(r"\s+|\w+|[^\w\s]", text) for text in (first, second))
    pieces: tuple[list[tuple[str, bool]], list[tuple[str, bool]]] = ([], [])
    for tag, a, b, c, d in difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        for side, words in ((0, one[a:b]), (1, other[c:d])):
            if words:
                pieces[side].append(("".join(words), tag != "equal"))
    return pieces


def _method(parameters: dict[str, Any]) -> str:
    """`MinHash, preset fineweb`: the method with the settings that a reader asks for first."""
    first = ("preset", "column", "threshold", "verify", "max_distance", "similarity", "limit")
    told = [f"{name} {parameters[name]}" for name in first if parameters.get(name) not in (None, "", False)]
    return ", ".join([str(parameters.get("by", "duplicates")), *told])


def _charts(run: str, one: Pass, sizes: np.ndarray, max_shards: int) -> list[dict[str, Any]]:
    charts = list[dict[str, Any]]()
    if len(sizes):
        counts, _ = np.histogram(sizes, [*_EDGES, max(int(sizes.max()), _EDGES[-1]) + 1])
        last = int(np.flatnonzero(counts).max()) + 1
        text = "clusters by how many samples they have"
        chart = svg.bars([_range(n) for n in range(last)], counts[:last].tolist(), text, "samples in a cluster")
        charts.append({"title": "cluster sizes", "text": text, "svg": chart, "labels": []})
    curve = s_curve(run, one, max_shards)
    return charts if curve is None else [*charts, curve]


def _range(number: int) -> str:
    start = _EDGES[number]
    if number == len(_EDGES) - 1:
        return f"{svg.number(start - 1)}+"
    end = _EDGES[number + 1] - 1
    return str(start) if end == start else f"{svg.number(start)}–{svg.number(end)}"


def s_curve(run: str, one: Pass, max_shards: int) -> dict[str, Any] | None:
    """The S-curve of bands and rows, and the recall measured on the run's own texts; None for other methods."""
    if one.parameters.get("by") != "MinHash":
        return None
    from mmcorpus.curation.dedup.lsh import match_probability
    from mmcorpus.curation.dedup.minhash import MinHash
    from mmcorpus.curation.dedup.recall import measure_recall
    from mmcorpus.pipelines.recipe.check_types import check, field_types
    from mmcorpus.pipelines.recipe.yaml_source import YamlSource

    own = {name: value for name, value in one.parameters.items() if name in field_types(MinHash)}
    method, problems = check(MinHash, own, YamlSource(name="score table", data=own), ())
    if method is None or problems:  # a column is not in the shards any more, or the tables are of another version
        return None
    if method.preset == "by_length":  # captions have no one similarity that a curve could be of
        return None
    texts = _texts(run, one.sources, method.column, max_shards)
    used = method.bands_used
    grid = np.linspace(0, 1, 101)
    expected = match_probability(grid, used.bands, used.rows).tolist()
    lines = [svg.Line(label="expected", xs=grid.tolist(), ys=expected)]
    points = measure_recall(method, texts, limit=CURVE_TEXTS) if len(texts) else []
    text = f"share of pairs that agree in one of {used.bands} bands × {used.rows} rows, by Jaccard similarity"
    if points:
        xs, ys = [point.similarity for point in points], [point.recall for point in points]
        lines.append(svg.Line(label="measured", xs=xs, ys=ys, dots=True))
        text += f"; measured on {sum(point.pairs for point in points):,} pairs of this run's texts"
    return {
        "title": "S-curve",
        "text": text,
        "svg": svg.line_chart(lines, "S-curve", "Jaccard similarity of the shingles"),
        "labels": [line.label for line in lines],
    }


def _texts(run: str, sources: Sequence[str], column: str, max_shards: int) -> pa.Array:
    """A text column of the first shards; empty where they have none."""
    found: list[pa.Array] = []
    for source in sources:
        for shard in list_shards(storage.join(run, "shards", source))[:max_shards]:
            if column in storage.read_schema(shard.parquet).names:
                rows = read_rows(shard, [column, "status"])
                chosen = rows.filter(pc.equal(rows["status"], SUCCESS))[column].cast(pa.string())
                found += chosen.chunks
    return pa.concat_arrays(found) if found else pa.array([], pa.string())
