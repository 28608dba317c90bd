"""Checks that everything named by the recipe's deduplication passes is there: sources, columns, scorers, each other."""

import keyword
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from mmcorpus.curation.store import storage
from mmcorpus.pipelines.recipe.populations import (
    Population,
    dfn_columns,
    populations,
    scored,
    sources_of,
    written_about,
)
from mmcorpus.pipelines.recipe.problems import Path, suggestion
from mmcorpus.pipelines.recipe.schema import DEDUP, DFN, Recipe

if TYPE_CHECKING:
    from mmcorpus.curation.dedup import DedupPass
    from mmcorpus.curation.download.config import DownloadConfig

HASHES: Final = frozenset({"md5", "sha256", "sha512"})
_NUMBERS: Final = ("width", "height", "original_width", "original_height", "original_bytes", "frames", "orientation")


def findings(recipe: Recipe) -> Iterable[tuple[Path, str]]:
    """What the passes name that is not there: sources, columns, scorers, each other."""
    before: list[DedupPass] = []
    places = populations(recipe.file)
    for name, found in recipe.passes.items():
        path: Path = (DEDUP, name)
        if not name.isidentifier() or keyword.iskeyword(name):
            yield path, "a pass's name stands in expressions: letters, digits and _ alone, a letter first"
        if name in ("embeddings", DFN) or any(scorer.name == name for scorer in recipe.scorers.values()):
            yield path, "a scorer has this name, or it stands for other tables; rename the pass"
        for index, source in enumerate(found.config.sources):
            if source not in places:
                text = f"unknown source {source!r}; {suggestion(source, places, listed='sources')}"
                yield (*path, "sources", index), text
            elif first := places[source].of:
                yield (*path, "sources", index), f"{source!r} has the rows of {first!r}; name that"
        if not sources_of(found, recipe) and not found.config.sources:
            text = f"missing; the recipe has no pairs, so say which documents or nodes: {', '.join(places)}"
            yield (*path, "sources"), text
        if gap := _no_index(found):
            yield (*path, "index"), gap
        known = _columns_for(found, before, recipe)
        for key, columns in found.read.items():
            missing = [gap for column in columns if (gap := _missing(column, known, found, recipe))]
            yield from (((*path, key), gap) for gap in missing)
            if not missing and key in ("survivor", "among") and (wrong := _wrong_type(found, key, known)):
                yield (*path, key), wrong
        before.append(found)


def _no_index(found: "DedupPass") -> str | None:
    """Why a pass has no index to compare with; one elsewhere is asked for when it is read."""
    index = found.config.index
    if index is None or found.config.extend or not storage.is_local(index):
        return None
    there = storage.exists(storage.join(index, "index.json"))
    return None if there else f"there is no index at {index}; a pass with `extend: true` makes one"


def _columns_for(found: "DedupPass", before: "list[DedupPass]", recipe: Recipe) -> dict[str, pa.DataType | None]:
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
    if sources and set(sources) <= set(scored(recipe)):
        known |= dict.fromkeys(dfn_columns(), pa.float32())
    for other in before:
        if set(sources) <= set(sources_of(other, recipe)):
            known |= {f"{other.name}.{column}": kind for column, kind in COLUMNS.items()}
    return known


def _missing(column: str, known: Mapping[str, object], found: "DedupPass", recipe: Recipe) -> str | None:
    """Why a column that a pass reads will not be there; None if it will."""
    if column in known:
        return None
    prefix, dot, rest = column.partition(".")
    if not dot:
        if column in HASHES:
            return f"needs the column {column!r}; set compute_hash: {column} under download"
        rows = [name for name in known if "." not in name]
        return f"the shards will have no column {column!r}; {suggestion(column, rows)}"
    if prefix == "embeddings":
        maker = rest.partition(".")[0]
        made = next((scorer for scorer in recipe.scorers.values() if scorer.name == maker), None)
        if made is None:
            fix = f"add `{maker}: {{save_embeddings: true}}` under score.scorers"
            return f"needs the embeddings of the scorer {maker!r}, which the recipe does not run; {fix}"
        saved = getattr(made, "save_embeddings", False)
        return None if saved else f"needs the embeddings of {maker!r}; give that scorer `save_embeddings: true`"
    if prefix == found.name or (prefix in recipe.passes and not any(name.startswith(f"{prefix}.") for name in known)):
        return f"{column!r} cannot be read here: pass {prefix!r} reads this one itself, or looks through fewer sources"
    return missing_score(column, known, sources_of(found, recipe), recipe)


def missing_score(column: str, known: Iterable[str], places: Iterable[str], recipe: Recipe) -> str:
    """Why some populations do not have a column of scores; `known`: those that they have."""
    maker = column.partition(".")[0]
    own = [name for name in known if name.startswith(f"{maker}.")]
    if own:
        return f"{maker} gives no column {column!r}; {suggestion(column, own)}"
    if maker in recipe.on:
        others = ", ".join(repr(name) for name in places if name not in recipe.on[maker])
        return f"{column!r}: the scorer {maker!r} does not judge {others}; add {others} to its `on`"
    if maker in recipe.passes:
        return f"{column!r}: the pass {maker!r} does not look through the source {', '.join(map(repr, places))}"
    fix = f"add `{maker}: {{}}` under score.scorers"
    return f"{column!r} needs the scorer {maker!r}, which the recipe does not run; {fix}"


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


def columns_of_rows(population: Population, recipe: Recipe) -> dict[str, pa.DataType | None]:
    """The columns of a population's shards, by type; None where that is not known before."""
    from mmcorpus.curation.documents.shards import SCHEMA
    from mmcorpus.curation.documents.views import PARAGRAPHS, images_schema

    source = population.judged_as.partition(".")[0]
    entry = recipe.file.sources[source]
    if entry.written is not None:
        from mmcorpus.curation.sources.written import ORIGINAL, PARENT

        # None if it is made of itself, or of a source that is not there: told elsewhere.
        first = populations(recipe.file).get(written_about(source, recipe.file) or "")
        added = ("caption", PARENT, ORIGINAL, *(["conversations"] if entry.kind == "conversation" else []))
        return {**(columns_of_rows(first, recipe) if first else {}), **dict.fromkeys(added, pa.string())}
    if entry.is_indexed:
        from mmcorpus.curation.sources.first_bytes import FORMATS
        from mmcorpus.curation.sources.run import known_columns

        return known_columns(entry.index_config(), entry.inputs, FORMATS[str(entry.indexed_as)])
    if population.level == "sample":
        return row_columns(recipe.downloads[source])
    if population.level == "document":
        return {column.name: column.type for column in SCHEMA} | {"caption": pa.string(), "image_set": pa.string()}
    view = PARAGRAPHS if population.level == "paragraph" else images_schema(recipe.downloads[population.source])
    return {column.name: column.type for column in view}


def row_columns(download: "DownloadConfig") -> dict[str, pa.DataType | None]:
    """The columns of the shards that a download writes; None for the type of those that its list decides."""
    from mmcorpus.curation.download.config import RESERVED_COLUMNS

    absent = HASHES - {download.compute_hash} | (set() if download.extract_exif else {"exif"})
    kinds: dict[str, pa.DataType | None] = {name: pa.string() for name in RESERVED_COLUMNS - absent}
    kinds |= dict.fromkeys(_NUMBERS, pa.int64()) | {"has_alpha": pa.bool_()}
    return kinds | dict.fromkeys(download.kept_columns)
