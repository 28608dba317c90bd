"""C4's and FineWeb's rules, computed by hand from the papers' definitions."""

from pathlib import Path

import pytest

from mmcorpus.filters.c4 import C4Scorer
from mmcorpus.filters.fineweb import FinewebScorer
from mmcorpus.filters.scorer import Scorer


def measure(text: str, scorer: Scorer) -> dict[str, float]:
    return {name: values[0] for name, values in scorer.load()({"caption": [text]}).items()}


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("This line is kept.", True),
        ('He said "yes it is"', True),
        ("No mark at the end", False),
        ("It goes on...", False),
        ("Too short.", False),
        ("Please enable JavaScript here.", False),
        ("Read our Privacy Policy here.", False),
        ("This site uses cookies, sir.", False),
        ("As was shown here.[12]", True),
        ("As was shown here [citation needed]", False),
        ("One long " + "x" * 1001 + " word.", False),
        ("   Padded at the ends.   ", True),
    ],
)
def test_lines(line: str, kept: bool) -> None:
    row = measure(f"{line}\n\nAnother good line.", C4Scorer())
    assert (row["lines"], row["kept_lines"]) == (2, 1 + kept)


def test_pages() -> None:
    row = measure("One two three. Four five six!\nSeven eight nine?\nnot this one. or is it", C4Scorer())
    assert row["sentences"] == 3
    assert not row["lorem_ipsum"]
    assert measure("Say lorem Ipsum dolor.", C4Scorer())["lorem_ipsum"]
    assert measure("if (a) { b c; } done.", C4Scorer())["curly_bracket"]
    assert not measure("if (a) { b c; }", C4Scorer())["curly_bracket"]  # a line that is dropped before it is looked at


def test_flagged_words(tmp_path: Path) -> None:
    path = tmp_path / "en"
    path.write_text("darn\nheck of\nдурак\n")
    scorer = C4Scorer(flagged_words=str(path))
    assert measure("Darn! A heck of a darn day. Darning socks.", scorer)["flagged_words"] == 2
    assert measure("Darning socks, дураки.", scorer)["flagged_words"] == 0
    assert measure("Какой дурак.", scorer)["flagged_words"] == 1
    assert scorer.fingerprint() != C4Scorer().fingerprint()
    path.write_text("性的")
    assert measure("这是性的东西", C4Scorer(flagged_words=str(path), language="zh"))["flagged_words"] == 1
    with pytest.raises(ValueError, match="no word list at"):
        C4Scorer(flagged_words=str(tmp_path / "missing")).check()


def test_fineweb() -> None:
    text = "A line that ends well, and is longer than thirty.\nshort\n \nshort\n短い。"
    row = measure(text, FinewebScorer())
    assert row["line_punctuation"] == pytest.approx(2 / 4)
    assert row["short_lines"] == pytest.approx(3 / 4)
    assert row["duplicate_line_characters"] == pytest.approx(5 / (len(text) - 4))
    assert row["line_breaks"] == pytest.approx(4 / 17)  # 12 tokens, twice `short`, 短 い 。
    assert measure("x" * 30 + "\n" + "x" * 31, FinewebScorer())["short_lines"] == pytest.approx(1 / 2)
    with pytest.raises(ValueError, match=r"fineweb.short_line is 0"):
        FinewebScorer(short_line=0)
