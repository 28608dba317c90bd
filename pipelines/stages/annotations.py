"""One image under several captions in a recipe: which pass of deduplication a pack takes its annotations from."""

from collections.abc import Callable, Iterable

from mmcorpus.curation.dedup.annotations import FILE
from mmcorpus.pipelines.recipe.problems import Path, suggestion
from mmcorpus.pipelines.recipe.schema import Recipe
from mmcorpus.pipelines.stages.dedup import SECTION, sources_of


def table_of(own: str, at: Callable[..., str]) -> str:
    """Where a pass writes them; `at` gives places in the run's folder."""
    return at(SECTION, own, FILE)


def part_of(own: str) -> str:
    """The part of a pass's stage that they are, for a stage that needs them."""
    return f"{SECTION}/{own}#{FILE}"


def findings(recipe: Recipe, name: str) -> Iterable[tuple[Path, str]]:
    """What does not fit of a pack's `annotations`: sources, passes, and passes that write none."""
    config = recipe.file.pack[name]
    if config.annotations and config.format == "both":
        text = "Open-Qwen2VL's pickles cannot say that an image has several captions; leave one of the two out"
        yield ("pack", name, "format"), text
    for source, own in config.annotations.items():
        path: Path = ("pack", name, "annotations", source)
        entry, found = recipe.file.sources.get(source), recipe.passes.get(own)
        if source not in config.sources:
            yield path, f"{source!r} is not packed here; {suggestion(source, config.sources, listed='sources')}"
        elif entry is not None and entry.kind != "pair":
            yield path, f"annotations are captions of images, and {source!r} is of kind {entry.kind}"
        elif found is None:
            yield path, f"unknown pass {own!r}; {suggestion(own, recipe.passes, listed='passes of dedup')}"
        elif not found.config.annotations:
            yield path, f"the pass {own!r} writes no annotations; give it `annotations: true`"
        elif source not in sources_of(found, recipe):
            yield path, f"the pass {own!r} does not look through the source {source!r}"
