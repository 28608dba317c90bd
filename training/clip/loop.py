"""Contrastive training, from pairs in shards to a checkpoint that open_clip loads.

A step: every device embeds its share of the batch, all see all vectors, gradients of summed losses are added up,
divided once by the number of pairs, clipped, applied. Everything a step needs follows from its number, the weights and
the optimiser's moments, which is why a run that was killed goes on to the bit.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any, Final

import torch

from mmcorpus.curation.engine.progress import Progress
from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.training import checkpoint as files
from mmcorpus.training.clip import checkpoint
from mmcorpus.training.clip.config import RESULT_NEUTRAL, ContrastiveConfig
from mmcorpus.training.clip.data import Order, PairBatch, PairLoader, total_steps
from mmcorpus.training.clip.loss import contrastive_loss
from mmcorpus.training.clip.model import Clip, begin
from mmcorpus.training.clip.pairs import Pairs, PairSource, find_pairs
from mmcorpus.training.clip.retrieval import drawn, embed, retrieval
from mmcorpus.training.metrics import MetricsLog
from mmcorpus.training.optim import build_optimizer, learning_rate, scale_and_clip, take_step
from mmcorpus.training.parallel import World, open_world
from mmcorpus.training.resume import check_same
from mmcorpus.training.signals import Interrupts, TrainingInterrupted, deferred_interrupts

_EVALUATED: Final = 256
"""Pairs a forward pass when nothing is learned."""


@dataclasses.dataclass(kw_only=True)
class Totals:
    """What a run has done so far, over all its resumptions; part of each checkpoint."""

    step: int = 0
    pairs: int = 0
    """Seen, repeats included."""
    broken_images: int = 0
    """Of these, could not be decoded; they were not learned from."""
    seconds: float = 0.0
    """Spent in steps."""
    loss: float | None = None
    """Of the last step, in nats a pair; None before the first."""
    heldout: dict[str, float] = dataclasses.field(default_factory=dict)
    """The last retrieval test: heldout_loss, image_to_text_r1, …; empty without held-out pairs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveReport:
    """What a run did and where its model lies."""

    model: str
    """The trained model's folder, which open_clip loads as `local-dir:PATH` and scorers name."""
    totals: Totals
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
        if config.batch_size % world.size:
            raise ValueError(f"batch_size {config.batch_size} is not a multiple of the {world.size} devices")
        keep = storage.join(out, "pairs.parquet") if world.is_main else None
        pairs = find_pairs(sources, keep)
        tested = find_pairs(heldout) if heldout else None
        if tested is not None:
            _refuse_learned(tested, pairs)
        order = Order(len(pairs), config.batch_size, config.seed)
        found = files.list_checkpoints(storage.join(out, "checkpoints"))
        identity = _identity(config, pairs)
        if found:
            check_same(out, files.read_state(found[-1])["identity"], identity, data="pairs")
        clip = checkpoint.load_clip(found[-1]) if found else begin(config)
        trainer = _Trainer(config, pairs, tested, order, out, clip, world, identity, found[-1] if found else None)
        return trainer.run()


def _refuse_learned(tested: Pairs, pairs: Pairs) -> None:
    """Raise ValueError if what is to test the model is among what it learns from."""
    learned, _ = uids.count(uids.encode(pairs.table["uid"]))
    both = int((uids.find(uids.encode(tested.table["uid"]), learned) >= 0).sum())
    if both:
        raise ValueError(
            f"{both:,} of {len(tested):,} held-out pairs are learned from too; leave them out of one of the selections"
        )


def _identity(config: ContrastiveConfig, pairs: Pairs) -> dict[str, Any]:
    """What makes a run this run: its settings, those that only alter speed left out, and what it learns from."""
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name not in RESULT_NEUTRAL}
    return {"stage": {**settings, "betas": list(config.betas)}, "pairs": pairs.digest()}


class _Trainer:
    """A run under way in one process."""

    def __init__(
        self,
        config: ContrastiveConfig,
        pairs: Pairs,
        tested: Pairs | None,
        order: Order,
        out: str,
        clip: Clip,
        world: World,
        identity: dict[str, Any],
        resumed: str | None,
    ) -> None:
        self.config, self.pairs, self.tested, self.order, self.out = config, pairs, tested, order, out
        self.clip, self.world, self.identity = clip, world, identity
        self.steps = total_steps(len(pairs), config)
        torch.manual_seed(config.seed)
        clip.model.to(world.device).train()
        if config.gradient_checkpointing:
            clip.model.set_grad_checkpointing()
        self.parameters = [parameter for parameter in clip.model.parameters() if parameter.requires_grad]
        self.optimizer = build_optimizer(clip.model, config, epsilon=config.epsilon)
        self.totals, self.saved = Totals(), resumed
        if resumed:
            self.totals = Totals(**files.read_state(resumed)["totals"])
            moments = files.read_tensors(resumed, "optimizer")
            files.load_optimizer(clip.model, self.optimizer, moments)
            files.set_rng(files.read_tensors(resumed, "rng"), world.device)

    def run(self) -> ContrastiveReport:
        """Train what is left."""
        config, totals, main = self.config, self.totals, self.world.is_main
        with contextlib.ExitStack() as stack:
            interrupts = stack.enter_context(deferred_interrupts())
            if totals.step >= self.steps and self.saved:
                return self._report()
            log = progress = None
            if main:
                log = stack.enter_context(MetricsLog(storage.join(self.out, "metrics.jsonl"), totals.step))
                progress = stack.enter_context(Progress("dfn", total=self.steps - totals.step, unit="step"))
            batches = stack.enter_context(contextlib.closing(self._batches()))
            while totals.step < self.steps:
                line, stop = self._step(batches, interrupts)
                last = totals.step == self.steps
                if log and (last or stop or totals.step % config.log_every == 0):
                    log.write(line)
                if last or (config.heldout_every and totals.step % config.heldout_every == 0):
                    tested = self._test()
                    if log and tested:
                        log.write(tested)
                if last or stop or totals.step % config.checkpoint_every == 0:
                    self.saved = self._save()
                    if log:
                        log.flush()
                if progress:
                    progress.advance()
                if stop and not last:
                    raise TrainingInterrupted(
                        f"stopped after step {totals.step} of {self.steps}; run again to go on from {self.saved}"
                    )
        return self._report()

    def _report(self) -> ContrastiveReport:
        assert self.saved is not None
        failures = self.pairs.failures + (self.tested.failures if self.tested else ())
        return ContrastiveReport(
            model=storage.join(self.saved, checkpoint.MODEL),
            totals=self.totals,
            training_pairs=len(self.pairs),
            heldout_pairs=len(self.tested) if self.tested else 0,
            failures=failures,
        )

    def _batches(self) -> Generator[PairBatch]:
        """This process' share of every step that is left, in order."""
        loader = PairLoader(self.pairs, self.clip.preprocess, self.clip.tokenize, threads=self.config.num_workers)
        share = self.config.batch_size // self.world.size
        start = self.world.rank * share
        mine = (self.order.step(step)[start : start + share] for step in range(self.totals.step, self.steps))
        return loader.training_batches(mine, self.config)

    def _step(self, batches: Iterator[PairBatch], interrupts: Interrupts) -> tuple[dict[str, Any], bool]:
        """One optimiser step; returns its metrics and whether any process was asked to stop."""
        config, world, totals, model = self.config, self.world, self.totals, self.clip.model
        start = time.monotonic()
        batch = next(batches).to(world.device)
        waited = time.monotonic() - start
        with torch.autocast(world.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            images_BE, texts_BE = self.clip.encode(batch.images_B3SS, batch.tokens_BT)
        loss = contrastive_loss(images_BE, texts_BE, model.logit_scale.exp(), batch.valid_B, world)
        loss.backward()
        world.add_up_gradients(self.parameters)
        counts = [float(loss.detach()), float(len(batch.valid_B)), float(batch.valid_B.sum()), float(interrupts.asked)]
        loss_sum, pairs, valid, stop = world.sums(counts)
        rate = learning_rate(totals.step, self.steps, config)
        norm = scale_and_clip(self.parameters, max(1.0, valid), config.gradient_clip)
        take_step(self.optimizer, rate, norm, step=totals.step + 1, lower="learning_rate", saved=self.saved)
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(config.largest_scale))
        seconds = time.monotonic() - start
        totals.step += 1
        totals.pairs += int(pairs)
        totals.broken_images += int(pairs - valid)
        totals.seconds += seconds
        totals.loss = loss_sum / max(1.0, valid)
        line = {
            "step": totals.step,
            "loss": totals.loss,
            "learning_rate": rate,
            "gradient_norm": norm,
            "scale": float(model.logit_scale.detach().exp()),
            "pairs": totals.pairs,
            "broken_images": totals.broken_images,
            "seconds": round(totals.seconds, 4),
            "pairs_per_second": round(pairs / seconds, 1),
            "data_wait": round(waited / seconds, 4),
        }
        return line, stop > 0

    def _test(self) -> dict[str, Any] | None:
        """Retrieval among held-out pairs, by the first process alone while the others wait."""
        if self.tested is None or len(self.tested) == 0:
            return None
        if self.world.is_main:
            embedded = embed(
                self.clip, self.tested, drawn(self.tested, self.config.heldout_pairs), device=self.world.device,
                precision=self.config.precision, batch=_EVALUATED, threads=self.config.num_workers,
            )  # fmt: skip
            captions = [self.tested.caption(row) for row in embedded.rows]
            scale = float(self.clip.model.logit_scale.detach().exp())
            self.totals.heldout = retrieval(embedded.images_NE, embedded.texts_NE, captions, scale)
        self.world.barrier()
        return {"step": self.totals.step, **self.totals.heldout}

    def _save(self) -> str:
        state = {
            "step": self.totals.step,
            "steps": self.steps,
            "kind": "contrastive",
            "identity": self.identity,
            "config": dataclasses.asdict(self.config),
            "totals": dataclasses.asdict(self.totals),
        }
        root = storage.join(self.out, "checkpoints")
        path = storage.join(root, f"step-{self.totals.step:08d}")
        if self.world.is_main:
            path = checkpoint.save_checkpoint(
                root, self.clip, self.optimizer, state, keep_last=self.config.keep_last, device=self.world.device
            )
        self.world.barrier()
        return path
