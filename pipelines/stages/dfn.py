"""The recipe's `dfn:` section: trust some pairs, train a data filtering network on them, score all pairs with it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from mmcorpus.curation.engine.made_from import digest, file_digest, plain
from mmcorpus.curation.engine.stage import Result, Stage
from mmcorpus.curation.selection.config import SelectConfig
from mmcorpus.curation.store import storage
from mmcorpus.filters.dfn import DfnScorer
from mmcorpus.pipelines.recipe.populations import trusted
from mmcorpus.pipelines.recipe.schema import DFN, DfnEntry
from mmcorpus.training.clip.config import RESULT_NEUTRAL, ContrastiveConfig

if TYPE_CHECKING:
    from mmcorpus.pipelines.recipe.schema import Recipe

TRUSTED: Final = "trusted"
"""`selections/<source>.trusted.parquet`: what is learned from; `.trusted.heldout.parquet`: what tests it."""
TRAIN: Final = f"{DFN}/train"


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
        config={**plain(config, RESULT_NEUTRAL), "sources": list(sources), **_weights(config)},
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
