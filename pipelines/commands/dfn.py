"""`mmcorpus dfn`: train a data filtering network on pairs that are trusted. `mmcorpus score` scores with it."""

import os
from typing import Annotated

import typer

from mmcorpus.pipelines.commands.common import (
    DeviceOption,
    ShardsArgument,
    UsageError,
    fail_if,
    read_config,
    say,
    settings_option,
)
from mmcorpus.pipelines.commands.data import shards_for


def dfn(
    shards: ShardsArgument,
    trusted: Annotated[
        str,
        typer.Option("--trusted", metavar="FILE", help="The selection to learn from (parquet, npy, txt)."),
    ],
    out: Annotated[str, typer.Option("--out", help="Gets metrics.jsonl and checkpoints/.")],
    heldout: Annotated[
        str | None, typer.Option("--heldout", metavar="FILE", help="A selection that tests retrieval.")
    ] = None,
    device: DeviceOption = None,
    settings: Annotated[list[str] | None, settings_option("A setting of the training, as in a recipe's `dfn`.")] = None,
) -> None:
    """Train a data filtering network (a CLIP) on trusted pairs, or go on where the same command stopped. Needs no Ray.

    With several GPUs, run it under torchrun: every process calls the same command.

    **Examples**

        mmcorpus dfn data/shards --trusted trusted.parquet --heldout held.parquet --out dfn/ --set model=ViT-B-32
        --set data.batch_size=1024 --set schedule.steps=5000

        mmcorpus score data/shards --out data/scores --scorer dfn --set
        dfn.model_name=dfn/checkpoints/step-00005000/model

        torchrun --nproc-per-node 8 -m mmcorpus.pipelines.cli dfn data/shards --trusted trusted.parquet --out dfn/
    """
    from mmcorpus.curation.store import storage
    from mmcorpus.curation.store.shards import list_shards
    from mmcorpus.training.clip import ContrastiveConfig, PairSource, train_contrastive

    for path in (trusted, *([heldout] if heldout else [])):
        if not storage.exists(path):
            raise UsageError(f"there is no selection at {path}; mmcorpus select --out writes one")
    config = read_config(ContrastiveConfig, settings)
    if not list_shards(shards) and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            f"{shards} holds no shards; under torchrun, make them before: mmcorpus index {shards} --out DIR"
        )
    found, unread = shards_for(shards, out, workers=0)
    report = train_contrastive(
        config,
        {"shards": PairSource(shards=found.folder, selection=trusted)},
        out,
        heldout={"shards": PairSource(shards=found.folder, selection=heldout)} if heldout else None,
        device=device,
    )
    totals = report.totals
    for failure in report.failures:
        say(f"Could not be read: {failure}")
    say(f"{totals.step:,} steps over {report.training_pairs:,} pairs, loss {totals.loss or float('nan'):.4f}")
    if totals.heldout:
        recalls = ", ".join(f"{name} {value:.3f}" for name, value in totals.heldout.items())
        say(f"Held out, {report.heldout_pairs:,} pairs: {recalls}")
    say(f"Model: {report.model}")
    fail_if(unread)
