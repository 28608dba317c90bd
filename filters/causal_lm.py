"""Shared by the perplexity scorers: columns, batches of like length, and log-likelihoods in fp32 of chosen tokens.

Shape legend: B sequences, L positions, D width, M scored tokens, V the vocabulary's size, X D or V.
"""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa

from mmcorpus.filters.model import ModelScorer
from mmcorpus.filters.scorer import Columns, columns_of
from mmcorpus.filters.texts import blank_reason
from mmcorpus.filters.weights import is_hub_id, require, weights_identity

if TYPE_CHECKING:
    import torch

TOO_SHORT: Final = "too_short"
"""The reason of a text of one token where nothing stands before it: no token is left to be predicted."""
WORTHWHILE: Final = 512
"""Positions in one forward pass from which on more of them cost in proportion, whatever the machine."""
LOGITS_HELD: Final = 1 << 25
"""fp32 logits held at once, 128 MB: at 150,000 words those of 223 tokens."""
_MOST_NATS: Final = 700.0


class Measured(NamedTuple):
    """One text's likelihood."""

    nll_sum: float
    """Negative log-likelihood of the scored tokens together, in nats."""
    n_tokens: int
    """Tokens scored, at least 1."""
    truncated: bool = False
    """True if only the beginning was."""

    def columns(self) -> dict[str, Any]:
        """The values by column of SCHEMA."""
        return {**self._asdict(), "ppl": math.exp(min(self.nll_sum / self.n_tokens, _MOST_NATS))}


SCHEMA: Final = pa.schema(
    {"nll_sum": pa.float64(), "n_tokens": pa.int32(), "ppl": pa.float64(), "truncated": pa.bool_()}
)
"""The columns; `ppl` is exp(nll_sum / n_tokens), kept finite (at most e^700)."""
WHOLE: Final = SCHEMA.remove(SCHEMA.get_field_index("truncated"))
"""The columns where no text is cut."""


def to_columns(rows: Sequence[Measured | str]) -> Columns:
    """The columns of SCHEMA and `reason`, of likelihoods or the reasons why there is none."""
    return columns_of(SCHEMA.names, [row if isinstance(row, str) else row.columns() for row in rows])


def reasons_and_texts(captions: Sequence[str | None], instead: str = "") -> tuple[list[str | None], list[str]]:
    """Why each caption cannot be scored (None if it can), and the texts, with another in place of those."""
    reasons = [blank_reason(caption) for caption in captions]
    return reasons, [instead if reason else caption or "" for caption, reason in zip(captions, reasons, strict=True)]


def batches_by_length(lengths: Sequence[int], budget: int, most: int) -> Iterable[list[int]]:
    """Positions in `lengths` in groups of like length, longest first; at most `most` in a group, and its longest times
    its size at most `budget`. What is longer than the budget stands alone. To a group of `WORTHWHILE` positions nothing
    is added that would be padding by more than a quarter.

    `[5, 2, 4, 2]` with a budget of 10 gives `[0, 2]` and `[1, 3]`.
    """
    group: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda one: (-lengths[one], one)):
        size, longest = len(group), lengths[group[0]] if group else 0
        too_short = size * longest >= WORTHWHILE and lengths[position] < 0.75 * longest
        if group and (size == most or (size + 1) * longest > budget or too_short):
            yield group
            group = []
        group.append(position)
    if group:
        yield group


def torch_type(dtype: str) -> "torch.dtype":
    """The type of weights and activations by the name that `ModelScorer.dtype` has for it."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]


@dataclass(frozen=True, kw_only=True)
class LikelihoodScorer(ModelScorer):
    """A scorer by a model that transformers loads. Subclasses say which packages they need."""

    model_name: str
    """A Hugging Face id, or a folder that `save_pretrained` wrote; may be a URL."""
    revision: str | None = None
    """Of a Hugging Face id: a branch, tag or commit; null for its main branch. The scores record the commit."""

    def schema(self) -> pa.Schema:
        return SCHEMA

    def check(self) -> None:
        require(*self.packages())
        if not is_hub_id(self.model_name):
            weights_identity(self.model_name)

    def model(self) -> str:
        return weights_identity(self.model_name, self.revision)

    @abstractmethod
    def packages(self) -> tuple[str, ...]:
        """The packages that it needs."""


class TokenLikelihoods:
    """Negative log-likelihoods of chosen tokens under a transformers model with a language modelling head.

    Only positions that predict one of them pass through the head, a part at a time, so that B×L×V logits never exist.
    Models that do more to logits than their head does (Gemma 2 caps them, Granite scales them) are noticed when they
    are loaded, and asked for the logits of those positions whole.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._head: Any = model.get_output_embeddings()
        self._head_is_all = self._compare_head()

    def __call__(
        self, inputs: Mapping[str, "torch.Tensor"], predicts_BL: "torch.Tensor", targets_M: "torch.Tensor"
    ) -> "torch.Tensor":
        """[M] fp32, in nats, on the CPU.

        Args:
            inputs: of the model, with `input_ids` [B, L]; padded on the right, if at all.
            predicts_BL: bool; where a target is predicted, one position before it.
            targets_M: the targets, row by row.
        """
        import torch
        from torch.nn.functional import cross_entropy

        device, kind = self._head.weight.device, self._head.weight.dtype
        inputs = {name: value.to(device, kind if value.is_floating_point() else None) for name, value in inputs.items()}
        predicts_BL, targets_M = predicts_BL.to(device), targets_M.to(device)
        with torch.inference_mode():
            if self._head_is_all:
                found_MX = self._model.base_model(**inputs, use_cache=False).last_hidden_state[predicts_BL]
            else:
                logits = self._model(**inputs, use_cache=False, logits_to_keep=predicts_BL).logits
                found_MX = logits if logits.dim() == 2 else logits[predicts_BL]
            size = max(1, LOGITS_HELD // self._head.weight.shape[0])
            nll = []
            for part, targets in zip(found_MX.split(size), targets_M.split(size), strict=True):
                logits_MV = self._head(part) if self._head_is_all else part
                nll.append(cross_entropy(logits_MV.float(), targets, reduction="none"))
            return torch.cat(nll).cpu()

    def _compare_head(self) -> bool:
        """Whether the model's logits are its head's output on its body's, tried on a few tokens."""
        import torch

        if self._model.base_model is self._model:
            return False
        ids = torch.arange(8, device=self._head.weight.device)[None]
        with torch.inference_mode():
            own = self._model(input_ids=ids, use_cache=False).logits
            head = self._head(self._model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
        return own.shape == head.shape and bool(torch.allclose(own, head, rtol=1e-5, atol=1e-6))


def sums(nll_M: "torch.Tensor", counts: Sequence[int]) -> list[float]:
    """The sum of each text's tokens, in double precision; `counts` says how many are whose."""
    return [float(part.double().sum()) for part in nll_M.split(list(counts))]
