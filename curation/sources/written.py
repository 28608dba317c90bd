"""Samples whose text a model wrote: another source's images, with a column of its scores as caption or conversation.

`fused` is made of `pairs` and of `capfusion.text`, say: a row for each sample that the selection of `pairs` keeps, in
shards of references to the images where they are. So whatever takes a source takes a recaptioned one: scorers,
selections, plans, packs. What was written is another sample, with a uid of its own; the column `parent` has the uid of
the sample that it was written about, and `original_caption` the caption that this was published with.
"""

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.engine.items import run_pending
from mmcorpus.curation.engine.made_from import MadeFrom, digest, file_digest, plain, table_digest
from mmcorpus.curation.engine.output import Output
from mmcorpus.curation.scoring.reads import read_columns
from mmcorpus.curation.sources.found import BAD_CONVERSATION
from mmcorpus.curation.sources.parts import conversation_images
from mmcorpus.curation.sources.run import absolute
from mmcorpus.curation.store import ledger, places, storage, uid_arrays
from mmcorpus.curation.store.members import IMAGE_EXTENSIONS, image_order
from mmcorpus.curation.store.named_files import state_of
from mmcorpus.curation.store.scores import table_path
from mmcorpus.curation.store.shards import SUCCESS, Shard, commit_shard, list_shards, no_shards, read_rows, shard_at
from mmcorpus.curation.store.tars import is_readable, read_tar, sample_of
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.filters.scorer import REASON

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

STAGE: Final = "write"
VERSION: Final = "1"
FAILED: Final = "failed_to_write"
"""The status of rows for which there is no text."""
NOTHING: Final = "nothing_written"
PARENT: Final = "parent"
ORIGINAL: Final = "original_caption"
_FEW: Final = 4
"""So many shards are made here sooner than workers have started."""


@dataclass(frozen=True, kw_only=True)
class WrittenConfig:
    """What a source of written texts is made of."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    source: str
    """The source whose images it has: of those samples that its selection keeps."""
    column: str
    """The text, as `SCORER.column`: `capfusion.text`. Of a conversation the JSON of its turns."""
    fallback: Literal["drop", "original"] = "drop"
    """The fate of a sample for which nothing was written: it is dropped, with the scorer's reason, or has its original
    caption."""

    def __post_init__(self) -> None:
        scorer, dot, column = self.column.partition(".")
        if not (scorer and dot and column):
            raise ValueError(f"column is {self.column!r}; give a column of a scorer, such as capfusion.text")
        if self.fallback not in ("drop", "original"):
            raise ValueError(f"fallback is {self.fallback!r}; give 'drop' or 'original'")

    @property
    def scorer(self) -> str:
        """Whose column it is."""
        return self.column.partition(".")[0]


@dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """The counts of a source of written texts, earlier calls' shards included."""

    samples: int
    original: int
    """Of these, those that have their original caption, as nothing was written."""
    dropped: dict[str, int]
    """Samples without a text, by the scorer's reason."""
    shards: int


def write_source(
    config: WrittenConfig,
    kind: Literal["pair", "conversation"],
    shards: str,
    scores: str,
    out: str,
    ledger_root: str,
    *,
    selection: str | None = None,
    start: Callable[[], None] = lambda: None,
) -> WrittenReport:
    """Make the shards of a source of written texts under `out`, and the ledger's stage `write`.

    What an earlier call committed from the same rows, texts and selection is kept.

    Args:
        shards: of the source whose images they are.
        scores: of that source, `scores/<source>`.
        selection: whose samples are taken; None for all.
        start: called before there is work for Ray.

    Raises:
        ValueError: there are no shards, or the scorer has no table of some of them, or no such column of texts.
        MadeOtherwise: `out` holds something else.
    """
    listed = list_shards(shards)
    if not listed:
        raise no_shards(shards)
    if kind == "conversation" and config.fallback == "original":
        raise ValueError("fallback is original, and a caption is no conversation; give 'drop'")
    lacking = [one.name for one in listed if not storage.exists(table_path(scores, config.scorer, one.name))]
    if lacking:
        raise ValueError(f"scores of {config.scorer!r} lack shard {lacking[0]} under {scores}; score it first")
    schema = storage.read_schema(table_path(scores, config.scorer, listed[0].name))
    texts = [field.name for field in schema if pa.types.is_string(field.type) and field.name != "uid"]
    if config.column.partition(".")[2] not in texts:
        raise ValueError(
            f"scores of {config.scorer} under {scores} have no texts {config.column!r}; they have {', '.join(texts)}"
        )
    told = {one.name: _identity(one, scores, config.scorer) for one in listed}
    chosen = table_digest(selection) if selection is not None else ""
    Output(
        folder=out, holds="samples of written texts", stale="replace",
        made_from=MadeFrom(
            config={**plain(config), "kind": kind}, version=VERSION,
            inputs={"shards": digest(told), "selection": chosen},
        ),
        writes=(places.REFERENCES_FILE, f"*{places.SUFFIX}"),
    ).claim()  # fmt: skip
    storage.sweep(out)
    roots = _roots(shards, out)
    storage.write_json(storage.join(out, places.REFERENCES_FILE), {"roots": list(roots)})
    committed = {one.name for one in list_shards(out)}
    here = len(told.keys() - committed) <= _FEW
    if not here:
        start()
    make = functools.partial(_work, config, kind, shards, scores, out, selection)
    run_pending(
        make, list(told), committed=committed, title=STAGE, workers=0 if here else None, aside=out
    ).or_raise()  # fmt: skip
    tables = [read_rows(one, ["uid", "error_message"]) for one in list_shards(out)]
    ledger.write_stage(ledger_root, STAGE, pa.concat_tables([ledger.verdicts_of(table, STAGE) for table in tables]))
    stats = [storage.read_json(one.stats) for one in list_shards(out)]
    codes = sum((Counter(one["status_dict"]) for one in stats), Counter[str]())
    return WrittenReport(
        samples=codes.pop(SUCCESS, 0),
        original=sum(one["original"] for one in stats),
        dropped=dict(codes.most_common()),
        shards=len(stats),
    )


def _identity(shard: Shard, scores: str, scorer: str) -> list[str]:
    """What changes when the rows of a shard, the places of its images or its texts do."""
    path = table_path(scores, scorer, shard.name)
    lying = places.places_digest(shard.root, shard.name) if shard.references else str(_size(shard.tar))
    rows = file_digest(shard.parquet) if storage.exists(shard.parquet) else ""
    return [rows, lying, table_digest(path)]


def _size(path: str) -> int:
    return state_of(path).size if storage.exists(path) else -1


def _roots(shards: str, out: str) -> tuple[str, ...]:
    """The folders that images lie below: that of the shards first, then those that they refer to themselves."""
    parent, name = shards.rstrip("/").rpartition("/")[::2]
    beside = parent == out.rstrip("/").rpartition("/")[0]
    own = f"{places.BESIDE}{name}" if beside else absolute(shards)
    path = storage.join(shards, places.REFERENCES_FILE)
    if not storage.exists(path):
        return (own,)
    told, found = storage.read_json(path)["roots"], places.read_roots(shards)
    moving = (beside and root.startswith(places.BESIDE) for root in told)
    return (own, *(root if moves else absolute(there) for root, there, moves in zip(told, found, moving, strict=True)))


def _work(
    config: WrittenConfig,
    kind: Literal["pair", "conversation"],
    shards: str,
    scores: str,
    out: str,
    selection: str | None,
) -> Callable[[str], dict[str, Any]]:
    """Makes one shard; the selection is read once a worker."""
    wanted = None
    if selection is not None:
        uids = uid_arrays.encode(storage.read_table(selection, columns=["uid"])["uid"])
        wanted = uid_arrays.count(uids)[0]

    def work(name: str) -> dict[str, Any]:
        shard = shard_at(shards, name)
        rows = read_rows(shard)
        rows = rows.filter(pc.and_(pc.equal(rows["status"], SUCCESS), pc.is_valid(rows["uid"])))
        if wanted is not None:
            there = uid_arrays.find(uid_arrays.encode(rows["uid"]), wanted) >= 0
            rows = rows.filter(pa.array(there))
        uids = rows["uid"].to_pylist()
        found = read_columns(scores, name, [config.column, f"{config.scorer}.{REASON}"], uids)
        written, original = _rows(config, kind, rows, found)
        kept = [key for key, status in zip(*(written[c].to_pylist() for c in ("key", "status")), strict=True)
                if status == SUCCESS]  # fmt: skip
        own = Shard(root=out, name=name, references=True)
        storage.write_table(own.images, _places(shard, kept))
        stats = commit_shard(own, written, failures=(FAILED,), original=original)
        return {"samples": stats["successes"]}

    return work


def _rows(
    config: WrittenConfig, kind: Literal["pair", "conversation"], rows: pa.Table, found: Sequence[dict[str, Any]]
) -> tuple[pa.Table, int]:
    """The rows of a shard, and how many have their original caption."""
    before = rows["caption"].to_pylist() if "caption" in rows.column_names else [None] * len(rows)
    texts, reasons, original = [], [], 0
    for own, caption in zip(found, before, strict=True):
        text, why = own[config.column], None
        if text is None and config.fallback == "original" and caption is not None and caption.strip():
            text, original = caption, original + 1
        elif text is None:
            why = own[f"{config.scorer}.{REASON}"] or NOTHING
        elif kind == "conversation" and not _has_turns(text):
            text, why = None, BAD_CONVERSATION
        texts.append(text)
        reasons.append(why)
    parents = rows["uid"].to_pylist()
    uids = [pair_uid(f"{uid}/{config.column}", text or "") for uid, text in zip(parents, texts, strict=True)]
    if ORIGINAL not in rows.column_names:  # of what was written twice it is the first
        rows = rows.append_column(ORIGINAL, pa.array(before, pa.string()))
    dropped = [name for name in ("conversations", PARENT) if name in rows.column_names]
    rows = rows.drop_columns(dropped)
    columns: dict[str, Any] = {
        "uid": uids,
        "caption": texts if kind == "pair" else [None] * len(texts),
        PARENT: parents,
        "status": [SUCCESS if why is None else FAILED for why in reasons],
        "error_message": reasons,
        **({"conversations": texts} if kind == "conversation" else {}),
    }
    for name, values in columns.items():
        array = pa.array(values, pa.string())
        there = name in rows.column_names
        rows = rows.set_column(rows.column_names.index(name), name, array) if there else rows.append_column(name, array)
    return rows, original


def _has_turns(text: str) -> bool:
    try:
        conversation_images(json.loads(text))
    except (ValueError, RecursionError):
        return False
    return True


def _places(shard: Shard, keys: Sequence[str]) -> pa.Table:
    """Where the images of some samples of a shard lie, in the order of the samples: as a shard of references has it,
    of roots as `_roots` gives them. Files are known by their sizes: what made them writes the same bytes again."""
    if not shard.references:
        by_key = _in_tar(shard.tar)
        told = [place for key in keys for place in by_key.get(key, ())]
        return pa.Table.from_pylist(told, schema=places.SCHEMA)
    table = storage.read_table(shard.images, columns=places.SCHEMA.names)
    order = {key: place for place, key in enumerate(keys)}
    table = table.filter(pc.is_in(table["key"], value_set=pa.array(list(order), pa.string())))
    ranks = np.array([order[key] for key in table["key"].to_pylist()], np.int64)
    table = table.take(pa.array(np.argsort(ranks, kind="stable")))
    own = pc.equal(table["root"], places.OWN)
    root = pc.cast(pc.if_else(own, 0, pc.add(table["root"], 1)), pa.int16())
    size = pc.if_else(own, _size(shard.tar), table["file_size"])
    for name, column in (("root", root), ("file_size", size)):
        table = table.set_column(places.SCHEMA.get_field_index(name), name, column)
    return table.cast(places.SCHEMA)


def _in_tar(path: str) -> dict[str, list[dict[str, Any]]]:
    """By key, the images of a tar, in their order."""
    fs, inner = storage.filesystem(path)
    name, size = path.rstrip("/").rpartition("/")[2], _size(path)
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    with fs.open(inner, "rb") as file, read_tar(file, "r:") as tar:
        for key, ending, member in _members(tar):
            extension = ending.rpartition(".")[2]
            if extension in IMAGE_EXTENSIONS:
                place = {"key": key, "extension": extension, "root": 0, "file": name, "offset": member.offset_data,
                         "size": member.size, "file_size": size}  # fmt: skip
                found.setdefault(key, []).append((ending, place))
    ordered = {key: sorted(images, key=lambda one: image_order(one[0])) for key, images in found.items()}
    return {key: [{**place, "number": n} for n, (_, place) in enumerate(images)] for key, images in ordered.items()}


def _members(tar: Any) -> Iterator[tuple[str, str, Any]]:
    while (member := tar.next()) is not None:
        tar.members = []  # tarfile keeps every header otherwise
        key, ending = sample_of(member.name)
        if key and is_readable(member):
            yield key, ending.lower(), member
