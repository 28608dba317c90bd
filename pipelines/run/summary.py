"""`summary.json`: where every sample went, and what each stage took."""

import dataclasses
from typing import Any

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.ledger import check_balance, funnel, read_stages
from mmcorpus.pipelines.recipe.populations import folders
from mmcorpus.pipelines.recipe.schema import Recipe
from mmcorpus.pipelines.run.state import RunState


def make_summary(recipe: Recipe, root: str, state: RunState) -> dict[str, Any]:
    """The summary of a run as it stands. Invariant 1 is checked; `balance` names every place that breaks it."""

    sources: dict[str, Any] = {}
    balance: list[str] = []
    for source in (name for names in folders(recipe.file).values() for name in names):
        folder = storage.join(root, "ledger", source)
        if not read_stages(folder):
            continue
        sources[source] = [dataclasses.asdict(count) for count in funnel(folder)]
        balance += [str(problem) for problem in check_balance(folder)]
    return {
        "name": recipe.file.name,
        "sources": sources,
        "balance": balance,
        "stages": {
            name: {
                "status": record.status,
                "seconds": round(record.seconds, 3),
                "counts": record.counts,
                "failures": record.failures,
            }
            for name, record in state.stages.items()
        },
        "seconds": round(sum(record.seconds for record in state.stages.values()), 3),
    }
