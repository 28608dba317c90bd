"""Options of a source of documents: the reading of its pages, the list of its images, their placing."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from mmcorpus.curation.crawl.optout.decide import OptOutConfig
from mmcorpus.curation.html.config import ExtractConfig
from mmcorpus.filters.profiles import MM1_USES
from mmcorpus.filters.url import WORDS

Format = Literal["auto", "warc", "html", "pages", "obelics", "mmc4", "mint1t", "text"]
"""The kinds of input files; see `PagesConfig.format`."""

Beside = Literal["figcaption", "next", "previous", "alt"]
"""Sources of an image's text: its figure's caption, the nearest text after or before it, its alt text."""
VOLATILE: Final = frozenset({"workers"})
"""Options that change how fast pages are read, never what is read: a fingerprint ignores them."""


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
    url_prefix: str = "file:///"
    """Of HTML files, the start of each page's address, before its path below the folder or in the archive."""
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


@dataclass(frozen=True, kw_only=True)
class ImageListConfig:
    """The rules for image addresses before a download. An address is dropped by the first that it fails, in this order.

    The defaults are MM1's (McKinzie et al. 2024, A.1) where it has a rule: URL words, and uses. The rest of its
    rule for images is the profile `mm1_images`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    opt_out: bool = True
    """Leave out an address that any page asks not to use."""
    decorative: bool = True
    """Leave out an address that seems to be page chrome (spacer, icon, tracking, …) wherever it stands."""
    min_declared_side: int = 32
    """Leave out an address that every place shows with a side below so many CSS pixels; 0 for none."""
    url_words: tuple[str, ...] = WORDS
    """Leave out an address with one of these words in its path (of `logo`, `button`, `icon`, `plugin`, `widget`)."""
    whole_words: bool = False
    """Find words between non-letters only: `icons/a.png` but not `silicon.png`. MM1 and OBELICS find them anywhere."""
    max_uses: int | None = MM1_USES
    """Leave out an address that stands in more places of the corpus than this; null for no limit."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.url_words) - set(WORDS))
        if unknown:
            raise ValueError(f"url_words: unknown {unknown[0]!r}; there are {', '.join(WORDS)}")
        if self.min_declared_side < 0:
            raise ValueError(f"min_declared_side is {self.min_declared_side}; give 0 or more")
        if self.max_uses is not None and self.max_uses < 1:
            raise ValueError(f"max_uses is {self.max_uses}; give 1 or more, or null for no limit")


@dataclass(frozen=True, kw_only=True)
class PlaceConfig:
    """The placing of images back into their documents, and the text that stands for each."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    repeats: Literal["first", "all"] = "first"
    """Of an image that stands on a page several times (by address, or by the bytes that came) keep the first, as MM1
    does, or all."""
    decorative: bool = True
    """Leave out an image where its own page makes it page chrome, also if it is content elsewhere."""
    text_beside: tuple[Beside, ...] = ("figcaption", "next", "previous")
    """The caption of an image in the view `images`: the first of these that it has."""

    def __post_init__(self) -> None:
        if len(set(self.text_beside)) != len(self.text_beside):
            raise ValueError(f"text_beside names a place twice: {list(self.text_beside)}")
