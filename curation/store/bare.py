"""Rows of shards that others wrote, as bare img2dataset does: with uids where there are none, without a parquet too.

A uid is the row's own if it has one, else the one in the sample's json, else a hash of its content (DESIGN §3).
"""

import functools
import tarfile
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.members import (
    Parts,
    caption_of,
    content_uid,
    json_text,
    meta_of,
    own_uid,
    read_members,
    row_uid,
    storable,
)

pc: Any = pyarrow.compute  # its stubs do not know regular expressions on chunked columns

SUCCESS: Final = "success"
BAD_JSON: Final = "bad_json"
BAD_CAPTION: Final = "bad_caption"
_OURS: Final = ("uid", "status", "error_message")
"""Columns that rows always have, whoever wrote them."""
_FIRST: Final = ("uid", "key", "url", "caption", "status", "error_message")
_CONTENT: Final = ("key", "url", "caption", "conversations")


def read_schema(parquet: str, tar: str) -> pa.Schema:
    """The schema of a shard's rows as `read_table` gives them."""
    try:
        schema = storage.read_schema(parquet)
    except FileNotFoundError:
        return _of_tar(tar).schema
    with storage.reading(parquet, storage.PARQUET):
        lacking = [name for name in _OURS if name not in schema.names]
    for name in lacking:
        schema = schema.append(pa.field(name, pa.string()))
    return schema


def read_table(parquet: str, tar: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A shard's rows, all or some columns, in the parquet's order, or the tar's if there is no parquet.

    A row is `success` where no status is told. `uid` is null for rows without content, as failures may be.

    Raises:
        FileNotFoundError: there is neither a parquet nor a tar.
        storage.Damaged: the parquet cannot be read.
    """
    try:
        with storage.reading(parquet, storage.PARQUET):  # names and values of a damaged one need not be text
            table = _told(parquet, columns)
            there = "uid" in table.column_names
            told = table["uid"].to_pylist() if there and not _all_uids(table["uid"]) else None
    except FileNotFoundError:
        table = _of_tar(tar)
        return table if columns is None else table.select(list(columns))
    if told is not None:
        place = table.column_names.index("uid")
        table = table.set_column(place, "uid", pa.array(_uids(parquet, tar, told), pa.string()))
    return table


def _told(parquet: str, columns: Sequence[str] | None) -> pa.Table:
    """The columns of a parquet, those of `_OURS` that it lacks null (`status`: success)."""
    wanted = None if columns is None else list(columns)
    try:
        table = storage.read_table(parquet, columns=wanted)
    except pa.ArrowInvalid:
        there = storage.read_schema(parquet).names
        assert wanted is not None
        if not all(name in there or name in _OURS for name in wanted):
            raise
        # A column is read in any case: the number of rows is known by it.
        told = [name for name in wanted if name in there] or there[:1]
        table = storage.read_table(parquet, columns=told)
    if "conversations" in table.column_names and pa.types.is_nested(table["conversations"].type):
        place = table.column_names.index("conversations")
        table = table.set_column(place, "conversations", column_of(table["conversations"].to_pylist()))
    for name in _OURS if wanted is None else [name for name in _OURS if name in wanted]:
        if name not in table.column_names:
            values = pa.repeat(pa.scalar(SUCCESS if name == "status" else None, pa.string()), len(table))
            table = table.append_column(name, values)
    return table if wanted is None else table.select(wanted)


def _all_uids(column: Any) -> bool:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return False
    return bool(pc.all(pc.fill_null(pc.match_substring_regex(column, "^[0-9a-f]{32}$"), False)).as_py())


def _uids(parquet: str, tar: str, told: list[Any]) -> list[str | None]:
    """The uids of a parquet's rows, of which some are told."""
    there = storage.read_schema(parquet).names
    with storage.reading(parquet, storage.PARQUET):
        rows = storage.read_table(parquet, columns=[name for name in _CONTENT if name in there]).to_pylist()
    uids = [own_uid(own) for own in told]
    if any(uids) or _says_uid(tar):
        owned = _by_key(tar, "own")
        uids = [uid or owned.get(row.get("key")) for uid, row in zip(uids, rows, strict=True)]
    uids = [
        uid or row_uid(row.get("url"), row.get("caption"), row.get("conversations"))
        for uid, row in zip(uids, rows, strict=True)
    ]
    if None in uids:
        found = _by_key(tar, "uid")
        uids = [uid or found.get(row.get("key")) for uid, row in zip(uids, rows, strict=True)]
    return uids


def _says_uid(tar: str) -> bool:
    """Whether the first sample of a tar says its uid."""
    try:
        _, parts = next(read_members(tar), ("", {}))
        return own_uid(meta_of(tar, parts).get("uid")) is not None
    except (OSError, tarfile.TarError, storage.Damaged):
        return False


def _by_key(tar: str, which: str) -> dict[str, str | None]:
    """The uids of a tar's samples by key: those that their json says (`own`), or any (`uid`).

    What cannot be read of the tar is told by those who need its images.
    """
    try:
        told = _samples(tar, str(storage.filesystem(tar)[0].ukey(storage.filesystem(tar)[1])))
    except (OSError, tarfile.TarError):
        return {}
    return {row["key"]: row[which] for row in told}


def _of_tar(tar: str) -> pa.Table:
    """The rows of a tar that has no parquet: what the jsons hold, and of each sample whether it could be read."""
    fs, inner = storage.filesystem(tar)
    fs.invalidate_cache()
    told = [row for row in _samples(tar, str(fs.ukey(inner))) if row["uid"] is not None]
    more = dict.fromkeys(name for row in told for name in row["meta"] if name not in _FIRST)
    columns = {
        name: pa.array([None if row[name] is None else storable(row[name]) for row in told], pa.string())
        for name in _FIRST
    }
    return pa.table({**columns, **{name: column_of([row["meta"].get(name) for row in told]) for name in more}})


def _plain(value: Any) -> Any:
    """Text that a table can hold, nested values as JSON text."""
    if isinstance(value, list | dict):
        return json_text(value)
    return storable(value) if isinstance(value, str) else value


def column_of(values: list[Any]) -> Any:
    """Values of one type as they are, others and what is nested as JSON text."""
    values = [_plain(value) for value in values]
    try:
        return pa.array(values)
    except (pa.ArrowException, ValueError, OverflowError):
        return pa.array([None if value is None else json_text(value) for value in values], pa.string())


@functools.lru_cache(maxsize=4)
def _samples(tar: str, version: str) -> list[dict[str, Any]]:
    """Of each sample of a tar its key, uid and url, caption, `meta`, `own` (the uid that its json says), status."""
    return [_sample(tar, key, parts) for key, parts in read_members(tar)]


def _sample(tar: str, key: str, parts: Parts) -> dict[str, Any]:
    meta, caption, errors = read_sample(tar, parts)
    url = meta.get("url")
    return {
        "key": key,
        "uid": content_uid(meta, caption, parts),
        "own": own_uid(meta.get("uid")),
        "url": url if isinstance(url, str) else None,
        "caption": caption,
        "status": SUCCESS,
        "error_message": "; ".join(errors) or None,
        "meta": meta,
    }


def read_sample(tar: str, parts: Parts) -> tuple[dict[str, Any], str | None, list[str]]:
    """A sample's meta and caption, empty where they cannot be read, and why they cannot."""
    errors: list[str] = []
    meta: dict[str, Any] = {}
    caption: str | None = None
    try:
        meta = meta_of(tar, parts)
    except storage.Damaged as error:
        errors.append(f"{BAD_JSON}: {error.why}")
    try:
        caption = caption_of(tar, parts)
    except storage.Damaged as error:
        errors.append(f"{BAD_CAPTION}: {error.why}")
    else:
        if caption is None and isinstance(meta.get("caption"), str):
            caption = meta["caption"]
    return meta, caption, errors
