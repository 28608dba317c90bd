"""Normalising and shingling against a plain Python rendering of the same rules."""

import itertools
import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcorpus.curation.dedup import kernels
from mmcorpus.curation.dedup.minhash import permutations_of
from mmcorpus.curation.dedup.text import Shingles, hash_shingles, jaccard, sign, table_of

SIGNS = ("Sm", "Sc", "Sk", "Cc", "Cf")
KINDS = [
    Shingles(size=3),
    Shingles(size=2, unicode="unaccented", punctuation=False, numbers=False),
    Shingles(unit="characters", size=4, lower=False, unicode="as_is", spaces=True),
    Shingles(unit="characters", size=3, unicode="nfkc"),
    Shingles(size=1, lower=False, unicode="as_is"),
]
TEXTS = st.text(st.characters(codec="utf-8"), max_size=40) | st.text("aAéÉ ,.1２三国ｶ \u0301\u00a0ﬁΣ😀", max_size=30)


def hash_texts(texts: list[str], kind: Shingles) -> tuple[np.ndarray, np.ndarray]:
    _, hashes, known = sign(texts, kind, *permutations_of(1, seed=1), hashed=True)
    return hashes, known


def simplified(text: str, kind: Shingles) -> list[str]:
    """The characters of the normalised text, by the rules as they are written."""
    if kind.unicode in ("nfc", "nfkc"):
        text = unicodedata.normalize(kind.unicode.upper(), text)
    characters: list[str] = []
    for character in text:
        if character.isspace() and not kind.spaces:
            characters.append(" ")
            continue
        for part in character.lower() if kind.lower else character:
            if not kind.punctuation and (unicodedata.category(part)[0] == "P" or unicodedata.category(part) in SIGNS):
                continue
            if kind.unicode != "unaccented":
                characters.append(part)
            else:
                plain = unicodedata.normalize("NFD", part)
                characters += [base for base in plain if unicodedata.category(base) != "Mn"]
    if not kind.numbers:
        digits = ["0" if character.isdecimal() else character for character in characters]
        characters = [c for before, c in zip(["", *digits], digits, strict=False) if not c == before == "0"]
    if not kind.spaces:
        characters = list(re.sub(" +", " ", "".join(characters)).strip(" "))
    return characters


def alone(character: str) -> bool:
    return bool(re.match("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9d"
                         "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000334ff]", character))  # fmt: skip


def shingles(text: str, kind: Shingles) -> list[tuple[str, ...]]:
    units = simplified(text, kind)
    if kind.unit == "words":
        split = "".join(f" {unit} " if alone(unit) else unit for unit in units)
        units = [word for word in split.split(" ") if word]
    width = min(kind.size, len(units))
    return [tuple(units[start : start + width]) for start in range(len(units) - width + 1)] if units else []


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(TEXTS | st.none(), max_size=8), kind=st.sampled_from(KINDS))
def test_shingles_are_those_of_the_plain_rules(texts: list[str | None], kind: Shingles) -> None:
    offsets, hashes = hash_shingles(texts, kind)
    expected = [[] if text is None else shingles(text, kind) for text in texts]
    assert np.diff(offsets).tolist() == [len(part) for part in expected]
    flat = list(itertools.chain.from_iterable(expected))
    pairs = set(zip(flat, hashes.tolist(), strict=True))
    assert len(pairs) == len(set(flat)) == len(set(hashes.tolist())), "equal shingles and equal hashes are not the same"


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXTS, min_size=2, max_size=6), kind=st.sampled_from(KINDS))
def test_texts_have_the_hash_of_their_normal_form(texts: list[str], kind: Shingles) -> None:
    hashes, known = hash_texts(texts, kind)
    forms = ["".join(simplified(text, kind)) for text in texts]
    assert known.tolist() == [bool(shingles(text, kind)) for text in texts]
    assert len({*zip(hashes.tolist(), forms, strict=True)}) == len({*forms}) == len({*hashes.tolist()})


def test_what_looks_alike_is_alike() -> None:
    fineweb = Shingles(unicode="unaccented", punctuation=False, numbers=False)
    texts = ["Café  Zürich, 12 May!", "cafe zurich 7 MAY", "CAFÉ\tZÜRICH — 2026 may"]
    hashes, _ = hash_texts(texts, fineweb)
    assert len(set(hashes.tolist())) == 1
    composed, _ = hash_texts(["\u00e9", "e\u0301"], Shingles())
    assert composed[0] == composed[1]
    wide, _ = hash_texts(["ＡＢＣ", "abc"], Shingles(unicode="nfkc"))
    assert wide[0] == wide[1]
    raw, _ = hash_texts(["\u00e9", "e\u0301"], Shingles(unicode="as_is"))
    assert raw[0] != raw[1]


def test_chinese_characters_are_words() -> None:
    offsets, _ = hash_shingles(["中华人民共和国", "中文 and latin 文字", "ภาษาไทย"], Shingles(size=2))
    assert np.diff(offsets).tolist() == [6, 5, 6]


def test_short_texts_are_one_shingle() -> None:
    offsets, hashes = hash_shingles(["red bike", "Red  Bike", "red", "", "  ", None], Shingles(size=5))
    assert np.diff(offsets).tolist() == [1, 1, 1, 0, 0, 0]
    assert hashes[0] == hashes[1] != hashes[2]


def test_any_arrow_layout_gives_the_same() -> None:
    texts = ["one two three", None, "drei vier fünf sechs", "", "七八九十"]
    expected = hash_shingles(texts, Shingles(size=2))
    padded = pa.array(["x", *texts, "y"])
    for layout in (
        padded.slice(1, 5),
        pa.chunked_array([padded.slice(1, 2), padded.slice(3, 3)]),
        padded.slice(1, 5).cast(pa.large_string()),
        padded.slice(1, 5).dictionary_encode(),
    ):
        offsets, hashes = hash_shingles(layout, Shingles(size=2))
        assert np.array_equal(offsets, expected[0])
        assert np.array_equal(hashes, expected[1])
    assert hash_shingles(pa.nulls(3), Shingles())[0].tolist() == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="texts"):
        hash_shingles(pa.array([[1]]), Shingles())


def test_bytes_that_are_no_utf8_are_replaced_and_nothing_else_is_read() -> None:
    data = np.frombuffer(b"ab\xe4\xb8" + b"\xe4\xb8\xad" + b"\xff\xc0\x80\xf5\xed\xa0\x80", np.uint8)
    points = np.zeros(64, np.uint32)
    table, expansions, _ = table_of(Shingles(unicode="as_is"))
    normalise = kernels.compiled(kernels.normalise_text)
    assert points[: normalise(data, 0, 4, table, expansions, True, points)].tolist() == [97, 98, 0xFFFD, 0xFFFD]
    count = normalise(data, 4, 14, table, expansions, True, points)
    assert points[0] & 0xFFFFFF == ord("中")
    assert set(points[1:5].tolist()) == {0xFFFD}
    assert count <= 8


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text("ab ", max_size=12), min_size=1, max_size=6), data=st.data())
def test_jaccard_is_that_of_sets(texts: list[str], data: st.DataObject) -> None:
    kind = Shingles(size=2)
    index = st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=8)
    first = data.draw(index)
    second = data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=len(first), max_size=len(first)))
    found = jaccard(*hash_shingles(texts, kind), np.array(first), np.array(second))
    sets = [set(shingles(text, kind)) for text in texts]
    expected = [
        len(sets[a] & sets[b]) / len(sets[a] | sets[b]) if sets[a] | sets[b] else 0.0
        for a, b in zip(first, second, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected)


def test_no_text_outgrows_its_room() -> None:
    """The longest expansions, alone: the table's promise of code points a byte is what memory is taken for."""
    for kind in KINDS:
        table, expansions, growth = table_of(kind)
        for start in range(0, 0x30000, 256):
            texts = [chr(point) for point in range(start, start + 256) if not 0xD800 <= point < 0xE000]
            for text in texts:
                entry = int(table[ord(text)])
                points = int(expansions[entry ^ int(kernels.EXPANDED)]) if entry & int(kernels.EXPANDED) else 1
                assert points <= growth * len(text.encode()), f"U+{ord(text):04X}"


def test_configs_are_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        Shingles(size=0)
    with pytest.raises(ValueError, match="spaces"):
        Shingles(spaces=True)
