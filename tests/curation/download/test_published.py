"""PixMo's published files as sources: small ones of their very layout, from parquet to annotations that packs read."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.download import DownloadConfig, ListError, download
from mmcorpus.curation.download.lists import normalise
from mmcorpus.curation.download.published import BadRow, annotated
from mmcorpus.curation.sources import IndexConfig, index
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.ledger import read_stages
from mmcorpus.curation.store.shards import list_shards, read_rows
from mmcorpus.packing.render import RenderConfig, parse_annotations, render
from tests.curation.download.conftest import Web, encoded, picture, rotated

URL, OTHER = "http://a.test/1.jpg", "http://a.test/2.jpg"
XY = pa.struct([("x", pa.float64()), ("y", pa.float64())])
LISTS = pa.struct([("x", pa.list_(pa.float32())), ("y", pa.list_(pa.float32()))])


def points_table(rows: list[dict[str, Any]]) -> pa.Table:
    kinds = {"image_url": pa.string(), "image_sha256": pa.string(), "points": pa.list_(XY), "count": pa.int64(),
             "label": pa.string(), "collection_method": pa.string()}  # fmt: skip
    whole = [{"image_sha256": None, "count": len(row["points"] or ()), **row} for row in rows]
    return pa.Table.from_pylist(whole, schema=pa.schema(list(kinds.items())))


def listed(
    table: pa.Table, folder: Path, published: str, **settings: Any
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, int]]:
    """By URL what the list says of it, and what was dropped."""
    pq.write_table(table, folder / "train-00000-of-00001.parquet")
    config = DownloadConfig(url_col="image_url", published=published, **settings)
    made = normalise(config, str(folder / "train-00000-of-00001.parquet"), str(folder / "l"), str(folder / "g"))
    rows = [row for number in range(made.shards) for row in storage.read_table(made.path(number)).to_pylist()]
    assert made.rows == made.kept + sum(made.dropped.values()) == table.num_rows
    assert len(read_stages(str(folder / "g"))["list"]) == table.num_rows
    for row in rows:
        assert parse_annotations(row["conversations"]), "packs read it"
    return {row["url"]: json.loads(row["conversations"])["annotations"] for row in rows}, made.dropped


def test_captions_and_transcripts_of_an_image_are_annotations(tmp_path: Path) -> None:
    table = pa.table(
        {
            "image_url": [URL, OTHER, "http://a.test/3.jpg"],
            "caption": ["A red clock.", "", None],
            "transcripts": pa.array([["um a clock", "it is red"], ["so a boat"], []], pa.list_(pa.string())),
        }
    )
    said, dropped = listed(table, tmp_path, "pixmo-cap")
    assert said == {
        URL: [
            {"style": "long_caption", "text": "A red clock."},
            {"style": "transcript", "text": "um a clock"},
            {"style": "transcript", "text": "it is red"},
        ],
        OTHER: [{"style": "transcript", "text": "so a boat"}],
    }
    assert dropped == {"bad_row": 1}
    values = read_stages(str(tmp_path / "g"))["list"]["value"].to_pylist()
    assert "it has neither a caption nor a transcript" in values


def test_points_of_an_image_come_together_and_rows_can_be_chosen(tmp_path: Path) -> None:
    rows = [
        {"image_url": URL, "label": "Hands", "points": [{"x": 48.0, "y": 20.5}], "collection_method": "counting"},
        {"image_url": OTHER, "label": "cats", "points": [], "collection_method": "counting"},
        {"image_url": URL, "label": "dial", "points": [{"x": 1.0, "y": 100.0}], "collection_method": "counting"},
        {"image_url": URL, "label": "far", "points": [{"x": 101.0, "y": 3.0}], "collection_method": "counting"},
        {"image_url": URL, "label": "x", "points": [{"x": 1.0, "y": 2.0}], "collection_method": "pointing"},
    ]
    said, dropped = listed(
        points_table(rows), tmp_path, "pixmo-points", where={"collection_method": "counting"},
        verify_hash=("image_sha256", "sha256"),
    )  # fmt: skip
    assert said == {
        URL: [
            {"style": "pointing", "label": "hands", "points": [[48.0, 20.5]]},
            {"style": "pointing", "label": "dial", "points": [[1.0, 100.0]]},
        ],
        OTHER: [{"style": "pointing", "label": "cats", "points": []}],
    }
    assert dropped == {"bad_row": 1, "joined": 1, "where": 1}
    turns = [branch.turns[-1][1] for branch in render(parse_annotations(json.dumps(
        {"annotations": said[URL] + said[OTHER]})) or [], RenderConfig(shuffle=False), 0)]  # fmt: skip
    assert turns == [
        '<point x="48.0" y="20.5" alt="hands">hands</point>', '<point x="1.0" y="100.0" alt="dial">dial</point>',
        "There are none.",
    ]  # fmt: skip


QUESTIONS = pa.struct([("question", pa.list_(pa.string())), ("answer", pa.list_(pa.string()))])
GROUPS = pa.list_(pa.list_(XY))
EXPLAINED = "The <|POINT|> rings, and <|POINT|> wait."
MASKS = pa.list_(pa.list_(pa.list_(pa.bool_())))
OTHERS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "pixmo-points-eval": (
        {
            "label": ["Top Corner", "too few"],
            "points": pa.array([[{"x": 90.0, "y": 10.0}], [{"x": 1.0, "y": 1.0}] * 2], pa.list_(XY)),
            "masks": pa.array([[[[False, False, True], [False, False, False]]], [[[True]]]], MASKS),
        },
        [{"style": "pointing", "label": "top corner", "points": [[90.0, 10.0]],
          "masks": [{"size": [2, 3], "counts": [4, 1, 1]}]}],
    ),
    "pixmo-ask-model-anything": (
        {"question": ["Why?", " "], "answer": ["Because.", "No question."]},
        [{"style": "user_qa", "question": "Why?", "answer": "Because."}],
    ),
    "pixmo-cap-qa": (
        {"messages": pa.array([["Q1", "A1", "Q2", "A2"], ["Q alone"]], pa.list_(pa.string()))},
        [{"style": "synthetic_qa", "messages": [
            {"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"},
            {"role": "user", "content": "Q2"}, {"role": "assistant", "content": "A2"}]}],
    ),
    "pixmo-point-explanations": (
        {
            "question": ["What rings?", "And?"],
            "parsed_response": [EXPLAINED, EXPLAINED],
            "points": pa.array([[[{"x": 9.0, "y": 1.0}], [{"x": 30.04, "y": 2}, {"x": 3, "y": 4}]], [[]]], GROUPS),
            "inline_text": pa.array([["bell", "two cats"], ["one"]], pa.list_(pa.string())),
            "alt_text": pa.array([['a "bell"', "cats"], ["one"]], pa.list_(pa.string())),
        },
        [{"style": "point_qa", "question": "What rings?", "answer":
            'The <point x="9.0" y="1.0" alt="a &quot;bell&quot;">bell</point> rings, and '
            '<points x1="3.0" y1="4.0" x2="30.0" y2="2.0" alt="cats">two cats</points> wait.'}],
    ),
    "pixmo-docs-charts": (
        {"questions": pa.array([{"question": ["How many?", "Which?"], "answer": ["3", "red"]}, None], QUESTIONS)},
        [{"style": "pixmo_docs_charts", "question": "How many?", "answer": "3"},
         {"style": "pixmo_docs_charts", "question": "Which?", "answer": "red"}],
    ),
    "pixmo-clocks": (
        {"text": ["The time shown is 4:05 PM.", None]},
        [{"style": "clocks", "question": "What time is being shown?", "answer": "The time shown is 4:05 PM."}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", list(OTHERS))
def test_other_layouts_are_read_and_a_bad_row_costs_itself(layout: str, tmp_path: Path) -> None:
    columns, wanted = OTHERS[layout]
    table = pa.table({"image_url": [URL, URL], **columns})
    said, dropped = listed(table, tmp_path, layout)
    assert said == {URL: wanted}
    assert dropped == {"bad_row": 1}


def test_masks_are_run_lengths_down_the_columns() -> None:
    row = {"label": "dog", "points": [{"x": 1.0, "y": 1.0}]}

    def runs(mask: list[list[bool]]) -> object:
        return annotated("pixmo-points-eval", {**row, "masks": [mask]})[0]["masks"]

    assert runs([[True, True], [False, True]]) == [{"size": [2, 2], "counts": [0, 1, 1, 2]}]
    assert runs([[False, False]]) == [{"size": [1, 2], "counts": [2]}]
    none = annotated("pixmo-points-eval", {**row, "points": [], "masks": [[[False]]]})
    assert none == [{"style": "pointing", "label": "dog", "points": [], "masks": []}]
    for ragged in ([[True], []], [], [True]):
        with pytest.raises(BadRow, match=r"pixmo-points-eval|no rows of true and false"):
            runs(ragged)  # type: ignore[arg-type]


@pytest.mark.usefixtures("ray_local")
def test_hashes_are_checked_and_pixels_become_per_cent(web: Web, tmp_path: Path) -> None:
    """PixMo-Count's rows; of a picture that lies on its side the points are those of the upright one."""
    files = {"right": encoded(picture(200, 100)), "changed": encoded(picture(50, 60)), "side": rotated(6)}
    urls = {name: web.add(f"/{name}.jpg", data) for name, data in files.items()}
    count = [{"x": [20.0, 200.0], "y": [50.0, 100.0]}, {"x": [], "y": []}, {"x": [10.0], "y": [30.0]}, None]
    table = pa.table(
        {
            "image_url": [urls["right"], urls["changed"], urls["side"], urls["right"]],
            "image_sha256": [
                hashlib.sha256(files["right"]).hexdigest().upper(), hashlib.sha256(b"other").hexdigest(), None, "",
            ],
            "count": pa.array([2, 0, 1, 4], pa.int32()),
            "points": pa.array(count, LISTS),
            "label": ["Cars", "dogs", "boats", "wheels"],
        }
    )  # fmt: skip
    pq.write_table(table, tmp_path / "count.parquet")
    config = DownloadConfig(
        url_col="image_url", published="pixmo-count", verify_hash=("image_sha256", "sha256"), connect_to=web.connect_to,
        retries=0, timeout=5.0, image_size=32,
    )  # fmt: skip
    folders = [str(tmp_path / name) for name in ("shards", "lists", "ledger")]
    report = download(config, str(tmp_path / "count.parquet"), *folders, progress=False)
    assert (report.list_drops, report.codes) == ({"joined": 1}, {"hash_mismatch": 1})
    rows = {row["url"]: row for row in read_rows(list_shards(folders[0])[0]).to_pylist()}
    assert rows[urls["changed"]]["error_message"].startswith("hash_mismatch: sha256 ")
    assert json.loads(rows[urls["right"]]["conversations"])["annotations"] == [
        {"style": "pointing", "label": "cars", "points": [[10.0, 50.0], [100.0, 100.0]]},
        {"style": "point_count", "question": "How many wheels are there?", "answer": "4"},
    ]
    side = rows[urls["side"]]
    assert (side["original_width"], side["original_height"]) == (60, 40)
    assert json.loads(side["conversations"])["annotations"][0]["points"] == [[16.667, 75.0]]
    ledger = Counter(row["rule"] for row in read_stages(folders[2])["download"].to_pylist())
    assert ledger == {None: 2, "hash_mismatch": 1}


@pytest.mark.usefixtures("ray_local")
def test_documents_bring_their_images(tmp_path: Path) -> None:
    """PixMo-Docs is no URL list: its pictures lie in the table, and are read where they are."""
    image = {"bytes": encoded(picture(40, 30)), "path": "1.png"}
    pairs = [{"question": ["How many?"], "answer": ["3"]}, {"question": ["How many?"], "answer": [None]}]
    table = pa.table({"image": [image, image], "image_id": ["a", "b"], "questions": pa.array(pairs, QUESTIONS)})
    pq.write_table(table, tmp_path / "charts.parquet")
    config = IndexConfig(kind="conversation", published="pixmo-docs-charts")
    report = index(config, [str(tmp_path / "charts.parquet")], str(tmp_path / "s"), str(tmp_path / "g"), shown=False)
    assert (report.failed, report.samples, report.dropped) == ({}, 1, {"bad_conversation": 1})
    row = next(row for row in read_rows(list_shards(str(tmp_path / "s"))[0]).to_pylist() if row["status"] == "success")
    assert json.loads(row["conversations"]) == {
        "annotations": [{"style": "pixmo_docs_charts", "question": "How many?", "answer": "3"}]
    }
    assert (row["width"], row["image_id"]) == (40, "a")


@pytest.mark.usefixtures("ray_local")
def test_annotations_of_ones_own_are_indexed_as_they_are(tmp_path: Path) -> None:
    """The academic sets of the recipe: a line an image."""
    (tmp_path / "1.jpg").write_bytes(encoded(picture(30, 20)))
    said = {"annotations": [{"style": "vqa2", "question": "What?", "answer": "a boat"}]}
    lines = [
        {"image": "1.jpg", "conversations": said}, {"image": "1.jpg", "conversations": {"annotations": []}},
        {"url": "http://a.test/2.jpg", "conversations": said},
    ]  # fmt: skip
    (tmp_path / "vqa2.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = IndexConfig(kind="conversation")
    report = index(config, [str(tmp_path / "vqa2.jsonl")], str(tmp_path / "s"), str(tmp_path / "g"), shown=False)
    assert (report.samples, report.dropped) == (1, {"bad_conversation": 1, "image_url": 1})
    rows = [row for row in read_rows(list_shards(str(tmp_path / "s"))[0]).to_pylist() if row["status"] == "success"]
    assert [json.loads(row["conversations"]) for row in rows] == [said]


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(ListError, match=r"has no column 'image_url'.*watchface_id"):
        listed(pa.table({"watchface_id": ["a"], "text": ["4:05"]}), tmp_path, "pixmo-clocks")
    with pytest.raises(ListError, match="has no column 'points'; did you mean 'point'"):
        listed(pa.table({"image_url": [URL], "label": ["a"], "point": ["b"]}), tmp_path, "pixmo-points")
    with pytest.raises(ValueError, match="have no uid_col"):
        DownloadConfig(published="pixmo-cap", uid_col="uid")
    with pytest.raises(ValueError, match="say kind: conversation"):
        IndexConfig(published="pixmo-cap")
    text = points_table([{"image_url": URL, "label": "a", "points": None, "collection_method": "pointing"}])
    assert listed(text, tmp_path, "pixmo-points") == ({}, {"bad_row": 1})


def test_lists_and_downloads_of_before_are_known() -> None:
    """What is not said is in no fingerprint; what is, is."""
    assert {"verify_hash", "published", "where"} <= DownloadConfig().unsaid
    assert "published" not in DownloadConfig(published="pixmo-cap").unsaid
    assert IndexConfig().unsaid == {"published", "downloaded"}
