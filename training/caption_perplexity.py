"""The perplexity of a caption given its image, under a model that we have trained (POINTS, Liu et al. 2024)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmcorpus.curation.store import storage
from mmcorpus.filters.causal_lm import (
    SCHEMA,
    Measured,
    batches_by_length,
    reasons_and_texts,
    sums,
    to_columns,
    torch_type,
)
from mmcorpus.filters.image_perplexity import PROMPT
from mmcorpus.filters.model import ModelScorer
from mmcorpus.filters.scorer import REASON, Batch, Columns
from mmcorpus.filters.weights import weights_identity

if TYPE_CHECKING:
    from mmcorpus.packing.tokens import TokenizedSample
    from mmcorpus.training.batch import Tiling
    from mmcorpus.training.model import VisionLanguageModel

TOO_LONG: Final = "too_long"
"""The reason of a caption of which nothing is left within `max_tokens`: the prompt alone is as long."""


@dataclass(frozen=True, kw_only=True)
class CheckpointPerplexityScorer(ModelScorer):
    """nll_sum: of the caption given the image, in nats: its tokens and the end token, as in training. n_tokens: how
    many they are. ppl: exp of their quotient. truncated: only the caption's beginning was scored, and no end.

    A pretrained checkpoint sees the image and the caption as its packs had them, an instruction-tuned one sees the
    caption as the answer to `prompt`. POINTS (Liu et al. 2024) keeps the 20 % of a corpus with the lowest.
    Captions without a word are null (`no_caption`, `blank`).
    """

    checkpoint: str
    """A checkpoint (`…/checkpoints/step-00000100`), or a training folder, of which it is the latest; may be a URL."""
    prompt: str = PROMPT
    """The question to an instruction-tuned checkpoint about the image; others are not asked."""
    max_tokens: int = 512
    """Longest caption, in tokens, with what stands around it; of longer ones the beginning is scored."""
    batch_size: int = 32
    """Samples in one forward pass, at most."""

    name: ClassVar[str] = "checkpoint_perplexity"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("caption", "image")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.checkpoint:
            raise ValueError("checkpoint is empty; give a checkpoint or a training folder")
        if self.max_tokens < 64:
            raise ValueError(f"max_tokens is {self.max_tokens}; give 64 or more")

    def schema(self) -> pa.Schema:
        return SCHEMA

    def check(self) -> None:
        self._resolved()

    def model(self) -> str:
        return weights_identity(self._resolved())

    def load_prepare(self) -> Callable[[Batch], Columns]:
        """Images to squares of the encoder's size, captions to samples as the packer makes them."""
        from PIL import Image

        from mmcorpus.packing.tokens import load_tokenizer, truncate
        from mmcorpus.training.checkpoint import chat_template_of, read_state
        from mmcorpus.training.config import model_config_from_dict
        from mmcorpus.training.images import lay_out_images
        from mmcorpus.training.vision import square_side

        path = self._resolved()
        state, tokenizer = read_state(path), load_tokenizer(storage.join(path, "tokenizer"))
        config = model_config_from_dict(state["model"])
        size = square_side(storage.read_json(storage.join(path, "vision", "config.json")))

        def prepare(batch: Batch) -> Columns:
            reasons, texts = reasons_and_texts(batch["caption"], "-")
            whole = self._encode(tokenizer, texts, chat_template_of(state))
            # An image of one position here: its own are counted when it is expanded, and so make no caption shorter.
            samples = [truncate(sample, self.max_tokens + 1, 1) for sample in whole]
            images = [lay_out_images([Image.fromarray(one.pixels)], config.layout, size)[:2] for one in batch["image"]]
            return {
                "image": images,
                "sample": samples,
                "truncated": [cut is not sample for cut, sample in zip(samples, whole, strict=True)],
                REASON: [
                    reason or (TOO_LONG if sample is None else None)
                    for reason, sample in zip(reasons, samples, strict=True)
                ],
            }

        return prepare

    def load_model(self) -> Callable[[Columns], Columns]:
        import torch

        from mmcorpus.training.checkpoint import load_model

        settled = self.settled()
        model = load_model(self._resolved())[0].to(settled.device)
        kind, reduced = torch_type(settled.dtype), settled.dtype != "fp32"

        def judge(columns: Columns) -> Columns:
            rows: list[Measured | str] = [reason or "" for reason in columns[REASON]]
            usable = [row for row, reason in enumerate(rows) if not reason]
            samples = [columns["sample"][row] for row in usable]
            lengths = [len(sample.input_ids) for sample in samples]
            for group in batches_by_length(lengths, max(lengths, default=1) * self.batch_size, self.batch_size):
                images = [columns["image"][usable[one]] for one in group]
                with torch.autocast(settled.device, kind, enabled=reduced):
                    found = caption_nll(model, [samples[one] for one in group], images)
                for one, (value, count) in zip(group, found, strict=True):
                    rows[usable[one]] = Measured(value, count, columns["truncated"][usable[one]])
            return to_columns(rows)

        return judge

    def _resolved(self) -> str:
        from mmcorpus.training.checkpoint import resolve_checkpoint

        return resolve_checkpoint(self.checkpoint)

    def _encode(self, tokenizer: Any, captions: Sequence[str], template: str | None) -> list["TokenizedSample"]:
        from mmcorpus.packing.chat import ANSWERS
        from mmcorpus.packing.conversations import chat_template, encode_conversations, lay_out
        from mmcorpus.packing.tokens import encode_captions

        if template is None:
            return encode_captions(tokenizer, captions)
        chat, ask = chat_template(tokenizer, template), ("user", f"<image>\n{self.prompt}")
        laid_out = [lay_out([ask, (ANSWERS, caption)], 1, chat) for caption in captions]
        return encode_conversations(tokenizer, laid_out)


def caption_nll(
    model: "VisionLanguageModel",
    samples: Sequence["TokenizedSample"],
    images: Sequence[tuple[npt.NDArray[np.uint8], "int | Tiling"]],
) -> list[tuple[float, int]]:
    """For each sample and its image, as `lay_out_images` gives it, the sum of its targets' losses, in nats, and how
    many they are."""
    import torch

    from mmcorpus.packing.lengths import expanded_length
    from mmcorpus.training.batch import collate, expand

    pieces = []
    for sample, (pixels, per_image) in zip(samples, images, strict=True):
        count = len(sample.input_ids)
        positions = per_image if isinstance(per_image, int) else len(per_image.templates[0])
        length = expanded_length(count, 1, positions)
        pieces.append(expand(sample.input_ids, [length], [count], [sample.loss_spans], pixels, [], per_image))
    with torch.inference_mode():
        nll_M = model.token_losses(collate(pieces).to(next(model.parameters()).device)).cpu()
    counts = [len(piece.targets) for piece in pieces]
    return list(zip(sums(nll_M, counts), counts, strict=True))
