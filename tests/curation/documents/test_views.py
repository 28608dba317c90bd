"""Views are folders of shards like any other: listed, read, scored and looked at, with the values of plain pairs."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from mmcorpus.curation.documents.image_list import ImageListConfig, list_images
from mmcorpus.curation.documents.place import PlaceConfig, place_images
from mmcorpus.curation.documents.trim import trim_documents
from mmcorpus.curation.scoring.shard import Outputs, ScoreShard, ShardWork
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import read_scores
from mmcorpus.curation.store.shards import Sample, Shard, ShardWriter, list_shards, read_samples, shard_at
from mmcorpus.curation.store.views import write_view_file
from mmcorpus.filters import MAX_PIXELS, SCORERS, Scorer
from mmcorpus.pipelines.report.gallery import load_samples, texts_by_uid, uids_at_hand
from mmcorpus.pipelines.report.inspect import describe
from tests.curation.documents.image_corpus import DOWNLOAD, fetch, image, page, picture, text, write_documents


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Placed documents of two shards; some images fail."""
    root = str(tmp_path_factory.mktemp("views"))
    words = "The {} stands by the river, and nobody knows since when."
    documents = [
        [page(f"http://a.test/{s}/{n}", text(words.format(f"tower {n}")), image(f"a/{s}{n}.jpg", alt="A tower"),
              image(f"a/{n}.jpg"), text(words.format(f"Brücke {s}"))) for n in range(3)]
        for s in range(2)
    ]  # fmt: skip
    write_documents(f"{root}/documents", documents)
    list_images(ImageListConfig(), f"{root}/documents", f"{root}/list", f"{root}/ledger/urls", workers=0)
    names = [f"a/{s}{n}.jpg" for s in range(2) for n in range(3)] + ["a/0.jpg", "a/2.jpg"]
    bodies = {f"http://img.test/{name}": picture(seed, 50 + seed, 40) for seed, name in enumerate(names)}
    bodies["http://img.test/a/2.jpg"] = picture(99, 900, 300)
    fetch(f"{root}/list", f"{root}/shards/pages.urls", bodies)
    place_images(
        PlaceConfig(), f"{root}/documents", f"{root}/list", f"{root}/shards/pages.urls", f"{root}/shards/pages",
        f"{root}/ledger/pages.images", download=DOWNLOAD, workers=0,
    )  # fmt: skip
    trim_documents(f"{root}/shards/pages", f"{root}/shards/pages.trimmed", f"{root}/ledger/pages", workers=0)
    return root


def test_a_view_is_found_by_its_file(placed: str) -> None:
    for view, level in (("images", "image"), ("paragraphs", "paragraph"), ("trimmed", "document")):
        shards = list_shards(f"{placed}/shards/pages.{view}")
        assert [(shard.name, shard.level) for shard in shards] == [("000000000", level), ("000000001", level)]
        assert shards[0].tar == f"{placed}/shards/pages/000000000.tar"
        assert shard_at(f"{placed}/shards/pages.{view}", "000000001") == shards[1]
    assert list_shards(f"{placed}/shards/pages")[0] == Shard(root=f"{placed}/shards/pages", name="000000000")


@pytest.mark.parametrize("view", ["images", "paragraphs"])
def test_a_view_whose_file_is_gone_is_named_and_not_a_tar(placed: str, tmp_path: Path, view: str) -> None:
    root = str(tmp_path / f"pages.{view}")
    shutil.copytree(f"{placed}/shards/pages.{view}", root, ignore=shutil.ignore_patterns("view.json"))
    with pytest.raises(storage.Damaged, match=r"view\.json"):
        list(read_samples(list_shards(root)[0]))


def test_samples_of_each_view(placed: str) -> None:
    (document, *_) = read_samples(Shard(root=f"{placed}/shards/pages", name="000000000"))
    images = list(read_samples(shard_at(f"{placed}/shards/pages.images", "000000000")))
    assert [len(sample.images) for sample in images] == [1] * 5, "of six one was not to be had"
    assert [sample.images[0] for sample in images[:2]] == list(document.images)
    assert images[0].meta["alt"] == "A tower"
    assert (images[0].caption or "").startswith("The Brücke")
    assert images[0].uid == images[0].meta["uid"]
    wanted = {images[3].uid}
    assert list(read_samples(shard_at(f"{placed}/shards/pages.images", "000000000"), wanted)) == [images[3]]
    paragraphs = list(read_samples(shard_at(f"{placed}/shards/pages.paragraphs", "000000000")))
    assert [sample.images for sample in paragraphs] == [()] * 6
    assert paragraphs[0].caption == "The tower 0 stands by the river, and nobody knows since when."
    trimmed = list(read_samples(shard_at(f"{placed}/shards/pages.trimmed", "000000000")))
    assert trimmed[0].uid == document.uid
    assert trimmed[0].images == document.images
    assert (trimmed[0].caption or "").split("\n\n")[0] == paragraphs[0].caption


def plain(placed: str, view: str, out: str) -> None:
    """The same samples as plain pair shards."""
    for shard in list_shards(f"{placed}/shards/pages.{view}"):
        with ShardWriter(Shard(root=out, name=shard.name)) as writer:
            for one in read_samples(shard):
                writer.write(Sample(key=one.key, uid=one.uid, caption=one.caption, images=one.images, meta=one.meta))


def judge(shards: str, scores: str, scorers: list[Scorer]) -> None:
    """The work of a worker of `score`, in this process."""
    work = ScoreShard(Outputs.of(scorers, scores=scores), scorers, max_pixels=MAX_PIXELS, rows_per_batch=4)
    for shard in list_shards(shards):
        samples = storage.read_json(shard.stats)["successes"]
        result = work(ShardWork(shard=shard, samples=samples, scorers=tuple(scorer.name for scorer in scorers)))
        assert result["error"] is None
        assert result["samples"] > 0


def same_scores(placed: str, out: Path, view: str, scorers: list[Scorer]) -> None:
    plain(placed, view, f"{out}/plain")
    judge(f"{placed}/shards/pages.{view}", f"{out}/scores", scorers)
    judge(f"{out}/plain", f"{out}/plain-scores", scorers)
    for scorer in scorers:
        for shard in list_shards(f"{out}/plain"):
            table = read_scores(f"{out}/scores", scorer.name, shard.name)
            assert table.equals(read_scores(f"{out}/plain-scores", scorer.name, shard.name))
            assert set(table["reason"].to_pylist()) == {None}


def test_scores_of_images_are_those_of_pairs(placed: str, tmp_path: Path, tiny_clip: str) -> None:
    names = ("image", "url", "fingerprint", "language", "caption")
    clip = SCORERS["clip"](model_name=tiny_clip, device="cpu")  # type: ignore[call-arg]
    same_scores(placed, tmp_path, "images", [*(SCORERS[name]() for name in names), clip])
    widths = read_scores(f"{tmp_path}/scores", "image", "000000000", ["width", "stored_width"]).to_pylist()
    assert {"width": 900, "stored_width": 64} in widths, "sizes are of the image as published"


def test_scores_of_paragraphs_and_of_trimmed_documents(placed: str, tmp_path: Path) -> None:
    for view in ("paragraphs", "trimmed"):
        scorers = [SCORERS[name]() for name in ("language", "caption", "url")]
        same_scores(placed, tmp_path / view, view, scorers)
    words = read_scores(f"{tmp_path}/trimmed/scores", "caption", "000000000", ["words"])["words"].to_pylist()
    assert words == [24, 24, 24]


def test_exact_copies_among_paragraphs_of_a_domain(placed: str, tmp_path: Path) -> None:
    from mmcorpus.curation.dedup import deduplicate
    from mmcorpus.curation.dedup.exact import SameColumns
    from mmcorpus.curation.dedup.sources import Source

    scorer = SCORERS["caption"]()
    judge(f"{placed}/shards/pages.paragraphs", f"{tmp_path}/scores", [scorer])
    source = Source(name="pages.paragraphs", shards=f"{placed}/shards/pages.paragraphs", scores=f"{tmp_path}/scores")
    deduplicate("repeats", SameColumns(on=("domain", "caption.text_hash")), [source], f"{tmp_path}/work", workers=0)
    copies = read_scores(f"{tmp_path}/scores", "repeats", "000000000", ["copies"])["copies"].to_pylist()
    assert copies == [2, 3, 2, 3, 2, 3]


def test_the_report_and_inspect_read_views(placed: str) -> None:
    root = f"{placed}/shards/pages.images"
    uids = uids_at_hand(root, 2)
    assert len(uids) == 10
    cards = load_samples(root, uids, 2)
    assert set(cards) == set(uids)
    assert all(card.picture.startswith("data:image/jpeg") and card.caption for card in cards.values())
    assert set(uids) < set(texts_by_uid(root, "url", 2))
    lines = describe(root)
    assert lines[0] == "2 shards, 12 rows: 10 success, 2 http_404"
    assert "5 images" in describe(f"{root}/000000000_stats.json")[0]
    cards = load_samples(f"{placed}/shards/pages.paragraphs", uids_at_hand(f"{placed}/shards/pages.paragraphs", 1), 1)
    assert {card.picture for card in cards.values()} == {""}


def test_places_of_views(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not lie beside"):
        write_view_file(f"{tmp_path}/a/view", f"{tmp_path}/b", "image")
    for says in ({"of": "../x"}, {"of": 3, "level": "image"}, [1], {"of": "../x", "level": "page"}):
        storage.write_json(f"{tmp_path}/bad/view.json", says)
        with pytest.raises(ValueError, match="no view"):
            list_shards(f"{tmp_path}/bad")


def test_relative_folders(placed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(f"{placed}/shards")
    shard: Any = list_shards("pages.images")[0]
    assert shard.tar == "pages/000000000.tar"
    assert len(list(read_samples(shard))) == 5
