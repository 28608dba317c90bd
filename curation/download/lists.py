"""URL lists to list shards: one row, one uid, one place; every row of the list in the ledger."""

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import pyarrow as pa

from mmcorpus.curation.download import urls as url_rules
from mmcorpus.curation.download.config import CONVERSATIONS, LATER, DownloadConfig
from mmcorpus.curation.download.formats import MAX_TEXT, ListError, find_lists, inspect, read_list
from mmcorpus.curation.download.list_columns import (
    BadValue,
    as_text,
    caption_text,
    is_null,
    list_schema,
    wanted_columns,
)
from mmcorpus.curation.download.list_text import Row
from mmcorpus.curation.download.published import BadRow, annotated, conversation
from mmcorpus.curation.download.writer import shard_name
from mmcorpus.curation.engine.made_from import plain
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.uid import is_uid, pair_uid
from mmcorpus.filters.secrets import masked, masked_text
from mmcorpus.filters.web import reading

MANIFEST: Final = "list.json"
"""Written last into the lists' folder: what they were made from, and that they are complete."""
BLOCK_ROWS: Final = 65_536
LIST_OPTIONS: Final = ("url_col", "caption_col", "uid_col", "save_additional_columns", "number_sample_per_shard")
"""The options that decide what the list shards hold."""
MAX_SHARD: Final = 256 * 2**20
"""Characters of a list shard's rows, about: in a fuller one, rows longer than their even share of it are dropped."""
MAX_BAD_ROWS: Final = 1_000_000
"""Rows of a list that cannot be read, while not one in a hundred can, after which it is no list."""


class OtherList(ValueError):
    """Not the list that was expected."""


class GrownList(OtherList):
    """The list that was expected, and rows after it."""

    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest
        """Of the whole."""


@dataclass(frozen=True, kw_only=True)
class NormalisedList:
    """A source's list, normalised."""

    root: str
    shards: int
    rows: int
    """Of the published list."""
    kept: int
    dropped: dict[str, int]
    """Rows dropped, by rule: `no_url`, `bad_url`, `bad_uid`, `bad_row`, `listed_twice`, `where`, `joined`."""
    columns: tuple[str, ...]
    """Of the list shards: uid, url, caption if there is one, then the additional ones."""
    digest: str
    """32 hex digits of all that the list shards hold."""
    unreadable: tuple[str, ...] = ()
    """Files of which not one row could be read."""

    def path(self, shard: int) -> str:
        """A list shard's file."""
        return storage.join(self.root, f"{shard_name(shard)}.parquet")


def normalise(
    config: DownloadConfig,
    urls: str | Sequence[str],
    out_lists: str,
    out_ledger: str,
    *,
    expected: str | None = None,
) -> NormalisedList:
    """Write `out_lists/00000.parquet …` and the ledger's stage `list`; what is there and still true is kept.

    A row is dropped as `no_url`, `bad_url`, `bad_uid` (the source's own is not 32 hex digits), `bad_row` (it cannot
    be read as a row, is too long, or its caption is no text), `listed_twice` (its uid came before), `where` (it has
    other values than the config wants), or `joined` (with `published`: it says something of the image of a row before,
    whose sample it is part of). List shards depend on the lists' content alone. In memory are the uids and the ledger,
    about 250 bytes a row, with `published` all that is said as well.

    Args:
        expected: the digest that the list must have; a list file that changed is read once more to know.

    Raises:
        ListError: a list cannot be read.
        PrivateAddress: (an OSError) it is at a private address, or redirects to one, without `allow_private`.
        OtherList: it has another digest than expected; nothing was written. GrownList, one of these, if it begins with
            the list that was expected, which is the one that `out_lists` holds.
    """
    with reading(str(urls), allow_private=config.allow_private):
        return _normalise(config, urls, out_lists, out_ledger, expected)


def _normalise(
    config: DownloadConfig, urls: str | Sequence[str], out_lists: str, out_ledger: str, expected: str | None
) -> NormalisedList:
    paths = find_lists(urls)
    made_from = {
        "options": _options(config),
        "files": [_identity(path) for path in paths],
    }
    manifest = storage.join(out_lists, MANIFEST)
    known = storage.read_json(manifest) if storage.exists(manifest) else {}
    there = known.get("made_from") == made_from and storage.exists(storage.join(out_ledger, "list.parquet"))
    if expected is not None:
        reader = None if there else _Normaliser(config, out_lists, paths, write=False)
        if reader is not None and known.get("digest") == expected:
            reader.watched = known["kept"]
        digest = known["digest"] if reader is None else reader.read()
        if digest != expected:
            raise GrownList(digest) if reader is not None and reader.watched_digest == expected else OtherList
    if there:
        values = {name: value for name, value in known.items() if name != "made_from"}
        tuples = {name: tuple(values.get(name, ())) for name in ("columns", "unreadable")}
        return NormalisedList(root=out_lists, **{**values, **tuples})
    normaliser = _Normaliser(config, out_lists, paths)
    if known:
        storage.remove(manifest)
    result = normaliser.run(out_ledger)
    written = {name: value for name, value in asdict(result).items() if name != "root"}
    if not result.unreadable:
        del written["unreadable"]
    storage.write_json(manifest, {"made_from": made_from, **written})
    return result


def has_grown(config: DownloadConfig, urls: str | Sequence[str], out_lists: str) -> bool:
    """Whether a list begins with the one that `out_lists` holds, by the same options. Reads all of it, writes nothing.

    Raises as `normalise`.
    """
    manifest = storage.join(out_lists, MANIFEST)
    if not storage.exists(manifest):
        return False
    known = storage.read_json(manifest)
    if known["made_from"]["options"] != _options(config):
        return False
    with reading(str(urls), allow_private=config.allow_private):
        reader = _Normaliser(config, out_lists, find_lists(urls), write=False)
        reader.watched = known["kept"]
        reader.read()
    return reader.watched_digest == known["digest"]


def _options(config: DownloadConfig) -> dict[str, Any]:
    """The options that decide what the list shards hold, those that came later if they are said."""
    return {name: plain(getattr(config, name)) for name in (*LIST_OPTIONS, *LATER) if name not in config.unsaid}


def _identity(path: str) -> dict[str, Any]:
    """Marks that tell a changed list file from an unchanged one without reading it."""
    fs, inner = storage.filesystem(path)
    info = fs.info(inner)
    marks = ("mtime", "ETag", "LastModified", "last_modified", "etag")
    found = {mark: str(info[mark]) for mark in marks if info.get(mark) is not None}
    return {"name": masked(path), "size": info.get("size"), **found}


@dataclass(kw_only=True)
class _Group:
    """What a published list says of one image."""

    path: str
    row: dict[str, Any]
    """The first of its rows."""
    rows: list[int] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)


class _Normaliser:
    """One pass over the lists, which may leave the writing to another."""

    def __init__(self, config: DownloadConfig, root: str, paths: list[str], *, write: bool = True) -> None:
        """Learn the files' columns. Raises ListError for lists that cannot be one source, before anything is read."""
        self.config, self.root, self.writes = config, root, write
        self.seen: set[bytes] = set()
        self.dropped: Counter[str] = Counter()
        self.unreadable: list[str] = []
        self.rows = self.shards = self.kept = self.bad_uids = self.length = 0
        self.entries: list[dict[str, Any]] = []
        self.blocks: list[pa.Table] = []
        self.digest = hashlib.blake2b(digest_size=16)
        self.hashed = 0
        self.watched: int | None = None
        """A number of rows, of whose digest `watched_digest` is."""
        self.watched_digest: str | None = None
        self.waiting: list[dict[str, Any]] = []
        self.files = storage.threaded(functools.partial(inspect, url_col=config.url_col), paths)
        self.schema = list_schema(config, self.files)
        self.caption_col = config.caption_col if "caption" in self.schema.names else None
        self.groups: dict[str, _Group] = {}
        self.kept_columns = config.kept_columns
        additional = {name: self.schema.field(name).type for name in self.kept_columns}
        self.as_text = [name for name, kind in additional.items() if pa.types.is_string(kind)]
        self.as_float = [name for name, kind in additional.items() if pa.types.is_floating(kind)]

    def read(self) -> str:
        """Read the lists to their end; returns the digest."""
        for file in self.files:
            rows, bad = self.rows, self.dropped["bad_row"]
            texts = [name for name in (self.config.url_col, self.caption_col) if name]
            for row in read_list(file, wanted_columns(self.config, file), self.config.url_col, texts):
                self._read(row, file.path)
                found = self.dropped["bad_row"] - bad
                if isinstance(row, str) and found >= max(MAX_BAD_ROWS, 0.99 * (self.rows - rows)):
                    raise ListError(f"{file.path} is no list: of its first {self.rows - rows:,} rows {found:,} cannot "
                                    f"be read; the last: {row[:200]!r}")  # fmt: skip
            if self.rows > rows and self.dropped["bad_row"] - bad == self.rows - rows:
                self.unreadable.append(masked(file.path))
        for group in self.groups.values():
            self._add(group.row | {CONVERSATIONS: conversation(group.annotations)}, group.path, group.rows)
        self.groups = {}
        self._write_shard(self.files[-1].path)
        self._flush_ledger()
        return self.digest.hexdigest()

    def run(self, out_ledger: str) -> NormalisedList:
        digest = self.read()
        for stale in storage.list_names(self.root):  # of a longer list, or other shards, before
            number = stale.removesuffix(".parquet")
            if number.isdigit() and stale.endswith(".parquet") and int(number) >= self.shards:
                storage.remove(storage.join(self.root, stale))
        ledger.write_stage(out_ledger, "list", pa.concat_tables(self.blocks))
        return NormalisedList(
            root=self.root, shards=self.shards, rows=self.rows, kept=self.kept,
            dropped=dict(sorted(self.dropped.items())), columns=tuple(self.schema.names),
            digest=digest, unreadable=tuple(self.unreadable),
        )  # fmt: skip

    def _read(self, row: Row, path: str) -> None:
        """Add a row, or with `published` what it says to what others say of its image."""
        index, self.rows = self.rows, self.rows + 1
        if isinstance(row, str):
            return self._drop(pair_uid(as_text(row) or "", ""), index, "bad_row", masked_text(as_text(row[:200]) or ""))
        where = self.config.where
        other = next((name for name, value in where.items() if as_text(row[name]) != value), None) if where else None
        if other is not None:
            uid = pair_uid(as_text(row[self.config.url_col]) or "", str(index))
            return self._drop(uid, index, "where", f"{other}={as_text(row[other])}"[:200])
        if self.config.published is None:
            return self._add(row, path, [index])
        address = as_text(row[self.config.url_col]) or ""
        try:
            annotations = annotated(self.config.published, row)
        except BadRow as error:
            return self._drop(pair_uid(address, str(index)), index, "bad_row", str(error))
        group = self.groups.get(address.strip())
        if group is None:
            kept = {name: row[name] for name in (self.config.url_col, *self.kept_columns) if name != CONVERSATIONS}
            group = self.groups[address.strip()] = _Group(path=path, row=kept)
        group.rows.append(index)
        group.annotations += annotations
        return None

    def _add(self, row: dict[str, Any], path: str, indices: Sequence[int]) -> None:
        """Take a sample in, or drop it: of the row with the first of these numbers, the others being `joined` to it."""
        index = indices[0]
        url: Any = row[self.config.url_col]
        if isinstance(url, bytes):
            url = url.decode("utf-8", "surrogateescape")
        url = url.strip() if isinstance(url, str) else "" if is_null(url) else url
        try:
            caption = caption_text(row[self.caption_col]) if self.caption_col else None
        except BadValue as error:
            return self._drop(pair_uid(str(url), str(error)), index, "bad_row", str(error))
        for name, text in ((self.config.url_col, url), (self.caption_col, caption)):
            if isinstance(text, str) and len(text) > MAX_TEXT:
                long = f"{name} of {len(text):,} characters; at most {MAX_TEXT:,} are read"
                return self._drop(pair_uid(str(url)[:MAX_TEXT], long), index, "bad_row", long)
        extra = {name: row[name] for name in self.kept_columns}
        extra.update({name: as_text(extra[name]) for name in self.as_text})
        extra.update({name: float(extra[name]) for name in self.as_float if isinstance(extra[name], int)})
        words = caption if caption is not None else extra.get(CONVERSATIONS)
        uid = pair_uid(str(url), words if isinstance(words, str) else "")
        for joined in indices[1:]:
            self._drop(uid, joined, "joined", None)
        if url == "":
            return self._drop(uid, index, "no_url", None)
        if not isinstance(url, str):
            return self._drop(uid, index, "bad_url", f"bad_url: {type(url).__name__}, not text")
        if self.config.uid_col:
            own = str(row[self.config.uid_col] or "").replace("-", "").lower()
            if not is_uid(own):
                self._note_bad_uid(row[self.config.uid_col], path)
                return self._drop(uid, index, "bad_uid", as_text(str(row[self.config.uid_col])[:200]))
            uid = own
        try:
            url_rules.parse(url)
        except url_rules.BadUrl as error:
            return self._drop(uid, index, "bad_url", f"bad_url: {error}")
        mark = bytes.fromhex(uid)
        if mark in self.seen:
            return self._drop(uid, index, "listed_twice", None)
        length = len(url) + len(caption or "") + sum(len(extra[name] or "") for name in self.as_text)
        if self.length + length > MAX_SHARD and length > MAX_SHARD // self.config.number_sample_per_shard:
            return self._drop(uid, index, "bad_row", f"{length:,} characters; its shard has {self.length:,} already")
        self.length += length
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

    def _holds(self, name: str) -> bool:
        try:
            pa.array([row[name] for row in self.waiting], self.schema.field(name).type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            return False
        return True

    def _write_shard(self, path: str = "") -> None:
        if not self.waiting:
            return
        try:
            table = pa.Table.from_pylist(self.waiting, schema=self.schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            name = next((name for name in self.schema.names if not self._holds(name)), "")
            raise ListError(
                f"{path}: column {name!r} is {self.schema.field(name).type} by what the lists say, and a value is none "
                f"({error}); write it in one type, or leave it out of save_additional_columns"
            ) from None
        for batch in table.to_batches(max_chunksize=1_024):
            for row in batch.to_pylist():
                self.digest.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
                self.hashed += 1
                if self.hashed == self.watched:
                    self.watched_digest = self.digest.hexdigest()
        if self.writes:
            storage.write_table(storage.join(self.root, f"{shard_name(self.shards)}.parquet"), table)
        self.shards += 1
        self.waiting, self.length = [], 0
