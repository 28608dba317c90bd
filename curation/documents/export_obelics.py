"""Export in OBELICS's schema (Laurençon et al. 2023, arXiv 2306.16527): parquet for all that reads OBELICS.

A row is a document: `images` and `texts`, lists of one length with exactly one of the two set at each place, `metadata`
(JSON: a list of that length, an object where there is an image) and `general_metadata` (JSON: where the page is from).
As in OBELICS an image is its address, and texts that follow one another are one, joined by blank lines.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.documents.read_extracted import digest_of_shards
from mmcorpus.curation.engine.items import run_pending
from mmcorpus.curation.engine.made_from import MadeFrom, digest
from mmcorpus.curation.engine.output import Output
from mmcorpus.curation.html.nodes import BREAK
from mmcorpus.curation.selection.tables import read_selection, selection_pairs
from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.curation.store.shards import SUCCESS, VIEW_FILE, EncodedImage, Shard, list_shards, read_rows, read_samples
from mmcorpus.curation.store.views import Nodes, read_kept

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

SCHEMA: Final = pa.schema(
    {
        "images": pa.list_(pa.string()),
        "metadata": pa.string(),
        "general_metadata": pa.string(),
        "texts": pa.list_(pa.string()),
    }
)
_OF_IMAGES: Final = {
    "url": "src",
    "alt": "alt_text",
    "caption": "caption",
    "width": "rendered_width",
    "height": "rendered_height",
    "original_width": "original_width",
    "original_height": "original_height",
    "original_format": "format",
    "sha256": "sha256",
}
"""OBELICS's names of what is known of an image; `caption` and `sha256` it does not have."""
_OF_PAGES: Final = {
    "url": "url",
    "file": "warc_filename",
    "offset": "warc_record_offset",
    "length": "warc_record_length",
    "uid": "uid",
    "date": "date",
    "language": "language",
    "title": "title",
    "opt_out": "opt_out",
}
"""Likewise of a page; OBELICS has the first four."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportReport:
    """The outcome of an export."""

    files: int
    """Parquet files, one a shard that has selected documents."""
    resumed: int
    """Of these, written before."""
    documents: int
    """Rows, copies included."""
    images: int
    inline: int
    """Of the images, those whose page carries them in a `data:` address: it holds the image as stored."""
    missing: int
    """Uids of the selection that no shard has."""
    failed: dict[str, str]
    """Shards that could not be exported, and why; run again to retry them."""


def export_obelics(
    shards: str, out: str, *, selection: str | pa.Table | None = None, workers: int | None = None
) -> ExportReport:
    """Write documents as `<out>/<shard>.parquet` in OBELICS's schema, as often as the selection counts them.

    Needs an initialised Ray. A file that is there is kept, so that a killed export goes on where it was.

    Args:
        shards: trimmed documents (`shards/<source>.trimmed`), or documents that were resharded.
        selection: a table of uid and count, or the path of one (.parquet, .npy, .txt); None for every document.
        workers: None for as many as Ray has CPUs; 0 for this process, without Ray.

    Raises:
        ValueError: `shards` has no shards, or none of documents; or `out` holds another export.
        RuntimeError: Ray is not running.
    """
    listed = list_shards(shards)
    if not listed:
        raise ValueError(f"there are no shards (…_stats.json) under {shards}")
    if listed[0].level in ("image", "paragraph") or "nodes" not in storage.read_schema(listed[0].parquet).names:
        raise ValueError(f"{shards} has no documents; give shards/<source>.trimmed, or documents that were resharded")
    table = read_selection(selection) if isinstance(selection, str) else selection
    wanted = None if table is None else _counted(table)
    view = storage.join(shards, VIEW_FILE)  # which says by which decisions the documents were trimmed
    decided = storage.read_json(view) if storage.exists(view) else None
    output = Output(
        folder=out,
        holds="exported documents",
        made_from=MadeFrom(
            config={"schema": "obelics"},
            inputs={
                "documents": digest_of_shards(shards),
                "decisions": digest(decided),
                "selection": digest(None if wanted is None else sorted(wanted.items())),
            },
        ),
        earlier=("export.json",),
    )
    output.claim(any(name.endswith(".parquet") for name in storage.list_names(out)))
    chosen, found = [], set[str]()
    for shard in listed:
        counts = _counts(shard, wanted, found)
        found.update(counts)
        if counts:
            chosen.append(ExportShard(shard=shard, out=out, counts=counts))
    committed = {name.removesuffix(".parquet") for name in storage.list_names(out)}
    ran = run_pending(lambda: ExportShard.run, chosen, committed=committed, title="export", workers=workers)
    failed = {name: str(failure) for name, failure in ran.failed.items()}
    written = [storage.read_schema(work.path).metadata for work in chosen if work.name not in failed]
    said = [json.loads(metadata[b"mmcorpus"]) for metadata in written]
    totals = {name: sum(count[name] for count in said) for name in ("documents", "images", "inline")}
    return ExportReport(
        files=len(written), resumed=ran.resumed, failed=failed,
        missing=0 if wanted is None else len(wanted.keys() - found), **totals,
    )  # fmt: skip


def _counted(selection: pa.Table) -> dict[str, int]:
    pairs, counts = selection_pairs(selection)
    return dict(zip(map(str, uids.decode(pairs).to_pylist()), counts.tolist(), strict=True))


def _counts(shard: Shard, wanted: Mapping[str, int] | None, found: set[str]) -> dict[str, int]:
    """The documents that a shard is to give, with their counts; one in several shards is taken from the first."""
    rows = read_rows(shard, ["uid", "status"])
    names = rows.filter(pc.equal(rows["status"], SUCCESS))["uid"].to_pylist()
    if wanted is None:
        return {uid: 1 for uid in names if uid not in found}
    return {uid: wanted[uid] for uid in names if uid in wanted and uid not in found}


@dataclass(frozen=True, kw_only=True)
class ExportShard:
    """The work on one shard: its file."""

    shard: Shard
    out: str
    counts: dict[str, int]
    """By uid, how often a document is written."""

    @property
    def name(self) -> str:
        return self.shard.name

    @property
    def path(self) -> str:
        return storage.join(self.out, f"{self.name}.parquet")

    def run(self) -> dict[str, int]:
        """Write the file; returns counts, which its schema's metadata has as well."""
        documents = list(read_kept(self.shard, self.counts))
        carried = {row["uid"] for row, nodes in documents if any(map(_is_inline, nodes))}
        pictures = self._pictures(carried)
        counts = {"documents": 0, "images": 0, "inline": 0}
        rows: list[dict[str, Any]] = []
        for row, nodes in documents:
            written, times = to_row(row, nodes, pictures.get(row["uid"], ())), self.counts[row["uid"]]
            rows += [written] * times
            counts["documents"] += times
            counts["images"] += times * sum(image is not None for image in written["images"])
            counts["inline"] += times * sum(map(_is_inline, nodes))
        schema = SCHEMA.with_metadata({"mmcorpus": json.dumps(counts)})
        storage.write_table(self.path, pa.Table.from_pylist(rows, schema=schema))
        return counts

    def _pictures(self, uids: set[str]) -> dict[str, tuple[EncodedImage, ...]]:
        """The images of some documents, in page order."""
        return {sample.uid: sample.images for sample in read_samples(self.shard, uids)} if uids else {}


def to_row(row: Mapping[str, Any], nodes: Nodes, pictures: tuple[EncodedImage, ...] = ()) -> dict[str, Any]:
    """A document as a row of OBELICS.

    Args:
        row: of the shard.
        nodes: as `read_kept` gives them.
        pictures: the images in order; needed if one of them stands in its page's address.
    """
    images: list[str | None] = []
    texts: list[str | None] = []
    metadata: list[dict[str, Any] | None] = []
    seen = 0
    for node in nodes:
        if "text" in node:
            if texts and texts[-1] is not None:
                texts[-1] += BREAK + node["text"]
                continue
            images.append(None)
            texts.append(node["text"])
            metadata.append(None)
            continue
        known = {theirs: node[ours] for ours, theirs in _OF_IMAGES.items() if node.get(ours) is not None}
        if _is_inline(node):
            known["src"] = _data_url(pictures[seen])
        seen += 1
        images.append(known["src"])
        texts.append(None)
        metadata.append({"document_url": row["url"], **known})
    general = {theirs: row[ours] for ours, theirs in _OF_PAGES.items() if row.get(ours) is not None}
    return {
        "images": images,
        "metadata": json.dumps(metadata, ensure_ascii=False),
        "general_metadata": json.dumps(general, ensure_ascii=False),
        "texts": texts,
    }


def _is_inline(node: Mapping[str, Any]) -> bool:
    return "image" in node and str(node["url"]).startswith("data:")


def _data_url(picture: EncodedImage) -> str:
    kind = {"jpg": "jpeg", "tif": "tiff"}.get(picture.extension, picture.extension)
    return f"data:image/{kind};base64,{base64.b64encode(picture.data).decode()}"
