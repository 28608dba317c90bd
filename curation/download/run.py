"""The download stage: a URL list to committed shards."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import pyarrow as pa

from mmcorpus.curation.download.config import DownloadConfig, connect_address
from mmcorpus.curation.download.formats import ListError
from mmcorpus.curation.download.lists import GrownList, NormalisedList, OtherList, normalise
from mmcorpus.curation.download.shard import ShardDownloader, transient_positions
from mmcorpus.curation.download.writer import RETRY_FOLDER, roll_forward, shard_name
from mmcorpus.curation.engine.items import Ran, run_pending
from mmcorpus.curation.engine.made_from import MadeFrom, plain
from mmcorpus.curation.engine.output import OTHER, MadeOtherwise, Output, read_record
from mmcorpus.curation.engine.tasks import Failure, cluster_resource
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import SUCCESS, Shard, list_shards, read_rows
from mmcorpus.filters.secrets import remember_config

SHARD_FAILED: Final = "shard_failed"
"""The rule that drops the rows of a shard that could not be written."""
EARLIER: Final = "download.json"
"""In the lists' folder: the record of list and options that versions before 0.2 kept."""


@dataclass(frozen=True, kw_only=True)
class ShardFailure:
    """A shard that could not be written."""

    shard: str
    error: str


@dataclass(frozen=True, kw_only=True)
class DownloadReport:
    """A URL list's download. Counts are of the whole source, rates of this call."""

    listed: int
    """Rows of the published list."""
    list_drops: dict[str, int]
    """Rows that never reached the network, by rule."""
    status: dict[str, int]
    """Rows by img2dataset's status."""
    codes: dict[str, int]
    """Failed rows by the code of their error."""
    bytes: int
    """Of all response bodies."""
    shards: int
    """Committed now."""
    failed_shards: tuple[ShardFailure, ...]
    """Shards that could not be written, after retries; run again to try them again."""
    unreadable_lists: tuple[str, ...]
    """List files of which not one row could be read: they are something else, or damaged."""
    fetched: int
    """Rows fetched by this call; the others were there already."""
    seconds: float
    """Of this call."""

    @property
    def successes(self) -> int:
        return self.status.get("success", 0)

    @property
    def images_per_second(self) -> float:
        return self.fetched / self.seconds if self.seconds else 0.0


def download(
    config: DownloadConfig,
    urls: str | Sequence[str],
    out_shards: str,
    out_lists: str,
    out_ledger: str,
    *,
    retry_failed: bool = False,
    served: Collection[str] = (),
    progress: bool = True,
) -> DownloadReport:
    """Download a URL list's images into shards; what is committed already is kept.

    `urls` is a file, folder, glob or URL, or several; of a list that grew at its end the new rows are fetched, in the
    last shard too. Ray must be initialised. With `retry_failed`, rows of shards that were committed before this call
    and failed with one of TRANSIENT_CODES are fetched again and merged into their shards; nothing else in these
    changes. Killed at any moment, it resumes to the same shards when called again.
    `served` holds the `ip:port` of servers that end with this process: no shard is committed once they are gone.

    Raises RuntimeError without Ray, ListError (a ValueError) for lists that cannot be read or have nothing to fetch,
    OSError for a full disk, and ValueError when `out_shards` holds shards made from another list or with other options.
    A shard that fails is retried `max_shard_retry` times, then named in the report and, row by row, in the ledger.
    """
    start = time.monotonic()
    remember_config(urls)
    cluster_resource("CPU")  # raises without Ray, before anything is read
    claimed = _claimed(config, out_shards, out_lists)
    try:
        listed = normalise(config, urls, out_lists, out_ledger, expected=claimed)
    except GrownList as grown:
        # The record first: cut short after it, the next call finds the list that it expects.
        output = _output(config, out_shards, grown.digest)
        output.write(storage.read_json(output.record).get("found", []))
        listed = normalise(config, urls, out_lists, out_ledger)
    except OtherList:
        raise MadeOtherwise(
            f"{out_shards} holds shards of another list; {OTHER}. Of a list that grew, new rows are downloaded if they "
            "stand after the old ones, and these are as they were; or give the new rows as a list of their own: "
            "another source, with another folder"
        ) from None
    if not listed.kept:
        raise ListError(_nothing_in(urls, listed, out_ledger))
    _output(config, out_shards, listed.digest).claim()
    roll_forward(out_shards)
    storage.sweep(out_shards)
    committed = list_shards(out_shards)
    sizes = dict.fromkeys(map(shard_name, range(listed.shards)), config.number_sample_per_shard)
    sizes[shard_name(listed.shards - 1)] = listed.kept - (listed.shards - 1) * config.number_sample_per_shard
    again = Counter(_transient_rows(committed) if retry_failed else {})
    again.update(_grown_rows(committed, sizes))
    downloader = ShardDownloader(config=config, columns=listed.columns, out_shards=out_shards,
                                 served=tuple(connect_address("served", place) for place in served))  # fmt: skip
    ran = _run(downloader, listed, sizes, [shard.name for shard in committed], progress)
    try:
        retry = replace(downloader, retry=True, failed=retry_failed)
        retried = _run(retry, listed, dict(again), [], progress)
    finally:
        roll_forward(out_shards)
    errors = dict(sorted((ran.failed | retried.failed).items()))
    failed = tuple(ShardFailure(shard=name, error=str(error)) for name, error in errors.items())
    fetched = sum(
        rows[outcome.name] for each, rows in ((ran, sizes), (retried, again)) for outcome in each.outcomes
        if outcome.error is None
    )  # fmt: skip
    tables = list(_verdicts(out_shards, listed, sizes, errors))
    ledger.write_stage(out_ledger, "download", pa.concat_tables(tables) if tables else ledger.SCHEMA.empty_table())
    stats = [storage.read_json(shard.stats) for shard in list_shards(out_shards)]
    names = {SUCCESS: "successes", "failed_to_download": "failed_to_download", "failed_to_resize": "failed_to_resize"}
    status = {status: sum(one[name] for one in stats) for status, name in names.items()}
    codes = Counter[str]()
    for one in stats:
        codes.update(one["status_dict"])
    del codes[SUCCESS]
    return DownloadReport(
        listed=listed.rows, list_drops=listed.dropped, status={name: n for name, n in status.items() if n},
        codes=dict(codes.most_common()), bytes=sum(one.get("bytes", 0) for one in stats), shards=len(stats),
        failed_shards=failed, unreadable_lists=listed.unreadable, fetched=fetched, seconds=time.monotonic() - start,
    )  # fmt: skip


def _nothing_in(urls: str | Sequence[str], listed: NormalisedList, out_ledger: str) -> str:
    """The error of a list without a row to fetch."""
    where = urls if isinstance(urls, str) else ", ".join(urls)
    if not listed.rows:
        return f"{where}: the list has no rows, so there is nothing to download"
    rules = ", ".join(f"{count:,} {rule}" for rule, count in listed.dropped.items())
    drops: Any = storage.read_table(storage.join(out_ledger, "list.parquet"), columns=["value"])["value"]
    example = "".join(f"; e.g. {value}" for value in drops.drop_null().slice(0, 1).to_pylist())
    return f"{where}: none of its {listed.rows:,} rows can be downloaded ({rules}){example}"


def _run(
    downloader: ShardDownloader, listed: NormalisedList, sizes: dict[str, int], committed: list[str], shown: bool
) -> Ran:
    """Download the shards in `sizes` (their rows to fetch) that are not committed."""

    def counted(row: tuple[int, str]) -> dict[str, int]:
        stats = downloader(row)
        if downloader.retry:  # the stats count every row of the shard, not those done again
            return {}
        return {"kept": stats["successes"], **{code: n for code, n in stats["status_dict"].items() if code != SUCCESS}}

    return run_pending(
        lambda: counted,
        [(int(name), listed.path(int(name))) for name in sizes],
        committed=committed,
        name=lambda row: shard_name(row[0]),
        title="download",
        workers=downloader.config.processes_count,
        unit="image",
        size=lambda row: sizes[shard_name(row[0])],
        # Each death of a worker is one of the shard's tries; Ray's own retries would hide it from the count.
        max_task_retries=0,
        retries=downloader.config.max_shard_retry,
        shown=shown,
        aside=downloader.out_shards,
    )


def _verdicts(
    out_shards: str, listed: NormalisedList, sizes: dict[str, int], errors: dict[str, Failure]
) -> Iterator[pa.Table]:
    """The ledger's stage `download`: a row for each row that the list kept, also where its shard failed."""
    committed = {shard.name for shard in list_shards(out_shards)}
    for number in range(listed.shards):
        shard = Shard(root=out_shards, name=shard_name(number))
        if shard.name in committed:
            rows = read_rows(shard, ["uid", "error_message"])
            yield ledger.verdicts_of(rows, "download")
            there = len(rows)  # fewer than the list's where it grew, and these could not be added
        else:
            there = 0
        if there < sizes[shard.name]:
            uids: Any = storage.read_table(listed.path(number), columns=["uid"])["uid"].slice(there)
            messages = pa.array(
                [f"{SHARD_FAILED}: {errors.get(shard.name, 'not downloaded')}"] * len(uids), pa.string()
            )
            yield ledger.verdicts_of(pa.table({"uid": uids, "error_message": messages}), "download")


def _output(config: DownloadConfig, out_shards: str, list_digest: str) -> Output:
    made_from = MadeFrom(config=plain(config, config.unsaid), inputs={"list": list_digest})
    return Output(folder=out_shards, holds="downloaded shards", made_from=made_from, writes=(RETRY_FOLDER,))


def _claimed(config: DownloadConfig, out_shards: str, out_lists: str) -> str | None:
    """The digest of the list that `out_shards` holds shards of; None if it holds none.

    Raises MadeOtherwise, before the list is read, if they were made with other options.
    """
    if not list_shards(out_shards):
        return None
    known, earlier = read_record(out_shards), storage.join(out_lists, EARLIER)
    digest = "" if known is None else known.inputs["list"]
    if known is None and storage.exists(earlier):
        stored = storage.read_json(earlier)
        options = {name: value for name, value in asdict(config).items() if name not in config.unsaid}
        options_digest = hashlib.blake2b(json.dumps(options, sort_keys=True).encode(), digest_size=16).hexdigest()
        if stored["options"] != options_digest:
            raise MadeOtherwise(f"{out_shards} holds shards made with other options; {OTHER}")
        digest = stored["list"]
        _output(config, out_shards, digest).write()
    _output(config, out_shards, digest).claim()
    return digest


def _grown_rows(committed: list[Shard], sizes: dict[str, int]) -> dict[str, int]:
    """The committed shards that lack rows of a list that grew – the last of the list before –, and how many."""
    lacking = {shard.name: sizes.get(shard.name, 0) - storage.read_json(shard.stats)["count"] for shard in committed}
    return {name: count for name, count in lacking.items() if count > 0}


def _transient_rows(committed: list[Shard]) -> dict[str, int]:
    """The shards with rows worth fetching again, and how many."""
    counts = {shard.name: len(transient_positions(shard)) for shard in committed}
    return {name: count for name, count in counts.items() if count}
