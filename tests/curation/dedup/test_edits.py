"""The default of `by: minhash`: captions of one template stay apart, edited copies of a caption are found."""

import itertools
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mmcorpus.curation.dedup.edits import EDIT_WORDS, LONG, read_words, same_by_length
from mmcorpus.curation.dedup.minhash import MinHash
from mmcorpus.curation.dedup.run import deduplicate
from mmcorpus.curation.dedup.text import Shingles, hash_shingles
from mmcorpus.curation.store.scores import load_scores
from tests.curation.dedup.conftest import Write
from tests.linear import assert_linear

ADJECTIVES = ["red", "old", "small", "wooden", "broken", "shiny", "quiet", "narrow", "painted", "rusty"]
NOUNS = ["bicycle", "bridge", "lamp", "boat", "chair", "gate", "kettle", "tram", "violin", "window"]
CITIES = ["Lisbon", "Oslo", "Quito", "Hanoi", "Leeds"]


def each(template: str, *slots: Any) -> list[str]:
    return [template.format(*values) for values in itertools.product(*slots)]


TEMPLATES = {
    "photo": each("A photo of a {} {} in {}", ADJECTIVES, NOUNS, CITIES),
    "code": each("Model {}-{} portable radio, front view, manufacturer catalogue page", "AB", range(100)),
    "stock": each("Vector illustration of {} {} isolated on white background, flat style icon", ADJECTIVES, NOUNS),
    "recipe": each("{} soup with rice, ready in {} minutes, serves {}", NOUNS, (10, 20, 30), (2, 4)),
    "size": each("Framed canvas print of the harbour at night, {} x {} cm, ready to hang", (20, 30, 40), (20, 30, 40)),
    "price": each("Leather handbag with zip and shoulder strap, brown, soft lining, one size, free shipping in the "
                  "whole of the country today only, now {}{}", "$€£", ("1.50", "150", "15.0", "1,500", "0.15")),
    "date": each("Weather map of northern Europe for {} {} {}, showing pressure, fronts, rain and the temperature at "
                 "noon in degrees over land and sea", (1, 11, 21), ("March", "April"), (2018, 2019)),
    "unit": each("A bottle of shampoo for dry and damaged hair with the oil of almonds and a mild scent of summer "
                 "flowers, {} {}", (250, 500), ("ml", "g", "fl oz")),
    "flight": each("From {} to {}", CITIES, CITIES),
    "language": ["C++ for beginners", "C# for beginners", "C for beginners", "5 % less fat", "5 less fat"],
    "chinese": each("一张在{}拍摄的{}{}照片", ("上海", "北京"), ("红色", "黑色", "旧"), ("自行车", "汽车", "桥")),
    "chinese episode": each("第{}集在线观看高清完整版国语中字电视剧大结局全集免费播放无广告手机版"
                            "最新更新地址请收藏本站", "一二三四五六七八九"),
    "thai": each("รูปภาพของ{}สี{}", ("จักรยาน", "เรือ", "สะพาน"), ("แดง", "ดำ", "ขาว")),
}  # fmt: skip


@pytest.mark.parametrize("name", TEMPLATES)
def test_captions_of_one_template_stay(name: str, write_source: Write, tmp_path: object) -> None:
    captions = TEMPLATES[name]
    source = write_source("web", captions)
    report = deduplicate("near", MinHash(), [source], f"{tmp_path}/work", workers=0)
    assert (report.samples, report.duplicates, report.unknown) == (len(captions), 0, 0)
    assert load_scores(source.scores, ["near"])["near.copies"].to_pylist() == [1] * len(captions)


def words(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(2, 9))) for _ in range(count)]


def edited(kind: str, text: list[str], place: int) -> str:
    one = list(text)
    if kind == "word":
        one[place] = "replaced"
    elif kind == "left out":
        del one[place]
    elif kind == "inserted":
        one.insert(place, "very")
    elif kind == "case":
        one = [word.upper() for word in one]
    elif kind == "punctuation":
        one[place] += ","
        one[-1] += "!"
    return ("  \n" if kind == "spacing" else " ").join(one)


@pytest.mark.parametrize("kind", ["case", "punctuation", "spacing", "word", "left out", "inserted"])
@pytest.mark.parametrize("length", [8, 21, 30, 60, 90, 150])
def test_edited_copies_are_found(kind: str, length: int, write_source: Write, tmp_path: object) -> None:
    originals = [words(length, seed) for seed in range(60)]
    copies = [edited(kind, text, (7 * seed) % length) for seed, text in enumerate(originals)]
    source = write_source("web", [*map(" ".join, originals), *copies])
    report = deduplicate("near", MinHash(), [source], f"{tmp_path}/work", workers=0)
    if length < EDIT_WORDS and kind in ("word", "left out", "inserted"):
        assert report.duplicates == 0, "another word in a short caption makes another caption"
    else:
        assert (report.largest, report.duplicates >= 58) == (2, True), "recall of 0.97 or more"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Red bike, on a hill!", "red  BIKE on a hill", True),
        ("red bike on a hill", "red bike on the hill", False),
        ("price 1.50", "price 150", False),
        ("price １５０", "price 150", True),
        ("中文 照片", "中文照片", True),
        ("of Oslo to Lisbon", "of Lisbon to Oslo", False),
        (" ".join(words(40, 1)), " ".join(["x", "y", *words(40, 1)[2:]]), True),
        (" ".join(words(40, 1)), " ".join(["x", "y", "z", *words(40, 1)[3:]]), False),
        (" ".join(["7", *words(99 - 1, 1)]), " ".join(["8", *words(99 - 1, 1)]), False),
        (" ".join(["7", *words(120, 1)]), " ".join(["8", *words(120, 1)]), True),
        (" ".join(words(LONG, 1)), " ".join(words(LONG, 1)[: LONG - 1]), False),
        ("中" * 39, "中" * 38 + "国", False),
        ("中" * 40, "中" * 38 + "外国", True),
        ("中" * 40, "中" * 37 + "外国人", False),
    ],
)
def test_pairs(one: str, other: str, same: bool) -> None:
    first, second = np.array([0]), np.array([1])
    assert same_by_length(pa.array([one, other]), first, second).tolist() == [same]
    assert same_by_length(pa.array([other, one]), first, second).tolist() == [same]


def plain_distance(one: list[str], other: list[str]) -> int:
    row = list(range(len(other) + 1))
    for number, word in enumerate(one, 1):
        before, row[0] = row[0], number
        for place, second in enumerate(other, 1):
            before, row[place] = row[place], min(before + (word != second), row[place] + 1, row[place - 1] + 1)
    return row[-1]


def test_the_distance_is_levenshteins() -> None:
    draw = random.Random(4)
    texts = []
    for _ in range(40):
        text = draw.choices("abcdef", k=draw.randint(38, 99))
        texts += [text, [draw.choice("abcdef") if draw.random() < 0.05 else word for word in text]]
    first, second = np.triu_indices(len(texts), 1)
    found = same_by_length(pa.array(map(" ".join, texts)), first, second)
    right = [
        plain_distance(texts[i], texts[j]) <= max(len(texts[i]), len(texts[j])) // EDIT_WORDS
        for i, j in zip(first, second, strict=True)
    ]
    assert found.tolist() == right
    assert 20 < sum(right) < 60


def test_words_know_numbers_and_what_stands_beside_them() -> None:
    found = read_words(["on 12 March a 中三国", "", None, "..."])
    marks = [(int(word) & 1, int(word) >> 1 & 1) for word in found.words]
    assert marks == [(0, 1), (0, 1), (0, 1), (0, 0), (1, 1), (1, 1), (1, 1)]
    assert found.halves.tolist() == [11, 0, 0, 0]
    assert found.offsets.tolist() == [0, 7, 7, 7, 7]
    assert MinHash().keys(pa.table({"caption": ["a", "", None, "..."]}), {}).known.tolist() == [True] + [False] * 3


@pytest.mark.parametrize("part", ["a ", "a", "1 ", "中", "\u0301\u0327", "\uff9e\u0301", "ﷺ", "é, "])
def test_a_long_text_takes_linear_time(part: str) -> None:
    assert_linear(
        lambda text: MinHash().keys(pa.table({"caption": pa.array([text])}), {}),
        lambda size: "é" + part * (size // len(part)),
        least=20_000,
    )


@pytest.mark.parametrize("unicode", ["nfc", "nfkc", "unaccented", "as_is"])
def test_floods_of_marks_take_linear_time(unicode: Any) -> None:
    kind = Shingles(unicode=unicode)
    assert_linear(lambda text: hash_shingles([text], kind), lambda size: "a" + "\u0301\u0327" * size, least=10_000)
