"""KenLM: probabilities worked out by hand from a tiny model, CCNet's normalisation and arithmetic."""

import math
from pathlib import Path

import pytest

from mmcorpus.filters.kenlm import KenlmScorer, normalize

ARPA = """
\\data\\
ngram 1=6
ngram 2=4

\\1-grams:
-1.2\t<unk>\t0
0\t<s>\t-0.3
-0.7\t</s>\t0
-0.6\ta\t-0.2
-0.9\tcat\t-0.1
-1.0\t00\t-0.1

\\2-grams:
-0.1\t<s> a
-0.2\ta cat
-0.3\tcat </s>
-0.4\ta 00

\\end\\
"""


@pytest.fixture
def arpa(tmp_path: Path) -> str:
    path = tmp_path / "tiny.arpa"
    path.write_text(ARPA)
    return str(path)


def test_a_captions_perplexity_is_ccnets(arpa: str) -> None:
    captions = ["A Cat", "a cat\n\nA 19", "dog", None, " \n ", "\x07", "a cat\udce9"]
    columns = KenlmScorer(file=arpa).load()({"caption": captions})
    # <s> a, a cat, cat </s>; and in the second line <s> a, a 00, and 00 </s> by back-off.
    first, second = 0.1 + 0.2 + 0.3, 0.1 + 0.4 + (0.1 + 0.7)
    unknown = (0.3 + 1.2) + 0.7
    assert columns["nll_sum"][:3] == pytest.approx([math.log(10) * x for x in (first, first + second, unknown)], 1e-6)
    assert columns["n_tokens"] == [3, 6, 2, None, None, None, 3]
    assert columns["ppl"][1] == pytest.approx(10 ** ((first + second) / 6), 1e-6)
    assert columns["reason"] == [None, None, None, "no_caption", "blank", "blank", None]


def test_the_fingerprint_follows_the_models_content(arpa: str) -> None:
    scorer = KenlmScorer(file=arpa)
    before = scorer.fingerprint()
    Path(arpa).write_text(ARPA.replace("-0.4\ta 00", "-0.5\ta 00"))
    assert scorer.fingerprint() != before
    assert set(scorer.schema().names) == {"nll_sum", "n_tokens", "ppl"}


@pytest.mark.parametrize(
    ("line", "normal"),
    [
        ("  Dès 1984, «Été»… ", 'des 0000, "ete"...'),
        ("Ｏｎｅ１２：（一）。", "ｏｎｅ00:(一)."),
        ("it’s—5 %\x00", "it's - 0 %"),
        ("İ", "i"),
    ],
)
def test_lines_are_normalised_as_ccnet_does(line: str, normal: str) -> None:
    assert normalize(line) == normal


def test_words_are_sentencepieces(arpa: str, tmp_path: Path) -> None:
    import sentencepiece

    texts = tmp_path / "texts.txt"
    texts.write_text("a cat\na dog\nthe cat and the dog\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(texts), model_prefix=str(tmp_path / "tiny"), vocab_size=14, minloglevel=2
    )
    scorer = KenlmScorer(file=arpa, sentencepiece=str(tmp_path / "tiny.model"))
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tiny.model")).encode("a cat", out_type=str)
    assert scorer.load()({"caption": ["A cat"]})["n_tokens"] == [len(pieces) + 1]
    assert scorer.fingerprint() != KenlmScorer(file=arpa).fingerprint()


def test_a_missing_model_is_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there are no weights at .*/no\.arpa"):
        KenlmScorer(file=str(tmp_path / "no.arpa")).check()
    with pytest.raises(ValueError, match="file is empty"):
        KenlmScorer(file="")
