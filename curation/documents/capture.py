"""Of pages that were captured several times, the capture that stays."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptureReport:
    """How many documents stay."""

    documents: int
    """That were extracted."""
    kept: int
    dropped: dict[str, int]
    """By rule: `earlier_capture`, `same_record` (the same capture read twice)."""


def choose_captures(
    documents: str, scores: str, ledger_root: str, work: str, *, captures: Literal["latest", "all"] = "latest",
    workers: int | None = None,
) -> CaptureReport:  # fmt: skip
    """Decide which capture of each address stays; writes `scores/capture/` and the ledger's stage `capture`.

    Args:
        documents: extracted documents, `documents/<source>`.
        scores: gets the table `capture` of each shard (`rank` 0 stays), rows as in the shard.
        ledger_root: `ledger/<source>`.
        work: the deduplication's work files, `dedup/<source>.capture`.
    """
    raise NotImplementedError
