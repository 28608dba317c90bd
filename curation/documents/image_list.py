"""The image list: every address that the documents' images have, once, and the rules before a download."""

from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import pyarrow as pa

from mmcorpus.curation.documents.config import ImageListConfig
from mmcorpus.curation.documents.image_urls import DECIDED, CountShard, Merge
from mmcorpus.curation.documents.read_extracted import digest_of_captures, digest_of_shards
from mmcorpus.curation.download import DownloadConfig
from mmcorpus.curation.engine.items import run_numbered, run_pending
from mmcorpus.curation.engine.made_from import MadeFrom, digest_of, plain
from mmcorpus.curation.engine.output import Output
from mmcorpus.curation.engine.partitions import SUFFIX, read_parts, runs, says
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import list_shards
from mmcorpus.curation.store.storage import threaded

MANIFEST: Final = "list.json"
"""Written last: the list is complete, and what it counts."""
USES_FOLDER: Final = "uses"
DECIDED_FOLDER: Final = "decided"
TASK_ADDRESSES: Final = 1_000_000
"""Addresses that a task merges, about; counted before the repeats of different shards are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageListReport:
    """The counts of the documents' images."""

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
    captures: str | None = None,
    workers: int | None = None,
) -> ImageListReport:
    """Write the URL list of the documents' images, for the download stage, and its ledger's stage `extract`.

    A list that is there and made from the same documents with the same options is kept; what a killed run counted is
    used again. Needs an initialised Ray; in this process are 80 bytes an address, for the ledger.

    Args:
        documents: extracted documents, `documents/<source>`.
        out: a folder for the list (`00000.parquet` …, columns uid, url, pages, places; sorted by uid), e.g.
            `documents/<source>.urls`. `url_list_config` says how the download is to read it.
        ledger_root: `ledger/<source>.urls`.
        captures: the scores to which `choose_captures` wrote, `scores/<source>`; None takes all documents.
        workers: None for as many as Ray has CPUs; 0 for this process, without Ray.

    Raises:
        RuntimeError: Ray is not running, or the merging failed.
        ValueError: there are no documents, or none that can be read.
    """
    shards = list_shards(documents)
    if not shards:
        raise ValueError(f"there are no extracted documents (…_stats.json) under {documents}; extract them first")
    output = Output(
        folder=out,
        holds="a list of images",
        made_from=MadeFrom(
            config=plain(config),
            inputs={"documents": digest_of_shards(documents), "captures": digest_of_captures(captures, shards)},
        ),
        stale="replace",
        writes=(MANIFEST, USES_FOLDER, f"{DECIDED_FOLDER}-*"),
        earlier=("made_by.json",),
    )
    manifest = storage.join(out, MANIFEST)
    parquet = any(name.endswith(".parquet") for name in storage.list_names(out))
    if output.claim(parquet) and all(map(storage.exists, (manifest, storage.join(ledger_root, "extract.parquet")))):
        known = ImageListReport(**storage.read_json(manifest)["report"])
        if not known.failed:
            return known
    count = CountShard(folder=storage.join(out, USES_FOLDER), captures=captures)
    committed = {name.removesuffix(SUFFIX) for name in storage.list_names(count.folder)}
    ran = run_pending(lambda: count.run, shards, committed=committed, title="list images", workers=workers)
    failed = {name: str(failure) for name, failure in ran.failed.items()}
    if len(failed) == len(shards):
        raise ValueError(f"not one shard of {documents} could be read; the first: {next(iter(failed.values()))}")
    names = [shard.name for shard in shards if shard.name not in failed]
    counted = tuple(map(count.path, names))
    totals: Counter[str] = Counter()
    for said in threaded(says, counted):
        totals.update(said)
    tasks = tuple(runs(totals["addresses"], TASK_ADDRESSES))
    # A shard that could not be read, and now can, changes what all tasks merge.
    decided = f"{DECIDED_FOLDER}-{digest_of(names)}"
    merge = Merge(config=config, counted=counted, tasks=tasks, out=out, decided=storage.join(out, decided))
    for name in storage.list_names(out):
        beyond = name.endswith(".parquet") and int(name.removesuffix(".parquet")) >= len(tasks)
        if beyond or (name.startswith(DECIDED_FOLDER) and name != decided):
            storage.remove(storage.join(out, name))
    files = run_numbered(merge.decided, merge.run, len(tasks), title="merge addresses", workers=workers)
    table = pa.concat_tables([DECIDED.empty_table(), *map(read_parts, files)])
    verdicts = ledger.verdicts(table["uid"], "extract", table["rule"], table["value"])
    dropped = ledger.dropped_by(ledger.write_stage(ledger_root, "extract", verdicts))
    report = ImageListReport(
        documents=totals["documents"], places=totals["places"], addresses=len(table),
        listed=len(table) - sum(dropped.values()), dropped=dict(sorted(dropped.items())), failed=failed,
    )  # fmt: skip
    shape = {"shards": names, "tasks": [[run.start, run.stop] for run in tasks], "decided": decided}
    storage.write_json(manifest, {"made_from": output.made_from.fingerprint, **shape, "report": asdict(report)})
    return report


def read_manifest(listed: str) -> dict[str, Any]:
    """The manifest of a list of images. Raises ValueError if the list is not complete."""
    try:
        made: dict[str, Any] = storage.read_json(storage.join(listed, MANIFEST))
    except FileNotFoundError:
        raise ValueError(f"{listed} has no complete list of images ({MANIFEST}); make it with list_images") from None
    return made


def url_list_config(config: DownloadConfig) -> DownloadConfig:
    """The download options with which the list of `list_images` is to be read."""
    return replace(config, url_col="url", caption_col=None, uid_col="uid", save_additional_columns=("pages", "places"))
