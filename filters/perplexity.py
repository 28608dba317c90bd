"""The perplexity of a caption under a causal language model."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from mmcorpus.filters import gguf_llama
from mmcorpus.filters.causal_lm import (
    TOO_SHORT,
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
from mmcorpus.filters.scorer import REASON, Batch, Columns
from mmcorpus.filters.weights import local_copy

Start = Literal["tokenizer", "bos", "eos", "nothing"]
_GGUF: Final = ".gguf"


@dataclass(frozen=True, kw_only=True)
class PerplexityScorer(LikelihoodScorer):
    """nll_sum: of the caption's tokens together, in nats. n_tokens: how many were scored. ppl: exp of their quotient.
    truncated: the caption is longer than the context and only its beginning was scored.

    What a plain forward pass of transformers gives for each caption alone (`model(**tokenizer(text), labels=…)`),
    whatever the batch. A caption without a word is null (`no_caption`, `blank`), and so is one of a single token that
    nothing stands before (`too_short`). The end of the text is not scored.
    """

    model_name: str
    """A Hugging Face id, a folder that `save_pretrained` wrote, or a `.gguf` file; a folder or file may be a URL."""
    start: Start = "tokenizer"
    """Context before the first token, so that it is predicted too: `tokenizer`, what the tokenizer puts there
    itself (Llama a BOS, Qwen and GPT-2 nothing); `bos` or `eos`, that token; `nothing`: the first is not scored."""
    max_tokens: int = 2048
    """Longest context, what stands before the text included; the model's own where that is less."""
    batch_tokens: int = 4096
    """Positions in one forward pass, padding included, at most."""

    name: ClassVar[str] = "perplexity"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("caption",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model_name:
            raise ValueError("model_name is empty; give a Hugging Face id, a folder or a .gguf file")
        if self.max_tokens < 2:
            raise ValueError(f"max_tokens is {self.max_tokens}; give 2 or more, e.g. 2048")
        if self.batch_tokens < 1:
            raise ValueError(f"batch_tokens is {self.batch_tokens}; give 1 or more, e.g. 4096")

    def packages(self) -> tuple[str, ...]:
        return ("gguf", "accelerate") if self.model_name.endswith(_GGUF) else ("transformers",)

    def parameters(self) -> dict[str, Any]:
        return {name: value for name, value in super().parameters().items() if name != "batch_tokens"}

    def load_prepare(self) -> Callable[[Batch], Columns]:
        """Captions to the ids that the model is given, what stands before them and all that is too long cut off."""
        tokenizer = load_tokenizer(self.model_name, self.revision)
        before = start_ids(tokenizer, self.start)
        first = max(1, len(before))
        if self.max_tokens <= first:
            raise ValueError(f"max_tokens is {self.max_tokens}, but {len(before)} tokens stand before every text")

        def prepare(batch: Batch) -> Columns:
            reasons, texts = reasons_and_texts(batch["caption"])
            ids = [before + tokens for tokens in encode_plain(tokenizer, texts)]
            return {
                "ids": [one[: self.max_tokens] for one in ids],
                "first": [first] * len(ids),
                "truncated": [len(one) > self.max_tokens for one in ids],
                REASON: [
                    reason or (TOO_SHORT if len(one) <= first else None)
                    for reason, one in zip(reasons, ids, strict=True)
                ],
            }

        return prepare

    def load_model(self) -> Callable[[Columns], Columns]:
        settled = self.settled()
        model = load_causal(self.model_name, self.revision, settled.dtype).to(settled.device)
        likelihoods = TokenLikelihoods(model)
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or self.max_tokens

        def judge(columns: Columns) -> Columns:
            ids = [one[:context] for one in columns["ids"]]
            rows: list[Measured | str] = [reason or "" for reason in columns[REASON]]
            usable = [row for row, reason in enumerate(rows) if not reason]
            for group in batches_by_length([len(ids[row]) for row in usable], self.batch_tokens, self.batch_size):
                members = [usable[one] for one in group]
                first = columns["first"][members[0]]
                nll = text_nll(likelihoods, [ids[row] for row in members], first)
                for row, value in zip(members, nll, strict=True):
                    cut = columns["truncated"][row] or len(columns["ids"][row]) > context
                    rows[row] = Measured(value, len(ids[row]) - first, cut)
            return to_columns(rows)

        return judge


def text_nll(likelihoods: TokenLikelihoods, sequences: Sequence[Sequence[int]], first: int) -> list[float]:
    """For each sequence of ids the sum of the losses of its tokens from position `first` ≥ 1 on, in nats.

    Padding stands on the right, where a causal model cannot see it, so that no mask is needed.
    """
    import torch

    if not sequences:
        return []
    lengths_B = torch.tensor([len(ids) for ids in sequences])
    width = int(lengths_B.max())
    input_ids_BL = torch.zeros((len(sequences), width), dtype=torch.long)
    for row, ids in zip(input_ids_BL, sequences, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    positions_L = torch.arange(width)
    predicts_BL = (positions_L >= first - 1) & (positions_L < lengths_B[:, None] - 1)
    targets_M = input_ids_BL.roll(-1, 1)[predicts_BL]
    return sums(likelihoods({"input_ids": input_ids_BL}, predicts_BL, targets_M), (lengths_B - first).tolist())


def load_tokenizer(model_name: str, revision: str | None) -> Any:
    """The tokenizer of a language model; OSError or ValueError where there is none."""
    from transformers import AutoTokenizer

    place, options = _source(model_name, revision)
    if "gguf_file" in options and gguf_llama.read_config(path := os.path.join(place, options["gguf_file"])) is not None:
        return gguf_llama.load_tokenizer(path)
    return AutoTokenizer.from_pretrained(place, trust_remote_code=False, **options)


def load_causal(model_name: str, revision: str | None, dtype: str) -> Any:
    """A causal language model, ready to judge; OSError or ValueError where there is none that transformers knows."""
    from transformers import AutoModelForCausalLM, GgufConfig

    place, options = _source(model_name, revision)
    if "gguf_file" in options:
        path = os.path.join(place, options["gguf_file"])
        if (config := gguf_llama.read_config(path)) is not None:
            return gguf_llama.load_model(path, config, torch_type(dtype)).eval()
        # Unpacked whatever is installed: kernels for packed weights would give a machine with them other scores.
        options["quantization_config"] = GgufConfig(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(
        place, dtype=torch_type(dtype), trust_remote_code=False, **options
    ).eval()


def _source(model_name: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """Arguments of transformers' `from_pretrained`: the name or path, and options."""
    place = local_copy(model_name)
    if place.endswith(_GGUF):
        folder, file = os.path.split(os.path.abspath(place))
        return folder, {"gguf_file": file}
    return place, {"revision": revision} if revision else {}


def start_ids(tokenizer: Any, start: Start) -> list[int]:
    """The ids that stand before a text.

    Raises:
        ValueError: the tokenizer has no such token.
    """
    if start == "nothing":
        return []
    if start == "tokenizer":
        plain, whole = encode_plain(tokenizer, ["a"])[0], list(tokenizer("a")["input_ids"])
        offsets = (at for at in range(len(whole) - len(plain) + 1) if whole[at : at + len(plain)] == plain)
        return whole[: next(offsets, 0)]
    token = tokenizer.bos_token_id if start == "bos" else tokenizer.eos_token_id
    if token is None:
        raise ValueError(f"start is {start!r}, and the tokenizer has no such token; give tokenizer or nothing")
    return [int(token)]
