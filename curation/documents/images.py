"""The image list: every address that the documents' images have, once, and the rules before a download."""

from dataclasses import dataclass, replace

from curation.documents.config_images import ImageListConfig
from curation.download import DownloadConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageListReport:
    """What the documents' images are."""

    documents: int
    """That survived `capture`."""
    places: int
    """Image nodes in them."""
    addresses: int
    """Different addresses of these."""
    listed: int
    """To be downloaded."""
    dropped: dict[str, int]
    """Addresses not listed, by rule; `inline` are `data:` addresses, which need no download."""
    failed: dict[str, str]
    """Document shards that could not be read, and why; run again to retry them."""


def list_images(
    config: ImageListConfig,
    documents: str,
    out: str,
    ledger_root: str,
    *,
    captured: str | None = None,
    workers: int | None = None,
) -> ImageListReport:
    """Write the URL list of the documents' images, for the download stage, and the ledger's stage `extract` of it.

    Args:
        documents: extracted documents, `documents/<source>`.
        out: a folder for the list (`000.parquet` …, columns uid, url, pages, places; sorted by uid), e.g.
            `documents/<source>.urls`. `url_list_config` says how the download is to read it.
        ledger_root: `ledger/<source>.urls`.
        captured: the ledger of stage `capture`, `ledger/<source>/capture.parquet`; None takes all documents.
        workers: None for as many as Ray has CPUs.
    """
    raise NotImplementedError


def url_list_config(config: DownloadConfig) -> DownloadConfig:
    """The download options with which the list of `list_images` is to be read."""
    return replace(config, url_col="url", caption_col=None, uid_col="uid", save_additional_columns=("pages", "places"))
