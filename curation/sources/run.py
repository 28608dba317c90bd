"""Indexing: files that lie somewhere become shards of references to them (`curation/store/references.py`).

One look at each file says where its rows begin, so that each shard is made by itself, in any worker: uids, shards and
order depend on the files alone. Samples that come again in another file are dropped last, when all uids are known.
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.engine.items import run_pending
from mmcorpus.curation.engine.made_from import MadeFrom, digest, plain
from mmcorpus.curation.engine.output import Output
from mmcorpus.curation.sources.config import IndexConfig
from mmcorpus.curation.sources.downloaded import identity_of
from mmcorpus.curation.sources.first_bytes import Format
from mmcorpus.curation.sources.found import IMAGE_URL, LISTED_TWICE, MISSING_IMAGE
from mmcorpus.curation.sources.inputs import (
    Input,
    Part,
    SourceError,
    column_names,
    find_inputs,
    in_runs,
    parts_of,
)
from mmcorpus.curation.sources.shard import (
    ADDRESS,
    ADDRESSES,
    COLUMNS,
    FAILED,
    OTHERWISE,
    IndexRun,
    columns_of,
    dropped,
)
from mmcorpus.curation.store import ledger, storage, uid_arrays
from mmcorpus.curation.store.json_values import json_value
from mmcorpus.curation.store.places import REFERENCES_FILE, SUFFIX
from mmcorpus.curation.store.shards import SUCCESS, Shard, commit_shard, list_shards, read_rows
from mmcorpus.filters.secrets import masked

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

STAGE: Final = "index"
TO_DOWNLOAD: Final = "to_download.parquet"
"""In the shards' folder: the rows whose image is at an address, as a list for `mmcorpus download`."""
IMAGES_TO_DOWNLOAD: Final = "images_to_download.parquet"
"""Likewise, the addresses of images of rows that have several."""
VERSION: Final = "5"  # Gemini's turns; a system turn in a column of its own
"""Raised whenever the same files would be indexed otherwise."""
_FEW: Final = 16 << 20
"""So many bytes of inputs are read here sooner than workers have started."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """The outcome of a source's rows. Counts are of the whole source."""

    rows: int
    samples: int
    """Of these, those that are samples."""
    images: int
    copied: int
    """Images that had no bytes of their own, in the shards' own tars."""
    copied_bytes: int
    to_download: int
    """Rows whose images are at addresses: listed in `to_download.parquet`."""
    shards: int
    dropped: dict[str, int]
    """Rows that are no samples, by rule."""
    failed: dict[str, str]
    """By file, why it could not be read, or gave nothing."""


def index(
    config: IndexConfig,
    paths: Sequence[str],
    out: str,
    out_ledger: str,
    *,
    formats: Sequence[Format] = (),
    workers: int | None = None,
    start: Callable[[], None] = lambda: None,
    shown: bool = True,
) -> IndexReport:
    """Index files into shards of references under `out`, and write the ledger's stage `index`.

    What an earlier call committed from the same files is kept; of files that have changed since all is made anew.

    Args:
        paths: files, folders, globs; local or remote.
        formats: what is read of folders and globs; empty for all that can be.
        workers: worker processes; 0 works in this process, as is done for a few files where None is given.
        start: called before there is work for Ray.

    Raises:
        SourceError: there is nothing to read, or a file that was named is of another format.
        MadeOtherwise: `out` holds something else.
        RuntimeError: Ray is needed and not initialised.
    """
    image_root = None if config.image_root is None else absolute(config.image_root)
    refuse_secrets((*paths, image_root or "", config.downloaded or ""))
    found = find_inputs([absolute(path) for path in paths], formats)
    downloaded = None if config.downloaded is None else absolute(config.downloaded).rstrip("/")
    roots = tuple(dict.fromkeys([*(one.root for one in found), *filter(None, (image_root, downloaded))]))
    Output(
        folder=out, holds="references to somebody's images", made_from=made_from_of(config, found),
        stale="replace", writes=(REFERENCES_FILE, f"*{SUFFIX}", TO_DOWNLOAD, IMAGES_TO_DOWNLOAD),
    ).claim()  # fmt: skip
    storage.sweep(out)
    storage.write_json(storage.join(out, REFERENCES_FILE), {"roots": list(roots)})
    here = workers == 0 or (workers is None and sum(_bytes(one) for one in found) <= _FEW)
    if not here:
        start()
    spread: dict[str, Any] = {"workers": 0 if here else workers, "shown": shown}
    numbered = list(enumerate(found))
    split = run_pending(
        lambda: partial(_split, rows=config.samples_per_shard), numbered, name=_path_of, title="look", unit="file",
        **spread,
    )  # fmt: skip
    failed = {name: str(failure.message) for name, failure in split.failed.items()}
    parts: list[Part] = [part for outcome in split.outcomes if outcome.result for part in outcome.result["parts"]]
    fetched = None if downloaded is None else (downloaded, identity_of(downloaded))
    make = IndexRun(config=config, out=out, roots=roots, image_root=image_root, downloaded=fetched)
    of_shard = {part.name: part.input.path for part in parts}
    runs, there = in_runs(parts), {shard.name for shard in list_shards(out)}
    ran = run_pending(
        lambda: make, runs, committed=[run.name for run in runs if all(part.name in there for part in run.parts)],
        title="index", size=lambda run: len(run.parts), aside=out, **spread,
    )  # fmt: skip
    failed |= {of_shard[name]: str(failure.message) for name, failure in ran.failed.items()}
    _drop_repeated(out)
    return _report(out, out_ledger, found, of_shard, failed)


def refuse_secrets(paths: Sequence[str]) -> None:
    """Raises SourceError for an address with credentials."""
    secret = next((path for path in paths if "://" in path and masked(path) != path), None)
    if secret is not None:
        raise SourceError(
            f"{masked(secret)} has a secret in it, which the references would keep; give credentials by the environment"
        )


def made_from_of(config: IndexConfig, found: Sequence[Input]) -> MadeFrom:
    """What an index of some files is made from."""
    described = [[one.root, one.file, one.format, digest(one.identity)] for one in found]
    inputs = {"files": digest(masked(described))}
    if config.downloaded is not None:
        inputs["downloaded"] = identity_of(absolute(config.downloaded))
    return MadeFrom(config=plain(config, config.unsaid), version=VERSION, inputs=inputs)


def known_columns(
    config: IndexConfig, paths: Sequence[str], formats: Sequence[Format]
) -> dict[str, pa.DataType | None]:
    """The columns that the shards of some files will have, as far as the first one tells; None for an unknown type."""
    try:
        others = column_names(find_inputs(paths, formats)[0])
    except SourceError:  # said where it is read
        others = []
    always = columns_of(config)
    return {**{OTHERWISE.get(name, name): None for name in others if name not in COLUMNS}, **always}


def absolute(path: str) -> str:
    """A path as workers know it, whatever folder they are in."""
    return path if "://" in path or "::" in path else os.path.abspath(path)


def _bytes(one: Input) -> int:
    """The bytes of an input."""
    sizes = [mark[1] for mark in one.identity] if one.format == "files" else one.identity[:1]
    return sum(int(size) for size in sizes)


def _path_of(numbered: tuple[int, Input]) -> str:
    return numbered[1].path


def _split(numbered: tuple[int, Input], *, rows: int) -> dict[str, Any]:
    number, one = numbered
    return {"parts": parts_of(one, number, rows)}


def _drop_repeated(out: str) -> None:
    """Of samples that several shards have, keep the first: the others become rows without one."""
    shards = list_shards(out)
    uids = [_uids(shard) for shard in shards]
    pairs = np.concatenate([np.empty(0, uid_arrays.PAIR), *(own for own, _ in uids)])
    if not len(pairs):
        return
    order = uid_arrays.order(pairs)
    ordered = pairs[order]
    again = np.zeros(len(pairs), bool)
    # The order is stable: of equal uids the first comes first.
    again[order[1:]] = ordered[1:] == ordered[:-1]
    start = 0
    for shard, (own, places) in zip(shards, uids, strict=True):
        repeated = places[again[start : start + len(own)]]
        start += len(own)
        if len(repeated):
            _mark_repeated(shard, repeated)


def _uids(shard: Shard) -> tuple[Any, Any]:
    """The uids of a shard's samples, and their rows."""
    rows = read_rows(shard, ["uid", "status"])
    places = np.flatnonzero(pc.equal(rows["status"], SUCCESS).to_numpy(zero_copy_only=False))
    return uid_arrays.encode(rows["uid"].take(pa.array(places))), places


def _mark_repeated(shard: Shard, places: Any) -> None:
    rows, stats = read_rows(shard), storage.read_json(shard.stats)
    for name, value in (("status", FAILED), ("error_message", LISTED_TWICE)):
        values = rows[name].to_pylist()
        for place in places.tolist():
            values[place] = value
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(values, pa.string()))
    more = {name: stats[name] for name in ("copied", "copied_bytes")}
    storage.remove(shard.stats)  # so that a kill before the new ones leaves a shard that is made again
    commit_shard(shard, rows, failures=(FAILED,), **more)


def _report(
    out: str, out_ledger: str, found: Sequence[Input], of_shard: dict[str, str], failed: dict[str, str]
) -> IndexReport:
    shards = list_shards(out)
    stats = [storage.read_json(shard.stats) for shard in shards]
    tables, lists, several = [], [], []
    rows_of: dict[str, list[int]] = {}
    examples: dict[str, str] = {}
    images, missing = 0, ""
    for shard, one in zip(shards, stats, strict=True):
        table = read_rows(shard)
        tables.append(ledger.verdicts_of(table, STAGE))
        images += pc.sum(table.filter(pc.equal(table["status"], SUCCESS))["images"]).as_py() or 0
        path = of_shard.get(shard.name, shard.name)
        counted = rows_of.setdefault(path, [0, 0])
        repeated = one["status_dict"].get(LISTED_TWICE, 0)
        counted[0], counted[1] = counted[0] + one["count"], counted[1] + one["successes"] + repeated
        messages = table["error_message"].drop_null()
        examples.setdefault(path, *(messages.slice(0, 1).to_pylist() or [""]))
        missing = missing or next(iter(messages.filter(pc.starts_with(messages, MISSING_IMAGE)).to_pylist()), "")
        if ADDRESS in table.column_names:
            lists.append(_addresses(table))
        if ADDRESSES in table.column_names:
            several += [url for urls in table[ADDRESSES].drop_null().to_pylist() for url in json_value(urls)]
    ledger.write_stage(out_ledger, STAGE, pa.concat_tables(tables) if tables else [])
    if missing and not images:
        _log.warning(
            "no image is where its row says; the first: %s. Is this the folder below which they lie (image_root)?",
            missing,
        )
    listed = _write_list(out, lists)
    _write_images(out, several)
    for path, (count, kept) in rows_of.items():
        if count and not kept:
            failed.setdefault(path, _nothing_in(count, examples[path], listed, out))
        elif not count:
            _log.warning("%s has no rows", path)
    for one in found:
        if one.path not in rows_of and one.path not in failed:
            _log.warning("%s has no rows", one.path)
    return IndexReport(
        rows=sum(one["count"] for one in stats), samples=sum(one["successes"] for one in stats), images=images,
        copied=sum(one["copied"] for one in stats), copied_bytes=sum(one["copied_bytes"] for one in stats),
        to_download=listed, shards=len(shards), dropped=dropped(stats), failed=dict(sorted(failed.items())),
    )  # fmt: skip


def _nothing_in(count: int, example: str, listed: int, out: str) -> str:
    why = f"none of its {count:,} rows is a sample; the first: {example}"
    if example.startswith(IMAGE_URL) and listed:
        why += f". Images at addresses are downloaded first: {download_command(out)}"
    return why


def download_command(out: str) -> str:
    """The command that downloads the images of rows which have only addresses."""
    path = storage.join(out, TO_DOWNLOAD)
    turns = "conversations" in storage.read_schema(path).names
    more = " --set caption_col=null --set 'save_additional_columns=[conversations]'" if turns else ""
    return f"mmcorpus download {path} --out FOLDER{more}"


def _addresses(table: pa.Table) -> pa.Table:
    """The rows whose only image is at an address, as a list to download."""
    chosen = table.filter(pc.is_valid(table[ADDRESS]))
    names = {"url": ADDRESS, "caption": "caption", "conversations": "conversations"}
    there = {name: column for name, column in names.items() if column in table.column_names}
    return pa.table({name: chosen[column].cast(pa.string()) for name, column in there.items()})


def images_command(out: str) -> str:
    """The command that downloads the images of rows which have several of them."""
    return f"mmcorpus download {storage.join(out, IMAGES_TO_DOWNLOAD)} --out FOLDER --set caption_col=null"


def _write_images(out: str, urls: Sequence[str]) -> None:
    path = storage.join(out, IMAGES_TO_DOWNLOAD)
    if urls:
        storage.write_table(path, pa.table({"url": pa.array(dict.fromkeys(urls), pa.string())}))
    else:
        storage.remove(path)


def _write_list(out: str, lists: Sequence[pa.Table]) -> int:
    """Write the list of what is to be downloaded, if anything is; returns its rows."""
    path, table = storage.join(out, TO_DOWNLOAD), pa.concat_tables(lists) if lists else None
    if table is None or not len(table):
        storage.remove(path)
        return 0
    storage.write_table(
        path, table.select([name for name in table.column_names if table[name].null_count < len(table)])
    )
    return len(table)
