"""One shard's download, in a worker: a list shard's rows to img2dataset's files, by its resizer and our fetcher."""

import hashlib
import io
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from mmcorpus.curation.download.config import CONVERSATIONS, DownloadConfig
from mmcorpus.curation.download.fetch import TRANSIENT_CODES, FetchFailure, FetchResult
from mmcorpus.curation.download.hosts import fetch_all
from mmcorpus.curation.download.published import in_per_cent
from mmcorpus.curation.download.resize import UprightResizer
from mmcorpus.curation.download.writer import RETRY_FOLDER, SampleWriter, keys_of, shard_name
from mmcorpus.curation.engine.guard import SetAside, guarded
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import SUCCESS, Shard, code_of, read_rows

IMG2DATASET_FIELDS: Final = (
    ("key", pa.string()),
    ("status", pa.string()),
    ("error_message", pa.string()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("original_width", pa.int32()),
    ("original_height", pa.int32()),
)
"""The columns that img2dataset adds to the list's, before `exif` and the hash."""
HASH_MISMATCH: Final = "hash_mismatch"
"""The code of bodies that are not those that the list's hash is of."""
SIZES: Final = ("width", "height", "original_width", "original_height")
Outcome = FetchResult | FetchFailure


@dataclass(frozen=True, kw_only=True)
class ShardDownloader:
    """A worker's task; called with a shard's number and list file.

    With `retry` it does again the rows of a committed shard that failed for reasons that can pass, and those that its
    list has got since, into the staging folder, from where `writer.roll_forward` puts the shard in place.
    """

    config: DownloadConfig
    columns: tuple[str, ...]
    """Of the list shards."""
    out_shards: str
    retry: bool = False
    failed: bool = True
    """With `retry`: whether rows that failed are done again, besides those that a list has more than the shard."""
    served: tuple[tuple[str, int], ...] = ()
    """Addresses and ports of servers that end with the caller: what fails once they are gone says nothing of a URL."""

    def __call__(self, row: tuple[int, str]) -> dict[str, Any]:
        """Download the shard unless it is committed; returns its stats."""
        number, list_file = row
        current = Shard(root=self.out_shards, name=shard_name(number))
        target = Shard(root=storage.join(self.out_shards, RETRY_FOLDER), name=current.name) if self.retry else current
        if not storage.exists(target.stats):
            table = storage.read_table(list_file).select(list(self.columns))
            positions = self._again(current, len(table)) if self.retry else list(range(len(table)))
            keys = keys_of(number, positions, self.config.number_sample_per_shard)
            self._download(target, table.take(positions), keys, current if self.retry else None)
        return storage.read_json(target.stats)

    def _again(self, shard: Shard, rows: int) -> list[int]:
        """The rows to add to a committed shard, or to do again."""
        failed = transient_positions(shard) if self.failed else []
        return failed + list(range(len(read_rows(shard, ["key"])), rows))

    def _download(self, target: Shard, table: pa.Table, keys: Sequence[str], previous: Shard | None) -> None:
        """Fetch rows in threads; resize and write them here, one after the other, as they arrive."""
        resizer = UprightResizer(self.config)
        rows = table.to_pylist()
        writer = SampleWriter(target, self._schema(table.schema), previous)
        for index, outcome in fetch_all([row["url"] for row in rows], self.config):
            image, made = self._made(keys[index], self._verified(outcome, rows[index]), resizer)
            if image is not None and self.config.published is not None:
                sides = (made["original_width"], made["original_height"])
                made[CONVERSATIONS] = in_per_cent(rows[index][CONVERSATIONS], *sides)
            writer.write(image, {**rows[index], "key": keys[index], **made})
        for address in self.served:  # a worker outlives its killed driver by a moment, and must not commit then
            socket.create_connection(address, timeout=self.config.timeout).close()
        writer.close()

    def _schema(self, schema: pa.Schema) -> pa.Schema:
        more = ["exif"] if self.config.extract_exif else []
        more += [self.config.compute_hash] if self.config.compute_hash is not None else []
        fields: list[Any] = [*schema, *IMG2DATASET_FIELDS, *((name, pa.string()) for name in more)]
        return pa.schema(fields)

    def _verified(self, outcome: Outcome, row: dict[str, Any]) -> Outcome:
        """A body, or that it has another hash than its row says."""
        if self.config.verify_hash is None or isinstance(outcome, FetchFailure):
            return outcome
        column, kind = self.config.verify_hash
        wanted = str(row[column] or "").strip().lower()
        found = hashlib.new(kind, outcome.data).hexdigest()
        if wanted in ("", found):
            return outcome
        return FetchFailure(code=HASH_MISMATCH, detail=f"{kind} {found}, and {column} says {wanted}", url=outcome.url)

    def _made(self, key: str, outcome: Outcome, resizer: UprightResizer) -> tuple[bytes | None, dict[str, Any]]:
        """`_sample`, within a sample's budget."""
        if isinstance(outcome, FetchFailure):
            return self._sample(outcome, resizer)
        try:
            return guarded("resize", key, self._sample, outcome, resizer)
        except SetAside as aside:
            facts = {"final_url": outcome.url, "original_bytes": len(outcome.data)}
            return None, {**facts, "status": "failed_to_resize", "error_message": str(aside)}

    def _sample(self, outcome: Outcome, resizer: UprightResizer) -> tuple[bytes | None, dict[str, Any]]:
        """The image to store, and what its row holds besides the list's columns and the key."""
        row: dict[str, Any] = {"final_url": outcome.url}
        if isinstance(outcome, FetchFailure):
            return None, {**row, "status": "failed_to_download", "error_message": outcome.message}
        row["original_bytes"] = len(outcome.data)
        image, *sizes, error = resizer(outcome.data, outcome.content_type, row)
        if error is not None:
            return None, {**row, "status": "failed_to_resize", "error_message": error}
        row.update(zip(SIZES, sizes, strict=True), status=SUCCESS)
        if self.config.extract_exif:
            row["exif"] = _exif(outcome.data)
        if self.config.compute_hash is not None:
            row[self.config.compute_hash] = hashlib.new(self.config.compute_hash, outcome.data).hexdigest()
        return image, row


def transient_positions(shard: Shard) -> list[int]:
    """The rows of a committed shard that failed for reasons that can pass."""
    messages = read_rows(shard, ["error_message"])["error_message"].to_pylist()
    return [position for position, message in enumerate(messages) if code_of(message) in TRANSIENT_CODES]


def _exif(data: bytes) -> str | None:
    """The EXIF fields as img2dataset writes them; None where they cannot be read."""
    import exifread

    try:
        tags = exifread.process_file(io.BytesIO(data), details=False)
        return json.dumps({name: str(value).strip() for name, value in tags.items() if value is not None})
    except Exception:  # hostile bytes raise nearly everything; the pixels were good
        return None
