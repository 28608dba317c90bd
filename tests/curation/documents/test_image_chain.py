"""Images the whole way: listed, downloaded by the real stage, placed, scored and trimmed; killed at any moment."""

import subprocess
import sys
from pathlib import Path

import pytest

from mmcorpus.curation.documents.image_list import ImageListConfig, list_images, url_list_config
from mmcorpus.curation.documents.place import PlaceConfig, place_images
from mmcorpus.curation.documents.trim import trim_documents
from mmcorpus.curation.download import DownloadConfig, download
from mmcorpus.curation.scoring.run import score
from mmcorpus.curation.selection import SelectConfig, select
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.scores import load_scores
from mmcorpus.filters import SCORERS
from tests.curation.documents.image_corpus import DOWNLOAD, fetch, image, page, picture, rows_of, text, write_documents
from tests.curation.download.conftest import Web
from tests.processes import kill, wait_until

IMAGES = 24


def documents(shards: int) -> list[list[dict[str, object]]]:
    return [
        [page(f"http://a.test/{s}/{n}", text(f"Page {n} of {s}."), image(f"{(5 * s + 3 * n) % IMAGES}.jpg"),
              image(f"{(5 * s + 3 * n + 1) % IMAGES}.jpg"), text("It ends here.")) for n in range(4)]
        for s in range(shards)
    ]  # fmt: skip


def contents(root: str) -> dict[str, bytes]:
    """The bytes of all shards, views and ledgers of the documents; not of the download, which keeps times."""
    folders = [f"shards/pages{view}" for view in ("", ".images", ".paragraphs", ".trimmed")]
    folders += ["list", "ledger/pages", "ledger/pages.images"]
    return {
        f"{folder}/{name}": storage.read_bytes(f"{root}/{folder}/{name}")
        for folder in folders
        for name in storage.list_names(f"{root}/{folder}")
        if name.endswith((".tar", ".parquet", "_stats.json"))
    }


@pytest.mark.soak
def test_from_documents_to_scores_with_one_worker_and_with_two(ray_local: None, tmp_path: Path) -> None:
    web = Web()
    for number in range(0, IMAGES, 2):
        web.add(f"/{number}.jpg", picture(number, 60, 50))
    config = url_list_config(DownloadConfig(connect_to=web.connect_to, number_sample_per_shard=5, thread_count=8))
    for workers in (1, 2):
        root = f"{tmp_path}/{workers}"
        write_documents(f"{root}/documents", documents(4))
        list_images(ImageListConfig(max_uses=4), f"{root}/documents", f"{root}/list", f"{root}/ledger/pages.urls",
                    workers=workers)  # fmt: skip
        fetched = f"{tmp_path}/1/shards/pages.urls"
        if workers == 1:
            download(config, f"{root}/list", fetched, f"{root}/lists", f"{root}/ledger/pages.urls", progress=False)
            assert ledger.check_balance(f"{root}/ledger/pages.urls") == []
            assert set(web.requests.values()) == {1}, "an image of several documents is fetched once"
        report = place_images(
            PlaceConfig(), f"{root}/documents", f"{root}/list", fetched, f"{root}/shards/pages",
            f"{root}/ledger/pages.images", download=config, workers=workers,
        )  # fmt: skip
        assert report.failed == {}
        trim_documents(f"{root}/shards/pages", f"{root}/shards/pages.trimmed", f"{root}/ledger/pages", workers=workers)
    web.close()
    assert contents(f"{tmp_path}/1") == contents(f"{tmp_path}/2")
    assert report.images > 4
    assert set(report.dropped) == {"http_404"}
    judged = score(f"{root}/shards/pages.images", f"{root}/scores/pages.images", [SCORERS["image"]()])
    assert judged.scored == {"image": report.images}
    select(SelectConfig(keep="image.width == 60"), f"{root}/scores/pages.images", f"{root}/images.parquet",
           ledger_root=f"{root}/ledger/pages.images")  # fmt: skip
    assert ledger.check_balance(f"{root}/ledger/pages.images") == []
    assert load_scores(f"{root}/scores/pages.images").num_rows == report.images
    trimmed = trim_documents(f"{root}/shards/pages", f"{root}/shards/pages.trimmed", f"{root}/ledger/pages",
                             images=f"{root}/images.parquet", workers=2)  # fmt: skip
    assert trimmed.images == report.images


def run(root: str) -> None:
    """All that is done to documents whose images are in `fetched`."""
    list_images(ImageListConfig(), f"{root}/documents", f"{root}/list", f"{root}/ledger/pages.urls", workers=0)
    place_images(
        PlaceConfig(), f"{root}/documents", f"{root}/list", f"{root}/fetched", f"{root}/shards/pages",
        f"{root}/ledger/pages.images", download=DOWNLOAD, workers=0,
    )  # fmt: skip
    trim_documents(f"{root}/shards/pages", f"{root}/shards/pages.trimmed", f"{root}/ledger/pages", workers=0)


WORK = "import sys; from tests.curation.documents.test_image_chain import run; run(sys.argv[1])"


@pytest.mark.slow
def test_killed_again_and_again_it_writes_the_same_bytes(tmp_path: Path) -> None:
    roots = [f"{tmp_path}/whole", f"{tmp_path}/killed"]
    for root in roots:
        write_documents(f"{root}/documents", documents(8))
        list_images(ImageListConfig(), f"{root}/documents", f"{root}/list", f"{root}/ledger/pages.urls", workers=0)
        fetch(f"{root}/list", f"{root}/fetched", {f"http://img.test/{n}.jpg": picture(n) for n in range(0, IMAGES, 2)})
    storage.remove(f"{roots[1]}/list")
    run(roots[0])
    for kills, files in enumerate((3, 30)):
        process = subprocess.Popen([sys.executable, "-c", WORK, roots[1]], stderr=subprocess.DEVNULL)
        wait_until(lambda wanted=files: len(contents(roots[1])) >= wanted, process)
        kill(process)
        assert contents(roots[1]) != contents(roots[0]), f"kill {kills} came too late to prove anything"
    run(roots[1])
    assert contents(roots[1]) == contents(roots[0])
    storage.sweep(roots[1])
    assert [path for path in Path(roots[1]).rglob("*") if path.name.endswith(storage.TEMPORARY_SUFFIX)] == []
    assert len(rows_of(f"{roots[1]}/shards/pages")) == 32
