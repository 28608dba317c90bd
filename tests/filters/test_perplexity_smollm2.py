"""Perplexity of real captions under a real model: ours, transformers', vLLM's."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from filters.perplexity import PerplexityScorer
from filters.served_perplexity import ServedPerplexityScorer
from filters.serving import ServerConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

VLLM = Path(__file__).parents[2] / ".venv-vllm" / "bin" / "python"


@pytest.fixture(scope="module")
def ours(smollm2_gguf: str, real_captions: list[str]) -> dict[str, Sequence[Any]]:
    """What our scorer gives in fp32, from the .gguf file."""
    assert len(real_captions) == 200
    return PerplexityScorer(model_name=smollm2_gguf, device="cpu").load()({"caption": real_captions})


def test_it_is_transformers_own(smollm2: str, real_captions: list[str], ours: dict[str, Sequence[Any]]) -> None:
    """A plain loop over the same weights unpacked, a caption at a time, against our batches."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(smollm2).eval()
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    plain = []
    for caption in real_captions:
        ids = tokenizer(caption, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            plain.append(float(model(input_ids=ids, labels=ids).loss))
    assert ours["ppl"] == pytest.approx(np.exp(plain).tolist(), rel=1e-4)


def test_shuffled_words_are_far_less_likely(
    smollm2: str, real_captions: list[str], ours: dict[str, Sequence[Any]]
) -> None:
    def shuffled(caption: str) -> str:
        words = caption.split()
        while words == caption.split():
            random.Random(caption).shuffle(words)
            caption = caption if words != caption.split() else f"{caption} "
        return " ".join(words)

    columns = PerplexityScorer(model_name=smollm2, device="cpu").load()({"caption": list(map(shuffled, real_captions))})
    gain = np.log(columns["ppl"]) - np.log(ours["ppl"])
    assert (gain > 0).mean() > 0.9
    assert np.exp(np.median(gain)) > 4


def test_it_is_vllms_within_the_error_of_bf16(
    ray_local: None, smollm2: str, real_captions: list[str], ours: dict[str, Sequence[Any]], tmp_path: Path
) -> None:
    from curation.serving import served

    assert VLLM.exists(), "make venv-vllm installs the model server"
    server = ServerConfig(
        python=str(VLLM),
        args=("--enforce-eager", "--dtype", "bfloat16", "--max-model-len", "1024", "--max-num-seqs", "32"),
        env={"VLLM_CPU_KVCACHE_SPACE": "1"},
        replicas=1,
        start_timeout=420.0,
    )
    scorer = ServedPerplexityScorer(model_name=smollm2, server=server)
    size = range(len(real_captions))
    batch = {"uid": [f"{n:032x}" for n in size], "shard": ["00000"] * len(size), "caption": real_captions}
    with served([scorer], logs=str(tmp_path)) as (connected,):
        columns = connected.load()(batch)
    assert columns["n_tokens"] == ours["n_tokens"]
    theirs, mine = np.array(columns["nll_sum"]), np.array(ours["nll_sum"])
    assert np.abs(theirs / mine - 1).max() < 0.03
    assert abs(theirs.sum() / mine.sum() - 1) < 0.003
