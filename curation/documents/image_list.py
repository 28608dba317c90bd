"""The image list: every address that the documents' images have, once, and the rules before a download."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.dedup.plan import digest_of
from mmcorpus.curation.documents.config import ImageListConfig
from mmcorpus.curation.documents.image_urls import DECIDED, CountShard, Merge
from mmcorpus.curation.documents.read_extracted import digest_of_captures, digest_of_shards
from mmcorpus.curation.download import DownloadConfig
from mmcorpus.curation.engine.items import run_items, run_stage, threaded
from mmcorpus.curation.engine.partitions import SUFFIX, read_parts, runs, says
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import Shard, list_shards

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

MADE_BY: Final = "made_by.json"
"""Written first into the list's folder: what it is made from."""
MANIFEST: Final = "list.json"
"""Written last: the list is complete, and what it counts."""
USES_FOLDER: Final = "uses"
DECIDED_FOLDER: Final = "decided"
TASK_ADDRESSES: Final = 1_000_000
"""Addresses that a task merges, about; counted before the repeats of different shards are."""
_VERSION: Final = 1


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

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


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
    made_by = {
        "made_by": digest_of(
            _VERSION, asdict(config), digest_of_shards(documents), digest_of_captures(captures, shards)
        )
    }
    known = _complete(out, made_by)
    if known is not None and storage.exists(storage.join(ledger_root, "extract.parquet")):
        return known
    count = CountShard(folder=storage.join(out, USES_FOLDER), captures=captures)
    there = set(storage.list_names(count.folder))
    waiting = [shard for shard in shards if f"{shard.name}{SUFFIX}" not in there]
    outcomes = run_items(lambda: count.run, waiting, name=_name, title="list images", workers=workers)
    failed = {outcome.name: outcome.error for outcome in outcomes if outcome.error}
    if len(failed) == len(shards):
        raise ValueError(f"not one shard of {documents} could be read; the first: {next(iter(failed.values()))}")
    counted = tuple(count.path(shard.name) for shard in shards if shard.name not in failed)
    totals: Counter[str] = Counter()
    for said in threaded(says, counted):
        totals.update(said)
    tasks = tuple(runs(totals["addresses"], TASK_ADDRESSES))
    names = [shard.name for shard in shards if shard.name not in failed]
    # A shard that could not be read, and now can, changes what all tasks merge.
    decided = f"{DECIDED_FOLDER}-{digest_of(names)}"
    merge = Merge(config=config, counted=counted, tasks=tasks, out=out, decided=storage.join(out, decided))
    for name in storage.list_names(out):
        beyond = name.endswith(".parquet") and int(name.removesuffix(".parquet")) >= len(tasks)
        if beyond or (name.startswith(DECIDED_FOLDER) and name != decided):
            storage.remove(storage.join(out, name))
    files = run_stage(merge.decided, merge.run, len(tasks), title="merge addresses", workers=workers)
    dropped, addresses = _write_ledger(files, ledger_root)
    report = ImageListReport(
        documents=totals["documents"], places=totals["places"], addresses=addresses,
        listed=addresses - dropped.total(), dropped=dict(sorted(dropped.items())), failed=failed,
    )  # fmt: skip
    shape = {"shards": names, "tasks": [[run.start, run.stop] for run in tasks], "decided": decided}
    storage.write_json(storage.join(out, MANIFEST), {**made_by, **shape, "report": report.as_dict()})
    return report


def _name(shard: Shard) -> str:
    return shard.name


def _complete(out: str, made_by: dict[str, str]) -> ImageListReport | None:
    """The report of the list that is there, if it was made so. What was made otherwise is removed."""
    names = storage.list_names(out)
    if MADE_BY not in names or storage.read_json(storage.join(out, MADE_BY)) != made_by:
        if MADE_BY not in names and any(name.endswith(".parquet") for name in names):
            raise ValueError(f"{out} holds parquet files that list_images did not write; name another folder")
        for name in names:
            if name in (MANIFEST, USES_FOLDER) or name.startswith(DECIDED_FOLDER) or name.endswith(".parquet"):
                storage.remove(storage.join(out, name))
        storage.write_json(storage.join(out, MADE_BY), made_by)
        return None
    if MANIFEST not in names:
        return None
    report = ImageListReport(**storage.read_json(storage.join(out, MANIFEST))["report"])
    return None if report.failed else report


def _write_ledger(decided: Sequence[str], ledger_root: str) -> tuple[Counter[str], int]:
    """The ledger of all addresses; returns how many each rule dropped, and their number."""
    table = pa.concat_tables([DECIDED.empty_table(), *map(read_parts, decided)])
    verdict = pc.if_else(pc.is_null(table["rule"]), ledger.KEPT, ledger.DROPPED)
    stage = pa.array(["extract"] * table.num_rows, pa.string())
    row = pa.nulls(table.num_rows, pa.int64())
    columns: list[Any] = [table["uid"], stage, verdict, table["rule"], table["value"], row]
    ledger.write_stage(ledger_root, "extract", pa.Table.from_arrays(columns, schema=ledger.SCHEMA))
    counts = pc.value_counts(table["rule"].drop_null()).to_pylist()
    return Counter({str(item["values"]): int(item["counts"]) for item in counts}), table.num_rows


def url_list_config(config: DownloadConfig) -> DownloadConfig:
    """The download options with which the list of `list_images` is to be read."""
    return replace(config, url_col="url", caption_col=None, uid_col="uid", save_additional_columns=("pages", "places"))
