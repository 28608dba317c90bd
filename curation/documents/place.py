"""Placing: downloaded images go back to where they stood, and the views of images and paragraphs are made."""

from dataclasses import dataclass

from curation.documents.config_images import PlaceConfig
from curation.download import DownloadConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaceReport:
    """What was placed."""

    shards: int
    resumed: int
    """Of these, committed before."""
    documents: int
    paragraphs: int
    images: int
    """Placed."""
    dropped: dict[str, int]
    """Image nodes left out, by reason."""
    bad_documents: dict[str, int]
    """Documents whose nodes could not be read, by reason."""
    failed: dict[str, str]
    """Document shards that could not be placed, and why; run again to retry them."""


def place_images(
    config: PlaceConfig,
    documents: str,
    listed: str | None,
    fetched: str | None,
    out: str,
    ledger_root: str,
    *,
    download: DownloadConfig,
    captured: str | None = None,
    workers: int | None = None,
) -> PlaceReport:
    """Write the placed documents, their views of images and paragraphs, and the image nodes' ledger.

    Args:
        documents: extracted documents, `documents/<source>`.
        listed: the folder that `list_images` wrote; None for a source without images (kind `text`).
        fetched: the downloaded shards of that list, `shards/<source>.urls`; None as well.
        out: `shards/<source>`; the views go to `<out>.images` and `<out>.paragraphs`.
        ledger_root: of the image nodes, `ledger/<source>.images`; gets the stage `download`.
        download: the options of the download, by which `data:` images are checked and resized too.
        captured: the ledger of stage `capture`, `ledger/<source>/capture.parquet`; None takes all documents.
    """
    raise NotImplementedError
