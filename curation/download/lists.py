"""URL lists to list shards: one row, one uid, one place; every row of the list in the ledger."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow as pa

from mmcorpus.curation.download import urls as url_rules
from mmcorpus.curation.download.config import DownloadConfig
from mmcorpus.curation.download.formats import ListError, Row, column_types, find_lists, list_format, read_list
from mmcorpus.curation.download.writer import shard_name
from mmcorpus.curation.engine.made_from import plain
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.uid import is_uid, pair_uid
from mmcorpus.filters.secrets import masked, masked_text
from mmcorpus.filters.web import reading

MANIFEST: Final = "list.json"
"""Written last into the lists' folder: what they were made from, and that they are complete."""
BLOCK_ROWS: Final = 65_536
CONVERSATIONS: Final = "conversations"
LIST_OPTIONS: Final = ("url_col", "caption_col", "uid_col", "save_additional_columns", "number_sample_per_shard")
"""The options that decide what the list shards hold."""


class OtherList(ValueError):
    """Not the list that was expected."""


@dataclass(frozen=True, kw_only=True)
class NormalisedList:
    """A source's list, normalised."""

    root: str
    shards: int
    rows: int
    """Of the published list."""
    kept: int
    dropped: dict[str, int]
    """Rows dropped, by rule: `no_url`, `bad_url`, `bad_uid`, `bad_row`, `listed_twice`."""
    columns: tuple[str, ...]
    """Of the list shards: uid, url, caption if there is one, then the additional ones."""
    digest: str
    """32 hex digits of all that the list shards hold."""

    def path(self, shard: int) -> str:
        """A list shard's file."""
        return storage.join(self.root, f"{shard_name(shard)}.parquet")


def normalise(
    config: DownloadConfig, urls: str | Sequence[str], out_lists: str, out_ledger: str, *, expected: str | None = None
) -> NormalisedList:
    """Write `out_lists/00000.parquet …` and the ledger's stage `list`; what is there and still true is kept.

    A row is dropped as `no_url`, `bad_url`, `bad_uid` (the source's own is not 32 hex digits), `bad_row` (it cannot
    be read as a row), or `listed_twice` (its uid came before). List shards depend on the lists' content alone. In
    memory are the uids and the ledger, about 250 bytes a row.

    Args:
        expected: the digest that the list must have; a list file that changed is read once more to know.

    Raises:
        ListError: a list cannot be read.
        PrivateAddress: (an OSError) it is at a private address, or redirects to one, without `allow_private`.
        OtherList: it has another digest than expected; nothing was written.
    """
    with reading(str(urls), allow_private=config.allow_private):
        return _normalise(config, urls, out_lists, out_ledger, expected)


def _normalise(
    config: DownloadConfig, urls: str | Sequence[str], out_lists: str, out_ledger: str, expected: str | None
) -> NormalisedList:
    paths = find_lists(urls)
    made_from = {
        "options": {name: plain(getattr(config, name)) for name in LIST_OPTIONS},
        "files": [_identity(path) for path in paths],
    }
    manifest = storage.join(out_lists, MANIFEST)
    known = storage.read_json(manifest) if storage.exists(manifest) else {}
    there = known.get("made_from") == made_from and storage.exists(storage.join(out_ledger, "list.parquet"))
    if expected is not None:
        digest = known["digest"] if there else _Normaliser(config, out_lists, write=False).read(paths)
        if digest != expected:
            raise OtherList
    if there:
        values = {name: value for name, value in known.items() if name != "made_from"}
        return NormalisedList(root=out_lists, **{**values, "columns": tuple(values["columns"])})
    if known:
        storage.remove(manifest)
    result = _Normaliser(config, out_lists).run(paths, out_ledger)
    written = {name: value for name, value in asdict(result).items() if name != "root"}
    storage.write_json(manifest, {"made_from": made_from, **written})
    return result


def _identity(path: str) -> dict[str, Any]:
    """Marks that tell a changed list file from an unchanged one without reading it."""
    fs, inner = storage.filesystem(path)
    info = fs.info(inner)
    marks = ("mtime", "ETag", "LastModified", "last_modified", "etag")
    found = {mark: str(info[mark]) for mark in marks if info.get(mark) is not None}
    return {"name": masked(path), "size": info.get("size"), **found}


class _Normaliser:
    """One pass over the lists, which may leave the writing to another."""

    def __init__(self, config: DownloadConfig, root: str, *, write: bool = True) -> None:
        self.config, self.root, self.writes = config, root, write
        self.seen: set[bytes] = set()
        self.dropped: Counter[str] = Counter()
        self.rows = self.shards = self.kept = self.bad_uids = 0
        self.entries: list[dict[str, Any]] = []
        self.blocks: list[pa.Table] = []
        self.digest = hashlib.blake2b(digest_size=16)
        self.schema: pa.Schema | None = None
        self.waiting: list[dict[str, Any]] = []

    def read(self, paths: list[str]) -> str:
        """Read the lists to their end; returns the digest."""
        for path in paths:
            self._start(path)
            for row in read_list(path, self.wanted, self.config.url_col):
                self._add(row, path)
        self._write_shard()
        self._flush_ledger()
        return self.digest.hexdigest()

    def run(self, paths: list[str], out_ledger: str) -> NormalisedList:
        digest = self.read(paths)
        assert self.schema is not None
        for stale in storage.list_names(self.root):  # of a longer list, or other shards, before
            number = stale.removesuffix(".parquet")
            if number.isdigit() and stale.endswith(".parquet") and int(number) >= self.shards:
                storage.remove(storage.join(self.root, stale))
        ledger.write_stage(out_ledger, "list", pa.concat_tables(self.blocks))
        return NormalisedList(
            root=self.root, shards=self.shards, rows=self.rows, kept=self.kept,
            dropped=dict(sorted(self.dropped.items())), columns=tuple(self.schema.names),
            digest=digest,
        )  # fmt: skip

    def _start(self, path: str) -> None:
        """Learn a file's columns; the first file decides the types."""
        config = self.config
        self.caption_col = None if list_format(path) == "txt" else config.caption_col
        optional = (self.caption_col, config.uid_col)
        wanted = (config.url_col, *(name for name in optional if name), *config.save_additional_columns)
        self.wanted = list(dict.fromkeys(wanted))
        if list_format(path) == "txt" and len(self.wanted) > 1:
            raise ListError(
                f"{path}: a .txt list has URLs alone, no columns {self.wanted[1:]}; take them out of the config"
            )
        types = column_types(path, self.wanted)
        if self.schema is None:
            fields = [("uid", pa.string()), ("url", pa.string())]
            if self.caption_col:
                fields.append(("caption", pa.string()))
            self.schema = pa.schema(fields + [(name, types[name]) for name in config.save_additional_columns])
        elif ("caption" in self.schema.names) != bool(self.caption_col):
            raise ListError(f"{path}: lists with and without captions cannot be one source; make two sources of them")
        self.as_text = [
            name for name in config.save_additional_columns if pa.types.is_string(self.schema.field(name).type)
        ]

    def _add(self, row: Row, path: str) -> None:
        index, self.rows = self.rows, self.rows + 1
        if isinstance(row, str):
            return self._drop(pair_uid(_text(row) or "", ""), index, "bad_row", masked_text(_text(row[:200]) or ""))
        url = _text(row[self.config.url_col])
        caption = _text(row[self.caption_col]) if self.caption_col else None
        extra = {name: row[name] for name in self.config.save_additional_columns}
        extra.update({name: _text(extra[name]) for name in self.as_text})
        words = caption if caption is not None else extra.get(CONVERSATIONS)
        uid = pair_uid(url or "", words if isinstance(words, str) else "")
        url = (url or "").strip()
        if not url:
            return self._drop(uid, index, "no_url", None)
        if self.config.uid_col:
            own = str(row[self.config.uid_col] or "").replace("-", "").lower()
            if not is_uid(own):
                self._note_bad_uid(row[self.config.uid_col], path)
                return self._drop(uid, index, "bad_uid", _text(str(row[self.config.uid_col])[:200]))
            uid = own
        try:
            url_rules.parse(url)
        except url_rules.BadUrl as error:
            return self._drop(uid, index, "bad_url", f"bad_url: {error}")
        mark = bytes.fromhex(uid)
        if mark in self.seen:
            return self._drop(uid, index, "listed_twice", None)
        self.seen.add(mark)
        self.kept += 1
        self.waiting.append({"uid": uid, "url": url, "caption": caption, **extra})
        if len(self.waiting) == self.config.number_sample_per_shard:
            self._write_shard(path)
        return self._record(uid, index)

    def _note_bad_uid(self, value: Any, path: str) -> None:
        self.bad_uids += 1
        if self.bad_uids == 1_000 and self.kept == 0:
            raise ListError(
                f"{path}: column {self.config.uid_col!r} holds no uids of 32 hex digits (it has {value!r}); "
                "leave uid_col out to make uids from url and caption"
            )

    def _drop(self, uid: str, index: int, rule: str, value: str | None) -> None:
        self.dropped[rule] += 1
        self._record(uid, index, rule, value)

    def _record(self, uid: str, index: int, rule: str | None = None, value: str | None = None) -> None:
        self.entries.append(ledger.entry(uid, "list", rule=rule, value=value, row=index))
        if len(self.entries) >= BLOCK_ROWS:
            self._flush_ledger()

    def _flush_ledger(self) -> None:
        if self.writes:
            self.blocks.append(pa.Table.from_pylist(self.entries, schema=ledger.SCHEMA))
        self.entries = []

    def _write_shard(self, path: str = "") -> None:
        if not self.waiting:
            return
        try:
            table = pa.Table.from_pylist(self.waiting, schema=self.schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ListError(f"{path}: an additional column has another type than in the list before: {error}") from None
        for row in table.to_pylist():
            self.digest.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
        if self.writes:
            storage.write_table(storage.join(self.root, f"{shard_name(self.shards)}.parquet"), table)
        self.shards += 1
        self.waiting = []


def _text(value: Any) -> str | None:
    """A value of a list as text that Arrow can hold: nested ones as JSON, lone surrogates as `?`."""
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
