"""The perplexity of a caption given its image, under a Hugging Face vision-language model (POINTS, Liu et al. 2024)."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, ClassVar, Final

import numpy as np

from mmcorpus.filters.causal_lm import (
    LikelihoodScorer,
    Measured,
    TokenLikelihoods,
    batches_by_length,
    reasons_and_texts,
    sums,
    to_columns,
    torch_type,
)
from mmcorpus.filters.plain_tokens import encode_plain
from mmcorpus.filters.rendering import render
from mmcorpus.filters.scorer import REASON, Batch, Columns
from mmcorpus.filters.weights import local_copy

MODELS: Final = "mmcorpus.models"
"""The group of entry points that teach transformers a model type it does not know (their name), such as that of what
`mmcorpus export-model` writes: functions without arguments, which may be called again."""
PROMPT: Final = "Please generate a caption for this image."
_MARK: Final = "\ue000"
"""Stands for the caption while the chat template is applied; a private character that no template has."""

Encoded = Mapping[str, np.ndarray]
"""A processor's output for one image and the question: `input_ids` [1, L], `pixel_values` and whatever else."""


@dataclass(frozen=True, kw_only=True)
class ImagePerplexityScorer(LikelihoodScorer):
    """nll_sum: of the caption given the image, in nats: its tokens and the one that ends the answer. n_tokens: how many
    they are. ppl: exp of their quotient. truncated: only the caption's beginning was scored, and no end.

    The caption is the answer, in the model's chat template, to a turn of the image and the prompt. POINTS (Liu et al.
    2024) keeps the 20 % of a corpus with the lowest: `bottom(image_perplexity.ppl, 0.2)`. A high one means a caption
    that the image does not lead to: noise, or a fact that only few know. Captions without a word are null
    (`no_caption`, `blank`).
    """

    model_name: str
    """A Hugging Face id of an image-text-to-text model, or a folder that `save_pretrained` wrote; may be a URL."""
    prompt: str = PROMPT
    """The question about the image."""
    max_tokens: int = 512
    """Longest caption, in tokens; of longer ones the beginning is scored."""
    batch_size: int = 16
    """Samples in one forward pass, at most."""

    name: ClassVar[str] = "image_perplexity"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("caption", "image")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model_name:
            raise ValueError("model_name is empty; give a Hugging Face id or a folder")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; give 1 or more")

    def packages(self) -> tuple[str, ...]:
        return "transformers", "torchvision"

    def load_prepare(self) -> Callable[[Batch], Columns]:
        """Samples to what the model's processor makes of the image and the question, and the ids of the answer."""
        from PIL import Image

        processor = load_processor(self.model_name, self.revision)
        question, end = turn(processor, self.prompt)

        def prepare(batch: Batch) -> Columns:
            reasons, texts = reasons_and_texts(batch["caption"])
            pictures = [Image.fromarray(image.pixels) for image in batch["image"]]
            ids = encode_plain(processor.tokenizer, texts)
            return {
                "asked": [dict(processor(text=[question], images=[[one]], return_tensors="np")) for one in pictures],
                "answer": [one + end if len(one) <= self.max_tokens else one[: self.max_tokens] for one in ids],
                "truncated": [len(one) > self.max_tokens for one in ids],
                REASON: reasons,
            }

        return prepare

    def load_model(self) -> Callable[[Columns], Columns]:
        from transformers import AutoModelForImageTextToText

        settled = self.settled()
        folder, options = _known(self.model_name, self.revision)
        model = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=torch_type(settled.dtype), trust_remote_code=False, **options
        )
        likelihoods = TokenLikelihoods(model.eval().to(settled.device))

        def judge(columns: Columns) -> Columns:
            asked, answers = columns["asked"], columns["answer"]
            rows: list[Measured | str] = [reason or "" for reason in columns[REASON]]
            for same in same_shapes(asked, [row for row, reason in enumerate(rows) if not reason]):
                lengths = [asked[row]["input_ids"].shape[1] + len(answers[row]) for row in same]
                for group in batches_by_length(lengths, max(lengths) * self.batch_size, self.batch_size):
                    members = [same[one] for one in group]
                    nll = answer_nll(likelihoods, [asked[row] for row in members], [answers[row] for row in members])
                    for row, value in zip(members, nll, strict=True):
                        rows[row] = Measured(value, len(answers[row]), columns["truncated"][row])
            return to_columns(rows)

        return judge


def same_shapes(asked: Sequence[Encoded], rows: Sequence[int]) -> list[list[int]]:
    """The rows in groups whose images can be put side by side: models that cut an image into tiles make as many of each
    of a group's. What is said of each position (shaped as `input_ids`) is padded and plays no part.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        encoded, positions = asked[row], asked[row]["input_ids"].shape
        shape = tuple((name, value.shape[1:]) for name, value in sorted(encoded.items()) if value.shape != positions)
        groups.setdefault(shape, []).append(row)
    return list(groups.values())


def answer_nll(
    likelihoods: TokenLikelihoods, asked: Sequence[Encoded], answers: Sequence[Sequence[int]]
) -> list[float]:
    """For each image and question the sum of the losses of the answer's tokens, in nats; of `same_shapes`."""
    import torch

    asked_B = torch.tensor([one["input_ids"].shape[1] for one in asked])
    lengths_B = asked_B + torch.tensor([len(answer) for answer in answers])
    width = int(lengths_B.max())
    inputs: dict[str, torch.Tensor] = {}
    for name, value in asked[0].items():
        parts = [torch.as_tensor(one[name]) for one in asked]
        if value.shape != asked[0]["input_ids"].shape:
            inputs[name] = torch.cat(parts)
            continue
        # Said of each position; the answer's are text, which is type 0 wherever types are told apart.
        inputs[name] = torch.zeros((len(asked), width), dtype=torch.long)
        for row, part in zip(inputs[name], parts, strict=True):
            row[: part.shape[1]] = part[0]
    for row, start, answer in zip(inputs["input_ids"], asked_B.tolist(), answers, strict=True):
        row[start : start + len(answer)] = torch.tensor(answer)
    positions_L = torch.arange(width)
    inputs["attention_mask"] = (positions_L < lengths_B[:, None]).long()
    predicts_BL = (positions_L >= asked_B[:, None] - 1) & (positions_L < lengths_B[:, None] - 1)
    targets_M = inputs["input_ids"].roll(-1, 1)[predicts_BL]
    return sums(likelihoods(inputs, predicts_BL, targets_M), (lengths_B - asked_B).tolist())


def turn(processor: Any, prompt: str) -> tuple[str, list[int]]:
    """The text up to where the answer begins, the image's mark in it, and the ids of what ends an answer (one or none).

    Raises:
        ValueError: the model has no chat template.
    """
    own = getattr(processor, "chat_template", None)
    template = own.get("default") if isinstance(own, dict) else own
    if not template:
        raise ValueError(
            "the model has no chat template, so that it is not known how to ask it; use one with a template"
        )
    user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}
    answer = {"role": "assistant", "content": [{"type": "text", "text": _MARK}]}
    given = processor.tokenizer.special_tokens_map
    question = render(template, {**given, "messages": [user], "add_generation_prompt": True})
    whole = render(template, {**given, "messages": [user, answer], "add_generation_prompt": False})
    after = whole.partition(_MARK)[2]
    ids = processor.tokenizer(after, add_special_tokens=False)["input_ids"]
    special = set(processor.tokenizer.all_special_ids)
    return question, [int(ids[0])] if ids and ids[0] in special else []


def load_processor(model_name: str, revision: str | None) -> Any:
    """The tokenizer and image processor of a model; OSError or ValueError where there is none."""
    from transformers import AutoProcessor

    folder, options = _known(model_name, revision)
    return AutoProcessor.from_pretrained(folder, trust_remote_code=False, **options)


def _known(model_name: str, revision: str | None) -> tuple[str, dict[str, str]]:
    """What to load a model by, and the options to do it with, when transformers knows its type."""
    from transformers import PretrainedConfig

    folder, options = local_copy(model_name), {"revision": revision} if revision else {}
    with contextlib.suppress(OSError):  # without a config: what loads the model says so
        config, _ = PretrainedConfig.get_config_dict(folder, **options)
        for teacher in entry_points(group=MODELS, name=str(config.get("model_type"))):
            teacher.load()()
    return folder, options
