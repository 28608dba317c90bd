"""A recipe's stages in order: what each depends on, what it makes, and the call that makes it."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mmcorpus.curation.download.config import VOLATILE
from mmcorpus.curation.engine.made_from import digest, plain
from mmcorpus.curation.engine.stage import Result, Stage
from mmcorpus.curation.store import storage
from mmcorpus.pipelines.recipe.populations import (
    MADE_WITH,
    Population,
    after_dfn,
    passes_of,
    populations,
    scored,
    trusted,
)
from mmcorpus.pipelines.recipe.schema import DFN, DOCUMENTS, WEB, DfnEntry, Recipe
from mmcorpus.pipelines.stages import dedup, dfn, steps
from mmcorpus.pipelines.stages.document_stages import REQUIRED, DocumentStages
from mmcorpus.pipelines.stages.pack_stages import HELDOUT, PackStages

if TYPE_CHECKING:
    from mmcorpus.curation.selection.config import SelectConfig
    from mmcorpus.filters.scorer import Scorer


def build_stages(
    recipe: Recipe, root: str, *, retry_failed: bool = False, start_ray: Callable[[], None] = lambda: None
) -> list[Stage]:
    """The stages of a recipe, each after those it needs; `start_ray` is for those that need it only sometimes."""
    builder = _Builder(recipe, root, retry_failed, start_ray)
    builder.web()
    for source, entry in recipe.file.sources.items():
        if entry.kind in DOCUMENTS:
            builder.documents(source)
        else:
            builder.download(source)
    for population in populations(recipe.file).values():
        builder.score(population)
    builder.dedup(recipe.passes)
    builder.network()
    for population in populations(recipe.file).values():
        builder.select(population)
    return _in_order([*builder.stages, *PackStages(recipe, builder.at, start_ray).build()])


def _in_order(stages: list[Stage]) -> list[Stage]:
    """As given, but each after those it needs."""
    ordered: list[Stage] = []
    waiting, made = list(stages), set[str]()
    while waiting:
        ready = (stage for stage in waiting if all(need.partition("#")[0] in made for need in stage.needs))
        stage = next(ready, None)
        if stage is None:
            names = ", ".join(stage.name for stage in waiting)
            raise ValueError(f"these stages need each other, or one that there is not: {names}")
        waiting.remove(stage)
        ordered.append(stage)
        made.add(stage.name)
    return ordered


class _Builder:
    def __init__(self, recipe: Recipe, root: str, retry_failed: bool, start_ray: Callable[[], None]) -> None:
        self.recipe, self.file, self.root = recipe, recipe.file, root
        self.retry_failed, self.start_ray = retry_failed, start_ray
        self.stages: list[Stage] = []
        self.populations = populations(recipe.file)

    def at(self, *parts: str) -> str:
        """A place in the run's folder."""
        return storage.join(self.root, *parts)

    def web(self) -> None:
        if self.file.web is None or self.file.web.generate is None:
            return
        from mmcorpus.curation.synthetic.miniweb.generate import VERSION

        config = self.file.web.generate
        self.stages.append(
            Stage(
                name="web/generate",
                config=plain(config),
                version=VERSION,
                outputs=("web",),
                invalidated_by=(),
                run=lambda: steps.generate_web(config, self.at("web")),
            )
        )

    def site(self) -> str | None:
        """The folder of the run's site."""
        web = self.file.web
        return None if web is None else web.folder or self.at("web")

    def sites(self) -> tuple[str, ...]:
        """The folders of all sites that are served while it downloads."""
        web, site = self.file.web, self.site()
        return (site, *web.also) if web is not None and site is not None else ()

    def documents(self, source: str) -> None:
        """From a source's pages to its documents as the decisions on their nodes have left them."""
        made = DocumentStages(
            self.recipe, source, self.at, site=self.site(), sites=self.sites(), retry_failed=self.retry_failed
        )
        self.stages += [*made.placed(), made.trim()]

    def download(self, source: str) -> None:
        entry, config = self.file.sources[source], self.recipe.downloads[source]
        assert entry.urls is not None
        web, folder = self.file.web, self.site()
        identity: Any = entry.urls
        needs: tuple[str, ...] = ()
        urls = entry.urls
        if web is not None and folder is not None:
            urls = urls.replace(WEB, folder)
            if web.generate is not None:
                needs = ("web/generate",)
            else:
                identity = {"list": entry.urls, "site": steps.site_identity(folder)}
        if urls == entry.urls:
            identity = steps.list_identity(urls)
        described = {"urls": identity, **plain(config, VOLATILE)}
        self.stages.append(
            Stage(
                name=f"{source}/download",
                config=described,
                needs=needs,
                outputs=(
                    f"lists/{source}",
                    f"shards/{source}",
                    f"ledger/{source}/list.parquet",
                    f"ledger/{source}/download.parquet",
                ),
                ray="yes",
                again=self.retry_failed,
                run=lambda: steps.download(
                    config,
                    urls,
                    shards=self.at("shards", source),
                    lists=self.at("lists", source),
                    ledger_root=self.at("ledger", source),
                    sites=self.sites(),
                    retry_failed=self.retry_failed,
                    made_with=digest(described),
                ),
            )
        )

    def score(self, population: Population) -> None:
        name = population.name
        scorers = {
            scorer.name: scorer for scorer in self.recipe.scorers.values() if name in self.recipe.on[scorer.name]
        }
        if scorers:
            described = {
                own: {"version": scorer.version, "model": scorer.model(), "parameters": plain(scorer.parameters())}
                for own, scorer in scorers.items()
            }
            self.stages.append(
                Stage(
                    name=f"{name}/score",
                    config=described,
                    needs=population.needs,
                    outputs=(
                        *(f"scores/{name}/{own}" for own in scorers),
                        *(f"embeddings/{name}/{own}" for own, one in scorers.items() if one.embeddings()),
                    ),
                    # Fetching again what had failed leaves most shards as they were, and their scores with them.
                    invalidated_by=(population.rows_of,),
                    ray="yes",
                    run=lambda: self._score(population, list(scorers.values())),
                )
            )

    def _score(self, population: Population, scorers: "Sequence[Scorer]") -> Result:
        return steps.score(
            scorers,
            shards=self.at("shards", population.shards),
            out=self.at("scores", population.name),
            embeddings=self.at("embeddings", population.name),
            workers=self.file.score.workers,
            model_workers=self.file.score.model_workers,
            logs=self.at("logs"),
            answers=self.at("answers", population.name),
        )

    def dedup(self, names: Iterable[str]) -> None:
        """Find the duplicates of each pass over all its sources."""
        for name in names:
            self.stages.append(dedup.stage(self.recipe.passes[name], self.recipe, self.at, self.start_ray))

    def network(self) -> None:
        """Trust some pairs of each source, train on them all, score the pairs of every source."""
        entry = self.file.dfn
        if entry is None:
            return
        for source in trusted(self.recipe):
            self._trust(source, entry.trust)
        self.stages.append(dfn.training_stage(self.recipe, self.at))
        for source in scored(self.recipe):
            self._score_with_dfn(source, entry)

    def _trust(self, source: str, config: "SelectConfig") -> None:
        names, judges = dfn.selection_names(source, config), self._judges(source, trained=False)
        self.stages.append(
            Stage(
                name=f"{source}/trust",
                config={**plain(config), "lists": steps.selection_identities(config)},
                needs=self._needs_of(source, config, judges),
                outputs=tuple(names.values()),
                run=lambda: steps.select(
                    config,
                    shards=self.at("shards", source),
                    scores=self.at("scores", source) if judges else None,
                    out={name: self.at(path) for name, path in names.items()},
                    ledger_root=None,
                ),
            )
        )

    def _score_with_dfn(self, source: str, entry: DfnEntry) -> None:
        self.stages.append(
            Stage(
                name=f"{source}/{DFN}",
                config={"version": dfn.DfnScorer.version, "dtype": entry.scoring.dtype},
                needs=(dfn.TRAIN, f"{source}/download", f"{source}/download#{MADE_WITH}"),
                outputs=(f"scores/{source}/{DFN}",),
                invalidated_by=(f"{source}/download#{MADE_WITH}",),
                ray="yes",
                run=lambda: self._score(self.populations[source], [dfn.scorer(self.recipe, self.at)]),
            )
        )

    def _needs_of(self, source: str, config: "SelectConfig", judges: list[str]) -> tuple[str, ...]:
        """The stages whose outputs a selection over a source's scores reads; `judges` have given it tables by then."""
        used = dict.fromkeys(column.partition(".")[0] for column in config.columns)
        names = list(used) or judges[:1]  # of none the uids alone, which all tables have
        return (self.populations[source].made_by, *(dedup.maker(name, source, self.recipe) for name in names))

    def _judges(self, source: str, *, trained: bool) -> list[str]:
        """What gives a source score tables: scorers, passes and, once it is trained, the data filtering network."""
        later = set() if trained else after_dfn(self.recipe)
        found = sorted(own.name for own in self.recipe.scorers.values() if source in self.recipe.on[own.name])
        found += [own.name for own in passes_of(source, self.recipe) if own.name not in later]
        return [*found, *([DFN] if trained and source in scored(self.recipe) else [])]

    def select(self, population: Population) -> None:
        from mmcorpus.curation.selection.config import SelectConfig

        source = population.name
        if population.level in ("image", "paragraph") and source not in self.file.select:
            return  # all nodes stay
        config, judges = self.file.select.get(source, SelectConfig()), self._judges(source, trained=True)
        names = {"selection": f"selections/{source}.parquet", "explain": f"selections/{source}.explain.json"}
        if config.heldout_fraction:
            names["heldout"] = f"selections/{source}.{HELDOUT}.parquet"
        if config.required:
            names["required"] = f"selections/{source}.{REQUIRED}.parquet"
        self.stages.append(
            Stage(
                name=f"{source}/select",
                config={**plain(config), "lists": steps.selection_identities(config)},
                needs=self._needs_of(source, config, judges),
                outputs=(*names.values(), f"ledger/{source}/select.parquet"),
                run=lambda: steps.select(
                    config,
                    shards=self.at("shards", population.shards),
                    scores=self.at("scores", source) if judges else None,
                    out={name: self.at(path) for name, path in names.items()},
                    unwanted=[] if "heldout" in names else [self.at("selections", f"{source}.{HELDOUT}.parquet")],
                    ledger_root=self.at("ledger", source),
                ),
            )
        )
