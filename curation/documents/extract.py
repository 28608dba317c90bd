"""The extract stage: pages to documents, texts and images in page order, in shards that a rerun does not read again.

A task reads one input file and commits a shard every `records_per_shard` pages. A shard's stats say where the next one
begins, so that a rerun seeks to the end of the last committed shard of each file and goes on from there.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any, Final, Literal
from urllib.parse import quote

import pyarrow as pa

from mmcorpus.curation.crawl.arc import read_arc
from mmcorpus.curation.crawl.config import VOLATILE, PagesConfig
from mmcorpus.curation.crawl.document_archives import (
    holds_documents,
    read_document_tar,
    read_document_zip,
    zip_holds_lines,
)
from mmcorpus.curation.crawl.html_files import read_folder, read_tar, read_zip
from mmcorpus.curation.crawl.inputs import InputFile, find_inputs, reader_of
from mmcorpus.curation.crawl.kinds import file_kind
from mmcorpus.curation.crawl.optout.site_rules import BlockLists, SiteRules
from mmcorpus.curation.crawl.published import TABLES, read_table_items
from mmcorpus.curation.crawl.records import START, Item, Other, Position
from mmcorpus.curation.crawl.streams import Source, open_input
from mmcorpus.curation.crawl.warc import read_warc
from mmcorpus.curation.documents.page_row import PageExtractor
from mmcorpus.curation.documents.shards import SITES, Part, file_of, part_name
from mmcorpus.curation.documents.site_optout import COUNT as OPT_OUT_COUNT
from mmcorpus.curation.documents.site_optout import FOLDER as OPT_OUTS
from mmcorpus.curation.documents.site_optout import apply_site_optouts
from mmcorpus.curation.engine.guard import SetAside, guarded
from mmcorpus.curation.engine.items import run_pending
from mmcorpus.curation.engine.made_from import MadeFrom, digest, plain
from mmcorpus.curation.engine.output import Output
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import SUCCESS, Shard, list_shards, read_rows
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.filters.secrets import masked
from mmcorpus.filters.web import reading

Kind = Literal["document", "text"]
UNREADABLE: Final = "unreadable_file"
"""The rule, in the ledger, of a file that could not be read, or not to its end."""
_BAD: Final = frozenset({"bad_record", "truncated"})
MAX_PART_BYTES: Final = 256 * 2**20
"""A shard is committed before it is full where its rows would be more in memory."""


@dataclass(frozen=True, kw_only=True)
class ExtractReport:
    """The outcome of an extraction. Counts are of the whole source, rates of this call."""

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
    """Files that could not be read, by name, and why; run again to try them again."""
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

    Ray must be initialised. Killed at any moment, it goes on where it was, to the same bytes, when called again.

    Args:
        inputs: files, folders, globs, URLs, or lists of paths, one or several.
        ledger_root: `ledger/<source>`; gets the stage `extract`.
        kind: `text` leaves the images out.

    Raises:
        InputError: (a ValueError) an input is not there, or of no known kind.
        ValueError: `out` holds documents of other inputs or options, or a block list cannot be read.
        RuntimeError: Ray is not running.
        OSError: the disk is full.
    """
    start = time.monotonic()
    BlockLists(config.opt_out.block_lists)  # to stop before any work where one is wrong
    files = find_inputs(config, inputs)
    Output(
        folder=out,
        holds="documents",
        made_from=MadeFrom(
            config={**plain(config, VOLATILE), "kind": kind},
            inputs={"inputs": digest([_identity(file) for file in files])},
        ),
        writes=(SITES, OPT_OUTS, OPT_OUT_COUNT),
        earlier=("extract.json",),
    ).claim()
    storage.sweep(out)
    before = _totals(out)[1].total()
    ran = run_pending(
        lambda: FileExtractor(config, out, images=kind == "document"), files, title="extract", workers=config.workers,
        unit="file", aside=out,
    )  # fmt: skip
    failed = {masked(name): failure.reason for name, failure in ran.failed.items()}
    _write_ledger(out, ledger_root, failed)
    by_site = apply_site_optouts(out, config.opt_out, workers=config.workers)
    counts, codes, others = _totals(out)
    pages, documents = codes.total(), codes.pop(SUCCESS, 0)
    return ExtractReport(
        files=len(files), pages=pages, documents=documents, texts=counts["texts"], images=counts["images"],
        failed=dict(codes.most_common()), others=dict(others.most_common()), opted_out=counts["opted_out"] + by_site,
        shards=counts["shards"], failed_files={**_nothing_but_bad(files, out), **failed},
        extracted=pages - before, seconds=time.monotonic() - start,
    )  # fmt: skip


class FileExtractor:
    """The work on an input file: reads on where its last committed shard ended."""

    def __init__(self, config: PagesConfig, out: str, *, images: bool) -> None:
        self.config, self.out = config, out
        sites = SiteRules(block_lists=BlockLists(config.opt_out.block_lists))
        self.extractor = PageExtractor(config, sites, images=images)

    def __call__(self, file: InputFile) -> dict[str, int]:
        """Extract what is missing of a file; returns counts."""
        with reading(file.path, allow_private=self.config.allow_private):
            return self._extract(file)

    def _extract(self, file: InputFile) -> dict[str, int]:
        mark = _mark(file)
        number, position = self._committed(file, mark)
        counts = Counter(documents=0)
        if position is None:
            return counts
        digits = len(str(self.config.records_per_shard - 1))
        items = read_items(self.config, file, position)
        item = next(items, None)
        while True:
            part = Part(name=part_name(file.number, number), digits=digits)
            after: Position | None = position
            while item is not None and len(part.rows) < self.config.records_per_shard and part.size < MAX_PART_BYTES:
                self._add(part, item)
                after, item = item.position, next(items, None)
            counts.update(part.commit(self.out, masked(file.name), None if item is None else after, mark))
            if item is None:
                return counts
            number += 1

    def _add(self, part: Part, item: Item) -> None:
        if not isinstance(item, Other):
            name = f"{item.offset} before {item.position.offset}+{item.position.skip}"
            try:
                row = guarded("extract", name, self.extractor.row, item)
            except SetAside as aside:
                row = self.extractor.row(item, str(aside))
            part.add(row)
            return
        part.others[item.what] += 1
        if item.site_file is not None:
            part.sites.append(item.site_file)
            part.size += len(item.site_file.text)

    def _committed(self, file: InputFile, mark: dict[str, Any]) -> tuple[int, Position | None]:
        """The number of the file's next shard, and where it begins; None if the file is done."""
        number, position = 0, START
        while storage.exists((shard := Shard(root=self.out, name=part_name(file.number, number))).stats):
            stats = storage.read_json(shard.stats)
            if stats["next"] is None:
                return number + 1, None
            if stats["file_mark"] != mark:
                raise ValueError(
                    "the file has changed since its first part was extracted; put it back as it was, or extract into "
                    f"another folder than {self.out}"
                )
            number, position = number + 1, Position(*stats["next"])
        return number, position


def read_items(config: PagesConfig, file: InputFile, position: Position) -> Iterator[Item]:
    """All that an input file holds, from a position on."""
    if file.label:
        config = replace(config, url_prefix=f"{config.url_prefix}{quote(file.label)}/")
    if file.reader == "folder":
        yield from read_folder(file.path, file.names, config, position)
        return
    with open_input(file.path) as opened:
        yield from _read(config, file, opened, position)


def _read(config: PagesConfig, file: InputFile, opened: IO[bytes], position: Position) -> Iterator[Item]:
    # By its first bytes, where these say it: names lie.
    reader, path = reader_of(file_kind(opened, file.path), config, file.path) or file.reader, masked(file.path)
    if reader == "warc":
        return read_warc(path, Source(opened), position, config.extraction.max_bytes)
    if reader == "arc":
        return read_arc(path, Source(opened), position, config.extraction.max_bytes)
    documents = config.format in TABLES
    if reader == "zip" and (documents or (config.format == "auto" and zip_holds_lines(opened))):
        return read_document_zip(path, opened, config, position)
    if reader == "zip":
        return read_zip(path, opened, config, position)
    if reader == "tar" and (documents or (config.format == "auto" and holds_documents(path, opened))):
        return read_document_tar(path, opened, config, position)
    if reader == "tar":
        return read_tar(path, opened, config, position)
    return read_table_items(path, opened, config.format, config, position)


def _identity(file: InputFile) -> list[Any]:
    """What of an input decides its documents, besides its contents."""
    return [masked(file.path), file.reader, file.names, *([file.label] if file.label else [])]


def _mark(file: InputFile) -> dict[str, Any]:
    """Marks that tell a changed file from an unchanged one; empty for a folder's."""
    if file.names:
        return {}
    fs, inner = storage.filesystem(file.path)
    info = fs.info(inner)
    marks = ("ETag", "etag", "md5Hash")
    return {"size": info.get("size"), **{name: str(info[name]) for name in marks if info.get(name) is not None}}


def _totals(out: str) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """The shards' stats added up: counts, pages by the code of their error, records that are no pages by kind."""
    counts, codes, others = Counter[str](), Counter[str](), Counter[str]()
    for shard in list_shards(out):
        stats = storage.read_json(shard.stats)
        counts.update(shards=1, texts=stats["texts"], images=stats["images"], opted_out=stats["opted_out"])
        codes.update(stats["status_dict"])
        others.update(stats["others"])
    return counts, codes, others


def _nothing_but_bad(files: Sequence[InputFile], out: str) -> dict[str, str]:
    """Files of which nothing could be read as what they seem to be, by name, and why: they are something else, or
    damaged from their beginning on."""
    codes: dict[int, Counter[str]] = {}
    for shard in list_shards(out):
        stats = storage.read_json(shard.stats)
        codes.setdefault(file_of(shard.name), Counter()).update(stats["status_dict"])
    found = {}
    for file in files:
        mine = +codes.get(file.number, Counter())
        if mine and not mine.keys() - _BAD:
            told = ", ".join(f"{count:,} {code}" for code, count in mine.most_common())
            found[masked(file.name)] = f"nothing in it can be read ({told}): see its rows in {out}"
    return found


def _write_ledger(out: str, ledger_root: str, failed: dict[str, str]) -> None:
    """The stage `extract`: a row for each page, and for each file that could not be read to its end."""
    tables = [ledger.verdicts_of(read_rows(shard, ["uid", "error_message"]), "extract") for shard in list_shards(out)]
    lost = [
        ledger.entry(pair_uid(name, "file"), "extract", rule=UNREADABLE, value=f"{name}: {error}"[:1000])
        for name, error in failed.items()
    ]
    tables.append(pa.Table.from_pylist(lost, schema=ledger.SCHEMA))
    ledger.write_stage(ledger_root, "extract", pa.concat_tables(tables))
