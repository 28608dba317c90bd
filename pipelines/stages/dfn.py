"""The recipe's `dfn:` section: trust some pairs, train a data filtering network on them, score all pairs with it."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from mmcorpus.curation.selection.config import SelectConfig
from mmcorpus.curation.store import storage
from mmcorpus.filters.dfn import DfnScorer
from mmcorpus.filters.model import Device, Dtype
from mmcorpus.pipelines.recipe.problems import Path, suggestion
from mmcorpus.pipelines.run.fingerprint import digest, file_digest, plain
from mmcorpus.pipelines.run.runner import Result, Stage
from mmcorpus.training.clip.config import ContrastiveConfig

if TYPE_CHECKING:
    from mmcorpus.pipelines.recipe.schema import Recipe

DFN: Final = DfnScorer.name
"""The section, the scorer, the folder of what is trained, the first part of the columns' names."""
TRUSTED: Final = "trusted"
"""`selections/<source>.trusted.parquet`: what is learned from; `.trusted.heldout.parquet`: what tests it."""
TRAIN: Final = f"{DFN}/train"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DfnScoring:
    """How the trained network scores: DfnScorer's settings, but for which network."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    device: Device = "auto"
    """Where it runs; auto takes GPUs if the cluster has any."""
    dtype: Dtype = "auto"
    """Of the forward pass; auto is bf16 on a GPU and fp32 on a CPU."""
    batch_size: int = 256
    """Samples in one forward pass, at most."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; give 1 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DfnEntry(ContrastiveConfig):
    """A data filtering network: whom to trust and how to learn from them. The trainer's settings stand beside these."""

    trust: SelectConfig
    """Which pairs are good: a selection over the scores and the deduplication, as under `select`. Its
    `heldout_fraction` is what retrieval is tested on."""
    sources: tuple[str, ...] = ()
    """Whose pairs it learns from; empty for every source of pairs. All sources of pairs are scored."""
    device: str | None = None
    """Where it is trained, cpu or cuda; null for what is there."""
    scoring: DfnScoring = dataclasses.field(default_factory=DfnScoring)
    """How it scores."""


def columns() -> list[str]:
    """What the network gives each pair, as expressions name it."""
    return [f"{DFN}.{column}" for column in DfnScorer().schema().names]


def scored(recipe: "Recipe") -> tuple[str, ...]:
    """The sources that the network scores: none without one."""
    sources = recipe.file.sources
    return tuple(name for name in sources if sources[name].kind == "pair") if recipe.file.dfn else ()


def trusted(recipe: "Recipe") -> tuple[str, ...]:
    """The sources that it learns from, in the recipe's order."""
    entry = recipe.file.dfn
    return tuple(name for name in scored(recipe) if entry and (name in entry.sources or not entry.sources))


def findings(recipe: "Recipe", available: Callable[[str], Sequence[str]]) -> Iterable[tuple[Path, str]]:
    """What the section names that is not there. `available`: the columns of a source that are there before it."""
    from mmcorpus.curation.selection.expression import selections_of

    entry = recipe.file.dfn
    if entry is None:
        return
    pairs = scored(recipe)
    if any(scorer.name == DFN for scorer in recipe.scorers.values()):
        fix = f"give that one another name (`dfn_public: {{uses: {DFN}, …}}`)"
        yield (DFN,), f"score.scorers has a {DFN!r} too, and both would write the same tables; {fix}"
    if not pairs:
        yield (DFN,), "there is no source of kind pair to learn from"
    for index, name in enumerate(entry.sources):
        if name not in pairs:
            yield (DFN, "sources", index), f"no source of pairs {name!r}; {suggestion(name, pairs, listed='sources')}"
    for source in trusted(recipe):
        there = available(source)
        for column in entry.trust.columns:
            if column not in there:
                yield (DFN, "trust"), f"{column!r} is not there for {source!r} yet; {suggestion(column, there)}"
    for clause in (*entry.trust.clauses, *entry.trust.upsample):
        for path in selections_of(clause):
            if storage.is_local(path) and not storage.exists(path):
                yield (DFN, "trust"), f"there is no selection at {path}"


def selection_names(source: str, config: SelectConfig) -> dict[str, str]:
    """The files of a source's trusted selection."""
    names = {
        "selection": f"selections/{source}.{TRUSTED}.parquet",
        "explain": f"selections/{source}.{TRUSTED}.explain.json",
    }
    return names | ({"heldout": f"selections/{source}.{TRUSTED}.heldout.parquet"} if config.heldout_fraction else {})


def training_stage(recipe: "Recipe", at: Callable[..., str]) -> Stage:
    """The stage that trains the network on all trusted selections."""
    entry = recipe.file.dfn
    assert entry is not None
    settings = [field.name for field in dataclasses.fields(ContrastiveConfig)]
    config = ContrastiveConfig(**{name: getattr(entry, name) for name in settings})
    sources = trusted(recipe)
    return Stage(
        name=TRAIN,
        config={**plain(config.result_settings()), "sources": list(sources), **_weights(config)},
        needs=tuple(f"{source}/{step}" for source in sources for step in ("download", "trust")),
        outputs=(DFN,),
        run=lambda: _train(config, entry, sources, at),
    )


def _weights(config: ContrastiveConfig) -> dict[str, str]:
    """What tells local weights that it begins with from others of the same path."""
    from mmcorpus.filters.weights import weights_identity

    start = config.pretrained or (config.model if isinstance(config.model, str) else "")
    path = start.removeprefix("local-dir:")
    local = start != path or (config.pretrained is not None and storage.is_local(path) and storage.exists(path))
    return {"weights": weights_identity(path)} if local else {}


def _train(config: ContrastiveConfig, entry: DfnEntry, sources: Sequence[str], at: Callable[..., str]) -> Result:
    from mmcorpus.training.clip import PairSource, train_contrastive

    files = {source: selection_names(source, entry.trust) for source in sources}

    def given(name: str) -> dict[str, PairSource]:
        return {
            source: PairSource(shards=at("shards", source), selection=at(paths[name]))
            for source, paths in files.items()
            if name in paths
        }

    report = train_contrastive(config, given("selection"), at(DFN), heldout=given("heldout"), device=entry.device)
    totals = report.totals
    content = [file_digest(storage.join(report.model, name)) for name in storage.list_names(report.model)]
    counts = {
        "step": totals.step,
        "loss": totals.loss,
        "training_pairs": report.training_pairs,
        "heldout_pairs": report.heldout_pairs,
        "broken_images": totals.broken_images,
        **totals.heldout,
    }
    return Result(counts=counts, failures=report.failures, content=digest(content))


def scorer(recipe: "Recipe", at: Callable[..., str]) -> DfnScorer:
    """The scorer with the network that was trained."""
    from mmcorpus.training.clip import last_model

    entry = recipe.file.dfn
    assert entry is not None
    how = entry.scoring
    return DfnScorer(model_name=last_model(at(DFN)), device=how.device, dtype=how.dtype, batch_size=how.batch_size)
