"""The download stage: a URL list to committed shards, through img2dataset's Ray distributor."""

import hashlib
import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from mmcorpus.curation.download.accounts import ShardFailure, summarise, write_download_ledger
from mmcorpus.curation.download.config import VOLATILE, DownloadConfig
from mmcorpus.curation.download.formats import ListError
from mmcorpus.curation.download.lists import NormalisedList, normalise
from mmcorpus.curation.download.rebind import import_img2dataset, rebound
from mmcorpus.curation.download.shard import ShardDownloader, transient_positions
from mmcorpus.curation.download.writer import roll_forward, shard_name
from mmcorpus.curation.engine.progress import Progress
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import Shard, list_shards

NODE_LOSSES: Final = 5
"""How often a shard is begun again because the machine that fetched it was lost, besides `max_shard_retry`."""
MADE_BY: Final = "download.json"
"""In the lists' folder: which list and options the shards were made with."""


@dataclass(frozen=True, kw_only=True)
class DownloadReport:
    """What became of a URL list. Counts are of the whole source, rates of this call."""

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
    progress: bool = True,
) -> DownloadReport:
    """Download a URL list's images into shards; what is committed already is kept.

    `urls` is a file, folder, glob or URL, or several. Ray must be initialised. With `retry_failed`, rows of shards that
    were committed before this call and failed with one of TRANSIENT_CODES are fetched again and merged into their
    shards; nothing else in these changes. Killed at any moment, it resumes to the same shards when called again.

    Raises RuntimeError without Ray, ListError (a ValueError) for lists that cannot be read or have nothing to fetch,
    OSError for a full disk, and ValueError when `out_shards` holds shards made from another list or with other options.
    A shard that fails is retried `max_shard_retry` times, then named in the report and, row by row, in the ledger.
    """
    start = time.monotonic()
    _require_ray()
    listed = normalise(config, urls, out_lists, out_ledger)
    if not listed.kept:
        raise ListError(_nothing_in(urls, listed))
    _require_same(config, listed, out_shards, out_lists)
    roll_forward(out_shards)
    _remove_leftovers(out_shards)
    committed = {int(shard.name) for shard in list_shards(out_shards)}
    again = _transient_rows(out_shards, sorted(committed)) if retry_failed else {}
    pending = [number for number in range(listed.shards) if number not in committed]
    sizes = dict.fromkeys(pending, config.number_sample_per_shard)
    if listed.shards - 1 in sizes:
        sizes[listed.shards - 1] = listed.kept - (listed.shards - 1) * config.number_sample_per_shard
    with _Bar(sum(sizes.values()) + sum(again.values()), progress) as bar:
        downloader = ShardDownloader(config=config, columns=listed.columns, out_shards=out_shards)
        failures = _distribute(downloader, listed, sizes, bar)
        if again:
            retry = ShardDownloader(config=config, columns=listed.columns, out_shards=out_shards, retry=True)
            try:
                failures |= _distribute(retry, listed, again, bar)
            finally:
                roll_forward(out_shards)
    failed = tuple(ShardFailure(shard=shard_name(number), error=failures[number]) for number in sorted(failures))
    write_download_ledger(out_shards, out_ledger, listed, failed)
    counts = summarise(out_shards)
    return DownloadReport(
        listed=listed.rows, list_drops=listed.dropped, status=counts.status, codes=counts.codes, bytes=counts.bytes,
        shards=counts.shards, failed_shards=failed, fetched=bar.rows, seconds=time.monotonic() - start,
    )  # fmt: skip


def _nothing_in(urls: str | Sequence[str], listed: NormalisedList) -> str:
    """What to say of a list without a row to fetch."""
    where = urls if isinstance(urls, str) else ", ".join(urls)
    if not listed.rows:
        return f"{where}: the list has no rows, so there is nothing to download"
    rules = ", ".join(f"{count:,} {rule}" for rule, count in listed.dropped.items())
    return f"{where}: none of its {listed.rows:,} rows can be downloaded ({rules})"


class _Bar:
    """Progress in rows, with the failures so far; silent if not wanted."""

    def __init__(self, total: int, wanted: bool) -> None:
        self.rows = 0
        self._progress = Progress("download", total=total, unit="image") if wanted and total else None

    def __enter__(self) -> "_Bar":
        if self._progress:
            self._progress.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._progress:
            self._progress.__exit__(*error)

    def shard(self, rows: int, codes: dict[str, int]) -> None:
        self.rows += rows
        if self._progress:
            self._progress.advance(rows, **codes)


class _Window:
    """Stands where img2dataset's Ray distributor expects `ray` and its remote function: a bounded number of shards
    in flight, and one that fails is noted instead of ending the run."""

    def __init__(self, limit: int, sizes: dict[int, int], bar: _Bar) -> None:
        import ray

        self.ray, self.limit, self.sizes, self.bar = ray, limit, sizes, bar
        # Ray's own retries would hide a crash from the count; those of this module are max_shard_retry.
        self.task = ray.remote(num_cpus=1, max_retries=0)(_download_shard)
        self.in_flight: dict[Any, tuple[int, str]] = {}
        self.failed: dict[int, tuple[tuple[int, str], str]] = {}
        self.lost = Counter[int]()
        self.downloader: Any = None
        self.again = False

    def remote(self, downloader: ShardDownloader, row: tuple[int, str]) -> None:
        """In place of `ray_download.remote`."""
        while len(self.in_flight) >= self.limit:
            self._collect()
        if self.downloader is None:
            self.downloader, self.again = self.ray.put(downloader), downloader.retry
        self._submit(row)

    def _submit(self, row: tuple[int, str]) -> None:
        self.in_flight[self.task.remote(self.downloader, row)] = row

    def get(self, _: list[None]) -> None:
        """In place of `ray.get`."""
        while self.in_flight:
            self._collect()

    def _collect(self) -> None:
        done, _ = self.ray.wait(list(self.in_flight), num_returns=1, timeout=1.0)
        for reference in done:
            row = self.in_flight.pop(reference)
            try:
                stats = self.ray.get(reference)
            except self.ray.exceptions.RayError as error:
                if isinstance(error, self.ray.exceptions.NodeDiedError) and self.lost[row[0]] < NODE_LOSSES:
                    self.lost[row[0]] += 1  # not the shard's fault: it does not count as one of its tries
                    self._submit(row)
                    continue
                cause = getattr(error, "cause", None) or error
                if storage.disk_is_full(cause):  # every shard after it would be fetched for nothing
                    raise cause from None
                lines = str(cause).strip().splitlines() or [""]
                self.failed[row[0]] = (row, f"{type(cause).__name__}: {lines[0]}")
            else:
                codes = {code: count for code, count in stats["status_dict"].items() if code != "success"}
                # Of a shard done again in part the stats count every row; the bar counts those fetched.
                self.bar.shard(self.sizes[row[0]], {} if self.again else {"kept": stats["successes"], **codes})


def _download_shard(downloader: ShardDownloader, row: tuple[int, str]) -> dict[str, Any]:
    """The remote function; img2dataset's own swallows a shard's error into a flag that its distributor drops."""
    return downloader(row)


def _distribute(
    downloader: ShardDownloader, listed: NormalisedList, sizes: dict[int, int], bar: _Bar
) -> dict[int, str]:
    """Download the shards numbered in `sizes` (their rows to fetch); returns what failed for good, and why."""
    import_img2dataset()
    import ray
    from img2dataset import distributor

    workers = downloader.config.processes_count
    if workers is None:
        cpus = int(ray.cluster_resources().get("CPU", 1)) or 1
        limit = cpus + math.ceil(cpus / 4)  # a few wait in Ray's queue so that no worker waits for the driver
    else:
        limit = workers
    rows = [(number, listed.path(number)) for number in sorted(sizes)]
    failed: dict[int, tuple[tuple[int, str], str]] = {}
    for _ in range(1 + downloader.config.max_shard_retry):
        window = _Window(limit, sizes, bar)
        # When this is interrupted, shards in flight are left alone: they end with the driver, or commit the bytes that
        # the next run would. Cancelling them would be tidier, but ray.cancel, forced or not, aborts Ray's driver
        # when it meets a task that ends at that moment (a failed check in Ray 2.60's task_manager.cc).
        distribute = rebound(distributor.ray_distributor, ray_download=window, ray=window)
        distribute(limit, downloader, _reader(rows), None, downloader.config.max_shard_retry)
        failed = window.failed
        rows = [row for row, _ in failed.values()]
        if not rows:
            break
    return {number: error for number, (_, error) in failed.items()}


def _reader(rows: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """What img2dataset's Reader gives its distributor: shard numbers with their list files, here made beforehand."""
    yield from rows


def _require_ray() -> None:
    try:
        import ray
    except ModuleNotFoundError:
        raise RuntimeError("downloading needs Ray, which is not installed: pip install 'mmcorpus[curate]'") from None
    if not ray.is_initialized():
        raise RuntimeError("Ray is not running here: call ray.init() (or use the mmcorpus command, which does) first")


def _require_same(config: DownloadConfig, listed: NormalisedList, out_shards: str, out_lists: str) -> None:
    """Refuse to mix shards of two lists or two sets of options in one folder."""
    options = {name: value for name, value in asdict(config).items() if name not in VOLATILE}
    made_by = {
        "list": listed.digest,
        "options": hashlib.blake2b(json.dumps(options, sort_keys=True).encode(), digest_size=16).hexdigest(),
    }
    path = storage.join(out_lists, MADE_BY)
    known = storage.read_json(path) if storage.exists(path) else None
    if known == made_by:
        return
    if known is not None and list_shards(out_shards):
        what = "another list" if known["list"] != listed.digest else "other options"
        raise ValueError(f"{out_shards} holds shards made with {what}; remove it, or choose another folder")
    storage.write_json(path, made_by)


def _transient_rows(out_shards: str, numbers: list[int]) -> dict[int, int]:
    """The committed shards with rows worth fetching again, and how many."""
    counts = Counter[int]()
    for number in numbers:
        counts[number] = len(transient_positions(Shard(root=out_shards, name=shard_name(number))))
    return {number: count for number, count in counts.items() if count}


def _remove_leftovers(out_shards: str) -> None:
    """Temporary files that a killed worker left beside its shard."""
    if not storage.is_local(out_shards):
        return
    _, inner = storage.filesystem(out_shards)
    if not os.path.isdir(inner):
        return
    for entry in os.scandir(inner):
        if entry.name.endswith(storage.TEMPORARY_SUFFIX) and entry.is_file():
            os.unlink(entry.path)
