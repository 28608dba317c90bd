"""The extract stage: pages to documents, texts and images in page order, in shards that a rerun does not read again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from curation.documents.config import PagesConfig

Kind = Literal["document", "text"]


@dataclass(frozen=True, kw_only=True)
class ExtractReport:
    """What became of the pages. Counts are of the whole source, rates of this call."""

    files: int
    pages: int
    """Records that could be a page: documents and failures."""
    documents: int
    texts: int
    """Text nodes in them."""
    images: int
    """Image nodes in them."""
    failed: dict[str, int]
    """Pages without a document, by code."""
    others: dict[str, int]
    """Records that are no pages, by what they are: `request`, `response image/png`, …"""
    opted_out: int
    """Documents that ask not to be used; they are kept, and marked."""
    shards: int
    failed_files: dict[str, str]
    """Files that could not be read, by name; run again to try them again."""
    extracted: int
    """Pages read by this call; the others were there already."""
    seconds: float
    """Of this call."""

    @property
    def pages_per_second(self) -> float:
        return self.extracted / self.seconds if self.seconds else 0.0


def extract_documents(
    config: PagesConfig, inputs: str | Sequence[str], out: str, ledger_root: str, *, kind: Kind = "document"
) -> ExtractReport:
    """Extract the documents of all pages of some inputs into `out` (`documents/<source>`); what is there is kept.

    Args:
        inputs: files, folders, globs, URLs, or lists of paths, one or several.
        ledger_root: `ledger/<source>`; gets the stage `extract`.
        kind: `text` leaves the images out.
    """
    raise NotImplementedError
