"""Perplexity: what a plain forward pass gives for each caption alone, whatever the batch."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mmcorpus.filters.causal_lm
from mmcorpus.filters import judge_batch
from mmcorpus.filters.causal_lm import TokenLikelihoods, batches_by_length
from mmcorpus.filters.perplexity import PerplexityScorer, start_ids
from mmcorpus.packing.vocabulary import train_tokenizer

WORDS = ["a", "red", "blue", "old", "clock", "house", "dog", "stands", "lies", "on", "the", "wall", "in", "of"]
CAPTIONS = [" ".join(random.Random(n).choices(WORDS, k=n % 13 + 2)) for n in range(40)]


@pytest.fixture(scope="module")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Saves a random model of a config class, with a tokenizer of its own, and returns the folder."""

    def make(kind: str, **settings: Any) -> str:
        import transformers

        folder = train_tokenizer(CAPTIONS, 300, str(tmp_path_factory.mktemp(kind)))
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(
            vocab_size=320, **{**sizes, "num_key_value_heads": 2, "max_position_embeddings": 64, **settings}
        )
        model = getattr(transformers, f"{kind}ForCausalLM")(config)
        for parameter in model.parameters():  # far from uniform: losses differ from word to word
            torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="module")
def llama(make_model: Callable[..., str]) -> str:
    return make_model("Llama")


def plain(folder: str, captions: list[str], before: tuple[int, ...] = ()) -> list[float]:
    """One caption at a time, all logits, transformers' own loss."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    for caption in captions:
        ids = torch.tensor([[*before, *tokenizer(caption)["input_ids"]]])
        with torch.no_grad():
            found.append(float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1))
    return found


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Gemma2"])
def test_it_is_what_one_caption_at_a_time_gives(make_model: Callable[..., str], kind: str) -> None:
    """Gemma 2 caps its logits after the head."""
    folder = make_model(kind, **({"head_dim": 8, "final_logit_softcapping": 1.0} if kind == "Gemma2" else {}))
    scorer = PerplexityScorer(model_name=folder, device="cpu", batch_tokens=64)
    columns = scorer.load()({"caption": CAPTIONS})
    assert columns["nll_sum"] == pytest.approx(plain(folder, CAPTIONS), rel=1e-4)
    means = [total / count for total, count in zip(columns["nll_sum"], columns["n_tokens"], strict=True)]
    assert columns["ppl"] == pytest.approx(torch.tensor(means, dtype=torch.float64).exp().tolist(), rel=1e-9)


def test_batch_and_order_change_nothing(llama: str) -> None:
    def judge(captions: list[str], **settings: Any) -> dict[str, float]:
        columns = PerplexityScorer(model_name=llama, device="cpu", **settings).load()({"caption": captions})
        return dict(zip(captions, columns["nll_sum"], strict=True))

    whole = judge(CAPTIONS)
    assert judge(CAPTIONS[::-1], batch_tokens=40) == pytest.approx(whole, rel=1e-4)
    assert judge(CAPTIONS, batch_size=1) == pytest.approx(whole, rel=1e-4)


def test_speed_settings_do_not_make_scores_stale(llama: str) -> None:
    first = PerplexityScorer(model_name=llama)
    assert first.fingerprint() == PerplexityScorer(model_name=llama, batch_tokens=9, batch_size=3).fingerprint()
    assert first.fingerprint() != PerplexityScorer(model_name=llama, start="eos").fingerprint()
    assert first.model().startswith(f"{llama}@")


def test_logits_are_made_for_scored_tokens_alone_and_in_parts(llama: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmcorpus.filters.causal_lm, "LOGITS_HELD", 320 * 50)
    seen: list[int] = []
    make = TokenLikelihoods.__init__

    def spy(self: TokenLikelihoods, model: Any) -> None:
        make(self, model)
        model.get_output_embeddings().register_forward_hook(lambda _, given, made: seen.append(made.numel() // 320))

    monkeypatch.setattr(TokenLikelihoods, "__init__", spy)
    columns = PerplexityScorer(model_name=llama, device="cpu").load()({"caption": CAPTIONS})
    assert sum(seen) == sum(columns["n_tokens"])
    assert max(seen) <= 50 < sum(seen)


def test_captions_that_cannot_be_scored_say_why(llama: str) -> None:
    scorer = PerplexityScorer(model_name=llama, device="cpu")
    batch = {"caption": [None, "", "\n\t", "a", "a clock", "a\udce9 clock"]}
    table = judge_batch(scorer, scorer.load(), batch)
    assert table["reason"].to_pylist() == ["no_caption", "blank", "blank", "too_short", None, None]
    assert table["ppl"].is_null().to_pylist() == [True] * 4 + [False] * 2


def test_long_captions_are_cut_and_flagged(llama: str) -> None:
    caption = " ".join(CAPTIONS)
    for limit, longest in ((2048, 64), (20, 20)):
        scorer = PerplexityScorer(model_name=llama, device="cpu", max_tokens=limit)
        columns = scorer.load()({"caption": [caption, "a clock"]})
        assert columns["truncated"] == [True, False]
        assert columns["n_tokens"][0] == longest - 1


def test_what_stands_before_a_text(llama: str) -> None:
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llama)
    eos = tokenizer.eos_token_id
    assert start_ids(tokenizer, "tokenizer") == start_ids(tokenizer, "nothing") == []
    with pytest.raises(ValueError, match="start is 'bos', and the tokenizer has no such token"):
        start_ids(tokenizer, "bos")
    columns = PerplexityScorer(model_name=llama, device="cpu", start="eos").load()({"caption": ["a", *CAPTIONS]})
    assert columns["nll_sum"] == pytest.approx(plain(llama, ["a", *CAPTIONS], before=(eos,)), rel=1e-4)
    assert columns["n_tokens"][0] == 1
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A <|endoftext|>",
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in ("<|im_start|>", "<|endoftext|>")],
    )
    assert start_ids(tokenizer, "tokenizer") == [tokenizer.convert_tokens_to_ids("<|im_start|>")]


def test_a_special_token_in_a_caption_is_text(llama: str) -> None:
    columns = PerplexityScorer(model_name=llama, device="cpu").load()({"caption": ["<|im_end|>"]})
    assert columns["n_tokens"][0] > 5


def test_what_is_missing_is_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there are no weights at .*/nothing\.gguf"):
        PerplexityScorer(model_name=str(tmp_path / "nothing.gguf")).check()
    PerplexityScorer(model_name="owner/of-the-hub").check()
    with pytest.raises(ValueError, match="model_name is empty"):
        PerplexityScorer(model_name="")


def test_batches_by_length() -> None:
    assert list(batches_by_length([5, 2, 4, 2], 10, 100)) == [[0, 2], [1, 3]]
    assert list(batches_by_length([30, 1, 1, 1], 10, 2)) == [[0], [1, 2], [3]]
    assert list(batches_by_length([], 10, 2)) == []
    assert list(batches_by_length([256, 256, 190, 64], 4096, 100)) == [[0, 1], [2, 3]], "padding by a quarter is enough"
