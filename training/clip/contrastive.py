"""Contrastive training, from pairs in shards to a checkpoint that open_clip loads.

Every device embeds its share of a step's batch and all see all vectors, so that two devices learn what one does.
"""

import dataclasses
import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar, Final

import torch

from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.training.checkpoint import resumable
from mmcorpus.training.clip.checkpoint import MODEL, load_clip, save_model
from mmcorpus.training.clip.config import ContrastiveConfig
from mmcorpus.training.clip.data import PairBatch, PairLoader
from mmcorpus.training.clip.loss import contrastive_loss
from mmcorpus.training.clip.model import Clip, begin
from mmcorpus.training.clip.pairs import Pairs, PairSource, find_pairs
from mmcorpus.training.clip.retrieval import drawn, embed, retrieval
from mmcorpus.training.data import Order
from mmcorpus.training.loop import Task, Totals, Trainer
from mmcorpus.training.parallel import World, open_world

_EVALUATED: Final = 256
"""Pairs a forward pass when nothing is learned."""


@dataclasses.dataclass(kw_only=True)
class ContrastiveTotals(Totals):
    """Progress of a run over all its resumptions; losses are in nats a pair."""

    pairs: int = 0
    """Seen, repeats included."""
    broken_images: int = 0
    """Of these, could not be decoded; they were not learned from."""
    heldout: dict[str, float] = dataclasses.field(default_factory=dict)
    """The last retrieval test: heldout_loss, image_to_text_r1, …; empty without held-out pairs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveReport:
    """The end of a run."""

    model: str
    """The trained model's folder, which open_clip loads as `local-dir:PATH` and scorers name."""
    totals: ContrastiveTotals
    training_pairs: int
    heldout_pairs: int
    failures: tuple[str, ...] = ()
    """Shards that could not be read."""


def train_contrastive(
    config: ContrastiveConfig,
    sources: Mapping[str, PairSource],
    out: str,
    *,
    heldout: Mapping[str, PairSource] | None = None,
    device: str | None = None,
) -> ContrastiveReport:
    """Train on the sources' pairs, writing `out/metrics.jsonl` and `out/checkpoints/`; resumes by itself.

    Args:
        sources: what to learn from, by name.
        heldout: what to test retrieval on; it is never learned from.
        device: cpu or cuda, None for what is there. Under torchrun every process calls it with the same arguments.

    Raises:
        ValueError: the model, pairs or settings do not fit, held-out pairs are among those learned from, or `out` holds
            another run.
        TrainingInterrupted: (a KeyboardInterrupt) after Ctrl-C or SIGTERM, once a checkpoint is written.
        FloatingPointError: the gradient is not finite.
    """
    with open_world(device) as world:
        if config.data.batch_size % world.size:
            raise ValueError(f"data.batch_size {config.data.batch_size} is not a multiple of the {world.size} devices")
        pairs = find_pairs(sources, storage.join(out, "pairs.parquet") if world.is_main else None)
        tested = find_pairs(heldout) if heldout else None
        if tested is not None:
            _refuse_learned(tested, pairs)
        if config.data.batch_size > len(pairs):
            raise ValueError(
                f"data.batch_size is {config.data.batch_size}, but there are {len(pairs)} pairs to train on; a batch "
                "must not hold a pair twice: lower batch_size, or trust more"
            )
        data = {"pairs": pairs.digest()}
        resumed = resumable(out, config, data)
        clip = load_clip(resumed) if resumed else begin(config)
        task = PairTask(config, pairs, tested, data, clip, world)
        saved = Trainer(task, out, world, resumed).run()
    return ContrastiveReport(
        model=storage.join(saved, MODEL),
        totals=task.totals,
        training_pairs=len(pairs),
        heldout_pairs=len(tested) if tested else 0,
        failures=pairs.failures + (tested.failures if tested else ()),
    )


def _refuse_learned(tested: Pairs, pairs: Pairs) -> None:
    """Raise ValueError if what is to test the model is among what it learns from."""
    learned, _ = uids.count(uids.encode(pairs.table["uid"]))
    both = int((uids.find(uids.encode(tested.table["uid"]), learned) >= 0).sum())
    if both:
        raise ValueError(
            f"{both:,} of {len(tested):,} held-out pairs are learned from too; leave them out of one of the selections"
        )


@dataclasses.dataclass(eq=False)
class PairTask(Task[PairBatch]):
    """Telling which caption belongs to which image, among all of a batch."""

    config: ContrastiveConfig
    pairs: Pairs
    tested: Pairs | None
    data: dict[str, Any]
    clip: Clip
    world: World
    totals: ContrastiveTotals = dataclasses.field(default_factory=ContrastiveTotals)

    kind, title = "contrastive", "dfn"
    rates: ClassVar[dict[str, str]] = {"pairs_per_second": "pairs"}

    def __post_init__(self) -> None:
        config, batch = self.config, self.config.data.batch_size
        self.steps = config.schedule.total_steps(len(self.pairs) // batch, 1)
        self.order = Order(len(self.pairs), batch, config.seed, whole=True)
        self.model = self.clip.model.to(self.world.device).train()
        if config.compute.activation_checkpointing:
            self.clip.model.set_grad_checkpointing()

    def micro_batches(self, step: int) -> int:
        return 1

    def batches(self, first: int) -> Generator[PairBatch]:
        loader = PairLoader(self.pairs, self.clip.preprocess, self.clip.tokenize, threads=self.config.data.num_workers)
        share = self.config.data.batch_size // self.world.size
        start = self.world.rank * share
        mine = (self.order.step(step)[start : start + share] for step in range(first, self.steps))
        return loader.training_batches(mine, self.config)

    def loss(self, batch: PairBatch) -> tuple[dict[str, torch.Tensor], float, dict[str, int]]:
        valid = int(batch.valid_B.sum())
        there = batch.to(self.world.device)
        with self.world.autocast(self.config.compute.precision):
            images_BE, texts_BE = self.clip.encode(there.images_B3SS, there.tokens_BT)
        total = contrastive_loss(images_BE, texts_BE, self.clip.model.logit_scale.exp(), there.valid_B, self.world)
        return {"loss": total}, valid, {"pairs": len(batch.valid_B), "broken_images": len(batch.valid_B) - valid}

    @torch.no_grad()
    def after_step(self) -> None:
        self.clip.model.logit_scale.clamp_(0, math.log(self.config.largest_scale))

    def metrics(self, sums: Sequence[float], seconds: float) -> dict[str, Any]:
        return {"scale": self._scale(), "pairs": self.totals.pairs, "broken_images": self.totals.broken_images}

    def _scale(self) -> float:
        return float(self.clip.model.logit_scale.detach().exp())

    def evaluate(self) -> dict[str, Any]:
        """Retrieval among held-out pairs, by the first process alone while the others wait."""
        if self.tested is None or len(self.tested) == 0:
            return {}
        if self.world.is_main:
            embedded = embed(
                self.clip, self.tested, drawn(self.tested, self.config.heldout.pairs), device=self.world.device,
                precision=self.config.compute.precision, batch=_EVALUATED, threads=self.config.data.num_workers,
            )  # fmt: skip
            captions = [self.tested.caption(row) for row in embedded.rows]
            self.totals.heldout = retrieval(embedded.images_NE, embedded.texts_NE, captions, self._scale())
        self.world.barrier()
        return self.totals.heldout

    def weights(self) -> dict[str, torch.Tensor]:
        return dict(self.clip.model.state_dict())

    def save_model(self, folder: str, weights: Mapping[str, torch.Tensor] | None) -> None:
        assert weights is not None  # they are not sharded
        save_model(folder, self.clip, weights)

    def state(self) -> dict[str, Any]:
        return {}
