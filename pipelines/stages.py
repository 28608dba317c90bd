"""A recipe's stages in order: what each depends on, what it makes, and the call that makes it."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from curation import storage
from curation.download.config import VOLATILE
from pipelines import dedup, dfn, steps
from pipelines.fingerprint import digest, plain
from pipelines.recipe import WEB, PackEntry, Recipe
from pipelines.runner import Stage

if TYPE_CHECKING:
    from curation.selection.config import SelectConfig

HELDOUT: Final = "heldout"
MADE_WITH: Final = "made_with"
"""The part of a download that its list and settings decide, whatever came of them."""


def build_stages(
    recipe: Recipe, root: str, *, retry_failed: bool = False, start_ray: Callable[[], None] = lambda: None
) -> list[Stage]:
    """The stages of a recipe, each after those it needs; `start_ray` is for those that need it only sometimes."""
    builder = _Builder(recipe, root, retry_failed, start_ray)
    builder.web()
    for source in recipe.file.sources:
        builder.download(source)
        builder.score(source)
    trained = dedup.after_dfn(recipe)
    builder.dedup(name for name in recipe.passes if name not in trained)
    builder.network()
    builder.dedup(name for name in recipe.passes if name in trained)
    for source in recipe.file.sources:
        builder.select(source)
    builder.tokenizer()
    for pack in recipe.file.pack:
        builder.pack(pack, heldout=False)
        if builder.has_heldout(pack):
            builder.pack(pack, heldout=True)
    builder.training()
    return builder.stages


class _Builder:
    def __init__(self, recipe: Recipe, root: str, retry_failed: bool, start_ray: Callable[[], None]) -> None:
        self.recipe, self.file, self.root = recipe, recipe.file, root
        self.retry_failed, self.start_ray = retry_failed, start_ray
        self.stages: list[Stage] = []
        self._ledgered: set[str] = set()

    def _at(self, *parts: str) -> str:
        return storage.join(self.root, *parts)

    def web(self) -> None:
        if self.file.web is None or self.file.web.generate is None:
            return
        from curation.miniweb.generate import VERSION

        config = self.file.web.generate
        self.stages.append(
            Stage(
                name="web/generate",
                config=plain(config),
                version=VERSION,
                outputs=("web",),
                clears_for=(),
                run=lambda: steps.generate_web(config, self._at("web")),
            )
        )

    def download(self, source: str) -> None:
        entry, config = self.file.sources[source], self.recipe.downloads[source]
        web, folder = self.file.web, None
        identity: Any = entry.urls
        needs: tuple[str, ...] = ()
        urls = entry.urls
        if web is not None:
            folder = web.folder or self._at("web")
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
                    shards=self._at("shards", source),
                    lists=self._at("lists", source),
                    ledger_root=self._at("ledger", source),
                    site=folder,
                    retry_failed=self.retry_failed,
                    made_with=digest(described),
                ),
            )
        )

    def score(self, source: str) -> None:
        scorers = {scorer.name: scorer for scorer in self.recipe.scorers.values()}
        if scorers:
            described = {
                name: {"version": scorer.version, "model": scorer.model(), "parameters": plain(scorer.parameters())}
                for name, scorer in scorers.items()
            }
            self.stages.append(
                Stage(
                    name=f"{source}/score",
                    config=described,
                    needs=(f"{source}/download", f"{source}/download#{MADE_WITH}"),
                    outputs=(
                        *(f"scores/{source}/{name}" for name in scorers),
                        *(f"embeddings/{source}/{name}" for name, one in scorers.items() if one.embeddings()),
                    ),
                    # Fetching again what had failed leaves most shards as they were, and their scores with them.
                    clears_for=(f"{source}/download#{MADE_WITH}",),
                    ray="yes",
                    run=lambda: steps.score(
                        list(scorers.values()),
                        shards=self._at("shards", source),
                        out=self._at("scores", source),
                        embeddings=self._at("embeddings", source),
                        workers=self.file.score.workers,
                        model_workers=self.file.score.model_workers,
                        logs=self._at("logs"),
                        answers=self._at("answers", source),
                    ),
                )
            )

    def dedup(self, names: Iterable[str]) -> None:
        """Find the duplicates of each pass over all its sources."""
        for name in names:
            self.stages.append(dedup.stage(self.recipe.passes[name], self.recipe, self._at, self.start_ray))

    def network(self) -> None:
        """Trust some pairs of each source, train on them all, score the pairs of every source."""
        entry = self.file.dfn
        if entry is None:
            return
        for source in dfn.trusted(self.recipe):
            self._trust(source, entry.trust)
        self.stages.append(dfn.training_stage(self.recipe, self._at))
        for source in dfn.scored(self.recipe):
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
                    shards=self._at("shards", source),
                    scores=self._at("scores", source) if judges else None,
                    out={name: self._at(path) for name, path in names.items()},
                    ledger_root=None,
                ),
            )
        )

    def _score_with_dfn(self, source: str, entry: dfn.DfnEntry) -> None:
        self.stages.append(
            Stage(
                name=f"{source}/{dfn.DFN}",
                config={"version": dfn.DfnScorer.version, "dtype": entry.scoring.dtype},
                needs=(dfn.TRAIN, f"{source}/download", f"{source}/download#{MADE_WITH}"),
                outputs=(f"scores/{source}/{dfn.DFN}",),
                clears_for=(f"{source}/download#{MADE_WITH}",),
                ray="yes",
                run=lambda: steps.score(
                    [dfn.scorer(self.recipe, self._at)],
                    shards=self._at("shards", source),
                    out=self._at("scores", source),
                    embeddings=self._at("embeddings", source),
                    workers=self.file.score.workers,
                    model_workers=self.file.score.model_workers,
                    logs=self._at("logs"),
                    answers=self._at("answers", source),
                ),
            )
        )

    def _needs_of(self, source: str, config: "SelectConfig", judges: list[str]) -> tuple[str, ...]:
        """The stages whose outputs a selection over a source's scores reads; `judges` have given it tables by then."""
        used = dict.fromkeys(column.partition(".")[0] for column in config.columns)
        names = list(used) or judges[:1]  # of none the uids alone, which all tables have
        return (f"{source}/download", *(dedup.maker(name, source, self.recipe) for name in names))

    def _judges(self, source: str, *, trained: bool) -> list[str]:
        """What gives a source score tables: scorers, passes and, once it is trained, the data filtering network."""
        later = set() if trained else dedup.after_dfn(self.recipe)
        found = sorted(scorer.name for scorer in self.recipe.scorers.values())
        found += [own.name for own in dedup.passes_of(source, self.recipe) if own.name not in later]
        return [*found, *([dfn.DFN] if trained and source in dfn.scored(self.recipe) else [])]

    def select(self, source: str) -> None:
        from curation.selection.config import SelectConfig

        config, judges = self.file.select.get(source, SelectConfig()), self._judges(source, trained=True)
        names = {"selection": f"selections/{source}.parquet", "explain": f"selections/{source}.explain.json"}
        if config.heldout_fraction:
            names["heldout"] = f"selections/{source}.{HELDOUT}.parquet"
        self.stages.append(
            Stage(
                name=f"{source}/select",
                config={**plain(config), "lists": steps.selection_identities(config)},
                needs=self._needs_of(source, config, judges),
                outputs=(*names.values(), f"ledger/{source}/select.parquet"),
                # A held-out list that an earlier recipe left and this one does not make would be packed all the same.
                clears=(
                    *names.values(),
                    f"selections/{source}.{HELDOUT}.parquet",
                    f"ledger/{source}/select.parquet",
                ),
                run=lambda: steps.select(
                    config,
                    shards=self._at("shards", source),
                    scores=self._at("scores", source) if judges else None,
                    out={name: self._at(path) for name, path in names.items()},
                    ledger_root=self._at("ledger", source),
                ),
            )
        )

    def has_heldout(self, pack: str) -> bool:
        """Whether any source of the pack keeps samples aside."""
        entries = (self.file.select.get(source) for source in self.file.pack[pack].sources)
        return any(entry is not None and entry.heldout_fraction > 0 for entry in entries)

    def tokenizer(self) -> None:
        config = self.file.tokenizer
        if config is None or config.train is None or not self.file.pack:
            return
        size = config.train.vocab_size
        sources = list(dict.fromkeys(source for pack in self.file.pack.values() for source in pack.sources))
        self.stages.append(
            Stage(
                name="tokenizer/train",
                config={"vocab_size": size, "sources": sources},
                needs=tuple(f"{source}/{step}" for source in sources for step in ("download", "select")),
                outputs=("tokenizer",),
                run=lambda: steps.train_tokenizer(
                    {
                        source: (
                            self._at("shards", source),
                            self._at("selections", f"{source}.parquet"),
                            self.file.sources[source].kind,
                        )
                        for source in sources
                    },
                    vocab_size=size,
                    out=self._at("tokenizer"),
                ),
            )
        )

    def _tokenizer(self) -> tuple[str, dict[str, str], tuple[str, ...]]:
        """Where the tokenizer is, what of it decides the plan, and the stage that makes it."""
        config = self.file.tokenizer
        assert config is not None, "references.problems refuses packs without a tokenizer"
        if config.train is not None:
            return self._at("tokenizer"), {}, ("tokenizer/train",)
        assert config.name is not None
        return config.name, {"tokenizer": config.name}, ()

    def pack(self, name: str, *, heldout: bool) -> None:
        from packing.plan import PlanConfig

        config: PackEntry = self.file.pack[name]
        plan_config = PlanConfig(
            **{field.name: getattr(config, field.name) for field in dataclasses.fields(PlanConfig) if field.init}
        )
        tokenizer, named, made_by = self._tokenizer()
        title = f"{name}.{HELDOUT}" if heldout else name
        suffix = f".{HELDOUT}.parquet" if heldout else ".parquet"
        sources = [source for source in config.sources if not heldout or self._keeps_aside(source)]
        # The run's ledger follows each sample into the first pack that takes it; what another pack of the same source
        # makes of it stays beside that pack's plan.
        ledgers = {s: self._at("ledger", s) for s in sources if not heldout and s not in self._ledgered}
        self._ledgered.update(ledgers)
        given = {
            source: {
                "shards": self._at("shards", source),
                "selection": self._at("selections", source + suffix),
                "kind": self.file.sources[source].kind,
            }
            for source in sources
        }
        plan_path, packs_path, own_ledger = f"plans/{title}.parquet", f"packs/{title}", f"plans/{title}.ledger"
        needs = [f"{source}/{step}" for source in sources for step in ("download", "select")]
        self.stages.append(
            Stage(
                name=f"{title}/plan",
                config={**plain(plan_config), **named, "sources": {s: given[s]["kind"] for s in sources}},
                needs=(*needs, *made_by),
                outputs=(plan_path, own_ledger),
                run=lambda: steps.plan(
                    plan_config,
                    tokenizer=tokenizer,
                    sources=given,
                    out=self._at(plan_path),
                    own_ledger=self._at(own_ledger),
                ),
            )
        )
        folders = (packs_path,) if config.format == "webdataset" else (packs_path, f"{packs_path}.pickles")
        self.stages.append(
            Stage(
                name=f"{title}/packs",
                config={"format": config.format, "sequences_per_shard": config.sequences_per_shard, **named},
                needs=(f"{title}/plan", *(f"{source}/download" for source in sources), *made_by),
                outputs=(*folders, *(f"ledger/{source}/pack.parquet" for source in ledgers)),
                clears_for=(),  # pack shards carry the fingerprint of what they were made from
                ray="maybe",
                run=lambda: steps.write_packs(
                    plan=self._at(plan_path),
                    tokenizer=tokenizer,
                    tokenizer_name=named.get("tokenizer"),
                    sources=given,
                    out=self._at(packs_path),
                    form=config.format,
                    sequences_per_shard=config.sequences_per_shard,
                    own_ledger=self._at(own_ledger),
                    ledgers=ledgers,
                    start_ray=self.start_ray,
                ),
            )
        )

    def _keeps_aside(self, source: str) -> bool:
        entry = self.file.select.get(source)
        return entry is not None and entry.heldout_fraction > 0

    def training(self) -> None:
        if self.file.train is None:
            return
        from training.resume import RESULT_NEUTRAL

        waiting = dict(self.recipe.stages)
        while waiting:  # in the recipe's order, but each after the one it starts from
            name = next(name for name, stage in waiting.items() if stage.links.init not in waiting)
            self._train(name, RESULT_NEUTRAL)
            del waiting[name]

    def _train(self, name: str, neutral: frozenset[str]) -> None:
        stage, model = self.recipe.stages[name], self.recipe.model
        assert self.file.train is not None
        device, pack, init = self.file.train.device, stage.links.pack, stage.links.init
        heldout = self.has_heldout(pack)
        needs = [f"{pack}/packs", *([f"{pack}.{HELDOUT}/packs"] if heldout else [])]
        needs += [f"train/{init}"] if init else []
        config = {**plain(stage.config, neutral), "pack": pack, "init": init}
        if init is None:
            config["model"] = plain(model)
        self.stages.append(
            Stage(
                name=f"train/{name}",
                config=config,
                needs=tuple(needs),
                outputs=(f"training/{name}",),
                run=lambda: steps.train(
                    stage.config,
                    packs=self._at("packs", pack),
                    heldout=self._at("packs", f"{pack}.{HELDOUT}") if heldout else None,
                    out=self._at("training", name),
                    model=model if init is None else None,
                    init=self._at("training", init) if init else None,
                    device=device,
                ),
            )
        )
