"""Repeats over a whole source: near-duplicate images, captions and URLs that occur more than once.

Score columns in, score columns out (`scores/<source>/repeats/`): what to do about a repeat is for the selection to say,
e.g. `repeats.image_rank == 0` or `repeats.text_copies <= 10`.
"""

import dataclasses
import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from curation import storage
from curation.dedup.clusters import Indices, survivors_of
from curation.dedup.config import INPUTS, SCORER, RepeatsConfig
from curation.dedup.hamming import near_pairs
from curation.progress import Progress
from curation.scores import Origin, list_tables, load_scores, read_origin, read_scores, table_path, write_scores
from curation.selection import uids
from curation.selection.evaluate import check, evaluate, evaluate_number
from curation.selection.names import scores_schema, shipped_columns
from curation.shards import SUCCESS, list_shards, read_rows

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

VERSION: Final = "1"
_BLOCK: Final = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class RepeatsReport:
    """What was found."""

    samples: int
    """Samples of the source that have scores."""
    unscored: int
    """Of these, without a perceptual hash (not decodable): their image columns are null."""
    clusters: int
    """Clusters of two images or more."""
    image_repeats: int
    """Images that are not the survivor of their cluster."""
    largest_cluster: int
    text_repeats: int
    """Samples whose caption another sample, with a lower uid, has too."""
    url_repeats: int
    """Samples whose URL another sample, with a lower uid, has too."""

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def find_repeats(shards_root: str, scores_root: str, config: RepeatsConfig | None = None) -> RepeatsReport:
    """Find the repeats of a source and write their columns beside its other scores.

    Columns: image_copies (size of the cluster, 1 for a unique image), image_rank (0 for the survivor, then by the same
    order), image_cluster (uid of the survivor), text_copies, url_copies (samples with the same one, itself included);
    null where there is no hash, caption or URL.

    Args:
        shards_root: the source's shards, for their URLs.
        scores_root: its scores; `image`, `caption` and, to verify, `fingerprint` must be there for every shard.

    Raises:
        ExpressionError: a column of `survivor` or `among`, or one that finding needs, is not there.
        ValueError: the scores do not cover every shard.
    """
    config = config or RepeatsConfig()
    schema = scores_schema(scores_root)
    for column in config.columns:
        check(f"is_null({column})", schema, shipped_columns())
    tables = list_tables(scores_root)
    for left_over in set(tables.get(SCORER, ())) - set(tables["image"]):
        storage.remove(table_path(scores_root, SCORER, left_over))
    with Progress("repeats", total=None) as progress:
        table = load_scores(scores_root, columns=list(config.columns))
        parts = _shards_of(table, scores_root)
        columns, report = _columns(table, _urls(shards_root, table["uid"]), config)
        origin = _origin(scores_root, config, table, columns)
        for shard, start, length in parts:
            own = pa.table(columns).slice(start, length)
            reason = read_scores(scores_root, "image", shard, ["reason"])["reason"]
            write_scores(scores_root, shard, own.append_column("reason", reason.cast(pa.string())), origin)
            progress.advance(length)
    return report


def _columns(table: pa.Table, urls: Any, config: RepeatsConfig) -> tuple[dict[str, Any], RepeatsReport]:
    pairs = uids.encode(table["uid"])
    ranks = _ranks(table, pairs, config)
    scored = ~table["image.phash"].is_null().to_numpy()
    places = np.flatnonzero(scored)
    cluster = _image_clusters(table.take(places), ranks[places], config)
    survivor = places[cluster]
    sizes = np.bincount(survivor, minlength=len(pairs))
    rank_within = _ranks_within(survivor, ranks[places])
    text_copies, text_repeats = _copies(table["caption.text_hash"])
    url_copies, url_repeats = _copies(urls)
    columns = {
        "uid": table["uid"],
        "image_copies": _spread(sizes[survivor], places, len(pairs)),
        "image_rank": _spread(rank_within, places, len(pairs)),
        "image_cluster": table["uid"].take(_spread(survivor, places, len(pairs), pa.int64())),
        "text_copies": text_copies,
        "url_copies": url_copies if url_copies is not None else pa.nulls(len(pairs), pa.int32()),
    }
    report = RepeatsReport(
        samples=table.num_rows,
        unscored=int((~scored).sum()),
        clusters=int((sizes > 1).sum()),
        image_repeats=int((sizes[sizes > 1] - 1).sum()),
        largest_cluster=int(sizes.max(initial=0)),
        text_repeats=text_repeats,
        url_repeats=url_repeats,
    )
    return columns, report


def _ranks(table: pa.Table, pairs: uids.Pairs, config: RepeatsConfig) -> Indices:
    """The order of preference, 0 best: meets `among`, largest `survivor`, lowest uid."""
    value = evaluate_number(config.survivor, table)
    numbers = np.asarray(pc.fill_null(value, -math.inf).to_numpy(), np.float64)
    fit = np.ones(len(pairs), bool)
    if config.among:
        condition: Any = evaluate(config.among, table)
        fit = pc.fill_null(condition, False).to_numpy()
    order = np.lexsort((pairs["f1"], pairs["f0"], -numbers, ~fit))
    ranks = np.empty(len(pairs), np.int64)
    ranks[order] = np.arange(len(pairs))
    return ranks


def _image_clusters(table: pa.Table, ranks: Indices, config: RepeatsConfig) -> Indices:
    """For each row the row of its survivor; all rows have a hash."""
    if not table.num_rows:
        return np.empty(0, np.int64)
    phash = _bytes(table["image.phash"], 8)
    width = np.asarray(table["image.stored_width"].to_numpy(), np.float64)
    height = np.asarray(table["image.stored_height"].to_numpy(), np.float64)
    parts = [phash, width[:, None].view(np.uint8), height[:, None].view(np.uint8)]
    if config.verify:
        parts += [_bytes(table["fingerprint.dct"], 32), _bytes(table["fingerprint.color"], 48)]
    # Rows that agree in everything are one node, or a thousand placeholders would be half a million pairs.
    rows = np.ascontiguousarray(np.concatenate(parts, axis=1))
    _, node_of = np.unique(rows.view(f"V{rows.shape[1]}").ravel(), return_inverse=True)
    best = np.full(int(node_of.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(best, node_of, ranks)
    row_of_rank = np.empty(int(ranks.max()) + 1, np.int64)
    row_of_rank[ranks] = np.arange(len(ranks))
    leader = row_of_rank[best]
    hashes = np.ascontiguousarray(phash[leader]).view(">u8").astype(np.uint64).ravel()
    first, second = near_pairs(hashes, config.max_distance)
    aspect = np.log(width / height)[leader]
    near = np.abs(aspect[first] - aspect[second]) <= math.log1p(config.aspect_tolerance)
    first, second = first[near], second[near]
    if config.verify:
        near = _verified(parts[3][leader], parts[4][leader], first, second, config)
        first, second = first[near], second[near]
    return leader[survivors_of(best, first, second)][node_of]


def _verified(
    dct: npt.NDArray[np.uint8], color: npt.NDArray[np.uint8], first: Indices, second: Indices, config: RepeatsConfig
) -> npt.NDArray[np.bool_]:
    """Which pairs have near fingerprints too."""
    result = np.empty(len(first), bool)
    for start in range(0, len(first), _BLOCK):
        one, other = first[start : start + _BLOCK], second[start : start + _BLOCK]
        bits = np.bitwise_count(dct[one] ^ dct[other]).sum(axis=1, dtype=np.int64)
        shift = np.abs(color[one].astype(np.int16) - color[other]).max(axis=1, initial=0)
        result[start : start + _BLOCK] = (bits <= config.fingerprint_distance) & (shift <= config.color_distance)
    return result


def _ranks_within(survivor: Indices, ranks: Indices) -> Indices:
    """The place of each row in its cluster, by rank."""
    order = np.lexsort((ranks, survivor))
    new = np.ones(len(order), bool)
    new[1:] = survivor[order][1:] != survivor[order][:-1]
    starts = np.flatnonzero(new)
    result = np.empty(len(order), np.int64)
    result[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return result


def _copies(values: Any) -> tuple[Any, int]:
    """How often each value occurs (null for null), and how many rows repeat an earlier one."""
    if values is None:
        return None, 0
    codes = pc.dictionary_encode(values.combine_chunks()).indices
    known = ~codes.is_null().to_numpy(zero_copy_only=False)
    numbers = codes.fill_null(0).to_numpy(zero_copy_only=False)
    counts = np.bincount(numbers[known])
    result = np.zeros(len(numbers), np.int32)
    result[known] = counts[numbers[known]]
    return pa.array(result, mask=~known), int((counts[counts > 1] - 1).sum())


def _bytes(column: Any, size: int) -> npt.NDArray[np.uint8]:
    """A column of hex digits as [N, size] bytes."""
    text = column.combine_chunks().cast(pa.string())
    data = bytes.fromhex("".join(text.to_pylist()))
    return np.frombuffer(data, np.uint8).reshape(len(text), size)


def _spread(values: Indices, places: Indices, count: int, kind: pa.DataType | None = None) -> Any:
    """The values at their places in a column of `count` rows, null elsewhere."""
    spread = np.zeros(count, np.int64)
    spread[places] = values
    absent = np.ones(count, bool)
    absent[places] = False
    return pa.array(spread, mask=absent).cast(kind or pa.int32())


def _shards_of(table: pa.Table, scores_root: str) -> list[tuple[str, int, int]]:
    """(shard, first row, rows) of the joined table."""
    parts, start = [], 0
    for shard in list_tables(scores_root)["image"]:
        own = read_scores(scores_root, "image", shard, ["uid"])["uid"]
        if not own.equals(table["uid"].slice(start, len(own))):
            raise ValueError(f"the scores of shard {shard} under {scores_root} do not belong together; score it again")
        parts.append((shard, start, len(own)))
        start += len(own)
    if start != table.num_rows:
        raise ValueError(f"under {scores_root} some shards have no scores of `image`; finish scoring first")
    return parts


def _urls(shards_root: str, wanted: Any) -> Any:
    """The URL of each sample, in the order of the scores; None if the shards have none."""
    tables = []
    for shard in list_shards(shards_root):
        rows = read_rows(shard)
        if "url" in rows.column_names:
            tables.append(rows.select(["uid", "url", "status"]).filter(pc.equal(rows["status"], SUCCESS)))
    if not tables:
        return None
    known = pa.concat_tables(tables, promote_options="permissive")
    pairs = uids.encode(known["uid"])
    order = uids.order(pairs)
    distinct, repeats = uids.count(pairs)
    first = order[np.cumsum(repeats) - repeats]
    found = uids.find(uids.encode(wanted), distinct)
    rows_of = pa.array(first[found] if len(first) else found, mask=found < 0)
    return known["url"].cast(pa.string()).take(rows_of)


def _origin(scores_root: str, config: RepeatsConfig, table: pa.Table, columns: dict[str, Any]) -> Origin:
    """The parameters are the config, what made the scores that were read, and a hash of all that was found.

    The columns of one shard depend on every other shard, so a shard more or less is another fingerprint.
    """
    made = {}
    for scorer in INPUTS:
        shards = list_tables(scores_root).get(scorer, [])
        schemas = (storage.read_schema(table_path(scores_root, scorer, shard)) for shard in shards)
        made[scorer] = sorted({str(read_origin(schema).get("fingerprint")) for schema in schemas})
    content = hashlib.blake2b(digest_size=8)
    for pairs in (uids.encode(table["uid"]), uids.encode(columns["image_cluster"].drop_null())):
        content.update(np.ascontiguousarray(pairs).tobytes())
    parameters = {**dataclasses.asdict(config), "inputs": made, "content": content.hexdigest()}
    identity = json.dumps({"name": SCORER, "version": VERSION, "parameters": parameters}, sort_keys=True)
    fingerprint = hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()
    return Origin(scorer=SCORER, version=VERSION, parameters=parameters, fingerprint=fingerprint)
