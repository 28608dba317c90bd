"""The report's documents: counts from the ledgers, wishes, and pages as a reader sees them, whatever they hold."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmcorpus.curation.documents.image_list import ImageListConfig, list_images
from mmcorpus.curation.documents.inspect import JudgedDocument, JudgedNode
from mmcorpus.curation.documents.place import PlaceConfig, place_images
from mmcorpus.curation.documents.trim import trim_documents
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import list_shards, read_rows
from mmcorpus.curation.store.uid import node_uid
from mmcorpus.pipelines.report import documents, pages, render_page
from mmcorpus.pipelines.report.inspect import story
from tests.curation.documents.image_corpus import DOWNLOAD, fetch, image, page, picture, text, write_documents
from tests.pipelines.report.test_page import outline

HOSTILE = '</div></details><script>alert("x")</script><img src="http://evil.test/x.png" onerror=alert(1)>'


def documents_of() -> list[dict[str, Any]]:
    return [
        page(
            f"http://a.test/{n}?{'<b>' * (n == 1)}",
            text(f"The tower, part {n}", "h1"),
            text(f"It stands by the river. {HOSTILE}"),
            image(f"{n}.jpg", alt="A tower"),
            text("Subscribe to our newsletter"),
            text("boots\n  size 42\na map", "ul"),
            text("Year | Visitors\n1900 | 12", "table"),
            text("print('x')", "pre"),
            image("gone.jpg"),
            title=f"Tower {n} {HOSTILE}",
            file="s3://crawl/0.warc.gz",
            offset=1_234_567,
            length=89,
            opt_out={3: "meta robots: noai", 4: "robots.txt: Disallow: /4", 5: "robots.txt: Disallow: /5"}.get(n),
        )
        for n in range(6)
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Six pages: three ask not to be used, one is too short; of all a paragraph is dropped and an image is missing."""
    root = str(tmp_path_factory.mktemp("report"))
    found = documents_of()
    write_documents(f"{root}/documents/pages", [found])
    listed, folder = f"{root}/documents/pages.urls", f"{root}/ledger/pages"
    list_images(ImageListConfig(), f"{root}/documents/pages", listed, f"{folder}.urls", workers=0)
    fetch(listed, f"{root}/shards/pages.urls", {f"http://img.test/{n}.jpg": picture(n) for n in range(6)})
    place_images(PlaceConfig(), f"{root}/documents/pages", listed, f"{root}/shards/pages.urls", f"{root}/shards/pages",
                 f"{folder}.images", download=DOWNLOAD, workers=0)  # fmt: skip
    rows = [row for shard in list_shards(f"{root}/shards/pages.paragraphs") for row in read_rows(shard).to_pylist()]
    bad = [row["uid"] for row in rows if row["caption"].startswith("Subscribe")]
    rule, value = "not caption.is_boilerplate", "caption.is_boilerplate=true"
    ledger.write_stage(f"{folder}.paragraphs", "select", [
        ledger.entry(row["uid"], "select", **({"rule": rule, "value": value} if row["uid"] in bad else {}))
        for row in rows])  # fmt: skip
    kept = sorted(row["uid"] for row in rows if row["uid"] not in bad)
    selection = pa.table({"uid": kept, "count": pa.array([1] * len(kept), pa.int32())})
    storage.write_table(f"{root}/kept.parquet", selection)
    extracted = [ledger.entry(row["uid"], "extract") for row in found]
    ledger.write_stage(
        folder, "extract", [*extracted, ledger.entry("f" * 32, "extract", rule="empty", value="empty: no text")]
    )
    ledger.write_stage(folder, "capture", [ledger.entry(row["uid"], "capture") for row in found])
    trim_documents(f"{root}/shards/pages", f"{root}/shards/pages.trimmed", folder, paragraphs=f"{root}/kept.parquet",
                   workers=0)  # fmt: skip
    too_short = ledger.entry(found[0]["uid"], "select", rule="caption.words >= 99", value="caption.words=21")
    ledger.write_stage(folder, "select", [too_short, *(ledger.entry(row["uid"], "select") for row in found[1:3])])
    storage.write_json(f"{root}/run.json", {"name": "pages", "order": [], "stages": {}})
    return root


def test_counts_are_the_ledgers(run: str) -> None:
    (source,) = documents.document_sources(run, ["pages", "pages.images", "pages.paragraphs", "pages.urls"])
    section = documents.section(run, source, 8)
    assert section["text"].startswith("2 of 7 documents kept, 7 of 7 image addresses kept, 6 of 12 images kept")
    counts = {(row["of"], row["stage"], row["rule"]): (row["count"], row["value"]) for row in section["rules"]}
    assert counts == {
        ("documents", "extract", "empty"): (1, "no text"),
        ("documents", "trim", "opt_out"): (3, counts["documents", "trim", "opt_out"][1]),
        ("documents", "select", "caption.words >= 99"): (1, "caption.words=21"),
        ("images", "download", "http_404"): (6, "Not Found"),
        ("paragraphs", "select", "not caption.is_boilerplate"): (6, "caption.is_boilerplate=true"),
    }
    examples = {row["rule"]: row["example"] for row in section["rules"]}
    assert examples["http_404"] == "http://img.test/gone.jpg"
    assert examples["not caption.is_boilerplate"] == "Subscribe to our newsletter"
    assert section["signals"] == [
        ("robots.txt", "documents: 2"),
        ("meta robots: noai", "documents: 1"),
    ]


def test_the_pages_chosen_are_kept_ones_and_one_a_rule(run: str) -> None:
    (section,) = [documents.section(run, "pages", 8)]
    again = documents.section(run, "pages", 8)
    assert section == again
    groups = [view["group"] for view in section["pages"]]
    assert groups == ["kept, most nodes dropped", "kept, most nodes dropped", "dropped, trim", "dropped, select"]
    kept, _, opted_out, short = section["pages"]
    assert kept["counts"] == "6 of 8 nodes kept"
    assert [node["form"] for node in kept["nodes"]] == [
        "heading", "text", "image", "text", "list", "table", "code", "image"]  # fmt: skip
    why = [node["why"] for node in kept["nodes"]]
    assert (why[3], why[7]) == ("not caption.is_boilerplate · caption.is_boilerplate=true", "http_404 · Not Found")
    assert not any(why[:3] + why[4:7])
    assert kept["nodes"][2]["picture"].startswith("data:image/jpeg;base64,")
    assert kept["nodes"][7]["picture"] == ""
    assert kept["nodes"][4]["lines"] == [(0, "boots"), (1, "size 42"), (0, "a map")]
    assert kept["nodes"][5]["rows"] == [["Year", "Visitors"], ["1900", "12"]]
    assert dict(kept["facts"])["record"] == "s3://crawl/0.warc.gz, offset 1,234,567, length 89"
    assert opted_out["rule"] == "opt_out"
    assert opted_out["value"] == dict(opted_out["facts"])["opt-out"]
    assert (short["rule"], short["value"]) == ("caption.words >= 99", "caption.words=21")


def test_what_pages_hold_is_text(run: str) -> None:
    html = outline(render_page(run))
    assert html.active == []
    assert all(source.startswith(("data:image/jpeg;base64,", "#")) for source in html.sources)
    shown = re.sub(r"\s+", " ", html.text)
    assert 'alert("x")' in shown
    assert "http://evil.test/x.png" in shown, "as text"
    assert "extracted 6 of 7 −1 empty" in shown
    assert "6 documents read" in shown
    assert "2 samples selected" in shown, "documents, and none of their nodes"


def test_enormous_pages_are_cut(tmp_path: Path) -> None:
    wide = "\n".join([" | ".join(["cell"] * 100)] * 2)
    nodes = [{"text": "x" * 100_000, "tag": "p"}, {"text": wide, "tag": "table"}] * 500
    judged = tuple(
        JudgedNode(number=number, uid=f"{number:032x}", node=node, image=None, kept=True)
        for number, node in enumerate(nodes)
    )
    view = pages.page_view(JudgedDocument(row={"uid": "a" * 32}, nodes=judged), "kept")
    assert (len(view["nodes"]), view["more"]) == (pages.MAX_NODES, 1000 - pages.MAX_NODES)
    assert len(view["nodes"][0]["text"]) == pages.MAX_CHARACTERS + 1
    assert max(len(row) for row in view["nodes"][1]["rows"]) == pages.MAX_CELLS
    assert (view["title"], view["url"]) == ("(no title)", "(no address)")


def test_a_run_that_has_only_read_its_pages_has_no_views(tmp_path: Path) -> None:
    ledger.write_stage(f"{tmp_path}/ledger/pages", "extract", [ledger.entry("a" * 32, "extract")])
    assert documents.document_sources(str(tmp_path), ["pages"]) == ["pages"]
    section = documents.section(str(tmp_path), "pages", 8)
    assert (section["text"], section["rules"], section["pages"]) == ("1 of 1 documents kept", [], [])


def test_inspect_tells_a_document_and_its_nodes(run: str) -> None:
    uid = documents_of()[0]["uid"]
    told = story(run, uid)
    assert "    offset: 1234567" in told
    assert "  select: dropped by caption.words >= 99: caption.words=21" in told
    page_at = told.index("  page, 6 of 8 nodes kept:")
    lines = [line for line in told[page_at + 1 :] if line]
    assert lines[0] == "    # The tower, part 0"
    assert "    [image] http://img.test/0.jpg  alt: A tower" in lines
    assert "  - (3, dropped: not caption.is_boilerplate: caption.is_boilerplate=true)" in lines
    assert "  - Subscribe to our newsletter" in lines
    assert "  - (7, dropped: http_404: Not Found)" in lines
    assert "      size 42" in lines
    node = story(run, node_uid(uid, 3))
    assert node[1] == "source pages.paragraphs"
    assert f"    document: {uid}" in node
    assert "  select: dropped by not caption.is_boilerplate: caption.is_boilerplate=true" in node
