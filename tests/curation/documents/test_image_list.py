"""The image list: its addresses, the rule that left out each other, and that it depends on the documents alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from mmcorpus.curation.documents.image_list import ImageListConfig, list_images, url_list_config
from mmcorpus.curation.download import DownloadConfig
from mmcorpus.curation.download.lists import normalise
from mmcorpus.curation.html.addresses import address_uid, shown_url
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.uid import document_uid
from tests.curation.documents.image_corpus import image, ledger_of, page, rows_of, text, write_captures, write_documents

INLINE = "data:image/gif;base64,R0lGODlhAQABAAAAACw="


Shards = list[list[dict[str, Any]]]


def listed(tmp_path: Path, shards: Shards, workers: int | None = 0, **options: Any) -> dict[str, str | None]:
    """By address, the rule that dropped it, None for those listed; list and ledger agree."""
    root = str(tmp_path)
    write_documents(f"{root}/documents", shards)
    config = ImageListConfig(**options)
    report = list_images(config, f"{root}/documents", f"{root}/list", f"{root}/ledger", workers=workers)
    entries = ledger_of(f"{root}/ledger/extract.parquet")
    on_list = rows_of(f"{root}/list")
    assert [row["uid"] for row in on_list] == sorted(uid for uid, (rule, _) in entries.items() if rule is None)
    assert all(row["uid"] == address_uid(row["url"]) for row in on_list)
    assert report.addresses == len(entries)
    assert report.listed == len(on_list)
    names = {address_uid(node): node for node in _urls(shards)}
    return {names[uid].removeprefix("http://img.test/"): rule for uid, (rule, _) in entries.items()}


def _urls(shards: Shards) -> list[str]:
    return [node["url"] for pages in shards for row in pages for node in json.loads(row["nodes"]) if "url" in node]


def test_every_address_once_with_its_pages_and_places(tmp_path: Path) -> None:
    shards = [
        [
            page("http://a.test/1", image("x.jpg"), text("One."), image("x.jpg")),
            page("http://a.test/2", image("y.jpg")),
        ],
        [page("http://b.test/1", image("x.jpg"), image("https://other.test/x.jpg"))],
    ]
    assert listed(tmp_path, shards) == {"x.jpg": None, "y.jpg": None, "https://other.test/x.jpg": None}
    counts = {row["url"]: (row["pages"], row["places"]) for row in rows_of(f"{tmp_path}/list")}
    assert counts["http://img.test/x.jpg"] == (2, 3)
    assert counts["http://img.test/y.jpg"] == (1, 1)


@pytest.mark.parametrize(
    ("node", "options", "rule"),
    [
        (image("a.jpg", opt_out="meta robots: noimageai"), {}, "opt_out"),
        (image("a.jpg", opt_out="meta robots: noimageai"), {"opt_out": False}, None),
        (image("a.jpg", decorative="spacer"), {}, "decorative"),
        (image("a.jpg", decorative="spacer"), {"decorative": False}, None),
        (image("a.jpg", width=400, height=31), {}, "declared_side"),
        (image("a.jpg", width=400, height=32), {}, None),
        (image("a.jpg", width=31), {}, "declared_side"),
        (image("a.jpg", width=31), {"min_declared_side": 0}, None),
        (image("site/Logo.png"), {}, "url_word"),
        (image("site/Logo.png"), {"url_words": ("icon",)}, None),
        (image("silicon.png"), {}, "url_word"),
        (image("silicon.png"), {"whole_words": True}, None),
        (image(INLINE), {}, "inline"),
        (image(INLINE, decorative="tracking"), {}, "decorative"),
    ],
)
def test_each_rule(tmp_path: Path, node: Any, options: dict[str, Any], rule: str | None) -> None:
    assert list(listed(tmp_path, [[page("http://a.test/", node)]], **options).values()) == [rule]


def test_more_than_ten_uses_over_all_shards(tmp_path: Path) -> None:
    shards = [
        [
            page(f"http://a.test/{shard}/{number}", image("often.jpg"), image(f"{shard}.jpg"))
            for number in range(5 + shard)
        ]
        for shard in range(2)
    ]
    found = listed(tmp_path, shards)
    assert found == {"often.jpg": "max_uses", "0.jpg": None, "1.jpg": None}
    assert ledger_of(f"{tmp_path}/ledger/extract.parquet")[address_uid("http://img.test/often.jpg")][1] == "11"
    assert listed(tmp_path / "more", shards, max_uses=11)["often.jpg"] is None
    assert listed(tmp_path / "all", shards, max_uses=None)["often.jpg"] is None


def test_one_place_that_shows_it_as_content_is_enough_and_one_that_opts_out_too(tmp_path: Path) -> None:
    shards = [
        [page("http://a.test/", image("a.jpg", decorative="icon"), image("b.jpg", width=8), image("c.jpg"))],
        [page("http://b.test/", image("a.jpg"), image("b.jpg"), image("c.jpg", opt_out="robots.txt"))],
    ]
    assert listed(tmp_path, shards) == {"a.jpg": None, "b.jpg": None, "c.jpg": "opt_out"}


def test_data_addresses_are_not_copied_into_tables(tmp_path: Path) -> None:
    huge = "data:image/png;base64," + "A" * 100_000
    listed(tmp_path, [[page("http://a.test/", image(huge), image("a.jpg"))]])
    value = ledger_of(f"{tmp_path}/ledger/extract.parquet")[address_uid(huge)][1]
    assert value == shown_url(huge)
    assert len(value) < 120


def test_only_what_capture_left_and_what_can_be_read(tmp_path: Path) -> None:
    root = str(tmp_path)
    twice = document_uid("http://a.test/", "")
    pages = [
        page("http://a.test/", image("old.jpg")),
        page("http://a.test/", image("new.jpg")),
        {**page("http://b.test/", image("failed.jpg")), "status": "failed_to_extract"},
        {**page("http://c.test/"), "nodes": "[1, 2"},
        page("http://d.test/", image("d.jpg")),
    ]
    write_documents(f"{root}/documents", [pages])
    table = storage.read_table(f"{root}/documents/000000000.parquet")
    uids = [row["uid"] for row in table.to_pylist() if row["status"] == "success"]
    assert uids.count(twice) == 2, "a capture read twice has one uid in two rows"
    write_captures(f"{root}/scores", "000000000", list(zip(uids, [1, 0, 0, None], strict=True)))
    report = list_images(
        ImageListConfig(), f"{root}/documents", f"{root}/list", f"{root}/ledger", captures=f"{root}/scores", workers=0
    )
    assert report.documents == 3
    assert {row["url"] for row in rows_of(f"{root}/list")} == {"http://img.test/d.jpg", "http://img.test/new.jpg"}


def test_captures_of_other_documents_are_refused(tmp_path: Path) -> None:
    write_documents(f"{tmp_path}/documents", [[page("http://a.test/", image("a.jpg"))]])
    write_captures(f"{tmp_path}/scores", "000000000", [("a" * 32, 0)])
    args = (ImageListConfig(), f"{tmp_path}/documents", f"{tmp_path}/list", f"{tmp_path}/ledger")
    with pytest.raises(ValueError, match="run the capture stage again"):
        list_images(*args, captures=f"{tmp_path}/scores", workers=0)


def test_the_download_reads_the_list_and_the_ledger_balances(tmp_path: Path) -> None:
    nodes = [image("a.jpg"), image("b.jpg"), image("ftp://c.test/c.jpg"), image("logo.png"), image(INLINE)]
    listed(tmp_path, [[page("http://a.test/", *nodes)]])
    config = url_list_config(DownloadConfig(number_sample_per_shard=2))
    found = normalise(config, f"{tmp_path}/list", f"{tmp_path}/lists", f"{tmp_path}/ledger")
    assert (found.kept, found.dropped, found.columns) == (2, {"bad_url": 1}, ("uid", "url", "pages", "places"))
    assert ledger.check_balance(f"{tmp_path}/ledger") == []
    assert [stage.entered for stage in ledger.funnel(f"{tmp_path}/ledger")] == [5, 3]


def test_no_images_at_all(tmp_path: Path) -> None:
    assert listed(tmp_path, [[page("http://a.test/", text("Words."))]]) == {}
    with pytest.raises(ValueError, match="no extracted documents"):
        list_images(ImageListConfig(), f"{tmp_path}/none", f"{tmp_path}/out", f"{tmp_path}/led", workers=0)


def many(shards: int = 3) -> Shards:
    return [
        [
            page(f"http://a.test/{s}/{n}", *(image(f"{(s * 7 + n * 3 + k) % 40}.jpg") for k in range(6)))
            for n in range(5)
        ]
        for s in range(shards)
    ]


def test_same_bytes_after_a_kill_and_with_the_work_cut_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(tmp_path / "whole", many())
    root = str(tmp_path / "killed")
    write_documents(f"{root}/documents", many())
    config = ImageListConfig()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mmcorpus.curation.documents.image_list.ledger.write_stage", killed)
        with pytest.raises(KeyboardInterrupt):
            list_images(config, f"{root}/documents", f"{root}/list", f"{root}/ledger", workers=0)
    storage.remove(f"{root}/list/uses/000000001.arrow")
    list_images(config, f"{root}/documents", f"{root}/list", f"{root}/ledger", workers=0)
    for place in ("list/00000.parquet", "ledger/extract.parquet"):
        assert storage.read_bytes(f"{root}/{place}") == storage.read_bytes(f"{tmp_path}/whole/{place}")
    monkeypatch.setattr("mmcorpus.curation.documents.image_list.TASK_ADDRESSES", 10)
    listed(tmp_path / "cut", many())
    assert len(list((tmp_path / "cut/list").glob("*.parquet"))) > 3
    assert rows_of(f"{tmp_path}/cut/list") == rows_of(f"{tmp_path}/whole/list")
    place = "ledger/extract.parquet"
    assert storage.read_bytes(f"{tmp_path}/cut/{place}") == storage.read_bytes(f"{tmp_path}/whole/{place}")


def test_a_list_that_is_there_is_kept_until_its_documents_or_rules_change(tmp_path: Path) -> None:
    listed(tmp_path, many())
    file = tmp_path / "list/00000.parquet"
    before = file.stat().st_mtime_ns
    listed(tmp_path, many())
    assert file.stat().st_mtime_ns == before
    assert "max_uses" in listed(tmp_path, many(), max_uses=1).values()
    assert len(listed(tmp_path, many(4))) == 39
    (tmp_path / "foreign").mkdir()
    storage.write_table(f"{tmp_path}/foreign/1.parquet", storage.read_table(str(file)))
    with pytest.raises(ValueError, match="without a record of what they are made from"):
        list_images(ImageListConfig(), f"{tmp_path}/documents", f"{tmp_path}/foreign", f"{tmp_path}/led", workers=0)


def test_a_bad_shard_costs_itself_and_is_tried_again(tmp_path: Path) -> None:
    root = str(tmp_path)
    write_documents(f"{root}/documents", many())
    good = storage.read_bytes(f"{root}/documents/000000001.parquet")
    storage.write_bytes(f"{root}/documents/000000001.parquet", b"PAR1" + bytes(len(good) - 4))
    args = (ImageListConfig(), f"{root}/documents", f"{root}/list", f"{root}/ledger")
    report = list_images(*args, workers=0)
    assert list(report.failed) == ["000000001"]
    assert report.documents == 10
    storage.write_bytes(f"{root}/documents/000000001.parquet", good)
    assert list_images(*args, workers=0).failed == {}
    listed(tmp_path / "whole", many())
    assert storage.read_bytes(f"{root}/list/00000.parquet") == storage.read_bytes(
        f"{tmp_path}/whole/list/00000.parquet"
    )


@pytest.mark.parametrize("options", [{"url_words": ("banner",)}, {"max_uses": 0}, {"min_declared_side": -1}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ImageListConfig(**options)


def test_on_s3(s3_root: str) -> None:
    write_documents(f"{s3_root}/documents", many(2))
    args = (ImageListConfig(), f"{s3_root}/documents", f"{s3_root}/list", f"{s3_root}/ledger")
    report = list_images(*args, workers=0)
    assert report == list_images(*args, workers=0)
    assert len(rows_of(f"{s3_root}/list")) == report.listed > 20
