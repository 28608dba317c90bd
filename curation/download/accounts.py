"""The end of every row: the ledger's stage `download` and the counts of a source, read from its shards."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mmcorpus.curation.download.lists import NormalisedList
from mmcorpus.curation.download.writer import shard_name
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import SUCCESS, Shard, list_shards, read_rows

SHARD_FAILED = "shard_failed"
"""The rule that drops the rows of a shard that could not be written."""


@dataclass(frozen=True, kw_only=True)
class ShardFailure:
    """A shard that could not be written."""

    shard: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Counts:
    """A source's shards, counted."""

    shards: int
    status: dict[str, int]
    codes: dict[str, int]
    bytes: int


def summarise(out_shards: str) -> Counts:
    """Add up the stats files of the committed shards."""
    status, codes, total, shards = Counter[str](), Counter[str](), 0, 0
    for shard in list_shards(out_shards):
        stats = storage.read_json(shard.stats)
        shards += 1
        total += stats.get("bytes", 0)
        status.update(
            {
                SUCCESS: stats["successes"],
                "failed_to_download": stats["failed_to_download"],
                "failed_to_resize": stats["failed_to_resize"],
            }
        )
        codes.update({code: count for code, count in stats["status_dict"].items() if code != SUCCESS})
    return Counts(
        shards=shards,
        status={name: count for name, count in status.items() if count},
        codes=dict(codes.most_common()),
        bytes=total,
    )


def write_download_ledger(
    out_shards: str, out_ledger: str, listed: NormalisedList, failed: tuple[ShardFailure, ...]
) -> None:
    """Write the ledger's stage `download`: a row for each row that the list kept, also where its shard failed."""
    tables = list(_tables(out_shards, listed, {failure.shard: failure.error for failure in failed}))
    ledger.write_stage(out_ledger, "download", pa.concat_tables(tables) if tables else ledger.SCHEMA.empty_table())


def _tables(out_shards: str, listed: NormalisedList, errors: dict[str, str]) -> Iterator[pa.Table]:
    committed = {shard.name for shard in list_shards(out_shards)}
    for number in range(listed.shards):
        shard = Shard(root=out_shards, name=shard_name(number))
        if shard.name in committed:
            yield ledger.verdicts_of(read_rows(shard, ["uid", "error_message"]), "download")
        else:
            uids: Any = storage.read_table(listed.path(number), columns=["uid"])["uid"]
            message = f"{SHARD_FAILED}: {errors.get(shard.name, 'not downloaded')}"
            messages = pa.array([message] * len(uids), pa.string())
            yield ledger.verdicts_of(pa.table({"uid": uids, "error_message": messages}), "download")
