"""A recipe's populations: what scorers, passes and selections are named for, and where each lies in the run's folder.

A source of pairs or conversations is one population. A source read from pages has three: its documents (`pages`), and
their nodes, the images (`pages.images`) and the paragraphs (`pages.paragraphs`). The addresses of the images
(`pages.urls`) are downloaded, and judged where they stand: as `pages.images`. A source that is selected from once more
(`reselect`) is a population without rows, scores and passes of its own: it has the other's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from mmcorpus.filters.dfn import DfnScorer
from mmcorpus.pipelines.recipe.schema import DFN, DOCUMENTS

if TYPE_CHECKING:
    from mmcorpus.curation.dedup import DedupPass
    from mmcorpus.pipelines.recipe.schema import Recipe, RecipeFile

IMAGES: Final = "images"
PARAGRAPHS: Final = "paragraphs"
URLS: Final = "urls"
TRIMMED: Final = "trimmed"
MADE_WITH: Final = "made_with"
"""The part of a download, or of an index, that its list or files and settings decide, whatever came of them."""


Level = Literal["sample", "image", "paragraph", "document"]


@dataclass(frozen=True, kw_only=True)
class Population:
    """Rows with uids, scores, a selection and a ledger of their own."""

    name: str
    """In the recipe, and of its folders."""
    level: Level
    shards: str
    """The folder under `shards` that has its rows."""
    made_by: str
    """The stage that makes them."""
    rows_of: str
    """The stage, or part of one, whose change makes all that was found out about the rows stale."""
    of: str = ""
    """The population whose rows are selected from once more; empty for one with rows of its own."""

    @property
    def judged_as(self) -> str:
        """The population whose scores, deduplication and held-out samples are its own."""
        return self.of or self.name

    @property
    def source(self) -> str:
        """The recipe's source that it belongs to."""
        return self.name.partition(".")[0]

    @property
    def needs(self) -> tuple[str, ...]:
        """What a stage needs that reads the rows."""
        return tuple(dict.fromkeys((self.made_by, self.rows_of)))


def populations(file: "RecipeFile") -> dict[str, Population]:
    """Every population of a recipe, by name; a source's nodes stand before its documents."""
    found: list[Population] = []
    for name, entry in file.sources.items():
        if entry.reselect is not None:
            continue
        if entry.kind not in DOCUMENTS:
            made = f"{name}/{'write' if entry.written else 'index' if entry.is_indexed else 'download'}"
            rows = made if entry.written else f"{made}#{MADE_WITH}"
            found.append(Population(name=name, level="sample", shards=name, made_by=made, rows_of=rows))
            continue
        nodes: dict[str, Level] = {f"{name}.{IMAGES}": "image"} if entry.kind == "document" else {}
        nodes[f"{name}.{PARAGRAPHS}"] = "paragraph"
        made = f"{name}/place"
        found += [Population(name=own, level=nodes[own], shards=own, made_by=made, rows_of=made) for own in nodes]
        made = f"{name}/trim"
        found.append(Population(name=name, level="document", shards=f"{name}.{TRIMMED}", made_by=made, rows_of=made))
    there = {population.name: population for population in found}
    for name, entry in file.sources.items():
        first = judged_as(name, file) if entry.reselect is not None else None
        if first is not None and first in there and there[first].level == "sample":
            there[name] = replace(there[first], name=name, of=first)
    return there


def judged_as(source: str, file: "RecipeFile") -> str | None:
    """The source that has the scores of one that is selected from once more, and itself of any other name; None where
    sources are selected from each other in a circle."""
    return first_of(source, {name: entry.reselect for name, entry in file.sources.items() if entry.reselect})


def first_of(source: str, reselected: Mapping[str, str]) -> str | None:
    """`judged_as`, by what each source that selects from another once more selects from."""
    seen: set[str] = set()
    while source in reselected and source not in seen:
        seen.add(source)
        source = reselected[source]
    return None if source in reselected else source


def samples(file: "RecipeFile") -> tuple[str, ...]:
    """The sources of pairs and conversations: what scorers and passes take that name no population. Those that a model
    wrote are taken by name alone: they have the images of others, and cost again what judging those did. Those that are
    selected from once more are judged as what they are."""
    return tuple(
        name
        for name, entry in file.sources.items()
        if entry.kind not in DOCUMENTS and entry.written is None and entry.reselect is None
    )


def written_about(source: str, file: "RecipeFile") -> str | None:
    """The source whose samples texts are about at last, or are selected from once more, itself of any other; None if
    there is no such one. Sources of which it is the same show the same pictures."""
    seen: set[str] = set()
    while source in file.sources and source not in seen:
        seen.add(source)
        written, again = file.sources[source].written, file.sources[source].reselect
        if written is None and again is None:
            return source
        source = again or (written.source if written else "")
    return None


def folders(file: "RecipeFile") -> dict[str, tuple[str, ...]]:
    """By source, the names that its ledgers go by."""
    parts = {"document": ("", f".{URLS}", f".{IMAGES}", f".{PARAGRAPHS}"), "text": ("", f".{PARAGRAPHS}")}
    return {name: tuple(name + part for part in parts.get(entry.kind, ("",))) for name, entry in file.sources.items()}


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
        if found & set(own.scorers) or (DFN in own.scorers and scored(recipe)):
            found.add(name)
    return found


def dfn_columns() -> list[str]:
    """What the network gives each pair, as expressions name it."""
    return [f"{DFN}.{column}" for column in DfnScorer().schema().names]


def scored(recipe: "Recipe") -> tuple[str, ...]:
    """The sources that the network scores: none without one, and none that a model wrote."""
    sources = recipe.file.sources
    pairs = [name for name in samples(recipe.file) if sources[name].kind == "pair"]
    return tuple(pairs) if recipe.file.dfn else ()


def trusted(recipe: "Recipe") -> tuple[str, ...]:
    """The sources that it learns from, in the recipe's order."""
    entry = recipe.file.dfn
    return tuple(name for name in scored(recipe) if entry and (name in entry.sources or not entry.sources))
