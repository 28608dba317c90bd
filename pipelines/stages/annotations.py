"""One image under several captions in a recipe: which pass of deduplication a pack takes its annotations from."""

from collections.abc import Callable

from mmcorpus.curation.dedup.annotations import FILE
from mmcorpus.pipelines.recipe.schema import DEDUP


def table_of(own: str, at: Callable[..., str]) -> str:
    """Where a pass writes them; `at` gives places in the run's folder."""
    return at(DEDUP, own, FILE)


def part_of(own: str) -> str:
    """The part of a pass's stage that they are, for a stage that needs them."""
    return f"{DEDUP}/{own}#{FILE}"
