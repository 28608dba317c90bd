"""Sites' files that a crawl carries, wherever in it, decide about its pages and images."""

from pathlib import Path

import pytest

from mmcorpus.curation.crawl.optout.decide import OptOutConfig
from mmcorpus.curation.crawl.optout.site_rules import SiteFile, to_table
from mmcorpus.curation.documents.image_list import ImageListConfig, list_images
from mmcorpus.curation.documents.read_extracted import digest_of_shards, read_documents
from mmcorpus.curation.documents.site_optout import apply_site_optouts, read_site_optouts
from mmcorpus.curation.html.nodes import from_json
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import list_shards
from tests.curation.documents.image_corpus import image, page, text, write_documents

ROBOTS = SiteFile(host="a.test", kind="robots.txt", date="d", text="User-agent: GPTBot\nDisallow: /secret")
AI = SiteFile(host="img.test", kind="ai.txt", date="d", text="User-Agent: *\nDisallow: *.png")


@pytest.fixture
def documents(tmp_path: Path) -> str:
    root = str(tmp_path / "documents")
    first = [
        page("http://a.test/secret/1", text("One."), image("1.jpg")),
        page(
            "http://a.test/2", text("Two."), image("2.png"), image("2.jpg"), image("3.png", opt_out="meta robots: noai")
        ),
        page("http://a.test/secret/3", text("Three."), opt_out="meta robots: noai"),
    ]
    write_documents(root, [first, [page("http://b.test/secret", text("Four."))]])
    storage.write_table(f"{root}/sites/000010000.parquet", to_table([ROBOTS]))
    storage.write_table(f"{root}/sites/000020000.parquet", to_table([AI]))
    return root


def seen(root: str) -> dict[str, tuple[str | None, list[str | None]]]:
    """By address, what later stages see: the document's opt-out and its images'."""
    rows = [
        row
        for shard in list_shards(root)
        for row in read_documents(shard, {f"{shard.name}{number:05d}" for number in range(9)})
    ]
    return {
        row["url"]: (row["opt_out"], [node.opt_out for node in from_json(row["nodes"]) if hasattr(node, "url")])
        for row in rows
    }


def test_later_stages_see_the_opt_outs_of_sites(documents: str) -> None:
    before = digest_of_shards(documents)
    assert apply_site_optouts(documents, OptOutConfig(), workers=0) == 1
    assert seen(documents) == {
        "http://a.test/secret/1": ("robots.txt: Disallow: /secret (gptbot)", [None]),
        "http://a.test/2": (None, ["ai.txt: Disallow: *.png (*)", None, "meta robots: noai"]),
        "http://a.test/secret/3": ("meta robots: noai", []),  # the signal of the page itself stays
        "http://b.test/secret": (None, []),
    }
    assert digest_of_shards(documents) != before
    assert read_site_optouts(list_shards(documents)[1]) == {}


def test_an_image_that_its_site_withholds_is_not_listed(documents: str, tmp_path: Path) -> None:
    apply_site_optouts(documents, OptOutConfig(), workers=0)
    list_images(ImageListConfig(), documents, str(tmp_path / "list"), str(tmp_path / "ledger"), workers=0)
    listed = storage.read_table(str(tmp_path / "list" / "00000.parquet"))["url"].to_pylist()
    assert sorted(listed) == ["http://img.test/1.jpg", "http://img.test/2.jpg"]


def test_it_is_asked_again_only_where_something_changed(documents: str) -> None:
    written = Path(documents, "objections", "000000000.parquet")

    def time() -> int:
        assert apply_site_optouts(documents, OptOutConfig(), workers=0) == expected
        return written.stat().st_mtime_ns

    expected = 1
    before = time()
    assert time() == before
    storage.remove(f"{documents}/sites/000010000.parquet")
    expected = 0
    assert time() > before
    assert seen(documents)["http://a.test/secret/1"] == (None, [None])


def test_without_files_or_where_none_count_nothing_is_written(documents: str) -> None:
    apply_site_optouts(documents, OptOutConfig(), workers=0)
    assert apply_site_optouts(documents, OptOutConfig(robots_txt=False, ai_txt=False), workers=0) == 0
    assert not storage.exists(f"{documents}/objections")
    storage.remove(f"{documents}/sites")
    assert apply_site_optouts(documents, OptOutConfig(), workers=0) == 0
    assert seen(documents)["http://a.test/secret/1"] == (None, [None])
