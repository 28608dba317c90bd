"""Placing: downloaded images go back to where they stood, and the views of images and paragraphs are made."""

import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from mmcorpus.curation.documents.config import PlaceConfig
from mmcorpus.curation.documents.image_list import read_manifest
from mmcorpus.curation.documents.locate import Located, image_fields, locate, read_ranges
from mmcorpus.curation.documents.place_document import Document, Placed, Placer
from mmcorpus.curation.documents.read_extracted import digest_of_captures, digest_of_shards, read_documents, surviving
from mmcorpus.curation.documents.views import (
    PARAGRAPHS,
    count_codes,
    download_ledger,
    image_rows,
    images_schema,
    paragraph_rows,
)
from mmcorpus.curation.download import DownloadConfig
from mmcorpus.curation.download.config import VOLATILE
from mmcorpus.curation.engine.items import Ran, run_pending
from mmcorpus.curation.engine.made_from import MadeFrom, digest, plain
from mmcorpus.curation.engine.output import Output
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import (
    SUCCESS,
    VIEW_FILE,
    Shard,
    add_member,
    commit_shard,
    list_shards,
    open_tar,
)
from mmcorpus.curation.store.views import view_root, write_view_file

IMAGES: Final = "images"
PARAGRAPHS_VIEW: Final = "paragraphs"
WORK: Final = "_place"
"""In the folder of placed documents: indexes and joins, removed when all is placed."""
AHEAD_BYTES: Final = 64 << 20
"""Images are read so many bytes at a time."""
AHEAD_DOCUMENTS: Final = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class PlaceReport:
    """The outcome of placing."""

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
    captures: str | None = None,
    workers: int | None = None,
) -> PlaceReport:
    """Write the placed documents, their views of images and paragraphs, and the image nodes' ledger.

    A shard that is committed is kept, so that a killed run goes on where it was. An image that failed, or that a rule
    left out, stays as a node with its `reason`; the document is placed without it. Needs an initialised Ray.

    Args:
        documents: extracted documents, `documents/<source>`.
        listed: the folder that `list_images` wrote; None for a source without images (kind `text`).
        fetched: the downloaded shards of that list, `shards/<source>.urls`; None if nothing was listed.
        out: `shards/<source>`; the views go to `<out>.images` and `<out>.paragraphs`.
        ledger_root: of the image nodes, `ledger/<source>.images`; gets the stage `download`.
        download: the options of the download, by which `data:` images are checked and resized too.
        captures: the scores to which `choose_captures` wrote, `scores/<source>`; None takes all documents.
        workers: None for as many as Ray has CPUs; 0 for this process, without Ray.

    Raises:
        ValueError: `out` holds documents that were placed from something else or with other options; or there are no
            documents, or no complete list.
        RuntimeError: Ray is not running, or the images could not be indexed.
    """
    shards = list_shards(documents)
    if not shards:
        raise ValueError(f"there are no extracted documents (…_stats.json) under {documents}; extract them first")
    views = (view_root(out, IMAGES), view_root(out, PARAGRAPHS_VIEW))
    output = Output(
        folder=out,
        holds="placed documents",
        made_from=MadeFrom(
            config={"place": plain(config), "download": plain(download, VOLATILE)},
            version="2",  # nodes say the sizes of the images that are there
            inputs={
                "documents": digest_of_shards(documents),
                "captures": digest_of_captures(captures, shards),
                "list": digest(read_manifest(listed)) if listed is not None else "",
                "images": digest_of_shards(fetched) if fetched is not None else "",
            },
        ),
        owns=views,
        writes=(WORK, VIEW_FILE),
        earlier=("place.json",),
    )
    output.claim()
    write_view_file(views[0], out, "image")
    write_view_file(views[1], out, "paragraph")
    committed = set.intersection(*({shard.name for shard in list_shards(root)} for root in (out, *views)))
    ran = Ran(resumed=len(shards), outcomes=[])
    if not committed >= {shard.name for shard in shards}:  # else the images need not be located
        work = storage.join(out, WORK, output.made_from.fingerprint)
        located = locate(listed, fetched, work, download, workers=workers)
        place = PlaceShard(config=config, download=download, captures=captures, located=located, out=out)
        ran = run_pending(lambda: place.run, shards, committed=committed, title="place images", workers=workers)
    failed = {name: str(failure) for name, failure in ran.failed.items()}
    if not failed:
        storage.remove(storage.join(out, WORK))
    ledger.write_stage(ledger_root, "download", download_ledger(views[0]))
    return _report(out, resumed=ran.resumed, failed=failed)


@dataclass(frozen=True, kw_only=True)
class PlaceShard:
    """The work on one shard of documents: the tar with its images, and the rows of its views."""

    config: PlaceConfig
    download: DownloadConfig
    captures: str | None
    located: Located
    out: str

    def run(self, shard: Shard) -> dict[str, int]:
        target, placer = Shard(root=self.out, name=shard.name), Placer(self.config, self.download)
        keys = set(surviving(shard, self.captures)["key"].to_pylist())
        known = self.located.of(shard.name)
        names = [name for name, _ in image_fields(self.download)]
        schema = storage.read_schema(shard.parquet).remove_metadata()
        rows: list[dict[str, Any]] = []
        images: list[dict[str, Any]] = []
        paragraphs: list[dict[str, Any]] = []
        with open_tar(target.tar) as tar:
            placed = (placer.place(row, known) for row in read_documents(shard, keys))
            for chunk in _chunks(placed):
                stream = self._read([one for document in chunk for one in document.wanted])
                for document in chunk:
                    rows.append(_write(document, stream, tar))
                    images += image_rows(document, self.config.text_beside, names)
                    paragraphs += paragraph_rows(document)
        for name, listed, kind in (
            (IMAGES, images, images_schema(self.download)),
            (PARAGRAPHS_VIEW, paragraphs, PARAGRAPHS),
        ):
            view = Shard(root=view_root(self.out, name), name=shard.name)
            commit_shard(view, pa.Table.from_pylist(listed, schema=kind))
        commit_shard(target, pa.Table.from_pylist(rows, schema=schema))  # last: it commits the views' rows too
        return {"documents": len(rows), "images": sum(row["images"] for row in rows)}

    def _read(self, wanted: list[Placed]) -> Iterator[bytes | Exception]:
        """The images' bytes in order, some megabytes ahead."""
        start = size = 0
        for end, one in enumerate(wanted, start=1):
            size += one.facts["size"]
            if size >= AHEAD_BYTES or end == len(wanted):
                assert self.located.fetched is not None
                yield from read_ranges(self.located.fetched, [one.facts for one in wanted[start:end]])
                start, size = end, 0


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents whose images are read together; what `data:` addresses gave is in memory, and counted."""
    chunk: list[Document] = []
    held = 0
    for document in documents:
        chunk.append(document)
        held += sum(len(one.data) for one in document.images if one.data is not None)
        if len(chunk) == AHEAD_DOCUMENTS or held >= AHEAD_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _write(document: Document, stream: Iterator[bytes | Exception], tar: tarfile.TarFile) -> dict[str, Any]:
    """Put a document into the tar; returns its row."""
    row = dict(document.row)
    if document.error is not None:
        return {**row, "status": "failed_to_place", "error_message": document.error, "images": 0}
    digits = max(3, len(str(len(document.images))))  # so that names sort as numbers do
    count = 0
    for one in document.images:
        if one.error is not None:
            continue
        data = next(stream) if one.data is None else one.data
        if isinstance(data, bytes):
            one.image = count
            add_member(tar, f"{row['key']}.{count:0{digits}d}.{one.facts['extension']}", data)
            count += 1
        else:
            one.fail("failed_to_download", f"unreadable: {type(data).__name__}: {data}")
        one.data = None
    nodes = document.placed_nodes()
    row |= {"images": count, "status": SUCCESS, "error_message": None}
    text = json.dumps({**row, "nodes": nodes}, ensure_ascii=False, sort_keys=True, default=str)
    add_member(tar, f"{row['key']}.json", text.encode("utf-8", "replace"))
    return {**row, "nodes": json.dumps(nodes, ensure_ascii=False)}


def _report(out: str, *, resumed: int, failed: dict[str, str]) -> PlaceReport:
    documents, images = count_codes(out), count_codes(view_root(out, IMAGES))
    placed, paragraphs = images.pop(SUCCESS, 0), count_codes(view_root(out, PARAGRAPHS_VIEW)).pop(SUCCESS, 0)
    return PlaceReport(
        shards=len(list_shards(out)), resumed=resumed, documents=documents.pop(SUCCESS, 0), paragraphs=paragraphs,
        images=placed, dropped=dict(sorted(images.items())), bad_documents=dict(sorted(documents.items())),
        failed=failed,
    )  # fmt: skip
