"""What commands that take a folder of shards are given: such a folder, or data that is indexed first."""

import posixpath
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from mmcorpus.pipelines.commands.common import UsageError, fail_if, say

if TYPE_CHECKING:
    import pyarrow as pa

    from mmcorpus.curation.sources.direct import Direct
    from mmcorpus.curation.store.shards import Shard


def beside(out: str) -> str:
    """The folder that an output lies in."""
    return posixpath.dirname(out.rstrip("/"))


def shards_for(
    data: str,
    out: str,
    *,
    name: str | None = None,
    kind: Literal["pair", "conversation"] | None = None,
    workers: int | None = None,
    start: Callable[[], None] = lambda: None,
) -> "tuple[Direct, list[str]]":
    """The shards of what a command was given, and which of its files cannot be read, to be told in the end.

    Data that is no folder of shards is indexed beside `out`, which a line says (`curation/sources/direct.py`). Without
    a sample in it, the command ends here.
    """
    from mmcorpus.curation.sources.direct import shards_of

    found = shards_of(data, beside(out), name=name, kind=kind, workers=workers, start=start)
    report = found.report
    if report is None:
        return found, []
    say(
        f"{data}: indexed as {found.kind}s in {found.folder}, {report.samples:,} samples of {report.rows:,} rows; "
        "the images stay where they are"
    )
    if report.dropped:
        say("Dropped: " + ", ".join(f"{count:,} {rule}" for rule, count in report.dropped.items()))
    unread = [f"{path}: {error}" for path, error in report.failed.items()]
    if not report.samples:
        fail_if(unread or [f"{data}: no row is a sample"])
    return found, unread


def scores_for(columns: Iterable[str], shards: str, scores: str, *, start: Callable[[], None] = lambda: None) -> None:
    """Score shards by those of the rules that ship whose columns (`scorer.column`) are read, and that have not yet.

    `start` is called before Ray is needed. Raises UsageError where other shards' scores lie.
    """
    from mmcorpus.curation.scoring.run import score
    from mmcorpus.curation.store.scores import list_tables, read_scores
    from mmcorpus.curation.store.shards import list_shards
    from mmcorpus.filters import RULES
    from mmcorpus.pipelines.recipe.load import read_scorers

    listed, tables = list_shards(shards), list_tables(scores)
    for scorer in list(tables)[:1]:
        name = listed[0].name
        there = read_scores(scores, scorer, name, ["uid"])["uid"] if name in tables[scorer] else None
        if there is None or sorted(there.to_pylist()) != sorted(_uids(listed[0]).to_pylist()):
            raise UsageError(f"{scores} holds scores of other samples than {shards}; name an output in another folder")
    asked = {column.partition(".")[0] for column in columns if "." in column} & set(RULES)
    lacking = sorted(name for name in asked if len(tables.get(name, [])) < len(listed))
    if lacking:
        start()
        report = score(shards, scores, read_scorers(lacking, []))
        say(f"{scores}: {report.samples:,} samples scored by {', '.join(lacking)}")
        fail_if(f"shard {name}: {error}" for name, error in report.failed.items())


def are_scores(folder: str) -> bool:
    """Whether tables of scores lie there: they say what they are, or, by somebody else, have uids and no images."""
    import pyarrow as pa

    from mmcorpus.curation.store import storage
    from mmcorpus.curation.store.scores import list_tables, read_origin, table_path

    def plain(schema: pa.Schema) -> bool:
        rich = (pa.types.is_nested(told.type) or pa.types.is_binary(told.type) for told in schema)
        return "uid" in schema.names and not any(rich)

    tables = list_tables(folder)
    schemas = [storage.read_schema(table_path(folder, name, shards[0])) for name, shards in tables.items()]
    return any(read_origin(schema) or plain(schema) for schema in schemas)


def every_sample(shards: str) -> "pa.Table":
    """The selection of all samples of some shards, once each."""
    import numpy as np

    from mmcorpus.curation.selection.tables import make_selection
    from mmcorpus.curation.store import uid_arrays
    from mmcorpus.curation.store.shards import list_shards

    pairs = [np.empty(0, uid_arrays.PAIR), *(uid_arrays.encode(_uids(shard)) for shard in list_shards(shards))]
    every = np.unique(np.concatenate(pairs))
    return make_selection(every, np.ones(len(every), np.int64))


def kind_held(shards: str) -> Literal["pair", "conversation", "document"]:
    """The kind of a folder's samples, as its first shard has it: with captions they are pairs, whatever else it has."""
    from mmcorpus.curation.store.shards import list_shards, read_rows, read_schema

    listed = list_shards(shards)
    names = read_schema(listed[0]).names if listed else []
    if "nodes" in names:
        return "document"
    if "conversations" not in names:
        return "pair"
    rows = read_rows(listed[0], [name for name in ("caption", "conversations") if name in names])
    counts = {name: len(rows) - rows[name].null_count for name in rows.column_names}
    return "conversation" if counts["conversations"] and not counts.get("caption") else "pair"


def _uids(shard: "Shard") -> "pa.ChunkedArray":
    """Those of a shard's samples, in order."""
    import pyarrow.compute

    from mmcorpus.curation.store.shards import SUCCESS, read_rows

    rows = read_rows(shard, ["uid", "status"])
    compute: Any = pyarrow.compute  # its stubs do not know chunked columns
    return rows["uid"].filter(compute.equal(rows["status"], SUCCESS))
