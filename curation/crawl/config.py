"""Options of the pages of a source: their files, and how they are read."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from mmcorpus.curation.crawl.optout.decide import OptOutConfig
from mmcorpus.curation.html.config import ExtractConfig

Format = Literal["auto", "warc", "html", "pages", "obelics", "mmc4", "mint1t", "text"]
"""The kinds of input files; see `PagesConfig.format`."""

DEFAULT_PREFIX: Final = "file:///"
"""Of pages of which nobody says where they are from."""
VOLATILE: Final = frozenset({"workers", "allow_private"})
"""Options that change how fast and from where pages may be read, never what is read: a fingerprint ignores them."""


@dataclass(frozen=True, kw_only=True)
class PagesConfig:
    """The pages of a source, and how they are read."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    format: Format = "auto"
    """`warc`: a crawl; `html`: HTML files in folders or archives; `pages`: parquet or JSONL with a column of HTML;
    `obelics`, `mmc4`, `mint1t`: documents as these corpora publish them; `text`: parquet or JSONL with a column of
    text. `auto` goes by the name (`.warc`; `.html`, `.zip`, `.tar`), and of parquet and JSONL by the columns."""
    prefix: str = ""
    """Stands before each line of a list of paths (`warc.paths.gz`): `https://data.commoncrawl.org/` or
    `s3://commoncrawl/`. Empty: the lines are paths beside the list, or URLs."""
    url_prefix: str = DEFAULT_PREFIX
    """Of HTML files, the start of each page's address, before its path below the folder or in the archive. Where it is
    not given, the names of several folders and archives stand between, so that their pages are not taken for captures
    of one another."""
    html_col: str = "html"
    """Of `pages`, the column of HTML, text or bytes."""
    text_col: str = "text"
    """Of `text`, the column of text; blank lines part its paragraphs."""
    url_col: str = "url"
    """Of `pages` and `text`, the column of addresses; `text` may lack it."""
    date_col: str | None = None
    """Of `pages` and `text`, a column of dates (ISO 8601 or time stamps)."""
    records_per_shard: int = 5_000
    """Pages in a shard of documents: what a killed run does again at most."""
    captures: Literal["latest", "all"] = "latest"
    """Of pages captured several times, by address: keep the latest capture, or all."""
    extraction: ExtractConfig = field(default_factory=ExtractConfig)
    """Options of the reading of a page; its `max_bytes` holds for a page once its content encodings are undone."""
    opt_out: OptOutConfig = field(default_factory=OptOutConfig)
    """The opt-out signals that count."""
    allow_private: bool = False
    """Read http(s) inputs from private, loopback and link-local addresses too (an intranet's own archive)."""
    workers: int | None = None
    """Files read at a time; null is one per CPU of the Ray cluster, 0 this process without Ray."""

    def __post_init__(self) -> None:
        if self.records_per_shard < 1:
            raise ValueError(f"records_per_shard is {self.records_per_shard}; give 1 or more")
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"workers is {self.workers}; give 1 or more, 0 for this process, or null for one per CPU")
        for name in ("html_col", "text_col", "url_col"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; name a column")
        if "://" not in self.url_prefix:
            raise ValueError(f"url_prefix is {self.url_prefix!r}; give the start of an address, e.g. https://a.test/")
