"""Shared by the perplexity scorers: columns, batches of like length, and log-likelihoods in fp32 of chosen tokens.

Shape legend: B sequences, L positions, D width, M scored tokens, K words in the vocabulary.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pyarrow as pa

from mmcorpus.filters.caption import NO_CAPTION
from mmcorpus.filters.language import BLANK
from mmcorpus.filters.scorer import REASON, Columns

if TYPE_CHECKING:
    import torch

TOO_SHORT: Final = "too_short"
"""The reason of a text of one token where nothing stands before it: no token is left to be predicted."""
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


SCHEMA: Final = pa.schema(
    {"nll_sum": pa.float64(), "n_tokens": pa.int32(), "ppl": pa.float64(), "truncated": pa.bool_()}
)
"""The columns; `ppl` is exp(nll_sum / n_tokens)."""


def to_columns(rows: Sequence[Measured | str]) -> Columns:
    """The columns of SCHEMA and `reason`, of likelihoods or the reasons why there is none."""
    found = [row if isinstance(row, Measured) else None for row in rows]
    return {
        "nll_sum": [row and row.nll_sum for row in found],
        "n_tokens": [row and row.n_tokens for row in found],
        "ppl": [row and perplexity(row.nll_sum, row.n_tokens) for row in found],
        "truncated": [row and row.truncated for row in found],
        REASON: [row if isinstance(row, str) else None for row in rows],
    }


def perplexity(nll_sum: float, n_tokens: int) -> float:
    """exp of the mean, kept finite (at most e^700)."""
    return math.exp(min(nll_sum / n_tokens, _MOST_NATS))


def blank_reason(text: str | None) -> str | None:
    """Why a text cannot be scored before anything is looked at: `no_caption`, `blank`; None if it can."""
    return NO_CAPTION if text is None else BLANK if not text.strip() else None


def clean(text: str) -> str:
    """The text with lone surrogates, which tokenizers refuse, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def encode_plain(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The ids of the texts alone; a special token that a text spells out is encoded as the characters it has."""
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(
        [clean(text) for text in texts], add_special_tokens=False, split_special_tokens=True
    )["input_ids"]
    return ids


def batches_by_length(lengths: Sequence[int], budget: int, most: int) -> Iterable[list[int]]:
    """Positions in `lengths` in groups of like length, longest first; at most `most` in a group, and its longest times
    its size at most `budget`. What is longer than the budget stands alone.

    `[5, 2, 4, 2]` with a budget of 10 gives `[0, 2]` and `[1, 3]`.
    """
    group: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda one: (-lengths[one], one)):
        if group and (len(group) == most or (len(group) + 1) * lengths[group[0]] > budget):
            yield group
            group = []
        group.append(position)
    if group:
        yield group


def torch_type(dtype: str) -> "torch.dtype":
    """The type of weights and activations by the name that `ModelScorer.dtype` has for it."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]


class TokenLikelihoods:
    """Negative log-likelihoods of chosen tokens under a transformers model with a language modelling head.

    Only positions that predict one of them pass through the head, a part at a time, so that B×L×K logits never exist.
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

        device, kind = self._head.weight.device, self._head.weight.dtype
        inputs = {name: value.to(device, kind if value.is_floating_point() else None) for name, value in inputs.items()}
        predicts_BL, targets_M = predicts_BL.to(device), targets_M.to(device)
        with torch.inference_mode():
            if self._head_is_all:
                hidden_MD = self._model.base_model(**inputs, use_cache=False).last_hidden_state[predicts_BL]
                parts = hidden_MD.split(max(1, LOGITS_HELD // self._head.weight.shape[0]))
                nll = [
                    _nll(self._head(part), wanted)
                    for part, wanted in zip(parts, targets_M.split([len(part) for part in parts]), strict=True)
                ]
            else:
                logits = self._model(**inputs, use_cache=False, logits_to_keep=predicts_BL).logits
                logits_MK = logits if logits.dim() == 2 else logits[predicts_BL]
                size = max(1, LOGITS_HELD // logits_MK.shape[-1])
                nll = [
                    _nll(part, wanted)
                    for part, wanted in zip(logits_MK.split(size), targets_M.split(size), strict=True)
                ]
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


def _nll(logits_MK: "torch.Tensor", targets_M: "torch.Tensor") -> "torch.Tensor":
    import torch.nn.functional as F

    return F.cross_entropy(logits_MK.float(), targets_M, reduction="none")


def sums(nll_M: "torch.Tensor", counts: Sequence[int]) -> list[float]:
    """The sum of each text's tokens, in double precision; `counts` says how many are whose."""
    return [float(part.double().sum()) for part in nll_M.split(list(counts))]
