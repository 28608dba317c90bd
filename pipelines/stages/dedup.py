"""The stages of the recipe's `dedup:` section: one a pass, over all its sources."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from mmcorpus.curation.engine.made_from import file_digest, plain, table_digest
from mmcorpus.curation.engine.stage import Result, Stage
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import list_tables, read_scores
from mmcorpus.curation.store.shards import list_shards
from mmcorpus.pipelines.recipe.populations import Population, scored, sources_of
from mmcorpus.pipelines.recipe.schema import DEDUP, DFN
from mmcorpus.pipelines.recipe.trained import is_trained
from mmcorpus.pipelines.stages.context import RunContext, counts, failures

if TYPE_CHECKING:
    from mmcorpus.curation.dedup import DedupPass, Source
    from mmcorpus.pipelines.recipe.schema import Recipe


def dedup_stage(run: RunContext, found: "DedupPass") -> Stage:
    """The stage of a pass."""
    from mmcorpus.curation.dedup.annotations import FILE

    recipe, places = run.recipe, run.populations
    sources = sources_of(found, recipe)
    needs = [places[source].made_by for source in sources]
    for scorer in found.scorers:
        needs += [maker(scorer, source, recipe) for source in sources]
    tables = [f"scores/{source}/{found.name}" for source in sources]
    return Stage(
        name=f"{DEDUP}/{found.name}",
        config={
            **plain(found.config),
            "sources": list(sources),
            "survivor": found.survivor,
            "method": {"version": found.method.version, **plain(found.method.parameters())},
            **_index_identity(found),
        },
        needs=tuple(needs),
        outputs=(
            *tables,
            f"{DEDUP}/{found.name}",
            *([f"{DEDUP}/{found.name}/{FILE}"] if found.config.annotations else []),
        ),
        scratch=(f"{DEDUP}/{found.name}/*/*",),
        invalidated_by=(),  # tables and work files know what they are made from
        version="2" if found.config.annotations else "1",
        ray="maybe",
        run=lambda: deduplicate_sources(
            found,
            [_source(run, places[source]) for source in sources],
            run.at(DEDUP, found.name),
            left_out=[run.at("scores", source) for source in places if source not in sources],
            start_ray=run.start_ray,
        ),
    )


def _index_identity(found: "DedupPass") -> dict[str, str]:
    """What an index holds; nothing of one that the pass itself extends, of which it sees what was there before it."""
    index = found.config.index
    if index is None or found.config.extend:
        return {}
    path = storage.join(index, "index.json")
    return {"index_holds": file_digest(path)} if storage.exists(path) else {}


def maker(scorer: str, source: str, recipe: "Recipe") -> str:
    """The stage, or part of one, that makes a source's tables of a scorer, a pass or the data filtering network."""
    if scorer in recipe.passes:
        return f"{DEDUP}/{scorer}#{source}"
    if any(own.name == scorer and is_trained(own) for own in recipe.scorers.values()):
        return f"{source}/score-{scorer}"
    return f"{source}/{DFN}" if scorer == DFN and scored(recipe) else f"{source}/score#{scorer}"


def _source(run: RunContext, population: Population) -> "Source":
    from mmcorpus.curation.dedup import Source

    places = {kind: run.at(kind, population.name) for kind in ("scores", "embeddings")}
    return Source(name=population.name, shards=run.at("shards", population.shards), **places)


def deduplicate_sources(
    found: "DedupPass",
    given: "Sequence[Source]",
    work: str,
    *,
    start_ray: Callable[[], None],
    left_out: Iterable[str] = (),
    workers: int | None = None,
) -> Result:
    """Run a pass over sources; Ray is started where there is enough to do.

    `left_out`: scores of other sources, from which the pass's tables go: it may have looked through them before.
    """
    from mmcorpus.curation.dedup import deduplicate
    from mmcorpus.curation.dedup.annotations import FILE, write_annotations
    from mmcorpus.curation.dedup.run import LOCAL_ROWS

    for scores in left_out:
        storage.remove(storage.join(scores, found.name))
    shards = (shard for source in given for shard in list_shards(source.shards))
    counts_so_far = itertools.accumulate(storage.read_json(shard.stats)["successes"] for shard in shards)
    if workers or any(count > LOCAL_ROWS for count in counts_so_far):  # a few files of ten thousand are read
        start_ray()
    report = deduplicate(
        found.name,
        found.method,
        given,
        work,
        survivor=found.survivor or None,
        among=found.config.among,
        index=found.config.index,
        extend=found.config.extend,
        workers=workers,
    )
    of_index = ("of_index",) if found.config.index else ()
    shown = counts(report, "samples", "clusters", "duplicates", "largest", "unknown", *of_index)
    shown["compared"] = report.candidates
    if report.unseen:  # by fingerprints alone: images are gone
        shown["unseen"] = report.unseen
    parts = {source.name: _content(source.scores, found.name) for source in given}
    if found.config.annotations:
        path = storage.join(work, FILE)
        shown["annotated"] = write_annotations(found.name, given, path, among=found.config.among)
        parts[FILE] = table_digest(path)
    return Result(counts=shown, failures=failures(report.failed), parts=parts)


def _content(scores: str, name: str) -> str:
    """A digest of what a pass says of a source's samples, however it was found."""
    state = hashlib.blake2b(digest_size=16)
    for shard in list_tables(scores).get(name, []):
        state.update(shard.encode())
        for column in read_scores(scores, name, shard).columns:
            state.update(repr(column.to_pylist()).encode())
    return state.hexdigest()
