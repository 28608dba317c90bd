"""The run that stages are described for: its recipe, its folder, and what the command line asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from mmcorpus.curation.store import storage
from mmcorpus.pipelines.recipe.populations import Population, populations
from mmcorpus.pipelines.recipe.schema import Recipe, RecipeFile

HELDOUT: Final = "heldout"
"""`selections/<source>.heldout.parquet`, `packs/<pack>.heldout`: what is kept aside from training."""
REQUIRED: Final = "required"
"""`selections/<view>.required.parquet`: the nodes that drop their documents."""


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """A recipe and the folder that it is run in."""

    recipe: Recipe
    root: str
    retry_failed: bool = False
    """Fetch again what failed for reasons that can pass."""
    start_ray: Callable[[], None] = lambda: None
    """For stages that need Ray only if there is enough to do."""

    @property
    def file(self) -> RecipeFile:
        """The recipe as written."""
        return self.recipe.file

    @cached_property
    def populations(self) -> dict[str, Population]:
        """All of them, by name."""
        return populations(self.file)

    def at(self, *parts: str) -> str:
        """A place in the run's folder."""
        return storage.join(self.root, *parts)

    def selection(self, name: str, *more: str) -> str:
        """The place of a selection: `selections/<name>.parquet`, `selections/<name>.heldout.parquet`."""
        return self.at("selections", ".".join((name, *more, "parquet")))

    def heldout(self, source: str) -> str:
        """The place of the samples that a source keeps aside: those of the source that it selects from once more."""
        return self.selection(self.populations[source].judged_as, HELDOUT)

    @property
    def site(self) -> str | None:
        """The folder of the site that stands in for the web; None if the run downloads from the web itself."""
        web = self.file.web
        return None if web is None else web.folder or self.at("web")

    @property
    def sites(self) -> tuple[str, ...]:
        """The folders of all sites that are served while it downloads."""
        web, site = self.file.web, self.site
        return (site, *web.also) if web is not None and site is not None else ()

    @property
    def generates_web(self) -> bool:
        """Whether the run makes its own site."""
        return self.file.web is not None and self.file.web.generate is not None

    def keeps_aside(self, source: str) -> bool:
        """Whether a source keeps samples aside from training."""
        entry = self.file.select.get(self.populations[source].judged_as)
        return entry is not None and entry.heldout_fraction > 0


def counts(report: Any, *names: str) -> dict[str, Any]:
    """Some fields of a report, by name."""
    return {name: getattr(report, name) for name in names}


def failures(failed: Mapping[str, Any], item: str = "shard") -> list[str]:
    """What a stage's record keeps of the items that failed: `shard 00003: OSError: …`."""
    return [f"{item} {name}: {error}" for name, error in failed.items()]
