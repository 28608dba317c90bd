"""Corpora of documents that exist, and tables of pages and text."""

import bz2
import gzip
import io
import json
import lzma
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.crawl.published import UnknownTable, read_table_items
from mmcorpus.curation.crawl.records import START, Failure, Item, Other, Page, Position, Ready
from mmcorpus.curation.download.urls import BadUrl, parse
from mmcorpus.curation.html.nodes import ImageNode, TextNode

IMAGE = "https://a.test/a.jpg"
OBELICS = {
    "texts": ["First.\n\nSecond.", None, "Third."],
    "images": [None, IMAGE, None],
    "metadata": json.dumps([None, {"alt_text": "A cat", "rendered_width": 300, "rendered_height": 200}, None]),
    "general_metadata": json.dumps({"url": "https://a.test/page"}),
}
MMC4 = {
    "url": "https://a.test/page",
    "text_list": ["One.", "Two.", "Three."],
    "image_info": [{"raw_url": IMAGE, "matched_text_index": 1, "matched_sim": 0.3, "image_name": "x.jpg"}],
}
MINT = {"texts": ["One.", None, "Two."], "images": [None, IMAGE, None], "url": "https://a.test/page"}
TEXT = {"text": "One line\nand another.\n\n \n\nTwo.", "url": "https://a.test/page"}
EXPECTED = {
    "obelics": [
        TextNode(text="First."),
        TextNode(text="Second."),
        ImageNode(url=IMAGE, alt="A cat", width=300, height=200),
        TextNode(text="Third."),
    ],
    "mmc4": [TextNode(text="One."), ImageNode(url=IMAGE), TextNode(text="Two."), TextNode(text="Three.")],
    "mint1t": [TextNode(text="One."), ImageNode(url=IMAGE), TextNode(text="Two.")],
    "text": [TextNode(text="One line\nand another."), TextNode(text="Two.")],
}
ROWS: dict[str, dict[str, Any]] = {"obelics": OBELICS, "mmc4": MMC4, "mint1t": MINT, "text": TEXT}


def parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, **options)
    return buffer.getvalue()


def jsonl(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def read(data: bytes, ending: str, format: str = "auto", position: Position = START, **options: Any) -> list[Item]:
    config = PagesConfig(**options)
    return list(read_table_items(f"a{ending}", io.BytesIO(data), format, config, position))


@pytest.mark.parametrize("form", ["auto", "named"])
@pytest.mark.parametrize("ending", [".parquet", ".jsonl", ".jsonl.gz"])
@pytest.mark.parametrize("name", ROWS)
def test_documents_as_their_corpus_publishes_them(name: str, ending: str, form: str) -> None:
    rows = [ROWS[name]] * 2
    data = parquet(rows) if ending == ".parquet" else jsonl(rows)
    data = gzip.compress(data) if ending.endswith(".gz") else data
    items = read(data, ending, name if form == "named" else "auto")
    assert len(items) == 2
    for item in items:
        assert isinstance(item, Ready)
        assert (item.url, item.nodes) == ("https://a.test/page", EXPECTED[name])


@pytest.mark.parametrize("ending", [".parquet", ".jsonl", ".jsonl.gz"])
def test_reading_goes_on_from_any_row(ending: str) -> None:
    rows = [{"text": f"Text {number}."} for number in range(200)]
    data = parquet(rows, row_group_size=30) if ending == ".parquet" else jsonl(rows)
    data = gzip.compress(data) if ending.endswith(".gz") else data
    items = read(data, ending)
    assert len(items) == 200
    for number in (0, 29, 30, 31, 100, 199):
        assert read(data, ending, position=items[number].position) == items[number + 1 :]


def test_pages_of_a_table() -> None:
    when = datetime(2024, 5, 6, 7, 8, 9)
    rows = [
        {"page": "<p>Grüße", "address": "https://a.test/", "seen": when},
        {"page": "<p>" + "x" * 21_000_000, "address": "https://a.test/b", "seen": None},
        {"page": "<p>x", "address": None, "seen": None},
    ]
    settings = {"html_col": "page", "url_col": "address", "date_col": "seen"}
    first, *rest = read(parquet(rows), ".parquet", **settings)
    assert isinstance(first, Page)
    assert (first.body, first.charset, first.date) == ("<p>Grüße".encode(), "utf-8", "2024-05-06T07:08:09Z")
    assert [item.code for item in rest if isinstance(item, Failure)] == ["too_large", "bad_record"]
    raw = pa.table({"html": pa.array([b"<p>\xe4"], pa.binary()), "url": ["https://a.test/"]})
    buffer = io.BytesIO()
    pq.write_table(raw, buffer)
    (page,) = read(buffer.getvalue(), ".parquet")
    assert isinstance(page, Page)
    assert (page.body, page.charset) == (b"<p>\xe4", None)


def test_rows_that_cannot_be_read_cost_themselves() -> None:
    lines = jsonl(
        [
            MMC4,
            ["a list"],
            {**MMC4, "text_list": None},
            {**MMC4, "text_list": "a"},
        ]
    )
    items = read(lines + b'{"broken\n\n' + jsonl([MMC4]), ".jsonl")
    assert [type(item).__name__ for item in items] == ["Ready", *["Failure"] * 4, "Ready"]
    assert {item.code for item in items if isinstance(item, Failure)} == {"bad_record"}
    (empty,) = read(jsonl([{"text": "  \n\n "}]), ".jsonl")
    assert isinstance(empty, Failure)
    assert empty.code == "empty"


@pytest.mark.parametrize("html", [5, 10**12, True, [60, 112], {"a": 1}])
def test_html_that_is_no_text_costs_its_row_and_no_memory(html: object) -> None:
    """Python makes so many zero bytes of a number."""
    bad, good = read(
        jsonl([{"html": html, "url": "http://a.test/"}, {"html": "<p>x", "url": "http://a.test/"}]), ".jsonl"
    )
    assert isinstance(bad, Failure)
    assert bad.code == "bad_record"
    assert "html is a" in bad.detail
    assert isinstance(good, Page)


@pytest.mark.parametrize("bad", [5, 2.5, float("nan"), True, ["a"], {"text": "a"}, None])
def test_an_entry_that_is_no_text_costs_itself(bad: Any) -> None:
    """The other texts, and the images that are matched by places, stay where they are."""
    row = {**MMC4, "text_list": [bad, "Two.", "Three."]}
    note, found = read(jsonl([row]), ".jsonl")
    assert isinstance(note, Other)
    assert note.what == f"entry of text_list that is no text ({type(bad).__name__})"
    assert isinstance(found, Ready)
    assert found.nodes == [ImageNode(url=IMAGE), TextNode(text="Two."), TextNode(text="Three.")]
    for name in ("obelics", "mint1t"):
        *notes, found = read(jsonl([{**ROWS[name], "texts": ["One.", bad, "Two."]}]), ".jsonl", name)
        assert len(notes) == (bad is not None), "null stands where an image does"
        assert isinstance(found, Ready)
        assert [getattr(node, "text", "image") for node in found.nodes] == ["One.", "image", "Two."]


def test_an_entry_that_is_no_text_costs_itself_in_parquet_too() -> None:
    rows = pa.table({"text_list": pa.array([["One.", None, "Three."]]), "image_info": [[{"raw_url": IMAGE,
                    "matched_text_index": 2}]], "url": ["https://a.test/"]})  # fmt: skip
    buffer = io.BytesIO()
    pq.write_table(rows, buffer)
    note, found = read(buffer.getvalue(), ".parquet")
    assert isinstance(note, Other)
    assert isinstance(found, Ready)
    assert found.nodes == [TextNode(text="One."), ImageNode(url=IMAGE), TextNode(text="Three.")]
    (empty,) = (item for item in read(jsonl([{**MMC4, "text_list": [1, 2], "image_info": []}]), ".jsonl")
                if not isinstance(item, Other))  # fmt: skip
    assert isinstance(empty, Failure)
    assert empty.code == "empty"


BAD_IMAGES = ["a/rel.jpg", "//a.test/b.jpg", "ftp://a.test/b.jpg", "file:///etc/passwd", "x y", 7, ["a"], {"path": "a"}]


@pytest.mark.parametrize("image", BAD_IMAGES)
def test_an_image_without_an_address_stays_for_the_download_to_name(image: Any) -> None:
    """It costs neither the text nor the other images."""
    for name in ("obelics", "mint1t"):
        row = {**ROWS[name], "images": [image, IMAGE, None], "texts": [None, None, "Text."]}
        (found,) = read(jsonl([row]), ".jsonl", name)
        assert isinstance(found, Ready)
        bad, good, text = found.nodes
        assert isinstance(bad, ImageNode)
        assert bad.url == (image if isinstance(image, str) else f"({type(image).__name__})")
        with pytest.raises(BadUrl):
            parse(bad.url)
        assert isinstance(good, ImageNode)
        assert (good.url, text) == (IMAGE, TextNode(text="Text."))
    infos = [{"raw_url": image, "matched_text_index": 0}, *MMC4["image_info"]]
    (found,) = read(jsonl([{**MMC4, "image_info": infos}]), ".jsonl")
    assert isinstance(found, Ready)
    assert len(found.nodes) == 5


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        (" https://a.test/a.jpg\n", IMAGE),
        ("HTTPS://a.test/a.jpg", IMAGE),
        ("\tHttp://a.test/A.jpg", "http://a.test/A.jpg"),
        ("DATA:image/png;base64,AA", "data:image/png;base64,AA"),
        ("https://a.test/a b.jpg#x ", "https://a.test/a b.jpg#x "),
    ],
)
def test_addresses_are_taken_as_browsers_do(written: str, read_as: str) -> None:
    (found,) = read(jsonl([{**MINT, "images": [None, written, None]}]), ".jsonl")
    assert isinstance(found, Ready)
    assert found.nodes[1] == ImageNode(url=read_as)


@pytest.mark.parametrize("index", [None, 3, -1, 10**30, "x", float("nan"), [0], "none"])
def test_an_image_without_a_place_costs_itself(index: Any) -> None:
    bad = {"raw_url": IMAGE, "matched_text_index": index}
    if index == "none":
        del bad["matched_text_index"]
    infos = [bad, *MMC4["image_info"], None, "x"]
    *notes, found = read(jsonl([{**MMC4, "image_info": infos}]), ".jsonl")
    assert [note.what for note in notes if isinstance(note, Other)] == ["image that no text is matched with"] * 3
    assert isinstance(found, Ready)
    assert found.nodes == EXPECTED["mmc4"]
    assert {item.position for item in (*notes, found)} == {found.position}


def test_lists_of_different_lengths_and_broken_metadata_cost_no_text() -> None:
    for change, nodes, said in (
        ({"metadata": "[{"}, ["First.", "Second.", IMAGE, "Third."], ["metadata that is no JSON"]),
        ({"metadata": '{"a": 1}'}, ["First.", "Second.", IMAGE, "Third."], ["metadata that is no JSON"]),
        ({"metadata": "null", "general_metadata": "[" * 100_000}, None, ["general_metadata that is no JSON"]),
        ({"metadata": None}, ["First.", "Second.", IMAGE, "Third."], []),
        ({"images": [None, IMAGE]}, ["First.", "Second.", IMAGE, "Third."], []),
        ({"images": [None, IMAGE, None, IMAGE + "2"]}, ["First.", "Second.", IMAGE, "Third.", IMAGE + "2"], []),
        ({"texts": ["First."]}, ["First.", IMAGE], []),
        ({"texts": []}, [IMAGE], []),
        ({"texts": None}, [IMAGE], []),
        ({"images": None}, ["First.", "Second.", "Third."], []),
    ):
        *notes, found = read(jsonl([{**OBELICS, **change}]), ".jsonl", "obelics")
        assert [note.what for note in notes if isinstance(note, Other)] == said
        assert isinstance(found, Ready)
        if nodes is not None:
            assert [node.url if isinstance(node, ImageNode) else node.text for node in found.nodes] == nodes
        assert found.url == (None if "general_metadata" in change else "https://a.test/page")


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", ".JSONL.GZ", ".jsonl?sig=a.gz"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress, parquet])
def test_tables_are_told_by_their_first_bytes(ending: str, pack: Any) -> None:
    rows = [{"text": f"Text {number}."} for number in range(30)]
    data = parquet(rows) if pack is parquet else pack(jsonl(rows))
    items = read(data, f"://h/a{ending}")
    assert len([item for item in items if isinstance(item, Ready)]) == 30
    assert read(data, f"://h/a{ending}", position=items[10].position) == items[11:]


def test_all_frames_of_a_zstd_file_are_read() -> None:
    frames = [zstandard.compress(jsonl([{"text": f"Text {number}."}])) for number in range(5)]
    data = b"\x50\x2a\x4d\x18\x02\0\0\0ab".join(frames)
    assert len(read(data, ".jsonl.zst")) == 5
    *documents, last = read(data[:-5], ".jsonl.zst")
    assert len(documents) == 4
    assert isinstance(last, Failure)
    assert last.code == "truncated"


def test_a_compressed_table_that_breaks_off_ends_with_a_failure() -> None:
    data = gzip.compress(jsonl([{"text": f"Text {number} " * 50} for number in range(500)]))
    *documents, last = read(data[:-200], ".jsonl.gz")
    assert documents
    assert isinstance(last, Failure)
    assert last.code == "truncated"


def test_damage_in_parquet_costs_a_row_group() -> None:
    data = bytearray(parquet([{"text": f"Text {number} " * 50} for number in range(90)], row_group_size=30))
    begin = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(1).column(0).data_page_offset
    data[begin : begin + 40] = b"\xff" * 40
    items = read(bytes(data), ".parquet")
    failures = [item for item in items if isinstance(item, Failure)]
    assert [(item.code, item.offset, item.position) for item in failures] == [("bad_record", 30, Position(60))]
    assert len(items) == 61


def test_unknown_tables_say_what_they_have() -> None:
    with pytest.raises(UnknownTable, match=r"text_col.*It has: words"):
        read(parquet([{"words": "x"}]), ".parquet")
    with pytest.raises(UnknownTable, match="no column 'texts', which obelics needs"):
        read(parquet([{"text": "x"}]), ".parquet", "obelics")
    with pytest.raises(UnknownTable, match="date_col"):
        read(parquet([{"text": "x"}]), ".parquet", date_col="seen")
