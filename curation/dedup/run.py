"""The driver: duplicates over whole sources by any method, in stages of files, from keys to score tables.

    stage       a task works on         and leaves                                          in WORK/
    keys        a shard                 its rows' keys, cut into 256 parts by hash          keys-*/
    pairs       some parts, sorted      who shares a key: equals, and candidates            plan-*/equal/, pairs/
    candidates  some parts              each candidate once, however many keys it shares    candidates/, wanted/
    values      a span of shards        the texts (vectors, hashes) of candidates alone     values/
    alike       some parts              the links between those that are duplicates         alike/
    … and the same three once more over those, with their images' files                     image-*/
    merge       16 files of links       the forest of the connected components              forests-*/, clusters/
    order       a span of shards        what decides who survives, by component             survivors-*/ordered/
    survivors   some parts              each sample's cluster, its size, its rank there     survivors-*/settled/
    tables      a span of shards        scores/<source>/<name>/<shard>.parquet

Every file is written whole by one task, named by what the task works on, and made from committed files alone: a task
that is done twice, late or elsewhere writes the same bytes, and a run that was killed goes on from what is there. A
task holds some hundred megabytes, however many samples there are; all of the links, eight bytes each, meet in the last
merge. Samples are never deleted: the tables say what is a copy of what, and selection decides.
"""

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa

from mmcorpus.curation.dedup.forest import merge_forests
from mmcorpus.curation.dedup.index import before, extend_index, read_index
from mmcorpus.curation.dedup.keys import Place, make_keys, name_of
from mmcorpus.curation.dedup.method import Method
from mmcorpus.curation.dedup.pairs import find_pairs
from mmcorpus.curation.dedup.plan import Plan, fingerprint_of, identity_of, sweep
from mmcorpus.curation.dedup.sources import Source, input_files, mark, read_columns, scores_made_by
from mmcorpus.curation.dedup.survivors import Settle, columns_read, settle_clusters
from mmcorpus.curation.dedup.tables import write_tables
from mmcorpus.curation.dedup.verify import verify_pairs
from mmcorpus.curation.engine.items import run_numbered, task_path, total
from mmcorpus.curation.engine.made_from import digest_of
from mmcorpus.curation.engine.partitions import read_parts, says, write_whole
from mmcorpus.curation.selection.evaluate import check
from mmcorpus.curation.selection.expression import parse
from mmcorpus.curation.selection.names import scores_schema, shipped_columns
from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.curation.store.scores import Origin
from mmcorpus.curation.store.shards import Shard, list_shards, no_shards, read_schema

VERSION: Final = "1"
LOCAL_ROWS: Final = 20_000
"""Up to so many samples Ray's start would take longer than the work, which is done in this process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DedupReport:
    """The counts of a pass; a resumed run reports the same as an uninterrupted one."""

    samples: int
    unknown: int
    """Of these, with nothing to compare."""
    candidates: int
    """Pairs that were compared (for a method that compares buckets: their rows); 0 where nothing is verified."""
    unseen: int
    """Pairs that were decided by fingerprints alone because the images of one are not in its shard (any more)."""
    clusters: int
    """Of two samples or more."""
    duplicates: int
    """Samples that are not the survivor of their cluster: rank 1 and more."""
    of_index: int
    """Of these, copies of what the index holds."""
    largest: int
    """Samples in the largest cluster."""
    failed: dict[str, str] = field(default_factory=dict)
    """By `source/shard`, why it could not be read: it has no table, and was compared with nobody."""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """True if every shard has its table."""
        return not self.failed


def deduplicate(
    name: str,
    method: Method,
    sources: Sequence[Source],
    work: str,
    *,
    survivor: str | None = None,
    among: str | None = None,
    index: str | None = None,
    extend: bool = False,
    workers: int | None = None,
) -> DedupReport:
    """Find the duplicates among the samples of all sources and write them as score tables called `name`.

    Columns: `copies` (int32, size of the cluster, 1 for a sample without duplicates), `rank` (int32, 0 for the
    survivor), `cluster` (uid of the survivor); null where there is nothing to compare. Their bytes depend on the
    samples, the method and the expressions alone.

    Args:
        name: the tables' folder under each source's scores, and their prefix in expressions.
        work: where the work files lie, `dedup/<name>` of a run. May be removed once all is done.
        survivor: a number; of a cluster the sample with the largest survives, equals by the lowest uid.
        among: a condition; samples that meet it survive before those that do not.
        index: a folder of earlier samples (`curation.dedup.index`). New samples that are duplicates of one of them get
            a rank of 1 or more and its uid as `cluster`.
        extend: put the samples into the index afterwards; it is made if it is not there.
        workers: worker processes of one CPU each on the Ray that is initialised; None: as many as it has, or up to
            20,000 samples this process; 0: this process.

    Raises:
        ExpressionError: a column of `survivor` or `among` is not there.
        ValueError: there are no shards, no shard can be read, or the index is not of this method.
        RuntimeError: Ray is not running, or a task failed; what was committed is kept, and a rerun goes on from it.
    """
    start = time.monotonic()
    _check(name, sources, survivor, among)
    places = [(source, shard.name) for source in sources for shard in list_shards(source.shards)]
    if not places:
        raise no_shards(sources[0].shards)
    samples = sum(storage.threaded(_samples, places))
    if workers is None and samples <= LOCAL_ROWS:
        workers = 0
    indexed, learned = read_index(index, method) if index is not None else ([], None)
    if index is not None and not indexed and not extend:
        raise ValueError(f"there is no index at {index}; make one by a run that extends it")
    if method.learns_from and learned is None:
        learned = _learn(method, places, samples, work, workers)

    own, failed = make_keys(method, places, work, learned, workers=workers)
    units = (*before(indexed, own), *own)
    plan = Plan(method=method, units=units, work=storage.join(work, f"plan-{fingerprint_of(method, units)}"))
    sweep(work, "plan-", plan.work)
    equal, candidates = find_pairs(plan, workers=workers)
    pairs, compared, unseen = verify_pairs(plan, candidates, workers=workers) if method.verifies else ([], 0, 0)
    clusters = merge_forests(plan, [*equal, *pairs], workers=workers)

    readable = [place for place in places if name_of(place) not in failed]
    read = columns_read(survivor, among)
    marks = storage.threaded(lambda place: mark(input_files(*place, read)) if read else "", readable)
    settling = digest_of(survivor, among, marks)
    folder = plan.path(f"survivors-{settling}")
    sweep(plan.work, "survivors-", folder)
    job = Settle(plan=plan, folder=folder, clusters=clusters, equal=equal, pairs=pairs, survivor=survivor, among=among)
    settled = settle_clusters(job, workers=workers)
    write_tables(plan, sources, settled, _origin(name, plan, readable, settled, survivor, among), workers=workers)
    if index is not None and extend:
        extend_index(index, plan, settled, learned, workers=workers)
    return _report(plan, compared, unseen, settled, failed, time.monotonic() - start)


def _check(name: str, sources: Sequence[Source], survivor: str | None, among: str | None) -> None:
    """Stop before any work for what cannot end well."""
    if not name.isidentifier():
        raise ValueError(f"{name!r} cannot stand in an expression as {name}.rank; use letters, digits and _")
    if len({source.name for source in sources}) != len(sources):
        raise ValueError("two sources have one name")
    if survivor is not None:
        parse(survivor)
    for source in sources if survivor is not None or among is not None else ():
        schema = _schema(source)
        for text in (f"is_null({survivor})" if survivor is not None else None, among):
            if text is not None and schema is not None:
                check(text, schema, shipped_columns())


def _schema(source: Source) -> pa.Schema | None:
    """The columns that an expression may read; None if no shard can be read, which the first stage tells."""
    for shard in list_shards(source.shards):
        try:
            own = [entry for entry in read_schema(shard) if entry.name != "uid"]
        except (pa.ArrowInvalid, OSError, ValueError):
            continue
        return pa.schema([*scores_schema(source.scores), *own])
    return None


def _samples(place: Place) -> int:
    """By the shard's stats file."""
    return int(storage.read_json(Shard(root=place[0].shards, name=place[1]).stats)["successes"])


def _learn(method: Method, places: Sequence[Place], samples: int, work: str, workers: int | None) -> str:
    """Have the method learn from rows chosen by a hash of their uids; returns where what it learned lies."""
    marks = storage.threaded(lambda place: [name_of(place), mark(input_files(*place, method.columns()))], places)
    folder = storage.join(work, f"learned-{digest_of(identity_of(method), marks)}")
    sweep(work, "learned-", folder)
    path = storage.join(folder, "learned.npz")
    if storage.exists(path):
        return path
    rows = storage.join(folder, "rows")
    draw = partial(_draw, method, places, method.learns_from / max(1, samples), rows)
    drawn = run_numbered(rows, draw, len(places), title="learn", workers=workers)
    tables = [table for table in map(read_parts, drawn) if table.num_columns]
    learnt: dict[str, Any] = {}
    if tables:  # else no shard can be read, and the next stage says why
        learnt |= method.learn(pa.concat_tables(tables, promote_options="permissive").combine_chunks())
    arrays = io.BytesIO()
    np.savez(arrays, **learnt)
    storage.write_bytes(path, arrays.getvalue())
    return path


def _draw(method: Method, places: Sequence[Place], share: float, folder: str, number: int) -> dict[str, int]:
    """Draw the rows of a shard that the method learns from."""
    try:
        table = read_columns(*places[number], method.columns())
    except (ValueError, OSError):
        rows = pa.table({})  # the next stage says what is wrong with the shard
    else:
        drawn = uids.fractions(uids.encode(table["uid"]), "learn") < share
        rows = table.select(list(method.columns())).filter(pa.array(drawn))
    write_whole(task_path(folder, number), rows, {"rows": rows.num_rows})
    return {"rows": rows.num_rows}


def _origin(
    name: str, plan: Plan, places: Sequence[Place], settled: Sequence[str], survivor: str | None, among: str | None
) -> Origin:
    """What made the tables. One shard's depends on all others, so a shard more or less is another fingerprint."""
    read = (*plan.method.columns(), *columns_read(survivor, among))
    made: dict[str, set[str]] = {}
    for one in storage.threaded(lambda place: scores_made_by(*place, read), places):
        for scorer, fingerprint in one.items():
            made.setdefault(scorer, set()).add(fingerprint)
    parameters = {
        "by": type(plan.method).__name__,
        **plan.method.parameters(),
        "survivor": survivor,
        "among": among,
        "inputs": {scorer: sorted(fingerprints) for scorer, fingerprints in sorted(made.items())},
        "content": digest_of(plan.fingerprint, [said["digest"] for said in storage.threaded(says, settled)]),
    }
    fingerprint = digest_of(name, VERSION, plan.method.version, parameters)
    version = f"{VERSION}.{plan.method.version}"
    return Origin(scorer=name, version=version, parameters=parameters, fingerprint=fingerprint)


def _report(
    plan: Plan, compared: int, unseen: int, settled: Sequence[str], failed: dict[str, str], seconds: float
) -> DedupReport:
    counts = storage.threaded(says, settled)
    own = [unit.keys for unit in plan.units if unit.source is not None]
    samples = plan.starts[-1] - plan.indexed
    return DedupReport(
        samples=samples,
        unknown=samples - total(own, "known"),
        candidates=compared,
        unseen=unseen,
        **{name: sum(count[name] for count in counts) for name in ("clusters", "duplicates", "of_index")},
        largest=max((count["largest"] for count in counts), default=1),
        failed=failed,
        seconds=seconds,
    )
