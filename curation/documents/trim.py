"""Trimming: documents as the decisions on their nodes leave them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class TrimReport:
    """What is left."""

    shards: int
    resumed: int
    documents: int
    """That were placed."""
    kept: int
    images: int
    """Left in the documents kept."""
    paragraphs: int
    dropped: dict[str, int]
    """Documents by the rule that dropped them: `nothing_left`, or the clause that one of its nodes failed."""
    failed: dict[str, str]


def trim_documents(
    placed: str,
    out: str,
    ledger_root: str,
    *,
    images: str | None = None,
    paragraphs: str | None = None,
    required: Sequence[str] = (),
    captured: str | None = None,
    workers: int | None = None,
) -> TrimReport:
    """Write the view `trimmed` of placed documents and the documents' ledger stage `trim`.

    Args:
        placed: `shards/<source>`.
        out: `shards/<source>.trimmed`, beside it.
        ledger_root: `ledger/<source>`.
        images: the selection of the view of images (`selections/<source>.images.parquet`); None keeps all.
        paragraphs: likewise of paragraphs.
        required: tables of `uid` (a node's) and `rule`: a document with such a node is dropped by that rule. Those that
            do not exist are no error.
        captured: `ledger/<source>/capture.parquet`, so that documents of shards that could not be placed are counted.
    """
    raise NotImplementedError
