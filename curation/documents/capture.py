"""Captures: of a page that was captured several times, the latest stays."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.dedup.exact import SameColumns, SameUrl
from mmcorpus.curation.dedup.run import deduplicate
from mmcorpus.curation.dedup.sources import Source
from mmcorpus.curation.documents.read_extracted import CAPTURE
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.scores import read_scores
from mmcorpus.curation.store.shards import SUCCESS, list_shards, read_rows

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

EARLIER: Final = "earlier_capture"
SAME_RECORD: Final = "same_record"


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptureReport:
    """The outcome of a choice of captures."""

    documents: int
    """That were extracted."""
    kept: int
    dropped: dict[str, int]
    """By rule: `earlier_capture`, `same_record` (the same capture read twice)."""


def choose_captures(
    documents: str,
    scores: str,
    ledger_root: str,
    work: str,
    *,
    captures: Literal["latest", "all"] = "latest",
    workers: int | None = None,
) -> CaptureReport:
    """Decide which capture of each address stays; writes `scores/capture/` and the ledger's stage `capture`.

    Of an address the latest date stays, of equal dates the lowest uid. A capture that was read twice (from two inputs)
    has one uid: one row of it stays, and the ledger has a kept and a dropped row of that uid. Documents without an
    address are nobody's capture.

    Args:
        documents: extracted documents, `documents/<source>`.
        scores: gets the table `capture` of each shard (`rank` 0 stays, null for documents without an address), rows as
            in the shard.
        ledger_root: `ledger/<source>`.
        work: the deduplication's work files, `dedup/<source>.capture`.
        captures: `all` keeps every capture, once.
        workers: as `mmcorpus.curation.dedup.run.deduplicate` takes them.

    Raises:
        RuntimeError: a shard could not be read, or Ray is not running where it is needed.
    """
    if not any(storage.read_json(shard.stats)["successes"] for shard in list_shards(documents)):
        ledger.write_stage(ledger_root, CAPTURE, [])
        return CaptureReport(documents=0, kept=0, dropped={})
    same = SameUrl() if captures == "latest" else SameColumns(on=("url", "date", "nodes"))
    source = Source(name="pages", shards=documents, scores=scores)
    found = deduplicate(CAPTURE, same, [source], work, survivor="time(date)", workers=workers)
    if found.failed:
        raise RuntimeError("shards could not be read: " + "; ".join(f"{k}: {v}" for k, v in found.failed.items()))
    table = pa.concat_tables(list(_verdicts(documents, scores)))
    ledger.write_stage(ledger_root, CAPTURE, table)
    dropped = ledger.dropped_by(table)
    kept = len(table) - sum(dropped.values())
    return CaptureReport(documents=len(table), kept=kept, dropped=dict(sorted(dropped.items())))


def _verdicts(documents: str, scores: str) -> Iterator[pa.Table]:
    for shard in list_shards(documents):
        rows = read_rows(shard, ["key", "status", "uid", "url", "date"])
        rows = rows.filter(pc.equal(rows["status"], SUCCESS)).sort_by("key")
        table = read_scores(scores, CAPTURE, shard.name, ["rank", "cluster"])
        dropped = pc.greater(pc.fill_null(table["rank"], 0), 0)
        again = pc.fill_null(pc.equal(rows["uid"], table["cluster"]), False)
        rule = pc.if_else(dropped, pc.if_else(again, SAME_RECORD, EARLIER), pa.scalar(None, pa.string()))
        value = pc.if_else(dropped, table["cluster"], pa.scalar(None, pa.string()))
        yield ledger.verdicts(rows["uid"], CAPTURE, rule, value)
