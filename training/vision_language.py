"""One stage of a vision-language model, from packs to a checkpoint: pretraining and instruction tuning alike."""

import dataclasses
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from mmcorpus.curation.store import storage
from mmcorpus.packing.foreign import ADDED, with_added
from mmcorpus.packing.packs import PackReader
from mmcorpus.packing.tokens import load_tokenizer
from mmcorpus.training import checkpoint
from mmcorpus.training.batch import PackedBatch
from mmcorpus.training.config import ModelConfig, StageConfig
from mmcorpus.training.data import Order, PackLoader, check_packs, micro_batches
from mmcorpus.training.heldout import heldout_loss
from mmcorpus.training.loop import Task, Totals, Trainer
from mmcorpus.training.loss import LossBySource
from mmcorpus.training.model import VisionLanguageModel, build_model
from mmcorpus.training.parallel import World, open_world, parallelize

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


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
        net, tokenizer = _load(resumed or init, model, reader, stage.seed)
        if "conversation" in reader.manifest.get("parameters", {}).get("sources", {}).values():
            tokenizer.chat_template = load_tokenizer(storage.join(reader.root, "tokenizer")).chat_template
        if stage.tokens_per_image is not None:
            net.set_tokens_per_image(stage.tokens_per_image)
        for read in (reader, heldout):
            if read is not None and len(read):
                check_packs(read, tokenizer, net.config.tokens_per_image)
                _check_annotations(stage, read)
        task = PackTask(stage, reader, heldout, data, net, tokenizer, world)
        saved = Trainer(task, out, world, resumed).run()
        return TrainReport(checkpoint=saved, totals=task.totals)


def _check_split(stage: StageConfig, world: World) -> None:
    batch, micro = stage.data.batch_sequences, stage.data.micro_batch_sequences
    if batch < world.size:
        raise ValueError(f"data.batch_sequences {batch} is less than {world.size} devices")
    unit = world.size * micro
    if stage.compute.parallel == "shard" and world.size > 1 and batch % unit:
        raise ValueError(
            f"data.batch_sequences {batch} is not a multiple of {unit} ({world.size} devices × "
            f"micro_batch_sequences {micro}), which compute.parallel: shard needs"
        )


def _check_annotations(stage: StageConfig, reader: PackReader) -> None:
    if reader.annotated and not stage.data.isolated:
        raise ValueError(
            f"{reader.root} has {reader.annotated:,} images with several captions, which must not see each other: "
            f"leave data.isolated true, or pack without annotations"
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
    return build_model(config, len(tokenizer), seed), tokenizer


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
    """A metric by source, if there are several."""
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
    totals: StageTotals = dataclasses.field(default_factory=StageTotals)

    rate = ("tokens_per_second", "positions")

    def __post_init__(self) -> None:
        config, batch = self.config, self.config.data.batch_sequences
        self.kind = config.kind
        self.title = config.kind + (" on blank images" if config.data.blank_images else "")
        self.steps = config.schedule.total_steps(len(self.reader), batch)
        self.order = Order(len(self.reader), batch, config.seed)
        self.by_source = LossBySource(self.reader.sources, self.world.device)
        self.step_losses = list[tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]]()
        self.micro_batches = len(self._micro_batches(range(batch)))
        self.model.freeze(**dataclasses.asdict(config.freeze))
        self.model.set_attention(isolated=config.data.isolated, implementation=config.compute.attention)
        parallelize(self.model, config.compute, self.world).train()

    def _micro_batches(self, sequences: Sequence[int]) -> list[list[int]]:
        size = self.config.data.micro_batch_sequences
        return micro_batches(sequences, self.world.rank, self.world.size, size)

    def batches(self, first: int) -> Generator[PackedBatch]:
        loader = PackLoader(
            self.reader,
            image_size=self.model.vision.image_size,
            length=self.reader.manifest["context_length"] if self.config.compute.compile else None,
            blank=self.config.data.blank_images,
            threads=self.config.data.num_workers,
        )
        steps = ([sequence for _, sequence in self.order.step(step)] for step in range(first, self.steps))
        return loader.batches(group for sequences in steps for group in self._micro_batches(sequences))

    def loss(self, batch: PackedBatch) -> tuple[torch.Tensor, int, dict[str, int]]:
        with self.world.autocast(self.config.compute.precision):
            batch = batch.to(self.world.device)
            losses_M: torch.Tensor = self.model(batch)
        self.by_source.add(losses_M, batch.sources_S[batch.samples_M])
        self.step_losses.append((losses_M.detach(), batch.samples_M, batch.uids))
        counts = {
            "target_tokens": batch.target_tokens,
            "positions": batch.positions,
            "images": batch.images_NCHW.shape[0],
            "broken_images": batch.broken_images,
        }
        return losses_M.sum(), batch.target_tokens, counts

    def after_step(self) -> None:
        self.step_losses.clear()

    def suspects(self) -> list[str]:
        found: dict[str, None] = {}
        for losses_M, samples_M, uids in self.step_losses:
            bad = samples_M[~torch.isfinite(losses_M)].unique().tolist()
            found |= dict.fromkeys(uids[sample] for sample in bad)
        return list(found)

    def sums(self) -> list[float]:
        return self.by_source.values()

    def metrics(self, sums: Sequence[float]) -> dict[str, Any]:
        totals = {name: getattr(self.totals, name) for name in ("positions", "images", "broken_images")}
        _, by_source = self.by_source.means(sums)
        return {"tokens": self.totals.target_tokens, **totals, **_named("loss_by_source", by_source)}

    def evaluate(self) -> dict[str, Any]:
        if not self.heldout:
            return {}
        # A model trained on blank images is judged on what it knows: blank ones.
        loss, by_source = self._heldout_loss(self.heldout, self.config.data.blank_images)
        self.totals.heldout_loss = loss
        found = {"heldout_loss": loss, **_named("heldout_loss_by_source", by_source)}
        if self.config.heldout.blank:
            blank, blank_by_source = self._heldout_loss(self.heldout, True)
            self.totals.heldout_loss_blank = blank
            found |= {"heldout_loss_blank": blank, **_named("heldout_loss_blank_by_source", blank_by_source)}
        return found

    def _heldout_loss(self, packs: PackReader, blank: bool) -> tuple[float, dict[str, float]]:
        return heldout_loss(
            self.model, packs, self.world, precision=self.config.compute.precision, blank=blank,
            threads=self.config.data.num_workers, micro_batch=self.config.data.micro_batch_sequences,
        )  # fmt: skip

    def weights(self) -> dict[str, torch.Tensor]:
        return dict(self.model.named_parameters())  # tied ones once

    def save_model(self, folder: str, weights: dict[str, torch.Tensor]) -> None:
        checkpoint.save_model(folder, self.model, self.tokenizer, weights)

    def state(self) -> dict[str, Any]:
        chat = {"chat_template": self.tokenizer.chat_template} if self.kind == "sft" else {}
        return {"model": dataclasses.asdict(self.model.config), **chat}
