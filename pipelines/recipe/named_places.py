"""Whether something is at the paths and addresses that a recipe names."""

import os
from collections.abc import Iterable

from mmcorpus.curation.store import storage
from mmcorpus.pipelines.recipe.problems import Finding, Path


def missing_local(name: str) -> bool:
    """True for what can only be a path, and is not there; a Hugging Face name cannot be judged offline."""
    looks_local = name.startswith(("/", "./", "../", "~")) or name.count("/") > 1
    return looks_local and "://" not in name and not os.path.exists(os.path.expanduser(name))


def nothing_at(path: Path, place: str, before: str = "") -> Iterable[Finding]:
    """A finding if nothing is at a path or URL; a place that cannot be asked (no network) passes until it is used."""
    try:
        there = storage.exists(place)
    except Exception:
        if storage.is_local(place):
            raise
        there = True
    if not there:
        yield path, f"{before}there is nothing at {absolute(place)}"


def absolute(path: str) -> str:
    """A path as it is from the root; an address as it is."""
    return path if "://" in path else os.path.abspath(path)
