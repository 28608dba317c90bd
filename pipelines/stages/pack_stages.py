"""The stages after selection: the tokenizer, the packs, the training that reads them."""

import dataclasses
from collections.abc import Callable
from typing import Any, Final

from mmcorpus.pipelines.recipe.populations import populations
from mmcorpus.pipelines.recipe.schema import PackEntry, Recipe
from mmcorpus.pipelines.run.fingerprint import plain
from mmcorpus.pipelines.run.runner import Stage
from mmcorpus.pipelines.stages import annotations, steps

HELDOUT: Final = "heldout"


class PackStages:
    """The stages of a recipe's packs and training; `at` gives places in the run's folder."""

    def __init__(self, recipe: Recipe, at: Callable[..., str], start_ray: Callable[[], None]) -> None:
        self.recipe, self.file, self.at, self.start_ray = recipe, recipe.file, at, start_ray
        self.populations = populations(recipe.file)
        self._ledgered: set[str] = set()

    def build(self) -> list[Stage]:
        """All of them, in an order in which they can run."""
        stages = self._tokenizer_stage()
        for pack in self.file.pack:
            stages += self._pack(pack, heldout=False)
            if self.has_heldout(pack):
                stages += self._pack(pack, heldout=True)
        return stages + self._training()

    def has_heldout(self, pack: str) -> bool:
        """Whether any source of the pack keeps samples aside."""
        return any(self._keeps_aside(source) for source in self.file.pack[pack].sources)

    def _keeps_aside(self, source: str) -> bool:
        entry = self.file.select.get(source)
        return entry is not None and entry.heldout_fraction > 0

    def _shards(self, source: str) -> str:
        return self.at("shards", self.populations[source].shards)

    def _rows(self, sources: list[str]) -> tuple[str, ...]:
        """The stages that make the sources' rows."""
        return tuple(self.populations[source].made_by for source in sources)

    def _tokenizer_stage(self) -> list[Stage]:
        config = self.file.tokenizer
        if config is None or config.train is None or not self.file.pack:
            return []
        size = config.train.vocab_size
        sources = list(dict.fromkeys(source for pack in self.file.pack.values() for source in pack.sources))
        needs = [step for source in sources for step in (*self._rows([source]), f"{source}/select")]
        stage = Stage(
            name="tokenizer/train",
            config={"vocab_size": size, "sources": sources},
            needs=tuple(needs),
            outputs=("tokenizer",),
            run=lambda: steps.train_tokenizer(
                {
                    source: (
                        self._shards(source),
                        self.at("selections", f"{source}.parquet"),
                        self.file.sources[source].kind,
                    )
                    for source in sources
                },
                vocab_size=size,
                out=self.at("tokenizer"),
            ),
        )
        return [stage]

    def _tokenizer(self) -> tuple[str, dict[str, str], tuple[str, ...]]:
        """Where the tokenizer is, what of it decides the plan, and the stage that makes it."""
        config = self.file.tokenizer
        assert config is not None, "references.problems refuses packs without a tokenizer"
        if config.train is not None:
            return self.at("tokenizer"), {}, ("tokenizer/train",)
        assert config.name is not None
        return config.name, {"tokenizer": config.name}, ()

    def _pack(self, name: str, *, heldout: bool) -> list[Stage]:
        from mmcorpus.packing.plan import PlanConfig

        config: PackEntry = self.file.pack[name]
        plan_config = PlanConfig(
            **{field.name: getattr(config, field.name) for field in dataclasses.fields(PlanConfig) if field.init}
        )
        tokenizer, named, made_by = self._tokenizer()
        title = f"{name}.{HELDOUT}" if heldout else name
        suffix = f".{HELDOUT}.parquet" if heldout else ".parquet"
        sources = [source for source in config.sources if not heldout or self._keeps_aside(source)]
        if heldout:
            # Held-out samples are all packed, as they are: a mixture is for learning.
            plan_config = dataclasses.replace(plan_config, mix={})
        # The run's ledger follows each sample into the first pack that takes it; what another pack of the same source
        # makes of it stays beside that pack's plan.
        ledgers = {s: self.at("ledger", s) for s in sources if not heldout and s not in self._ledgered}
        self._ledgered.update(ledgers)
        annotated = {source: own for source, own in config.annotations.items() if source in sources}
        given: dict[str, dict[str, Any]] = {
            source: {
                "shards": self._shards(source),
                "selection": self.at("selections", source + suffix),
                "kind": self.file.sources[source].kind,
                "annotations": annotations.table_of(annotated[source], self.at) if source in annotated else None,
            }
            for source in sources
        }
        plan_path, packs_path, own_ledger = f"plans/{title}.parquet", f"packs/{title}", f"plans/{title}.ledger"
        needs = [step for source in sources for step in (*self._rows([source]), f"{source}/select")]
        needs += [annotations.part_of(own) for own in dict.fromkeys(annotated.values())]
        planning = Stage(
            name=f"{title}/plan",
            config={
                **plain(plan_config),
                **named,
                "sources": {s: given[s]["kind"] for s in sources},
                **({"annotations": annotated} if annotated else {}),
            },
            version="2",
            needs=(*needs, *made_by),
            outputs=(plan_path, own_ledger),
            run=lambda: steps.plan(
                plan_config,
                tokenizer=tokenizer,
                sources=given,
                out=self.at(plan_path),
                own_ledger=self.at(own_ledger),
            ),
        )
        folders = (packs_path,) if config.format == "webdataset" else (packs_path, f"{packs_path}.pickles")
        writing = Stage(
            name=f"{title}/packs",
            config={"format": config.format, "sequences_per_shard": config.sequences_per_shard, **named},
            needs=(f"{title}/plan", *self._rows(sources), *made_by),
            outputs=(*folders, *(f"ledger/{source}/pack.parquet" for source in ledgers)),
            clears_for=(),  # pack shards carry the fingerprint of what they were made from
            ray="maybe",
            run=lambda: steps.write_packs(
                plan=self.at(plan_path),
                tokenizer=tokenizer,
                tokenizer_name=named.get("tokenizer"),
                sources=given,
                out=self.at(packs_path),
                form=config.format,
                sequences_per_shard=config.sequences_per_shard,
                own_ledger=self.at(own_ledger),
                ledgers=ledgers,
                start_ray=self.start_ray,
            ),
        )
        return [planning, writing]

    def _training(self) -> list[Stage]:
        if self.file.train is None:
            return []
        stages = []
        waiting = dict(self.recipe.stages)
        while waiting:  # in the recipe's order, but each after the one it starts from
            name = next(name for name, stage in waiting.items() if stage.links.init not in waiting)
            stages.append(self._train(name))
            del waiting[name]
        return stages

    def _train(self, name: str) -> Stage:
        stage, model = self.recipe.stages[name], self.recipe.model
        assert self.file.train is not None
        device, pack, init = self.file.train.device, stage.links.pack, stage.links.init
        heldout = self.has_heldout(pack)
        needs = [f"{pack}/packs", *([f"{pack}.{HELDOUT}/packs"] if heldout else [])]
        needs += [f"train/{init}"] if init else []
        config = {**plain(stage.config.result_settings()), "pack": pack, "init": init}
        if init is None:
            config["model"] = plain(model)
        return Stage(
            name=f"train/{name}",
            config=config,
            needs=tuple(needs),
            outputs=(f"training/{name}",),
            run=lambda: steps.train(
                stage.config,
                packs=self.at("packs", pack),
                heldout=self.at("packs", f"{pack}.{HELDOUT}") if heldout else None,
                out=self.at("training", name),
                model=model if init is None else None,
                init=self.at("training", init) if init else None,
                device=device,
            ),
        )
