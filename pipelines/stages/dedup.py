"""The recipe's `dedup:` section: read, put in order, and held against what the recipe downloads and scores."""

import hashlib
import itertools
import keyword
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from mmcorpus.curation.engine.made_from import file_digest, plain
from mmcorpus.curation.engine.stage import Result, Stage
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import list_tables, read_scores
from mmcorpus.curation.store.shards import list_shards
from mmcorpus.pipelines.recipe.check_types import check, field_types
from mmcorpus.pipelines.recipe.populations import Population, populations, samples
from mmcorpus.pipelines.recipe.problems import Path, Problem, suggestion
from mmcorpus.pipelines.recipe.row_columns import HASHES, columns_of_rows
from mmcorpus.pipelines.recipe.yaml_source import YamlSource
from mmcorpus.pipelines.stages import dfn

if TYPE_CHECKING:
    from mmcorpus.curation.dedup import DedupPass, Source
    from mmcorpus.pipelines.recipe.schema import Recipe

SECTION: Final = "dedup"


def read_passes(
    sections: Mapping[str, Any], source: YamlSource, where: Path = (SECTION,)
) -> tuple[dict[str, "DedupPass"], list[Problem]]:
    """The passes of the sections that stand at `where`, each after those whose columns it reads, and what is wrong."""
    from mmcorpus.curation.dedup import METHODS, DedupConfig, DedupPass

    found: dict[str, DedupPass] = {}
    problems: list[Problem] = []
    shared = field_types(DedupConfig)
    for name, settings in sections.items():
        if not isinstance(settings, dict):
            continue  # reported with the file's layout
        path: Path = (*where, name)
        config, wrong = check(DedupConfig, {k: v for k, v in settings.items() if k in shared}, source, path)
        problems += wrong
        kind = METHODS.get(str(settings.get("by")))
        if kind is None:
            continue  # `by` is missing or unknown, and that has been said
        own = {k: v for k, v in settings.items() if k not in shared}
        method, wrong = check(kind, own, source, path, also=sorted(shared))
        problems += wrong
        if config is not None and method is not None:
            found[name] = DedupPass(name=name, config=config, method=method)
    return _in_order(found), problems


def _in_order(passes: "dict[str, DedupPass]") -> "dict[str, DedupPass]":
    """In the recipe's order, but each after the passes whose columns it reads; a circle is left as it is, for
    `findings` to tell."""
    ordered: dict[str, DedupPass] = {}
    waiting = dict(passes)
    while waiting:
        ready = (name for name, found in waiting.items() if not waiting.keys() & set(found.scorers))
        name = next(ready, next(iter(waiting)))
        ordered[name] = waiting.pop(name)
    return ordered


def sources_of(found: "DedupPass", recipe: "Recipe") -> tuple[str, ...]:
    """The populations that a pass looks through, in the recipe's order."""
    named = found.config.sources or samples(recipe.file)
    return tuple(name for name in populations(recipe.file) if name in named)


def passes_of(source: str, recipe: "Recipe") -> "list[DedupPass]":
    """The passes that look through a population."""
    return [found for found in recipe.passes.values() if source in sources_of(found, recipe)]


def after_dfn(recipe: "Recipe") -> set[str]:
    """The passes that read what the data filtering network scores, by themselves or by way of others."""
    found: set[str] = set()
    for name, own in recipe.passes.items():
        if found & set(own.scorers) or (dfn.DFN in own.scorers and dfn.scored(recipe)):
            found.add(name)
    return found


def stage(found: "DedupPass", recipe: "Recipe", at: Callable[..., str], start_ray: Callable[[], None]) -> Stage:
    """The stage of a pass; `at` gives places in the run's folder."""
    sources, places = sources_of(found, recipe), populations(recipe.file)
    needs = [places[source].made_by for source in sources]
    for scorer in found.scorers:
        needs += [maker(scorer, source, recipe) for source in sources]
    tables = [f"scores/{source}/{found.name}" for source in sources]
    return Stage(
        name=f"{SECTION}/{found.name}",
        config={
            **plain(found.config),
            "sources": list(sources),
            "survivor": found.survivor,
            "method": {"version": found.method.version, **plain(found.method.parameters())},
            **_index_identity(found),
        },
        needs=tuple(needs),
        outputs=(*tables, f"{SECTION}/{found.name}"),
        invalidated_by=(),  # tables and work files know what they are made from
        version="2" if found.config.annotations else "1",
        ray="maybe",
        run=lambda: run(
            found,
            [source_at(places[source], at) for source in sources],
            at(SECTION, found.name),
            left_out=[at("scores", source) for source in places if source not in sources],
            start_ray=start_ray,
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
        return f"{SECTION}/{scorer}#{source}"
    return f"{source}/{dfn.DFN}" if scorer == dfn.DFN and dfn.scored(recipe) else f"{source}/score#{scorer}"


def source_at(population: Population, at: Callable[..., str]) -> "Source":
    """A population in a run's folder."""
    from mmcorpus.curation.dedup import Source

    places = {kind: at(kind, population.name) for kind in ("scores", "embeddings")}
    return Source(name=population.name, shards=at("shards", population.shards), **places)


def run(
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
    counts = {"samples": report.samples, "clusters": report.clusters, "duplicates": report.duplicates}
    counts |= {"largest": report.largest, "unknown": report.unknown, "compared": report.candidates}
    if found.config.index:
        counts["of_index"] = report.of_index
    parts = {source.name: _content(source.scores, found.name) for source in given}
    if found.config.annotations:
        path = storage.join(work, FILE)
        counts["annotated"] = write_annotations(found.name, given, path, among=found.config.among)
        parts[FILE] = file_digest(path)
    failures = [f"shard {shard}: {error}" for shard, error in report.failed.items()]
    return Result(counts=counts, failures=failures, parts=parts)


def _content(scores: str, name: str) -> str:
    """A digest of what a pass says of a source's samples, however it was found."""
    state = hashlib.blake2b(digest_size=16)
    for shard in list_tables(scores).get(name, []):
        state.update(shard.encode())
        for column in read_scores(scores, name, shard).columns:
            state.update(repr(column.to_pylist()).encode())
    return state.hexdigest()


def findings(recipe: "Recipe") -> Iterable[tuple[Path, str]]:
    """What the passes name that is not there: sources, columns, scorers, each other."""
    before: list[DedupPass] = []
    places = populations(recipe.file)
    for name, found in recipe.passes.items():
        path: Path = (SECTION, name)
        if not name.isidentifier() or keyword.iskeyword(name):
            yield path, "a pass's name stands in expressions: letters, digits and _ alone, a letter first"
        if name in ("embeddings", dfn.DFN) or any(scorer.name == name for scorer in recipe.scorers.values()):
            yield path, "a scorer has this name, or it stands for other tables; rename the pass"
        for index, source in enumerate(found.config.sources):
            if source not in places:
                yield (
                    (*path, "sources", index),
                    f"unknown source {source!r}; {suggestion(source, places, listed='sources')}",
                )
        if not sources_of(found, recipe) and not found.config.sources:
            text = f"missing; the recipe has no pairs, so say which documents or nodes: {', '.join(places)}"
            yield (*path, "sources"), text
        gap = _no_index(found)
        if gap:
            yield (*path, "index"), gap
        known = _columns_for(found, before, recipe)
        for key, columns in found.read.items():
            missing = [gap for column in columns if (gap := _missing(column, known, found, recipe))]
            yield from (((*path, key), gap) for gap in missing)
            if not missing and key in ("survivor", "among"):
                wrong = _wrong_type(found, key, known)
                if wrong:
                    yield (*path, key), wrong
        before.append(found)


def _no_index(found: "DedupPass") -> str | None:
    """Why a pass has no index to compare with; one elsewhere is asked for when it is read."""
    index = found.config.index
    if index is None or found.config.extend or not storage.is_local(index):
        return None
    there = storage.exists(storage.join(index, "index.json"))
    return None if there else f"there is no index at {index}; a pass with `extend: true` makes one"


def _columns_for(found: "DedupPass", before: "list[DedupPass]", recipe: "Recipe") -> dict[str, pa.DataType | None]:
    """What a pass can read, and its type where that is known: rows, scores, and what earlier passes write."""
    from mmcorpus.curation.dedup import COLUMNS

    sources = sources_of(found, recipe)
    places = populations(recipe.file)
    shards = [columns_of_rows(places[source], recipe) for source in sources]
    known: dict[str, pa.DataType | None] = {
        name: kind for name, kind in (shards[0] if shards else {}).items() if all(name in other for other in shards)
    }
    for scorer in recipe.scorers.values():
        if set(sources) <= set(recipe.on[scorer.name]):
            known |= {f"{scorer.name}.{field.name}": field.type for field in scorer.schema()}
    if sources and set(sources) <= set(dfn.scored(recipe)):
        known |= dict.fromkeys(dfn.columns(), pa.float32())
    for other in before:
        if set(sources) <= set(sources_of(other, recipe)):
            known |= {f"{other.name}.{column}": kind for column, kind in COLUMNS.items()}
    return known


def _missing(column: str, known: Mapping[str, Any], found: "DedupPass", recipe: "Recipe") -> str | None:
    """Why a column that a pass reads will not be there; None if it will."""
    if column in known:
        return None
    prefix, dot, rest = column.partition(".")
    scorers = {scorer.name: scorer for scorer in recipe.scorers.values()}
    if not dot:
        if column in HASHES:
            return f"needs the column {column!r}; set compute_hash: {column} under download"
        rows = [name for name in known if "." not in name]
        return f"the shards will have no column {column!r}; {suggestion(column, rows)}"
    if prefix == "embeddings":
        maker = rest.partition(".")[0]
        if maker not in scorers:
            fix = f"add `{maker}: {{save_embeddings: true}}` under score.scorers"
            return f"needs the embeddings of the scorer {maker!r}, which the recipe does not run; {fix}"
        saved = getattr(scorers[maker], "save_embeddings", False)
        return None if saved else f"needs the embeddings of {maker!r}; give that scorer `save_embeddings: true`"
    if prefix == found.name or (prefix in recipe.passes and not any(name.startswith(f"{prefix}.") for name in known)):
        return f"{column!r} cannot be read here: pass {prefix!r} reads this one itself, or looks through fewer sources"
    if prefix in scorers and not set(sources_of(found, recipe)) <= set(recipe.on[prefix]):
        return f"{column!r}: the scorer {prefix!r} does not judge {_others(prefix, found, recipe)}; add it to its `on`"
    if prefix not in scorers and prefix not in recipe.passes:
        fix = f"add `{prefix}: {{}}` under score.scorers"
        return f"{column!r} needs the scorer {prefix!r}, which the recipe does not run; {fix}"
    return (
        f"{prefix} gives no column {column!r}; {suggestion(column, [n for n in known if n.startswith(prefix + '.')])}"
    )


def _others(scorer: str, found: "DedupPass", recipe: "Recipe") -> str:
    """The populations of a pass that a scorer does not judge."""
    return ", ".join(repr(name) for name in sources_of(found, recipe) if name not in recipe.on[scorer])


def _wrong_type(found: "DedupPass", key: str, known: Mapping[str, pa.DataType | None]) -> str | None:
    """Why `survivor` is no number, or `among` no condition; None if it is, or if nobody can tell yet."""
    from mmcorpus.curation.selection import ExpressionError
    from mmcorpus.curation.selection.evaluate import evaluate, evaluate_number

    text = found.survivor if key == "survivor" else found.config.among
    kinds = {name: known[name] for name in found.read[key]}
    if not text or None in kinds.values():
        return None
    table = pa.schema([*kinds.items(), ("uid", pa.string())]).empty_table()
    try:
        (evaluate_number if key == "survivor" else evaluate)(text, table)
    except ExpressionError as error:
        return str(error)
    return None
