"""Every shipped profile, decided on samples that fall on both sides of each of its clauses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mmcorpus.curation.selection import evaluate
from mmcorpus.filters import PROFILES, SCORERS, DecodedImage, Scorer, wordlists

PEER = json.loads((Path(__file__).parent / "data/datatrove_decisions.json").read_text("utf-8"))
"""Texts (pieces, each with how often it stands) and the clauses that datatrove 0.10.1 drops them by: its filters, each
run with one rule alone; of `c4.kept_lines == c4.lines`, whether its C4 filter removed a line."""
OF_PEER = ("gopher_quality", "gopher_repetition", "fineweb", "c4", "c4_paragraphs")

WORDS = (
    "The old harbour was built when coal still came by sea, and today its pier carries anglers and visitors who walk "
    "out to see the boats. In winter the storms push waves above the railing, so that people stay at home and watch "
    "from their windows; when summer comes again, children race their model boats across the basin, and there is tea "
    "for all who have helped with the work."
)


def prose(words: int) -> str:
    """Sentences of eight common words each, every second a stop word, drawn at random: hardly an n-gram comes again."""
    rng = np.random.default_rng(0)
    stop = sorted(word for word in wordlists.most_frequent("en", 200) if word.isalpha())
    other = sorted(word for word in wordlists.most_frequent("en", 4000) - set(stop) if word.isalpha() and len(word) > 4)
    drawn = [str(rng.choice(other if place % 2 else stop)) for place in range(words)]
    return " ".join(" ".join(drawn[place : place + 8]).capitalize() + "." for place in range(0, words, 8))


def sample(
    text: str = WORDS,
    *,
    size: tuple[int, int] = (400, 300),
    kind: str = "jpeg",
    url: str = "https://a.example/boat.jpg",
    images: int = 3,
) -> dict[str, Any]:
    """A sample that every profile keeps, but for what is given."""
    meta = {"original_width": size[0], "original_height": size[1], "original_format": kind, "images": images}
    pixels = np.zeros((4, 4, 3), np.uint8)
    image = DecodedImage(pixels=pixels, format=kind, mode="RGB", frames=1, has_alpha=False, orientation=1, nbytes=1000)
    return {"caption": text, "image": image, "url": url, "meta": meta}


def failing(profile: str, rows: list[dict[str, Any]], **scorers: Scorer) -> list[set[str]]:
    """Of each sample, the clauses of the profile that drop it."""
    columns: dict[str, pa.Array] = {}
    batch = {name: [row[name] for row in rows] for name in rows[0]}
    for name in PROFILES[profile].scorers:
        scorer = scorers.get(name) or SCORERS[name]()
        found = scorer.load()(batch)
        columns |= {f"{name}.{field.name}": pa.array(found[field.name], field.type) for field in scorer.schema()}
    table = pa.table(columns)
    passed = {clause: evaluate(clause, table).fill_null(False).to_pylist() for clause in PROFILES[profile].clauses}
    return [{clause for clause in passed if not passed[clause][row]} for row in range(len(rows))]


@pytest.fixture(scope="module")
def flagging(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scorer]:
    """Scorers that have `damn` on their lists of flagged words."""
    path = tmp_path_factory.mktemp("words") / "flagged.txt"
    path.write_text("damn\n")
    return {name: SCORERS[name](flagged_words=str(path)) for name in ("obelics", "c4")}


PAIRS: dict[str, list[tuple[dict[str, Any], set[str]]]] = {
    "datacomp_basic": [
        (sample(), set()),
        (sample(size=(600, 200)), set()),
        (sample("Das ist ein altes Boot, das am Meer liegt"), {'language.code == "en"'}),
        (sample("harbour lighthouse"), {"caption.words > 2"}),
        (sample("I go."), {"caption.words > 2", "caption.characters > 5"}),
        (sample("We ate."), {"caption.words > 2"}),
        (sample(size=(300, 199)), {"image.min_side >= 200"}),
        (sample(size=(601, 200)), {"image.aspect_ratio <= 3.0"}),
        (sample(size=(200, 601)), {"image.aspect_ratio <= 3.0"}),
    ],
    "mm1_images": [
        (sample(), set()),
        (sample(size=(100, 200)), set()),
        (sample(size=(10_000, 5_000)), set()),
        (sample(size=(201, 100)), {"image.aspect_ratio <= 2.0"}),
        (sample(size=(100, 201)), {"image.aspect_ratio <= 2.0"}),
        (sample(size=(150, 99)), {"image.min_side >= 100"}),
        (sample(size=(10_001, 9_000)), {"image.max_side <= 10000"}),
        (sample(url="https://a.example/img/Logo.png"), {"url.matches == 0"}),
        (sample(url="https://logo.example/img/boat.png?icon=1"), set()),
    ],
    "obelics_images": [
        (sample(), set()),
        (sample(size=(150, 300), kind="webp"), set()),
        (sample(size=(20_000, 10_000), kind="png"), set()),
        (sample(kind="gif"), {'image.format in ("jpeg", "png", "webp")'}),
        (sample(size=(200, 149)), {"image.min_side >= 150"}),
        (sample(size=(20_001, 19_000)), {"image.max_side <= 20000"}),
        (sample(size=(301, 150)), {"image.aspect_ratio <= 2.0"}),
    ],
    "mm1_documents": [
        (sample(images=1), set()),
        (sample(images=30), set()),
        (sample(images=0), {"document.images >= 1"}),
        (sample(images=31), {"document.images <= 30"}),
    ],
    "mm1_text": [
        (sample(), set()),
        (sample(WORDS[:300]), set()),
        (sample(WORDS[:299]), {"caption.characters >= 300"}),
        (sample("Der alte Hafen lag am Meer, und alle kamen gern. " * 7), {'language.code == "en"'}),
        (sample("Hi ok yes no web site app blog chat " * 10), {"language.probability >= 0.5"}),
        (sample(WORDS + " damn" * 2), {"obelics.flagged_words <= 0.01"}),
    ],
    "obelics_paragraphs": [
        (sample(), set()),
        (sample("The boats are at sea."), set()),
        (sample("The boats are."), {"obelics.words >= 4"}),
        (sample(prose(1000)), set()),
        (sample(prose(1001)), {"obelics.words <= 1000"}),
        (
            sample(
                WORDS + "".join(f" Railing windows harbour {one}." for one in ("now", "then", "here", "there", "today"))
            ),
            {"obelics.character_repetition <= 0.1"},
        ),
        (
            sample(WORDS + " It was the boats at sea we saw." * 4),
            {"obelics.character_repetition <= 0.1", "obelics.word_repetition <= 0.1"},
        ),
        (
            sample(
                WORDS
                + " 9, 1, 7, 3, 42, 8, 65, 2, 50, 11, 23, 77, 90, 34, 58, 16, 60, 21, 36, 88, 45, 72."
                + " $ € % & @ + = ~" * 2
            ),
            {"obelics.special_characters <= 0.3"},
        ),
        (sample("Harbour coal carries anglers, winter storms push railing."), {"obelics.stop_words >= 0.3"}),
        (sample(WORDS + " damn" * 2), {"obelics.flagged_words <= 0.01"}),
        (
            sample(WORDS.translate(str.maketrans("", "", ",.;"))),
            {"obelics.punctuation >= 0.001 or obelics.tokens < 12"},
        ),
        (sample("The boats are at sea"), set()),
        (sample("The xqzt of the vvkq is in the boat."), {"obelics.common_words >= 0.8"}),
        (sample("You can share it or click on the link to log in."), {"obelics.spam_words < 0.12"}),
    ],
    "obelics_documents": [
        (sample(), set()),
        (sample(images=0), {"document.images >= 1"}),
        (sample(images=31), {"document.images <= 30"}),
        (sample("The boats are at sea, and we see them now."), set()),
        (sample("The boats are at sea, and we see them."), {"obelics.words >= 10"}),
        (sample(prose(2000)), set()),
        (sample(prose(2001)), {"obelics.words <= 2000"}),
        (sample(WORDS + " It was the boats at home." * 3), {"obelics.character_repetition <= 0.1"}),
        (
            sample(WORDS + " It was the boats at sea we saw." * 4),
            {"obelics.character_repetition <= 0.1", "obelics.word_repetition <= 0.2"},
        ),
        (
            sample(WORDS + " 9, 1, 7, 3, 42, 8, 65, 2, 50, 11, 23, 77, 90, 34, 58, 16, 60, 21, 36, 88, 45, 72."),
            {"obelics.special_characters <= 0.275"},
        ),
        (
            sample("Harbour coal carries anglers, winter storms push railing, children race model boats."),
            {"obelics.stop_words >= 0.35"},
        ),
        (sample(WORDS + " damn" * 2), {"obelics.flagged_words <= 0.01"}),
        (sample(WORDS.translate(str.maketrans("", "", ",.;"))), {"obelics.punctuation >= 0.03"}),
        (sample("The xqzt of the vvkq is in the boat, and it was at sea."), {"obelics.common_words >= 0.9"}),
        (
            sample("Der alte Hafen lag am Meer, und alle kamen gern."),
            {'language.code == "en"', "obelics.stop_words >= 0.35"},
        ),
        (sample("The boats are at sea, and we see them now, wir sehen die Boote."), {"language.probability >= 0.8"}),
    ],
    "c4": [
        (sample(" ".join([WORDS] * 3)), set()),
        (sample(" ".join([WORDS] * 3) + " It was damn cold."), {"c4.flagged_words == 0"}),
    ],
}


@pytest.mark.parametrize("profile", PAIRS)
def test_a_profile_drops_by_the_clause_that_a_sample_breaks(profile: str, flagging: dict[str, Scorer]) -> None:
    samples, expected = zip(*PAIRS[profile], strict=True)
    assert failing(profile, list(samples), **flagging) == list(expected)


@pytest.mark.parametrize("profile", OF_PEER)
def test_rules_for_texts_decide_as_datatrove(profile: str) -> None:
    rows = [sample("".join(piece * times for piece, times in row["text"])) for row in PEER]
    clauses = set(PROFILES[profile].clauses)
    for row, found in zip(PEER, failing(profile, rows), strict=True):
        assert found == clauses & set(row["datatrove"]), row["name"]


@pytest.mark.parametrize("profile", PROFILES)
def test_samples_fall_on_both_sides_of_every_clause(profile: str) -> None:
    broken = [clauses for _, clauses in PAIRS.get(profile, [])]
    if profile in OF_PEER:
        broken += [set(row["datatrove"]) for row in PEER]
    for clause in PROFILES[profile].clauses:
        assert {clause in clauses for clauses in broken} == {True, False}, clause
