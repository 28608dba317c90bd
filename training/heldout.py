"""Held-out loss: what the model has not been trained on, per target token."""

import math

from mmcorpus.packing.packs import PackReader
from mmcorpus.training.data import PackLoader
from mmcorpus.training.loss import LossBySource, LossByTag, tag_means
from mmcorpus.training.model import VisionLanguageModel
from mmcorpus.training.parallel import World, evaluating


def heldout_loss(
    model: VisionLanguageModel,
    packs: PackReader,
    world: World,
    *,
    precision: str,
    micro_batch: int = 4,
    blank: bool = False,
    threads: int = 0,
) -> tuple[float, dict[str, float], dict[str, float]]:
    """The loss in nats, averaged over all target tokens of the packs, over each source's, if there are several, and
    over each tag's.

    `blank` shows grey images instead.

    Every device runs as many forward passes as the others (sharded ones must), repeating a batch whose loss it leaves
    out if it has none left. NaN if the packs hold no target tokens.
    """
    rounds = math.ceil(len(packs) / (world.size * micro_batch))
    firsts = [(turn * world.size + world.rank) * micro_batch for turn in range(rounds)]
    groups = [range(first, min(first + micro_batch, len(packs))) for first in firsts]
    loader = PackLoader(packs, image_size=model.vision.image_size, blank=blank, threads=threads)
    sums, by_tag = LossBySource(packs.sources, world.device), LossByTag()
    with evaluating(model):
        for group, batch in zip(groups, loader.batches(group or [0] for group in groups), strict=True):
            with world.autocast(precision):
                batch = batch.to(world.device)
                losses_M = model(batch)
            if group:
                sums.add(losses_M, batch.sources_S[batch.samples_M])
                by_tag.add(losses_M, batch.tags_M, batch.tag_names)
    return *sums.means(world.sums(sums.values())), tag_means(world.sums_by_name(by_tag.values()))
