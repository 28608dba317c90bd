"""Trimming: documents as the decisions on their nodes leave them."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.documents.read_extracted import digest_of_shards, surviving
from mmcorpus.curation.engine.items import run_pending
from mmcorpus.curation.engine.made_from import MadeFrom, digest, table_digest
from mmcorpus.curation.engine.output import Output
from mmcorpus.curation.html.nodes import BREAK
from mmcorpus.curation.selection.tables import read_selection, selection_pairs
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.curation.store.shards import SUCCESS, VIEW_FILE, Shard, commit_shard, list_shards, read_rows
from mmcorpus.curation.store.uid import node_uid
from mmcorpus.curation.store.views import check_beside, write_view_file

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

NOTHING_LEFT: Final = "nothing_left"
OPT_OUT: Final = "opt_out"
SHARD_FAILED: Final = "shard_failed"
"""The rule that drops the documents of a shard that could not be placed or trimmed."""
DROPPED: Final = "dropped"
"""The status of a document that is not kept."""
_REPLACED: Final = frozenset({"nodes", "texts", "images", "words"})
"""Columns that speak of the document as it was extracted."""
_OWN: Final = pa.schema(
    {
        "caption": pa.string(),
        "texts": pa.int32(),
        "images": pa.int32(),
        "image_set": pa.string(),
        "nodes": pa.string(),
        "rule": pa.string(),
        "value": pa.string(),
    }
)
_REQUIRED: Final = pa.schema({"uid": pa.string(), "rule": pa.string()})
_BATCH: Final = 256
"""Documents trimmed at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrimReport:
    """The outcome of trimming."""

    shards: int
    resumed: int
    """Of these, committed before."""
    documents: int
    """That came in."""
    kept: int
    images: int
    """Left in the documents kept."""
    paragraphs: int
    dropped: dict[str, int]
    """Documents by the rule: `opt_out`, `nothing_left`, `bad_nodes`, or the clause that one of its nodes failed."""
    failed: dict[str, str]
    """Shards that could not be trimmed, and why; run again to retry them."""


def trim_documents(
    placed: str,
    out: str,
    ledger_root: str,
    *,
    images: str | None = None,
    paragraphs: str | None = None,
    required: Sequence[str] = (),
    documents: str | None = None,
    captures: str | None = None,
    opt_out: bool = True,
    workers: int | None = None,
) -> TrimReport:
    """Write the view `trimmed` of placed documents and the documents' ledger stage `trim`.

    Shards that are committed and were trimmed by the same decisions are kept, others are made again. Each worker holds
    16 bytes a node kept, and the nodes that failed a required clause. Needs an initialised Ray.

    Args:
        placed: `shards/<source>`.
        out: `shards/<source>.trimmed`, beside it.
        ledger_root: `ledger/<source>`.
        images: the selection of the view of images (`selections/<source>.images.parquet`); None keeps all.
        paragraphs: likewise of paragraphs.
        required: tables of `uid` (a node's) and `rule`: a document with such a node is dropped by that rule. Those that
            do not exist are no error.
        documents: extracted documents, `documents/<source>`, so that those of shards that could not be placed are in
            the ledger too; None if all were placed.
        captures: with them, as for `place_images`.
        opt_out: drop documents that ask not to be used, by the rule `opt_out`.
        workers: None for as many as Ray has CPUs; 0 for this process, without Ray.

    Raises:
        ValueError: nothing was placed, a selection cannot be read, or `out` does not lie beside `placed`.
        RuntimeError: Ray is not running.
    """
    shards = list_shards(placed)
    if not shards:
        raise ValueError(f"there are no placed documents (…_stats.json) under {placed}; place them first")
    check_beside(out, placed)
    clauses = tuple(filter(storage.exists, required))
    trim = TrimShard(out=out, images=images, paragraphs=paragraphs, required=clauses, opt_out=opt_out)
    chosen = {name: path for name, path in (("images", images), ("paragraphs", paragraphs)) if path is not None}
    output = Output(
        folder=out,
        holds="trimmed documents",
        made_from=MadeFrom(
            config={"opt_out": opt_out},
            version="2",  # nodes say the sizes of their images
            inputs={
                "documents": digest_of_shards(placed),
                "required": digest(list(map(table_digest, clauses))),
                **{name: table_digest(path) for name, path in chosen.items()},
            },
        ),
        stale="replace",
        earlier=(VIEW_FILE,),
    )
    output.claim()
    write_view_file(out, placed, "document", made_by=output.made_from.fingerprint)
    committed = {shard.name for shard in list_shards(out)}
    ran = run_pending(trim.load, shards, committed=committed, title="trim", workers=workers)
    failed = {name: str(failure) for name, failure in ran.failed.items()}
    lost = list_shards(documents) if documents is not None else []
    table = ledger.write_stage(ledger_root, "trim", _ledger(out, shards, failed, lost, captures))
    left = [read_rows(shard, ["texts", "images"]) for shard in list_shards(out)]
    dropped = ledger.dropped_by(table)
    return TrimReport(
        shards=len(shards) - len(failed), resumed=ran.resumed, documents=table.num_rows,
        kept=table.num_rows - sum(dropped.values()), images=sum(sum(rows["images"].to_pylist()) for rows in left),
        paragraphs=sum(sum(rows["texts"].to_pylist()) for rows in left), dropped=dict(sorted(dropped.items())),
        failed=failed,
    )  # fmt: skip


def _ledger(
    out: str, shards: Sequence[Shard], failed: dict[str, str], extracted: Sequence[Shard], captures: str | None
) -> pa.Table:
    """A row for each document that came in: what its shard says, or that its shard failed."""
    tables = [ledger.SCHEMA.empty_table()]
    for shard in list_shards(out):
        rows = read_rows(shard, ["uid", "rule", "value"])
        tables.append(ledger.verdicts(rows["uid"], "trim", rows["rule"], rows["value"]))
    placed = {shard.name for shard in shards}
    for shard in extracted:
        if shard.name in failed or shard.name not in placed:
            tables.append(_lost(surviving(shard, captures)["uid"], failed.get(shard.name, "not placed")))
    known = {shard.name for shard in extracted}
    for shard in shards:
        if shard.name in failed and shard.name not in known:
            tables.append(_lost(read_rows(shard, ["uid"])["uid"], failed[shard.name]))
    return pa.concat_tables(tables)


def _lost(uid: Any, why: str) -> pa.Table:
    rule = pa.array([SHARD_FAILED] * len(uid), pa.string())
    return ledger.verdicts(uid, "trim", rule, pc.binary_join_element_wise(rule, why, ": "))


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """The decisions on nodes."""

    images: uids.Pairs | None
    """Those kept, sorted; None for all."""
    paragraphs: uids.Pairs | None
    required: uids.Pairs
    """Those that failed a required clause, sorted, each once."""
    rules: pa.Array
    """The clause that each of these failed."""

    def kept(self, pairs: uids.Pairs, is_image: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """A mask of the nodes that are kept."""
        found = np.ones(len(pairs), bool)
        for which, selection in ((is_image, self.images), (~is_image, self.paragraphs)):
            if selection is not None:
                found[which] = uids.find(pairs[which], selection) >= 0
        return found

    def failed(self, pairs: uids.Pairs) -> dict[int, str]:
        """Of some nodes, the clauses that those failed that failed one, by position."""
        found = uids.find(pairs, self.required)
        return {int(at): self.rules[int(found[at])].as_py() for at in np.flatnonzero(found >= 0)}


@dataclass(frozen=True, kw_only=True)
class TrimShard:
    """The work on one shard of placed documents: its rows in the view `trimmed`."""

    out: str
    images: str | None
    paragraphs: str | None
    required: tuple[str, ...]
    opt_out: bool

    def load(self) -> Any:
        """The work with the decisions, once a worker."""
        kept = [None if path is None else selection_pairs(read_selection(path))[0]
                for path in (self.images, self.paragraphs)]  # fmt: skip
        tables = [storage.read_table(path, ["uid", "rule"]) for path in self.required]
        table = pa.concat_tables([_REQUIRED.empty_table(), *(one.cast(_REQUIRED) for one in tables)]).combine_chunks()
        pairs = uids.encode(table["uid"])
        order = uids.order(pairs)  # stable, so that of a node's clauses the first comes first
        distinct, counts = uids.count(pairs)
        rules = table["rule"].combine_chunks().take(pa.array(order[np.cumsum(counts) - counts]))
        decisions = Decisions(images=kept[0], paragraphs=kept[1], required=distinct, rules=rules)
        return lambda shard: self.run(shard, decisions)

    def run(self, shard: Shard, decisions: Decisions) -> dict[str, int]:
        schema = storage.read_schema(shard.parquet).remove_metadata()
        fields = [field for field in schema if field.name not in _REPLACED and field.name not in _OWN.names]
        rows: list[dict[str, Any]] = []
        for batch in read_rows(shard).to_batches(max_chunksize=_BATCH):
            rows += _trim(batch.to_pylist(), decisions, self.opt_out)
        table = pa.Table.from_pylist(rows, schema=pa.schema([*fields, *_OWN]))
        commit_shard(Shard(root=self.out, name=shard.name), table)
        return {"documents": len(rows), "kept": sum(row["rule"] is None for row in rows)}


def _trim(rows: list[dict[str, Any]], decisions: Decisions, opt_out: bool) -> Iterator[dict[str, Any]]:
    """The rows of the view."""
    listed = [json.loads(row["nodes"]) if row["status"] == SUCCESS else [] for row in rows]
    names = [
        node_uid(row["uid"], number) for row, nodes in zip(rows, listed, strict=True) for number in range(len(nodes))
    ]
    is_image = np.array(["url" in node for nodes in listed for node in nodes], bool)
    pairs = uids.encode(names)
    kept = decisions.kept(pairs, is_image)
    failed = decisions.failed(pairs)
    end = 0
    for row, nodes in zip(rows, listed, strict=True):
        start, end = end, end + len(nodes)
        left = [node for node, stays in zip(nodes, kept[start:end], strict=True) if stays and _is_there(node)]
        broken = next((at for at in range(start, end) if at in failed), None) if failed else None
        rule = value = None
        if row["status"] != SUCCESS:
            rule, value = row["error_message"].partition(":")[0], row["error_message"]
        elif opt_out and row.get("opt_out") is not None:
            rule, value = OPT_OUT, row["opt_out"]
        elif broken is not None:
            rule, value = failed[broken], names[broken]
        elif not left:
            rule, value = NOTHING_LEFT, f"{len(nodes)} nodes"
        left = left if rule is None else []
        texts = [node["text"] for node in left if "text" in node]
        yield {
            **row,
            "status": SUCCESS if rule is None else DROPPED,
            "error_message": None if rule is None else f"{rule}: {value}",
            "caption": BREAK.join(texts) if rule is None else None,
            "texts": len(texts),
            "images": len(left) - len(texts),
            "image_set": _image_set([node["url"] for node in left if "url" in node]),
            "nodes": json.dumps([_shown(node) for node in left], ensure_ascii=False) if rule is None else None,
            "rule": rule,
            "value": value,
        }


def _is_there(node: dict[str, Any]) -> bool:
    return "text" in node or "image" in node


def _image_set(urls: list[str]) -> str | None:
    """32 hex digits of the addresses, whatever their order, by which documents with the same images are found."""
    if not urls:
        return None
    return hashlib.blake2b("\n".join(sorted(set(urls))).encode(), digest_size=16).hexdigest()


def _shown(node: dict[str, Any]) -> dict[str, Any]:
    """A node as packing reads it."""
    return {name: node[name] for name in ("text", "tag", "image", "size") if name in node}
