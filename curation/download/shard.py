"""One shard's download, in a worker: img2dataset's own shard loop with our fetcher, key, writer and stats in it."""

import io
import os
import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mmcorpus.curation.download.config import DownloadConfig, connect_address
from mmcorpus.curation.download.fetch import TRANSIENT_CODES, FetchFailure, fetch
from mmcorpus.curation.download.guard import HostGate
from mmcorpus.curation.download.limits import Limits
from mmcorpus.curation.download.rebind import import_img2dataset, rebound
from mmcorpus.curation.download.resize import Resized, UprightResizer, code_of
from mmcorpus.curation.download.writer import RETRY_FOLDER, SHARD_DIGITS, SampleWriter, keys_of, shard_name, write_stats
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import Shard, read_rows


class _Body(io.BytesIO):
    """A response body on its way to the resizer."""

    def __init__(self, data: bytes, key: str, content_type: str) -> None:
        super().__init__(data)
        self.key, self.content_type = key, content_type


@dataclass(frozen=True, kw_only=True)
class ShardDownloader:
    """What img2dataset's distributor sends to workers; called with a shard's number and list file.

    With `retry` it does again the rows of a committed shard that failed for reasons that can pass, into the staging
    folder, from where `writer.roll_forward` puts the shard in place.
    """

    config: DownloadConfig
    columns: tuple[str, ...]
    """Of the list shards."""
    out_shards: str
    retry: bool = False

    def __call__(self, row: tuple[int, str]) -> dict[str, Any]:
        """Download the shard unless it is committed; returns its stats."""
        number, list_file = row
        name = shard_name(number)
        current = Shard(root=self.out_shards, name=name)
        target = Shard(root=storage.join(self.out_shards, RETRY_FOLDER), name=name) if self.retry else current
        if storage.exists(target.stats):
            return _stats(target)
        table = storage.read_table(list_file).select(list(self.columns))
        positions = transient_positions(current) if self.retry else list(range(len(table)))
        _Run(self, number, target, table.take(positions), positions).download()
        return _stats(target)


def _stats(shard: Shard) -> dict[str, Any]:
    stats: dict[str, Any] = storage.read_json(shard.stats)
    return stats


def transient_positions(shard: Shard) -> list[int]:
    """The rows of a committed shard that failed for reasons that can pass."""
    messages = read_rows(shard, ["error_message"])["error_message"].to_pylist()
    return [position for position, message in enumerate(messages) if code_of(message) in TRANSIENT_CODES]


class _Run:
    """The pieces that img2dataset's loop calls during one shard."""

    def __init__(
        self, downloader: ShardDownloader, number: int, target: Shard, table: pa.Table, positions: list[int]
    ) -> None:
        config = downloader.config
        self.config, self.number, self.target, self.table = config, number, target, table
        self.previous = Shard(root=downloader.out_shards, name=target.name) if downloader.retry else None
        self.columns = list(downloader.columns)
        self.keys = keys_of(number, positions, config.number_sample_per_shard)
        self.facts: dict[str, dict[str, Any]] = {}
        self.limits = Limits(
            timeout=config.timeout,
            total_timeout=config.total_timeout,
            max_bytes=config.max_bytes,
            max_redirects=config.max_redirects,
            retries=config.retries,
            backoff=config.backoff,
            allow_private=config.allow_private,
            connect_to={host.lower(): connect_address(host, place) for host, place in config.connect_to.items()},
            user_agent_token=config.user_agent_token,
            directives=config.disallowed_header_directives,
        )
        self.gate = HostGate(config.max_per_host)
        self.resizer: UprightResizer | None = None
        self.start = 0.0

    def download(self) -> None:
        import_img2dataset()
        import fsspec
        from img2dataset.downloader import Downloader

        self.resizer = UprightResizer(self.config)
        self.start = time.time()
        # img2dataset reads its list from a file and deletes it at the end; in memory, nothing is left by a kill.
        list_file = f"memory://mmcorpus-{self.target.name}-{os.getpid()}.arrow"
        with fsspec.open(list_file, "wb") as file, pa.ipc.new_file(file, self.table.schema) as writer:
            writer.write_table(self.table)
        downloader = Downloader(
            sample_writer_class=self.writer,
            resizer=self.resize,
            thread_count=max(1, min(self.config.thread_count, len(self.table))),
            save_caption="caption" in self.columns,
            extract_exif=self.config.extract_exif,
            output_folder=self.target.root,
            column_list=self.columns,
            timeout=self.config.timeout,
            number_sample_per_shard=self.config.number_sample_per_shard,
            oom_shard_count=SHARD_DIGITS,
            compute_hash=self.config.compute_hash,
            verify_hash_type=None,
            encode_format=self.config.encode_format,
            retries=self.config.retries,
            user_agent_token=self.config.user_agent_token,
            disallowed_header_directives=self.config.disallowed_header_directives,
        )
        loop = rebound(
            Downloader.download_shard,
            download_image_with_retry=self.fetch,
            compute_key=self.key,
            write_stats=self.commit,
        )
        loop(downloader, (self.number, list_file))

    def fetch(self, row: tuple[int, str], **_: Any) -> tuple[int, io.BytesIO | None, str | None]:
        """In place of `download_image_with_retry`; runs in img2dataset's threads."""
        index, url = row
        key = self.keys[index]
        outcome = fetch(url, self.limits, gate=self.gate)
        if isinstance(outcome, FetchFailure):
            self.facts[key] = {"final_url": outcome.url}
            return index, None, outcome.message
        self.facts[key] = {"final_url": outcome.url, "original_bytes": len(outcome.data)}
        return index, _Body(outcome.data, key, outcome.content_type), None

    def resize(self, stream: _Body, _: object) -> Resized:
        """In place of `Resizer.__call__`; runs in the loop's own thread, one image at a time."""
        assert self.resizer is not None
        return self.resizer(stream.getvalue(), stream.content_type, self.facts[stream.key])

    def key(self, index: int, *_: int) -> str:
        """In place of `compute_key`: the key of the row in its list shard, also when only some rows are done again."""
        return self.keys[index]

    def writer(
        self, _number: int, _folder: str, _caption: bool, _digits: int, schema: pa.Schema, _: str
    ) -> SampleWriter:
        """In place of a sample writer class."""
        return SampleWriter(self.target, schema, self.facts, len(self.table), self.previous)

    def commit(self, *_: Any) -> None:
        """In place of `write_stats`, which img2dataset calls once the writer is closed."""
        write_stats(self.target, self.start, time.time())
