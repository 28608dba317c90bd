"""Records that readers of inputs yield: pages, documents that are ready, what cannot be read, and what is no page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from mmcorpus.curation.crawl.optout.site_rules import SiteFile
from mmcorpus.curation.html.nodes import Node


class Position(NamedTuple):
    """The place where reading goes on."""

    offset: int = 0
    """In the file; of a table the row, of a list of files its place in the list."""
    skip: int = 0
    """Records after that offset that were read already: where several are compressed together."""


START: Final = Position()


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A record of an input."""

    file: str
    offset: int
    """Of the record in the file; of a table the row."""
    length: int | None
    """Bytes of the record in the file, compressed as they are; None if it is compressed together with others."""
    position: Position
    """The next record's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Page(Found):
    """A page's HTML."""

    url: str
    body: bytes
    """Its content encodings undone."""
    charset: str | None = None
    """As the server declares it."""
    date: str | None = None
    """ISO 8601, UTC."""
    headers: Sequence[tuple[str, str]] = ()
    """Of the HTTP answer, in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready(Found):
    """A document of a corpus that exists."""

    url: str | None
    nodes: list[Node]
    identity: bytes
    """The bytes that its uid is made of, besides the address."""
    date: str | None = None
    uid: str | None = None
    """Its own, if the corpus has one."""
    language: str | None = None
    """As the corpus names it: of WET files the first of CLD2's, in ISO 639-3 (`eng`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure(Found):
    """A record that could be a page and cannot be read as one."""

    code: str
    detail: str
    url: str | None = None
    date: str | None = None
    number: int = 0
    """Of the record among those that begin at the same offset."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Other(Found):
    """A record that is no page."""

    what: str
    """`request`, `metadata`, `response image/png`, …"""
    site_file: SiteFile | None = None
    """If it is a robots.txt or ai.txt, its rules."""


Item = Page | Ready | Failure | Other
