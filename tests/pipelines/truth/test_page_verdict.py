"""The verdict on pages counts what was read of each, and finds what dropped each document and node."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from mmcorpus.curation.html.nodes import ImageNode, Node, TextNode, to_json
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.ledger import DROPPED, KEPT, SCHEMA
from mmcorpus.curation.store.uid import node_uid
from mmcorpus.curation.synthetic.miniweb.pages.write import SCHEMA as TRUTH
from mmcorpus.pipelines.truth.page_verdict import compare_pages_with_truth, score_page, words

NODE = {
    "text": None,
    "tag": None,
    "url": None,
    "choices": None,
    "spoil": None,
    "expect_stage": None,
    "expect_rule": None,
}


def text(value: str, **more: str) -> dict:
    return {**NODE, "text": value, "tag": "p", **more}


def image(*choices: str, **more: str) -> dict:
    return {**NODE, "url": choices[0], "choices": list(choices), **more}


def page(url: str, nodes: list[dict], **more: str | None) -> dict:
    known = dict.fromkeys(TRUTH.names) | {
        "url": url,
        "date": "2024-01-01T00:00:00Z",
        "spoil": "clean",
        "expect": KEPT,
        "language": "en",
    }
    return {**known, "nodes": nodes, **more}


def test_words_are_words_and_characters():
    assert words(["Zwei Äpfel, zwei!", "绿色x的"]) == {"zwei": 2, "äpfel": 1, "绿": 1, "色": 1, "x": 1, "的": 1}


def test_a_page_is_scored_by_its_words_and_its_images_in_order():
    row = page("http://a.test/", [text("one two three four"), image("a", "a2"), image("b"), image("c")])
    nodes: list[Node] = [
        ImageNode(url="icon", decorative="icon"), ImageNode(url="b"), ImageNode(url="a2"), ImageNode(url="c"),
        TextNode(text="Two one, five six"),
    ]  # fmt: skip
    score = score_page(row, nodes)
    assert (score.text_precision, score.text_recall, score.text) == (0.5, 0.5, 0.5)
    assert score.images == pytest.approx(2 * 2 / 6)
    assert score_page(page("http://b.test/", [text("one")]), []).text == 0
    assert score_page(page("http://b.test/", [text("one")]), [TextNode(text="one")]).images == 1


def write_run(root: Path, documents: list[tuple[str, str, list[Node]]], dropped: dict[str, dict[str, tuple]]) -> None:
    rows = [
        {"key": f"{n:05d}", "uid": uid, "status": "success", "url": url, "date": "2024-01-01T00:00:00Z",
         "nodes": to_json(nodes)}
        for n, (uid, url, nodes) in enumerate(documents)
    ]  # fmt: skip
    folder = root / "documents/pages"
    storage.write_table(str(folder / "00000.parquet"), pa.Table.from_pylist(rows))
    storage.write_json(str(folder / "00000_stats.json"), {})
    for name, entries in dropped.items():
        source, stage = name.split("/")
        table = [
            {"uid": uid, "stage": stage, "verdict": DROPPED, "rule": rule, "value": None, "row": None}
            for uid, rule in entries.items()
        ]
        storage.write_table(str(root / f"ledger/{source}/{stage}.parquet"), pa.Table.from_pylist(table, schema=SCHEMA))


def test_documents_and_nodes_meet_their_fates(tmp_path: Path):
    dead = image("dead", spoil="http_404", expect_stage="download", expect_rule="http_404")
    again = text("Again and again.", spoil="repeated_paragraph")
    good = [text("A good text."), again, image("x", "y"), dead, text("Not read")]
    late = {"expect": DROPPED, "expect_stage": "select", "expect_rule": "near_text.rank"}
    truth = [
        page("http://a.test/good", good),
        page("http://a.test/copy", [text("B")], spoil="near_duplicate", duplicate_of="http://a.test/good", **late),
        page("http://a.test/gone", [], spoil="page_404", expect=DROPPED, expect_stage="extract"),
        page("http://a.test/asks", [text("C")], spoil="noai_meta", expect=DROPPED, expect_rule="opt_out"),
        page("http://a.test/bare", [text("D")], spoil="no_images", expect="no_images"),
        page("http://a.test/spam", [text("E")], spoil="spam", expect=DROPPED, expect_stage="select"),
    ]
    storage.write_table(str(tmp_path / "truth.parquet"), pa.Table.from_pylist(truth, schema=TRUTH))
    nodes: list[Node] = [
        TextNode(text="A good text."), TextNode(text="Again and again."), ImageNode(url="y"), ImageNode(url="dead"),
    ]  # fmt: skip
    documents = [("a" * 32, "http://a.test/good", nodes)]
    documents += [(c * 32, f"http://a.test/{name}", [TextNode(text=c)]) for c, name in
                  (("b", "copy"), ("c", "asks"), ("d", "bare"), ("e", "spam"))]  # fmt: skip
    write_run(
        tmp_path,
        documents,
        {
            "pages/trim": {"c" * 32: "opt_out"},
            "pages/select": {"a" * 32: "near_text.rank == 0"},
            "pages/pack": {"e" * 32: "too_long"},
            "pages.images/download": {node_uid("a" * 32, 3): "http_404"},
            "pages.paragraphs/select": {node_uid("a" * 32, 1): "repeats.copies < 3"},
        },
    )
    result = compare_pages_with_truth(str(tmp_path), str(tmp_path / "truth.parquet"), "pages")
    found = {verdict.spoil: verdict for verdict in result.verdicts}
    assert next(iter(found)) == "page: clean"
    assert found["page: clean"].kept == 1, "the copy went in its place"
    for name in ("near_duplicate", "page_404", "noai_meta", "no_images"):
        assert (found[f"page: {name}"].caught, found[f"page: {name}"].missed) == (1, 0), name
    assert found["page: spam"].missed == 1
    assert found["image: http_404"].caught == 1
    assert found["image: clean"].kept == 1
    assert found["text: repeated_paragraph"].caught == 1
    assert (found["text: clean"].kept, found["text: clean"].wrongly_dropped) == (1, 1)
    assert [score.url for score in result.pages] == [row["url"] for row in truth if row["nodes"]]
    assert set(result.means()) == {"text", "text_precision", "text_recall", "images"}
    assert json.dumps([verdict.as_dict() for verdict in result.verdicts])
