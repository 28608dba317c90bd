"""Exact copies by each set of columns, who survives, and how often is too often."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmcorpus.curation.dedup import METHODS, deduplicate
from mmcorpus.curation.dedup.exact import SameColumns
from mmcorpus.curation.selection import SelectConfig, select
from mmcorpus.curation.selection.tables import read_selection
from tests.curation.dedup.corpus import encode, found, make_rows, source_at

ROWS: list[dict[str, Any]] = [
    {"caption": "A red fox.", "url": "http://a/1", "sha256": "s1", "date": "2020-01-01", "image_set": ["x", "y"]},
    {"caption": "a  RED fox", "url": "http://a/2", "sha256": "s1", "date": "2023-06-01", "image_set": ["y", "x"]},
    {"caption": "A red fox.", "url": "http://a/1", "sha256": "s2", "date": "2021-01-01", "image_set": ["x"]},
    {"caption": "A hare.", "url": None, "sha256": "s3", "date": None, "image_set": ["x", "y", "y"]},
    {"caption": None, "url": "http://a/3", "sha256": None, "date": "yesterday", "image_set": None},
    {"caption": "The red fox of the hill.", "url": "http://a/1", "sha256": "s1", "date": None, "image_set": ["z"]},
]


def clusters(rows: dict[str, tuple[Any, Any, Any]], uids: list[str]) -> list[int | None]:
    """For each sample the number of its cluster's survivor; None where there is nothing to compare."""
    return [None if rows[uid][2] is None else uids.index(rows[uid][2]) for uid in uids]


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("url", [{0, 2, 5}, {1}, {4}]),
        ("bytes", [{0, 1, 5}, {2}, {3}]),
        ("text", [{0, 1, 2}, {3}, {5}]),
    ],
)
def test_rows_that_agree_are_one_cluster(by: str, groups: list[set[int]], tmp_path: Path) -> None:
    source = source_at(tmp_path)
    uids = make_rows(source, ROWS, per_shard=2)
    deduplicate("same", METHODS[by](), [source], str(tmp_path / "dedup"))
    rows = found("same", source)
    for number, own in enumerate(clusters(rows, uids)):
        group = next((group for group in groups if number in group), None)
        lowest = None if group is None else min(group, key=lambda member: uids[member])
        assert own == lowest
        assert rows[uids[number]][0] == (None if group is None else len(group))


def test_a_list_is_a_set(tmp_path: Path) -> None:
    source = source_at(tmp_path)
    uids = make_rows(source, ROWS)
    deduplicate("same", SameColumns(on=("image_set",)), [source], str(tmp_path / "dedup"))
    assert [found("same", source)[uid][0] for uid in uids] == [3, 3, 1, 3, None, 1]


def test_pixels_and_words_together(tmp_path: Path) -> None:
    from mmcorpus.curation.synthetic.render import render

    first, second = (render("scene", seed, size=(80, 64)).image for seed in range(2))
    pictures = [encode(first), encode(first), encode(second), encode(second, 60)]
    source = source_at(tmp_path)
    uids = make_rows(source, [{"caption": text} for text in ("A.", "a", "B", "B")], pictures)
    for name in ("pixels", "text_image"):
        deduplicate(name, METHODS[name](), [source], str(tmp_path / name))
        assert [found(name, source)[uid][0] for uid in uids] == [2, 2, 1, 1]


@pytest.mark.parametrize(
    ("survivor", "among", "expected"),
    [
        ("time(date)", None, 1),
        ("0 - time(date)", None, 0),
        ("length(caption)", None, 5),
        ("caption.words", None, 5),
        ("time(date)", "caption.words > 3", 5),
    ],
)
def test_the_latest_the_longest_the_best_survives(
    survivor: str, among: str | None, expected: int, tmp_path: Path
) -> None:
    source = source_at(tmp_path)
    uids = make_rows(source, ROWS, per_shard=2)
    deduplicate("same", METHODS["bytes"](), [source], str(tmp_path / "w"), survivor=survivor, among=among)
    rows = found("same", source)
    assert rows[uids[0]][2] == uids[expected]
    assert sorted(rows[uids[number]][1] for number in (0, 1, 5)) == [0, 1, 2]


def test_frequency_caps_are_expressions(tmp_path: Path) -> None:
    source = source_at(tmp_path)
    captions = ["home"] * 12 + ["a hare"] * 10 + ["a fox"]
    make_rows(source, [{"caption": text} for text in captions])
    deduplicate("same_text", METHODS["text"](), [source], str(tmp_path / "w"))
    for keep, kept in (("same_text.copies <= 10", 11), ("same_text.rank < 10", 21), ("same_text.rank == 0", 3)):
        select(SelectConfig(keep=keep), source.scores, str(tmp_path / "kept.parquet"))
        assert read_selection(str(tmp_path / "kept.parquet")).num_rows == kept


def test_across_sources_one_survives(tmp_path: Path) -> None:
    first, second = source_at(tmp_path, "first"), source_at(tmp_path, "second")
    uids = [make_rows(source, ROWS[:2]) for source in (first, second)]
    deduplicate("same", METHODS["url"](), [first, second], str(tmp_path / "w"))
    rows = found("same", first, second)
    assert rows[uids[0][0]][2] == rows[uids[1][0]][2] == min(uids[0][0], uids[1][0])
    assert {rows[pair[0]][1] for pair in uids} == {0, 1}


def test_a_list_is_a_set_whatever_is_in_it() -> None:
    lists = pa.array([["a", None], [None, "a", "a"], ["a"], None], pa.list_(pa.string()))
    nested = pa.array([[["b"], ["a"]], [["a"], ["b"]], [["a", "b"]], []], pa.list_(pa.list_(pa.string())))
    for column, known in ((lists, [True, True, True, False]), (nested, [True] * 4)):
        found = SameColumns(on=("tags",)).keys(pa.table({"tags": column}), {})
        assert found.known.tolist() == known
        assert found.keys[0] == found.keys[1] != found.keys[2]
