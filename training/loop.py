"""One stage of training, from packs to a checkpoint: pretraining and instruction tuning alike.

A step: forward and backward over its micro-batches, gradients of summed losses added up over the devices, divided once
by the step's global count of target tokens, clipped, applied. Everything a step needs follows from its number, the
weights and the optimiser's moments, which is why a run that was killed goes on to the bit.
"""

import contextlib
import dataclasses
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import torch

from mmcorpus.curation.engine.progress import Progress
from mmcorpus.curation.store import storage
from mmcorpus.packing.packs import PackReader
from mmcorpus.packing.tokens import load_tokenizer
from mmcorpus.training import checkpoint
from mmcorpus.training.batch import PackedBatch
from mmcorpus.training.config import ModelConfig, StageConfig
from mmcorpus.training.data import Order, PackLoader, check_packs, micro_batches, total_steps
from mmcorpus.training.heldout import heldout_loss
from mmcorpus.training.metrics import MetricsLog
from mmcorpus.training.model import VisionLanguageModel, build_model
from mmcorpus.training.optim import build_optimizer, learning_rate, scale_and_clip, take_step
from mmcorpus.training.parallel import World, open_world, spread
from mmcorpus.training.resume import check_same, identity
from mmcorpus.training.signals import Interrupts, TrainingInterrupted, deferred_interrupts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclasses.dataclass(kw_only=True)
class Totals:
    """What a stage has done so far, over all its runs if it was resumed; part of each checkpoint."""

    step: int = 0
    target_tokens: int = 0
    """Tokens that carried loss."""
    positions: int = 0
    """Positions that were not padding."""
    images: int = 0
    broken_images: int = 0
    """Images that could not be decoded; their samples carried no loss."""
    seconds: float = 0.0
    """Spent in steps."""
    loss: float | None = None
    """Of the last step, in nats a target token; None before the first."""
    heldout_loss: float | None = None
    """The last one, in nats a target token; None without held-out packs."""
    heldout_loss_blank: float | None = None
    """The same with every image grey, if asked for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainReport:
    """What a stage did and where its model lies."""

    checkpoint: str
    """The last checkpoint's folder."""
    totals: Totals


def train(
    stage: StageConfig,
    packs: str,
    out: str,
    *,
    model: ModelConfig | None = None,
    init: str | None = None,
    heldout_packs: str | None = None,
    device: str | None = None,
) -> TrainReport:
    """Train one stage over `packs`, writing `out/metrics.jsonl` and `out/checkpoints/`; resumes by itself.

    Give `model` to begin with that model, or `init`, a checkpoint (or a training folder, for its latest), to go on from
    its weights with a fresh optimiser. `device` is cpu or cuda, None for what is there. Under torchrun every process
    calls it with the same arguments. Raises ValueError for packs or settings that do not fit, TrainingInterrupted
    (a KeyboardInterrupt) after Ctrl-C or SIGTERM once a checkpoint is written, FloatingPointError if the gradient is
    not finite.
    """
    if (model is None) == (init is None):
        raise ValueError("give either model (to begin) or init (a checkpoint to go on from)")
    reader = PackReader(packs)
    if len(reader) == 0:
        raise ValueError(f"{packs} holds no sequences: nothing to train on")
    heldout = PackReader(heldout_packs) if heldout_packs else None
    with open_world(device) as world:
        _check_split(stage, world)
        found = checkpoint.list_checkpoints(storage.join(out, "checkpoints"))
        resumed = found[-1] if found else None
        if resumed:
            check_same(out, checkpoint.read_state(resumed)["identity"], identity(stage, reader))
        net, tokenizer = _load(resumed or init, model, reader, stage.seed)
        for read in (reader, heldout):
            if read is not None and len(read):
                check_packs(read, tokenizer, net.config.tokens_per_image)
                _check_annotations(stage, read)
        return _Trainer(stage, reader, heldout, out, net, tokenizer, world, resumed).run()


def _check_split(stage: StageConfig, world: World) -> None:
    if stage.batch_sequences < world.size:
        raise ValueError(f"{stage.kind}.batch_sequences {stage.batch_sequences} is less than {world.size} devices")
    unit = world.size * stage.micro_batch_sequences
    if stage.parallel == "shard" and world.size > 1 and stage.batch_sequences % unit:
        raise ValueError(
            f"{stage.kind}.batch_sequences {stage.batch_sequences} is not a multiple of {unit} ({world.size} devices × "
            f"micro_batch_sequences {stage.micro_batch_sequences}), which parallel: shard needs"
        )


def _check_annotations(stage: StageConfig, reader: PackReader) -> None:
    if reader.annotated and not stage.isolated:
        raise ValueError(
            f"{reader.root} has {reader.annotated:,} images with several captions, which must not see each other: "
            f"leave {stage.kind}.isolated true, or pack without annotations"
        )


def _load(
    source: str | None, config: ModelConfig | None, reader: PackReader, seed: int
) -> tuple[VisionLanguageModel, "PreTrainedTokenizerFast"]:
    """The model to train and its tokenizer: from a checkpoint, or begun; a random model takes the packs' tokenizer."""
    if source is not None:
        net, tokenizer, _ = checkpoint.load_model(source)
        return net, tokenizer
    assert config is not None
    own = config.language if isinstance(config.language, str) else storage.join(reader.root, "tokenizer")
    tokenizer = load_tokenizer(own)
    return build_model(config, len(tokenizer), seed), tokenizer


class _Trainer:
    """A stage under way in one process."""

    def __init__(
        self,
        stage: StageConfig,
        reader: PackReader,
        heldout: PackReader | None,
        out: str,
        net: VisionLanguageModel,
        tokenizer: "PreTrainedTokenizerFast",
        world: World,
        resumed: str | None,
    ) -> None:
        self.stage, self.reader, self.heldout, self.out, self.world = stage, reader, heldout, out, world
        self.tokenizer = tokenizer
        self.steps = total_steps(len(reader), stage)
        self.order = Order(len(reader), stage.batch_sequences, stage.seed)
        torch.manual_seed(stage.seed)
        net.freeze(vision=stage.freeze_vision, projector=stage.freeze_projector, language=stage.freeze_language)
        net.set_attention(isolated=stage.isolated, implementation=stage.attention)
        self.net = spread(net, stage, world)
        self.net.train()
        self.parameters = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        self.optimizer = build_optimizer(self.net, stage)
        self.totals, self.saved = Totals(), resumed
        if resumed:
            self.totals = Totals(**checkpoint.read_state(resumed)["totals"])
            checkpoint.load_optimizer(self.net, self.optimizer, checkpoint.read_tensors(resumed, "optimizer"))
            checkpoint.set_rng(checkpoint.read_tensors(resumed, "rng"), world.device)

    def run(self) -> TrainReport:
        """Train what is left of the stage."""
        stage, totals, main = self.stage, self.totals, self.world.is_main
        if totals.step >= self.steps and self.saved:
            return TrainReport(checkpoint=self.saved, totals=totals)
        title = stage.kind + (" on blank images" if stage.blank_images else "")
        with contextlib.ExitStack() as stack:
            interrupts = stack.enter_context(deferred_interrupts())
            log = (
                stack.enter_context(MetricsLog(storage.join(self.out, "metrics.jsonl"), totals.step)) if main else None
            )
            progress = (
                stack.enter_context(Progress(title, total=self.steps - totals.step, unit="step")) if main else None
            )
            batches = stack.enter_context(contextlib.closing(self._batches()))
            while totals.step < self.steps:
                line, stop = self._step(batches, interrupts)
                last = totals.step == self.steps
                if log and (last or totals.step % stage.log_every == 0):
                    log.write(line)
                if self.heldout and (last or (stage.heldout_every and totals.step % stage.heldout_every == 0)):
                    evaluated = self._evaluate(self.heldout)
                    if log:
                        log.write(evaluated)
                if last or stop or totals.step % stage.checkpoint_every == 0:
                    self.saved = self._save()
                    if log:
                        log.flush()
                if progress:
                    progress.advance()
                if stop and not last:
                    raise TrainingInterrupted(
                        f"stopped after step {totals.step} of {self.steps}; run again to go on from {self.saved}"
                    )
        assert self.saved is not None
        return TrainReport(checkpoint=self.saved, totals=totals)

    def _micro_batches(self, step: int) -> list[list[int]]:
        return micro_batches(self.order.step(step), self.world.rank, self.world.size, self.stage.micro_batch_sequences)

    def _batches(self) -> Generator[PackedBatch]:
        """This process' micro-batches of every step that is left, in order."""
        loader = PackLoader(
            self.reader,
            image_size=self.net.vision.image_size,
            length=self.reader.manifest["context_length"] if self.stage.compile else None,
            blank=self.stage.blank_images,
            threads=self.stage.num_workers,
        )
        groups = (group for step in range(self.totals.step, self.steps) for group in self._micro_batches(step))
        return loader.batches(groups)

    def _step(self, batches: Iterator[PackedBatch], interrupts: Interrupts) -> tuple[dict[str, Any], bool]:
        """One optimiser step; returns its metrics and whether any process was asked to stop."""
        stage, world, totals = self.stage, self.world, self.totals
        start, waited = time.monotonic(), 0.0
        loss = torch.zeros((), device=world.device)
        counts = [0, 0, 0, 0]
        for _ in self._micro_batches(totals.step):
            before = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - before
            with torch.autocast(world.device.type, torch.bfloat16, enabled=stage.precision == "bf16"):
                total = self.net(batch.to(world.device))
            total.backward()
            loss += total.detach()
            found = (batch.target_tokens, batch.positions, batch.images_NCHW.shape[0], batch.broken_images)
            counts = [count + more for count, more in zip(counts, found, strict=True)]
        if stage.parallel == "replicate":
            world.add_up_gradients(self.parameters)
        loss_sum, tokens, positions, images, broken, stop = world.sums([float(loss), *counts, float(interrupts.asked)])
        rate = learning_rate(totals.step, self.steps, stage)
        norm = scale_and_clip(self.parameters, max(1.0, tokens), stage.gradient_clip)
        take_step(
            self.optimizer, rate, norm, step=totals.step + 1, lower=f"{stage.kind}.learning_rate", saved=self.saved
        )
        seconds = time.monotonic() - start
        totals.step += 1
        totals.target_tokens += int(tokens)
        totals.positions += int(positions)
        totals.images += int(images)
        totals.broken_images += int(broken)
        totals.seconds += seconds
        totals.loss = loss_sum / max(1.0, tokens)
        line = {
            "step": totals.step,
            "loss": totals.loss,
            "learning_rate": rate,
            "gradient_norm": norm,
            "tokens": totals.target_tokens,
            "positions": totals.positions,
            "images": totals.images,
            "broken_images": totals.broken_images,
            "seconds": round(totals.seconds, 4),
            "tokens_per_second": round(positions / seconds, 1),
            "data_wait": round(waited / seconds, 4),
        }
        return line, stop > 0

    def _evaluate(self, heldout: PackReader) -> dict[str, Any]:
        def measure(blank: bool) -> float:
            stage = self.stage
            return heldout_loss(
                self.net, heldout, self.world, precision=stage.precision, blank=blank, threads=stage.num_workers,
                micro_batch=stage.micro_batch_sequences,
            )  # fmt: skip

        # A model trained on blank images is judged on what it knows: blank ones.
        self.totals.heldout_loss = measure(self.stage.blank_images)
        line: dict[str, Any] = {"step": self.totals.step, "heldout_loss": self.totals.heldout_loss}
        if self.stage.heldout_blank:
            self.totals.heldout_loss_blank = line["heldout_loss_blank"] = measure(True)
        return line

    def _save(self) -> str:
        state = {
            "step": self.totals.step,
            "steps": self.steps,
            "kind": self.stage.kind,
            "identity": identity(self.stage, self.reader),
            "stage": dataclasses.asdict(self.stage),
            "model": dataclasses.asdict(self.net.config),
            "totals": dataclasses.asdict(self.totals),
        }
        path = checkpoint.save_checkpoint(
            storage.join(self.out, "checkpoints"), self.net, self.optimizer, self.tokenizer, state,
            keep_last=self.stage.keep_last, write=self.world.is_main, device=self.world.device,
        )  # fmt: skip
        self.world.barrier()
        return path
