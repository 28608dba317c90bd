"""Images back in their places, or the reason why not; and what the views say of them."""

import base64
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest

from mmcorpus.curation.documents import locate
from mmcorpus.curation.documents import place as module
from mmcorpus.curation.documents.image_list import ImageListConfig, list_images
from mmcorpus.curation.documents.place import PlaceConfig, PlaceReport, place_images
from mmcorpus.curation.html.addresses import shown_url
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import Shard, list_shards, read_samples, shard_at
from mmcorpus.curation.store.uid import node_uid
from tests.curation.documents.image_corpus import (
    DOWNLOAD,
    fetch,
    image,
    ledger_of,
    nodes_of,
    page,
    picture,
    rows_of,
    text,
    write_captures,
    write_documents,
)

Rows = list[dict[str, Any]]
URL = "http://img.test/"


def place(root: str, config: PlaceConfig | None = None, **more: Any) -> PlaceReport:
    return place_images(
        config or PlaceConfig(),
        f"{root}/documents",
        f"{root}/list",
        f"{root}/shards/pages.urls",
        f"{root}/shards/pages",
        f"{root}/ledger/pages.images",
        **{"download": DOWNLOAD, "workers": 0, **more},
    )


def prepare(
    root: str, shards: list[Rows], bodies: dict[str, bytes | str], options: ImageListConfig | None = None
) -> None:
    """Documents, the list of their images, and what came of it; `bodies` by the name of the image."""
    write_documents(f"{root}/documents", shards)
    list_images(options or ImageListConfig(), f"{root}/documents", f"{root}/list", f"{root}/ledger/urls", workers=0)
    fetch(f"{root}/list", f"{root}/shards/pages.urls", {URL + name: body for name, body in bodies.items()})


def reasons(root: str) -> list[str | None]:
    return [row["error_message"] for row in rows_of(f"{root}/shards/pages.images")]


def test_images_stand_where_they_stood(tmp_path: Path) -> None:
    root = str(tmp_path)
    documents = [
        page("http://a.test/1", text("First."), image("x.jpg", alt="an x"), text("Then."), image("y.png"), title="T"),
        page("http://a.test/2", image("y.png", caption="The y."), text("The y.", "figcaption")),
        page("http://a.test/3", text("Nothing but words.")),
    ]
    prepare(root, [documents[:2], documents[2:]], {"x.jpg": picture(1), "y.png": picture(2, 200, 100, "PNG")})
    report = place(root)
    assert (report.shards, report.documents, report.images, report.paragraphs) == (2, 3, 3, 4)
    assert (report.dropped, report.bad_documents, report.failed) == ({}, {}, {})
    first, second, third = [sample for shard in list_shards(f"{root}/shards/pages") for sample in read_samples(shard)]
    assert [node.get("image") for node in first.meta["nodes"]] == [None, 0, None, 1]
    assert first.meta["nodes"][1] == {"url": f"{URL}x.jpg", "alt": "an x", "image": 0, "size": [40, 30]}
    assert (first.meta["title"], len(first.images), len(second.images), third.images) == ("T", 2, 1, ())
    urls = {row["url"]: row for row in rows_of(f"{root}/shards/pages.urls")}
    stored = {sample.meta["url"]: sample.images[0] for shard in list_shards(f"{root}/shards/pages.urls")
              for sample in read_samples(shard)}  # fmt: skip
    assert first.images == (stored[f"{URL}x.jpg"], stored[f"{URL}y.png"])
    assert second.images == (stored[f"{URL}y.png"],)
    rows = rows_of(f"{root}/shards/pages.images")
    assert [row["uid"] for row in rows] == [
        node_uid(documents[0]["uid"], 1), node_uid(documents[0]["uid"], 3), node_uid(documents[1]["uid"], 0)
    ]  # fmt: skip
    assert [(row["node"], row["image"], row["key"][-6:]) for row in rows] == [
        (1, 0, "-00001"), (3, 1, "-00003"), (0, 0, "-00000")
    ]  # fmt: skip
    for row in rows:
        for name in ("width", "height", "original_width", "original_format", "sha256", "frames", "has_alpha"):
            assert row[name] == urls[row["url"]][name]
        assert row["address"] == urls[row["url"]]["uid"]
        assert (row["status"], row["domain"]) == ("success", "a.test")
    texts = rows_of(f"{root}/shards/pages.paragraphs")
    assert [(row["caption"], row["tag"], row["node"]) for row in texts] == [
        ("First.", "p", 0), ("Then.", "p", 2), ("The y.", "figcaption", 1), ("Nothing but words.", "p", 0)
    ]  # fmt: skip
    assert {row["url"] for row in texts} == {row["url"] for row in documents}


def test_what_failed_or_was_left_out_stays_as_a_node_with_its_reason(tmp_path: Path) -> None:
    root = str(tmp_path)
    nodes = [image("gone.jpg"), image("page.html"), image("logo.png"), image("here.jpg"), image("icon"), text("Words.")]
    prepare(root, [[page("http://a.test/", *nodes)]], {"page.html": b"<html>no</html>", "here.jpg": picture(1)})
    report = place(root)
    assert reasons(root) == [
        "http_404: Not Found", "not_an_image: html", "url_word: logo", None, "url_word: icon"
    ]  # fmt: skip
    assert report.dropped == {"http_404": 1, "not_an_image": 1, "url_word": 2}
    row = rows_of(f"{root}/shards/pages")[0]
    assert row["images"] == 1
    assert [(node.get("image"), node.get("reason")) for node in nodes_of(row)] == [
        (None, "http_404: Not Found"), (None, "not_an_image: html"), (None, "url_word: logo"), (0, None),
        (None, "url_word: icon"), (None, None),
    ]  # fmt: skip
    statuses = [row["status"] for row in rows_of(f"{root}/shards/pages.images")]
    assert statuses == ["failed_to_download", "failed_to_resize", "skipped", "success", "skipped"]
    found = ledger_of(f"{root}/ledger/pages.images/download.parquet")
    uid = page("http://a.test/")["uid"]
    assert found[node_uid(uid, 0)] == ("http_404", "http_404: Not Found")
    assert found[node_uid(uid, 3)] == (None, None)
    assert ledger.check_balance(f"{root}/ledger/pages.images") == []


def test_the_first_of_a_page_is_kept_by_address_and_by_bytes(tmp_path: Path) -> None:
    root = str(tmp_path)
    nodes = [image("x.jpg", decorative="icon"), image("x.jpg"), image("x.jpg"), image("same.jpg"), image("y.jpg")]
    other = page("http://a.test/2", image("same.jpg"))
    bodies: dict[str, bytes | str] = {"x.jpg": picture(1), "same.jpg": picture(1), "y.jpg": picture(2)}
    prepare(root, [[page("http://a.test/1", *nodes), other]], bodies)
    place(root)
    assert reasons(root) == [
        "decorative: icon", None, "repeated_on_page: of node 1", "repeated_on_page: the bytes of node 1", None, None
    ]  # fmt: skip
    prepare(f"{root}/all", [[page("http://a.test/1", *nodes), other]], bodies)
    place(f"{root}/all", PlaceConfig(repeats="all", decorative=False))
    assert reasons(f"{root}/all") == [None] * 6
    with pytest.raises(ValueError, match=r"made from something else \(place\.repeats changed"):
        place(root, PlaceConfig(repeats="all"))


def test_images_in_their_addresses(tmp_path: Path) -> None:
    root = str(tmp_path)
    small, huge, body = picture(3, 20, 20, "PNG"), picture(4, 100, 80), picture(5)
    encoded = base64.b64encode(huge).decode()
    nodes = [
        image("data:image/png;base64," + base64.b64encode(small).decode()),
        image(f"data:;base64,{encoded[:40]} \n{encoded[40:].rstrip('=')}"),
        image("data:image/png;base64,@@@@"),
        image("data:text/html,<html>"),
        image("data:nothing"),
        image("data:image/png;base64," + base64.b64encode(small).decode()),
        image("data:image/jpeg;base64," + base64.b64encode(body).decode()),
        image("body.jpg"),
    ]
    prepare(root, [[page("http://a.test/", *nodes)]], {"body.jpg": body})
    place(root)
    found = reasons(root)
    assert [(message or "").partition(":")[0] for message in found] == [
        "", "", "bad_url", "not_an_image", "bad_url", "repeated_on_page", "", "repeated_on_page"
    ]  # fmt: skip
    rows = rows_of(f"{root}/shards/pages.images")
    first, second = rows[0], rows[1]
    assert (first["original_format"], first["original_width"], first["original_bytes"]) == ("png", 20, len(small))
    assert (second["width"], second["height"], second["original_width"], second["original_height"]) == (64, 51, 100, 80)
    assert second["sha256"] == hashlib.sha256(huge).hexdigest()
    assert first["url"] == shown_url(nodes[0].url)
    assert all(len(node.get("url", "")) < 120 for node in nodes_of(rows_of(f"{root}/shards/pages")[0]))
    (sample,) = read_samples(Shard(root=f"{root}/shards/pages", name="000000000"))
    # What the download would have stored of the same bytes.
    prepare(f"{root}/fetched", [[page("http://a.test/", image("huge.jpg"))]], {"huge.jpg": huge})
    place(f"{root}/fetched")
    (other,) = read_samples(Shard(root=f"{root}/fetched/shards/pages", name="000000000"))
    assert sample.images[1] == other.images[0]


def test_text_beside_an_image(tmp_path: Path) -> None:
    root = str(tmp_path)
    nodes = [
        image("a.jpg"), text("One."), image("b.jpg", caption="Of b.", alt="b"), image("c.jpg", alt="c"), text("Two."),
        image("d.jpg"),
    ]  # fmt: skip
    bodies: dict[str, bytes | str] = {f"{name}.jpg": picture(number) for number, name in enumerate("abcd")}
    prepare(root, [[page("http://a.test/", *nodes), page("http://b.test/", image("a.jpg"))]], bodies)
    place(root)
    assert [row["caption"] for row in rows_of(f"{root}/shards/pages.images")] == ["One.", "Of b.", "Two.", "Two.", None]
    assert [row["alt"] for row in rows_of(f"{root}/shards/pages.images")] == [None, "b", "c", None, None]
    prepare(f"{root}/alt", [[page("http://a.test/", *nodes)]], bodies)
    place(f"{root}/alt", PlaceConfig(text_beside=("alt", "previous")))
    assert [row["caption"] for row in rows_of(f"{root}/alt/shards/pages.images")] == [None, "b", "c", "Two."]


def test_only_documents_that_capture_left(tmp_path: Path) -> None:
    root = str(tmp_path)
    old, new = page("http://a.test/", image("a.jpg"), digest="1"), page("http://a.test/", image("a.jpg"), digest="2")
    failed = {**page("http://b.test/", text("b")), "status": "failed_to_extract", "error_message": "too_large: 1"}
    broken = {**page("http://c.test/"), "nodes": '[{"neither": 1}]'}
    deep = {**page("http://d.test/"), "nodes": "[" * 100_000}
    write_captures(
        f"{root}/scores", "000000000", [(old["uid"], 1), (new["uid"], 0), *((d["uid"], 0) for d in (broken, deep))]
    )
    prepare(root, [[old, failed, new, broken, deep]], {"a.jpg": picture(1)})
    report = place(root, captures=f"{root}/scores")
    assert [row["uid"] for row in rows_of(f"{root}/shards/pages")] == [new["uid"], broken["uid"], deep["uid"]]
    assert (report.documents, report.bad_documents) == (1, {"bad_nodes": 2})
    assert [row["document"] for row in rows_of(f"{root}/shards/pages.images")] == [new["uid"]]
    assert [sample.uid for sample in read_samples(Shard(root=f"{root}/shards/pages", name="000000000"))] == [new["uid"]]


def test_a_source_without_images(tmp_path: Path) -> None:
    root = str(tmp_path)
    write_documents(f"{root}/documents", [[page("http://a.test/", text("Words."), image("a.jpg"))]])
    report = place_images(
        PlaceConfig(), f"{root}/documents", None, None, f"{root}/shards/texts", f"{root}/ledger", download=DOWNLOAD,
        workers=0,
    )  # fmt: skip
    assert (report.documents, report.paragraphs, report.images, report.dropped) == (1, 1, 0, {"not_listed": 1})


def test_a_damaged_or_missing_shard_of_images_costs_its_images(tmp_path: Path) -> None:
    root = str(tmp_path)
    names = [f"{number}.jpg" for number in range(12)]
    documents = [page(f"http://a.test/{name}", text("Words."), image(name)) for name in names]
    prepare(root, [documents], {name: picture(number, 60, 60) for number, name in enumerate(names)})
    tars = [shard.tar for shard in list_shards(f"{root}/shards/pages.urls")]
    assert len(tars) == 3
    storage.write_bytes(tars[0], storage.read_bytes(tars[0])[:4000])
    storage.remove(tars[1].replace(".tar", "_stats.json"))
    report = place(root)
    assert report.documents == 12
    assert set(report.dropped) == {"not_downloaded", "not_in_tar", "unreadable"}, "the tar ends in an image"
    assert (report.dropped["not_downloaded"], report.dropped["unreadable"]) == (4, 1)
    assert report.images + sum(report.dropped.values()) == 12
    assert [row["status"] for row in rows_of(f"{root}/shards/pages")] == ["success"] * 12


def test_a_tar_that_is_cut_after_it_was_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(tmp_path)
    prepare(
        root, [[page("http://a.test/", image("a.jpg"), image("b.jpg"))]], {"a.jpg": picture(1), "b.jpg": picture(2)}
    )
    read = locate.read_ranges

    def cut(fetched: str, wanted: Any) -> list[bytes | Exception]:
        return [OSError("no such block"), *read(fetched, wanted)[1:]]

    monkeypatch.setattr("mmcorpus.curation.documents.place.read_ranges", cut)
    assert place(root).dropped == {"unreadable": 1}
    rows = rows_of(f"{root}/shards/pages.images")
    assert [(row["image"], row["error_message"]) for row in rows] == [
        (None, "unreadable: OSError: no such block"),
        (0, None),
    ]
    (sample,) = read_samples(shard_at(f"{root}/shards/pages.images", "000000000"))
    assert sample.images == next(read_samples(Shard(root=f"{root}/shards/pages", name="000000000"))).images


def test_more_than_a_thousand_images_on_a_page_and_reading_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(tmp_path)
    colours = {f"{number}.jpg": picture(number, 8, 8) for number in range(3)}
    nodes = [image(f"{number % 3}.jpg") for number in range(1003)]
    prepare(root, [[page("http://a.test/", *nodes), page("http://b.test/", *nodes[:4])]], colours,
            ImageListConfig(max_uses=None))  # fmt: skip
    monkeypatch.setattr("mmcorpus.curation.documents.place.AHEAD_BYTES", 3000)
    monkeypatch.setattr("mmcorpus.curation.documents.place.AHEAD_DOCUMENTS", 1)
    place(root, PlaceConfig(repeats="all"))
    many, few = read_samples(Shard(root=f"{root}/shards/pages", name="000000000"))
    assert (len(many.images), len(few.images)) == (1003, 4)
    assert many.images[:3] * 334 + many.images[:1] == many.images
    view = list(read_samples(shard_at(f"{root}/shards/pages.images", "000000000")))
    assert [sample.images[0] for sample in view] == [*many.images, *few.images]


def corpus(shards: int = 3) -> tuple[list[Rows], dict[str, bytes | str]]:
    documents = [
        [page(f"http://a.test/{s}/{n}", text(f"Page {n} of {s}."),
              *(image(f"{(s * 7 + n * 3 + i) % 40}.jpg") for i in range(3))) for n in range(4)]
        for s in range(shards)
    ]  # fmt: skip
    return documents, {f"{number}.jpg": picture(number) for number in range(0, 40, 2)}


def contents(root: str) -> dict[str, bytes]:
    """The bytes of everything that placing wrote."""
    folders = [f"{root}/shards/pages{view}" for view in ("", ".images", ".paragraphs")] + [
        f"{root}/ledger/pages.images"
    ]
    return {f"{folder[len(root):]}/{name}": storage.read_bytes(f"{folder}/{name}") for folder in folders
            for name in storage.list_names(folder)}  # fmt: skip


def test_same_bytes_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(str(tmp_path / "whole"), *corpus())
    place(str(tmp_path / "whole"))
    root = str(tmp_path / "killed")
    prepare(root, *corpus())
    write = module.commit_shard
    calls = 0

    def killed(*args: Any) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 6:  # the second shard's last file, which commits it
            raise KeyboardInterrupt
        return write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(module, "commit_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            place(root)
    assert len(list_shards(f"{root}/shards/pages")) == 1
    report = place(root)
    assert (report.resumed, report.shards) == (1, 3)
    assert contents(root) == contents(str(tmp_path / "whole"))
    assert dataclasses.replace(place(root), resumed=1) == report
    monkeypatch.setattr("mmcorpus.curation.documents.image_list.TASK_ADDRESSES", 5)
    prepare(str(tmp_path / "cut"), *corpus())
    place(str(tmp_path / "cut"))
    files = contents(str(tmp_path / "cut"))
    assert {name: data for name, data in files.items() if "made_from.json" not in name} == {
        name: data for name, data in contents(root).items() if "made_from.json" not in name
    }


def test_on_s3(s3_root: str, tmp_path: Path) -> None:
    prepare(s3_root, *corpus(2))
    prepare(str(tmp_path), *corpus(2))
    assert place(s3_root) == place(str(tmp_path))
    remote, local = contents(s3_root), contents(str(tmp_path))
    assert {name: data for name, data in remote.items() if "made_from.json" not in name} == {
        name: data for name, data in local.items() if "made_from.json" not in name
    }
    (shard, _) = list_shards(f"{s3_root}/shards/pages.images")
    assert shard.tar == f"{s3_root}/shards/pages/000000000.tar"
    assert len(list(read_samples(shard))) == sum(
        row["status"] == "success" for row in storage.read_table(shard.parquet).to_pylist()
    )


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="text_beside"):
        PlaceConfig(text_beside=("next", "next"))
