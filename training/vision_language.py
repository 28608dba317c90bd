"""One stage of a vision-language model, from packs to a checkpoint: pretraining and instruction tuning alike."""

import contextlib
import dataclasses
import logging
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from mmcorpus.curation.store import storage
from mmcorpus.packing.errors import PackError
from mmcorpus.packing.foreign import ADDED, with_added
from mmcorpus.packing.packs import PackReader
from mmcorpus.packing.tokens import load_tokenizer
from mmcorpus.training import checkpoint
from mmcorpus.training.balance import Work, assign
from mmcorpus.training.batch import PackedBatch
from mmcorpus.training.begun import begun_from
from mmcorpus.training.certificate import certify, check_decoder, write_certificate
from mmcorpus.training.config import BatchUnit, ModelConfig, StageConfig
from mmcorpus.training.data import Order, PackLoader, check_packs, check_whole, micro_batches
from mmcorpus.training.dropout import ResidualDropout
from mmcorpus.training.heldout import heldout_loss
from mmcorpus.training.loop import NAMED, Task, Totals, Trainer
from mmcorpus.training.loss import LossBySource, LossByTag, tag_means, weighted_sum
from mmcorpus.training.model import VisionLanguageModel
from mmcorpus.training.moe import Routed, load_metrics
from mmcorpus.training.parallel import World, open_world, parallelize, synchronized
from mmcorpus.training.speed import batch_flops, peak_flops
from mmcorpus.training.steps import CountedOrder
from mmcorpus.training.taken import begin_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_log = logging.getLogger(__name__)


@dataclasses.dataclass(kw_only=True)
class StageTotals(Totals):
    """Progress of a stage over all its resumptions; losses are in nats a target token."""

    target_tokens: int = 0
    """Tokens that carried loss."""
    positions: int = 0
    """Positions that were not padding."""
    images: int = 0
    broken_images: int = 0
    """Images that could not be decoded; their samples carried no loss."""
    corrupt_sequences: int = 0
    """Times that a sequence could not be read and was left out; see `skip_corrupt`."""
    heldout_loss: float | None = None
    """The last one; None without held-out packs."""
    heldout_loss_blank: float | None = None
    """The same with every image grey, if asked for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainReport:
    """The end of a stage."""

    checkpoint: str
    """The last checkpoint's folder."""
    totals: StageTotals


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
    not finite in more steps than `skip_non_finite` lets pass.
    """
    if (model is None) == (init is None):
        raise ValueError("give either model (to begin) or init (a checkpoint to go on from)")
    reader = PackReader(packs)
    if len(reader) == 0:
        raise ValueError(f"{packs} holds no sequences: nothing to train on")
    heldout = PackReader(heldout_packs) if heldout_packs else None
    with open_world(device) as world:
        _check_split(stage, world)
        data = {"packs": [shard["sha256"] for shard in reader.manifest["shards"]]}
        resumed = checkpoint.resumable(out, stage, data)
        begun = begun_from(out, resumed, model, init)
        net, tokenizer = _load(resumed or init, model, reader, stage.seed)
        if "conversation" in reader.manifest.get("parameters", {}).get("sources", {}).values():
            tokenizer.chat_template = load_tokenizer(storage.join(reader.root, "tokenizer")).chat_template
        _adapt(net, stage)
        for read in (reader, heldout):
            if read is not None and len(read):
                check_packs(read, tokenizer, net.config.layout)
                if read is heldout or not stage.data.skip_corrupt:
                    check_whole(read)
                _check_annotations(stage, read)
        if resumed is None:
            longest = max(read.manifest["context_length"] for read in (reader, heldout) if read is not None)
            check_decoder(net, longest, stage.compute.attention)
        task = PackTask(stage, reader, heldout, data, net, tokenizer, world, begun)
        if stage.certify and resumed is None:
            report = task.certified()
            if world.is_main:
                write_certificate(out, report)
        saved = Trainer(task, out, world, resumed).run()
        return TrainReport(checkpoint=saved, totals=task.totals)


def _adapt(net: VisionLanguageModel, stage: StageConfig) -> None:
    """What the stage changes of the model that it begins with; nothing of one that it has trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stage.seed)  # of routers and vectors for marks that were not there
        if stage.image_size is not None:
            net.set_image_size(stage.image_size, stage.image_layout)
        if stage.image_layout is not None:
            net.set_layout(stage.image_layout)
    if stage.moe is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stage.seed)
            net.set_moe(stage.moe)


def _check_split(stage: StageConfig, world: World) -> None:
    unit, batch = stage.data.batch
    if unit == "sequences" and batch < world.size:
        raise ValueError(f"data.batch_sequences {batch} is less than {world.size} devices")


def _check_annotations(stage: StageConfig, reader: PackReader) -> None:
    hint = ""
    if not stage.data.isolated:
        hint = "leave data.isolated true"
    elif stage.compute.attention == "varlen":
        hint = "compute.attention varlen has no mask for that, set sdpa or flex"
    if reader.annotated and hint:
        raise ValueError(
            f"{reader.root} has {reader.annotated:,} images with several captions, which must not see each other: "
            f"{hint}, or pack without annotations"
        )


def _load(
    source: str | None, config: ModelConfig | None, reader: PackReader, seed: int
) -> tuple[VisionLanguageModel, "PreTrainedTokenizerFast"]:
    """The model to train and its tokenizer: from a checkpoint, or begun; a random model takes the packs' tokenizer."""
    if source is not None:
        net, tokenizer, _ = checkpoint.load_model(source)
        return net, _added(net, tokenizer, reader)
    assert config is not None
    own = config.language if isinstance(config.language, str) else storage.join(reader.root, "tokenizer")
    tokenizer = with_added(load_tokenizer(own), reader.root)
    return begin_model(config, len(tokenizer), seed), tokenizer


def _added(
    net: VisionLanguageModel, tokenizer: "PreTrainedTokenizerFast", reader: PackReader
) -> "PreTrainedTokenizerFast":
    """A checkpoint's tokenizer, with what packs of others add to it, if the model has rows for that."""
    more = with_added(tokenizer, reader.root)
    rows = net.language.get_input_embeddings().weight.shape[0]
    if rows < len(more):
        raise ValueError(
            f"{reader.root} uses {len(more):,} tokens ({', '.join(ADDED)} among them), and the model embeds {rows:,}: "
            "begin with a model that has spare rows, as Qwen2.5 has"
        )
    return more


def _named(name: str, by_source: dict[str, float]) -> dict[str, dict[str, float]]:
    """A metric by source or tag, where there is something to tell apart."""
    return {name: by_source} if by_source else {}


@dataclasses.dataclass(eq=False)
class PackTask(Task[PackedBatch]):
    """Next-token prediction on packed sequences of text and images."""

    config: StageConfig
    reader: PackReader
    heldout: PackReader | None
    data: dict[str, Any]
    model: VisionLanguageModel
    tokenizer: "PreTrainedTokenizerFast"
    world: World
    begun: dict[str, Any] = dataclasses.field(default_factory=dict)
    totals: StageTotals = dataclasses.field(default_factory=StageTotals)

    rates: ClassVar[dict[str, str]] = {"tokens_per_second": "positions", "images_per_second": "images"}

    def __post_init__(self) -> None:
        config, (unit, batch) = self.config, self.config.data.batch
        self.kind = config.kind
        self.title = config.kind + (" on blank images" if config.data.blank_images else "")
        self.order = Order(len(self.reader), batch, config.seed) if unit == "sequences" else self._counted(unit, batch)
        self.steps = config.schedule.total_steps(self.order.per_epoch, batch)
        self.by_source = LossBySource(self.reader.sources, self.world.device)
        self.by_tag = LossByTag()
        self.step_losses = list[tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]]()
        self.step_corrupt = list[str]()
        if config.train:
            self.model.train_groups(config.train)
        else:
            self.model.freeze(**dataclasses.asdict(config.freeze))
        self.work = Work.of(self.model)
        self.costs = self.work.costs(self.reader.index)
        self.step_flops = np.zeros(2)
        self.sparse = self.model.sparse
        moe = self.model.config.moe
        loads = torch.zeros(len(self.sparse), moe.experts if moe else 0, dtype=torch.float64)
        self.expert_loads_YE = loads.to(self.world.device)
        self.peak = peak_flops(self.world.device, config.compute.precision) * self.world.size
        self.model.set_attention(isolated=config.data.isolated, implementation=config.compute.attention)
        drops = max(config.dropout.residual, config.dropout.at_targets) > 0
        self.dropout = ResidualDropout(self.model, config.dropout, config.seed) if drops else None
        self.called = parallelize(self.model, config.compute, self.world).train()
        self.overlapped = self.called is not self.model

    def _counted(self, unit: BatchUnit, batch: int) -> CountedOrder:
        counts = self.reader.index[unit].to_numpy().astype(np.int64)
        return CountedOrder(counts, batch, self.config.seed)

    def micro_batches(self, step: int) -> int:
        most = -(-len(self.order.step(step)) // self.world.size)
        return -(-most // self.config.data.micro_batch_sequences)

    def _micro_batches(self, step: int) -> list[list[int]]:
        """This device's part of a step; where another has more, the last ones are empty."""
        sequences = [sequence for _, sequence in self.order.step(step)]
        mine = assign(sequences, self.costs[sequences], self.world.size)[self.world.rank]
        groups = micro_batches(mine, self.config.data.micro_batch_sequences)
        return groups + [[]] * (self.micro_batches(step) - len(groups))

    def batches(self, first: int) -> Generator[PackedBatch]:
        steps = range(first, self.steps)
        return self._loader().batches(group for step in steps for group in self._micro_batches(step))

    def certified(self) -> dict[str, Any]:
        """Certify the run on the first sequences that it will learn from (`certificate.certify`)."""
        wanted: dict[int, None] = {}
        for step in range(self.steps):
            wanted |= dict.fromkeys(sequence for _, sequence in self.order.step(step))
            if len(wanted) >= min(self.config.certify, len(self.reader)):
                break
        sequences = list(wanted)[: self.config.certify]
        micro, precision = self.config.data.micro_batch_sequences, self.config.compute.precision
        return certify(self.model, self._loader(), sequences, self.world, precision=precision, micro=micro)

    def _loader(self) -> PackLoader:
        return PackLoader(
            self.reader,
            image_size=self.model.vision.image_size,
            length=self.reader.manifest["context_length"] if self.config.compute.compile else None,
            blank=self.config.data.blank_images,
            threads=self.config.data.num_workers,
            scaled=self.config.data.jpeg_scaling,
            skip=self.config.data.skip_corrupt > 0,
        )

    def loss(self, batch: PackedBatch) -> tuple[dict[str, torch.Tensor], float, dict[str, int]]:
        for reason in batch.corrupt:
            _log.warning("left out of step %d: %s", self.totals.step + 1, reason)
        self.step_corrupt += batch.corrupt
        z = self.config.z_loss
        with self.world.autocast(self.config.compute.precision), Routed.of(self.sparse) as routed:
            batch = batch.to(self.world.device)
            if self.dropout is not None:
                self.dropout.begin(batch, self.totals.step)
            found: torch.Tensor = self.called(batch, z=z > 0)
        losses_M = found[0] if z else found
        self.step_flops += batch_flops(self.work, batch, self.model.vision.patches)
        self.by_source.add(losses_M, batch.sources_S[batch.samples_M])
        self.by_tag.add(losses_M, batch.tags_M, batch.tag_names)
        self.step_losses.append((losses_M.detach(), batch.samples_M, batch.uids))
        counts = {
            "target_tokens": batch.target_tokens,
            "positions": batch.positions,
            "images": batch.images_NCHW.shape[0],
            "broken_images": batch.broken_images,
            "corrupt_sequences": len(batch.corrupt),
        }
        terms = {"loss": weighted_sum(losses_M, batch.weights_M)}
        if z:
            terms["z_loss"] = z * weighted_sum(found[1], batch.weights_M)
        if moe := self.model.config.moe:
            terms |= routed.losses(batch, moe)
            self.expert_loads_YE += routed.loads(batch, moe)
        return terms, batch.target_weight, counts

    def micro_batch(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        return synchronized(self.called, now=last, reshard=self.config.compute.reshard)

    def check(self, counts: Mapping[str, int]) -> None:
        """Raise PackError, naming them, if more sequences cannot be read than `data.skip_corrupt` lets pass."""
        most, found = self.config.data.skip_corrupt, self.totals.corrupt_sequences + counts["corrupt_sequences"]
        if counts["corrupt_sequences"] and found > most:
            reasons = self.world.gathered(self.step_corrupt)
            raise PackError(
                f"{found} sequences could not be read, more than data.skip_corrupt {most} lets pass; those of step "
                f"{self.totals.step + 1}: {'; '.join(reasons[:NAMED])}"
            )

    def after_step(self) -> None:
        self.step_losses.clear()
        self.step_corrupt.clear()
        self.step_flops[:] = 0.0
        self.expert_loads_YE.zero_()

    def suspects(self) -> list[str]:
        found: dict[str, None] = {}
        for losses_M, samples_M, uids in self.step_losses:
            bad = samples_M[~torch.isfinite(losses_M)].unique().tolist()
            found |= dict.fromkeys(uids[sample] for sample in bad)
        return list(found)

    def sums(self) -> list[float]:
        loads = self.expert_loads_YE.flatten().tolist()
        return [*loads, *self.by_source.values(), float(bool(self.by_tag)), *self.step_flops.tolist()]

    def metrics(self, sums: Sequence[float], seconds: float) -> dict[str, Any]:
        experts = self.expert_loads_YE.numel()
        loads_YE = torch.tensor(sums[:experts], dtype=torch.float64).view(self.expert_loads_YE.shape)
        *sums, tagged, useful, padded = sums[experts:]
        by_tag = tag_means(self.world.sums_by_name(self.by_tag.values())) if tagged else {}
        totals = {name: getattr(self.totals, name) for name in ("positions", "images", "broken_images")}
        if self.totals.corrupt_sequences:
            totals["corrupt_sequences"] = self.totals.corrupt_sequences
        _, by_source = self.by_source.means(sums)
        used = {"mfu": useful, "mfu_padded": padded}
        shares = {name: float(f"{flops / (seconds * self.peak):.4g}") for name, flops in used.items()}
        return {
            "tokens": self.totals.target_tokens,
            **totals,
            **shares,
            **_named("loss_by_source", by_source),
            **_named("loss_by_tag", by_tag),
            **load_metrics(self.sparse, loads_YE),
        }

    def evaluate(self) -> dict[str, Any]:
        if not self.heldout:
            return {}
        # A model trained on blank images is judged on what it knows: blank ones.
        found = self._heldout_loss("heldout_loss", self.heldout, self.config.data.blank_images)
        self.totals.heldout_loss = found["heldout_loss"]
        if self.config.heldout.blank:
            found |= self._heldout_loss("heldout_loss_blank", self.heldout, True)
            self.totals.heldout_loss_blank = found["heldout_loss_blank"]
        return found

    def _heldout_loss(self, name: str, packs: PackReader, blank: bool) -> dict[str, Any]:
        loss, by_source, by_tag = heldout_loss(
            self.model, packs, self.world, precision=self.config.compute.precision, blank=blank,
            threads=self.config.data.num_workers, micro_batch=self.config.data.micro_batch_sequences,
        )  # fmt: skip
        return {name: loss, **_named(f"{name}_by_source", by_source), **_named(f"{name}_by_tag", by_tag)}

    def weights(self) -> dict[str, torch.Tensor]:
        return self.model.kept()

    def save_model(self, folder: str, weights: Mapping[str, torch.Tensor] | None) -> None:
        checkpoint.save_model(folder, self.model, self.tokenizer, weights)

    def state(self) -> dict[str, Any]:
        chat = {"chat_template": self.tokenizer.chat_template} if self.kind == "sft" else {}
        return {"model": dataclasses.asdict(self.model.config), "begun": self.begun, **chat}
