"""Repeats among documents' images, paragraphs and image sets are passes of deduplication over the views."""

from collections import Counter
from pathlib import Path

import pytest

from mmcorpus.curation.dedup import METHODS, Source, deduplicate
from mmcorpus.curation.dedup.exact import SameColumns
from mmcorpus.curation.documents.image_list import ImageListConfig, list_images
from mmcorpus.curation.documents.place import PlaceConfig, place_images
from mmcorpus.curation.documents.trim import trim_documents
from mmcorpus.curation.selection import SelectConfig, select
from mmcorpus.curation.selection.tables import read_selection
from mmcorpus.curation.store.scores import load_scores
from mmcorpus.curation.store.shards import list_shards, read_rows
from tests.curation.documents.image_corpus import DOWNLOAD, fetch, image, page, picture, text, write_documents

FOOTER = "All rights reserved by the authors of this very page."


@pytest.fixture
def root(tmp_path: Path) -> str:
    """Three pages of one site with a footer, two of another; pages 0 and 3 show the same two images."""
    documents = [
        page("http://a.test/0", text("The old tower."), image("1.jpg"), image("2.jpg"), text(FOOTER)),
        page("http://a.test/1", text("A river."), image("2.jpg"), text(FOOTER)),
        page("http://a.test/2", text("The old tower."), image("3.jpg"), text(FOOTER)),
        page("http://b.test/0", text("The old tower."), image("2.jpg"), image("1.jpg"), text(FOOTER)),
        page("http://b.test/1", text("A bridge."), text(FOOTER)),
    ]
    at = str(tmp_path)
    write_documents(f"{at}/documents", [documents[:2], documents[2:]])
    list_images(ImageListConfig(), f"{at}/documents", f"{at}/list", f"{at}/ledger/urls", workers=0)
    # 1.jpg and 3.jpg are the same file under two addresses.
    bodies = {f"http://img.test/{name}.jpg": picture(seed, 300, 200) for name, seed in ((1, 7), (2, 8), (3, 7))}
    fetch(f"{at}/list", f"{at}/shards/pages.urls", bodies)
    place_images(
        PlaceConfig(), f"{at}/documents", f"{at}/list", f"{at}/shards/pages.urls", f"{at}/shards/pages",
        f"{at}/ledger/pages.images", download=DOWNLOAD, workers=0,
    )  # fmt: skip
    trim_documents(f"{at}/shards/pages", f"{at}/shards/pages.trimmed", f"{at}/ledger/pages", workers=0)
    return at


def view(root: str, name: str) -> Source:
    return Source(name=name, shards=f"{root}/shards/{name}", scores=f"{root}/scores/{name}", embeddings=f"{root}/e")


def rows_of(source: Source, *columns: str) -> dict[str, tuple[object, ...]]:
    """Columns of a view's rows, by uid."""
    rows = [row for shard in list_shards(source.shards) for row in read_rows(shard).to_pylist()]
    return {row["uid"]: tuple(row[column] for column in columns) for row in rows}


def copies(source: Source, name: str) -> dict[str, int | None]:
    table = load_scores(source.scores, columns=[f"{name}.copies"])
    return dict(zip(table["uid"].to_pylist(), table[f"{name}.copies"].to_pylist(), strict=True))


def test_a_paragraph_that_a_domain_repeats_three_times_goes_wherever_it_stands(root: str, tmp_path: Path) -> None:
    source = view(root, "pages.paragraphs")
    deduplicate("in_domain", SameColumns(on=("domain", "caption")), [source], f"{root}/dedup", workers=0)
    rows, found = rows_of(source, "domain", "caption"), copies(source, "in_domain")
    assert {(*rows[uid], count) for uid, count in found.items()} == {
        ("a.test", FOOTER, 3),
        ("b.test", FOOTER, 2),
        ("a.test", "The old tower.", 2),
        ("b.test", "The old tower.", 1),
        ("a.test", "A river.", 1),
        ("b.test", "A bridge.", 1),
    }
    kept = tmp_path / "kept.parquet"
    select(SelectConfig(keep="in_domain.copies < 3"), source.scores, str(kept))
    uids = read_selection(str(kept)).column("uid").to_pylist()
    assert Counter(rows[uid][0] for uid in uids if rows[uid][1] == FOOTER) == {"b.test": 2}, "every copy goes"
    assert len(uids) == len(rows) - 3


def test_an_image_is_counted_wherever_it_stands(root: str) -> None:
    source = view(root, "pages.images")
    deduplicate("same_url", METHODS["url"](), [source], f"{root}/dedup/url", workers=0)
    deduplicate("same_bytes", METHODS["bytes"](), [source], f"{root}/dedup/bytes", workers=0)
    rows = rows_of(source, "url")
    by_url = {(rows[uid][0], count) for uid, count in copies(source, "same_url").items()}
    assert by_url == {("http://img.test/1.jpg", 2), ("http://img.test/2.jpg", 3), ("http://img.test/3.jpg", 1)}
    by_bytes = {(rows[uid][0], count) for uid, count in copies(source, "same_bytes").items()}
    assert by_bytes == {("http://img.test/1.jpg", 3), ("http://img.test/2.jpg", 3), ("http://img.test/3.jpg", 3)}


def test_documents_that_show_the_same_images(root: str) -> None:
    source = view(root, "pages.trimmed")
    deduplicate("same_images", SameColumns(on=("image_set",)), [source], f"{root}/dedup", workers=0)
    rows = rows_of(source, "url")
    found = {rows[uid][0]: count for uid, count in copies(source, "same_images").items()}
    assert found == {
        "http://a.test/0": 2,
        "http://b.test/0": 2,
        "http://a.test/1": 1,
        "http://a.test/2": 1,
        "http://b.test/1": None,  # a document without images is nobody's copy
    }
