"""Data of anybody in place of a folder of shards: it is indexed when a command first meets it, and known again.

An index that lies where it is looked for serves whatever its config was: what a folder of images, a column or a kind
has to be told is told once, to `mmcorpus index`.
"""

import posixpath
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Final, Literal

from mmcorpus.curation.engine.output import read_record
from mmcorpus.curation.sources.config import IndexConfig
from mmcorpus.curation.sources.found import Found
from mmcorpus.curation.sources.inputs import Input, Part, SourceError, find_inputs
from mmcorpus.curation.sources.json_rows import BadJson
from mmcorpus.curation.sources.parts import question_columns
from mmcorpus.curation.sources.run import IndexReport, absolute, index, made_from_of, refuse_secrets
from mmcorpus.curation.sources.shard import opened, read_part
from mmcorpus.curation.store import compressed, places, storage
from mmcorpus.curation.store.shards import VIEW_FILE, list_shards, no_shards

SHARDS: Final = "shards"
_OURS: Final = frozenset({"run.json", "manifest.json", VIEW_FILE, places.REFERENCES_FILE})
"""Files of folders that are ours, and no data."""
_SAID_WHERE_IT_IS_INDEXED: Final = (OSError, BadJson, compressed.DecodeError, tarfile.TarError, storage.Damaged)
_LOOKED_AT: Final = 20
"""Rows that tell a kind."""


@dataclass(frozen=True, kw_only=True)
class Direct:
    """Where the shards of a folder lie."""

    folder: str
    kind: Literal["pair", "conversation"] | None = None
    """As it was indexed; None for a folder that holds shards."""
    report: IndexReport | None = None
    """Of the index; None for a folder that holds shards."""
    suffix: str = ""
    """`.NAME` where the index is in `shards.NAME`: for what is made of it."""


def shards_of(
    data: str,
    beside: str,
    *,
    name: str | None = None,
    kind: Literal["pair", "conversation"] | None = None,
    workers: int | None = None,
    start: Callable[[], None] = lambda: None,
) -> Direct:
    """The shards of `data`: itself if it holds some, else those of its index, which is made or gone on with.

    The index lies in `shards` in the folder `beside` (its ledger in `ledger`), or, if that holds something else or the
    source has a name, in `shards.NAME`; NAME is the last part of the path where none is given.

    Args:
        data: a folder of shards; or a folder, file or glob that `index` reads.
        kind: None: what the data's first rows tell.
        workers, start: as `index` takes them.

    Raises:
        SourceError: it is nothing that can be read.
        ValueError: it is a folder of ours without shards, such as a download that was not finished.
    """
    path = absolute(data)
    address = path.partition("?")[0] if "://" in path else path
    if address == path:  # what an address with a query names is a file
        if list_shards(data):
            return Direct(folder=data)
        if read_record(data) is not None or not _OURS.isdisjoint(storage.list_names(data)):
            raise no_shards(data)
        if list_shards(inner := storage.join(data, SHARDS)):
            raise ValueError(f"{data} holds no shards itself; give {inner}")
    suffix = f".{name or address.rstrip('/').rpartition('/')[2]}"
    usual, own = storage.join(beside, SHARDS), storage.join(beside, f"{SHARDS}{suffix}")
    config = _indexed_as(usual, path)
    at_usual = config is not None or (name is None and (not storage.list_names(usual) or _speaks_of(usual, path)))
    if config is None:
        place = usual if at_usual else own
        config = (_config_of(place) if _speaks_of(place, path) else None) or IndexConfig(kind=kind or kind_of(path))
    folder = usual if at_usual else own
    ledger = storage.join(beside, "ledger", *(() if at_usual else (suffix[1:],)))
    report = index(config, [data], folder, ledger, workers=workers, start=start)
    return Direct(folder=folder, kind=config.kind, report=report, suffix="" if at_usual else suffix)


def kind_of(*paths: str, columns: Mapping[str, str] = MappingProxyType({})) -> Literal["pair", "conversation"]:
    """What the first rows of data are: conversations, if they have turns, or questions and answers, and no captions.
    `columns` are those of an `IndexConfig`. Raises SourceError."""
    refuse_secrets(paths)
    if "caption" in columns or "conversations" in columns:
        return "pair" if "caption" in columns else "conversation"
    config = IndexConfig(columns=columns)
    for one in find_inputs([absolute(path) for path in paths]):
        try:
            for found in islice(_first_rows(one, config), _LOOKED_AT):
                if found.caption and (found.images or not question_columns(found.meta)):  # MDS has no nulls: ''
                    return "pair"
                if found.conversations is not None or question_columns(found.meta):
                    return "conversation"
        except SourceError:  # a table without a column that a pair has; another file is damaged
            if one.format in ("parquet", "arrow"):
                return "conversation"
        except _SAID_WHERE_IT_IS_INDEXED:
            continue
    return "pair"


def _first_rows(one: Input, config: IndexConfig) -> Iterator[Found]:
    part = Part(name="", input=one, start=0, end=sys.maxsize, rows=_LOOKED_AT)
    with opened(one) as file:
        yield from read_part(part, config, file)


def _indexed_as(folder: str, path: str) -> IndexConfig | None:
    """The config of an index in `folder` of the very files at `path`, as they are now; None if there is none."""
    config = _config_of(folder)
    if config is None or read_record(folder) != made_from_of(config, find_inputs([path])):
        return None
    return config


def _config_of(folder: str) -> IndexConfig | None:
    if not storage.exists(storage.join(folder, places.REFERENCES_FILE)):
        return None
    record = read_record(folder)
    config = None if record is None else IndexConfig(**record.config)
    if config is not None and config.image_root is not None and absolute(config.image_root) != config.image_root:
        return None  # seen from a folder that nobody knows
    return config


def _speaks_of(folder: str, path: str) -> bool:
    """Whether a folder is an index of a folder, or of files beside a file."""
    about = storage.join(folder, places.REFERENCES_FILE)
    if not storage.exists(about):
        return False
    fs, inner = storage.filesystem(path)
    root = path.rstrip("/") if fs.isdir(inner) else posixpath.dirname(path)
    return root in storage.read_json(about)["roots"]
