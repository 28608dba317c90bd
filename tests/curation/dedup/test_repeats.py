"""Repeats are found, the right one survives, and different pictures stay apart."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curation import storage
from curation.dedup import COLUMNS, RepeatsConfig, find_repeats
from curation.identity import pair_uid
from curation.render import render
from curation.scores import Origin, load_scores, read_origin, table_path, write_scores
from curation.shards import EncodedImage, Sample, Shard, ShardWriter
from filters import SCORERS, decode_image, judge_batch

CAPTIONS = ("one caption", "one caption", "another caption", None)


def encode(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def copies_of(image: Image.Image) -> list[bytes]:
    """The original, and what the web makes of it."""
    width, height = image.size
    cut = (round(width * 0.015), round(height * 0.015), width - round(width * 0.015), height - round(height * 0.015))
    return [
        encode(image),
        encode(image, 45),
        encode(image.resize((round(width * 0.75), round(height * 0.75)), Image.Resampling.LANCZOS)),
        encode(image.crop(cut)),
    ]


def make_source(root: Path, pictures: list[bytes], per_shard: int = 8) -> list[str]:
    """Shards and real scores of the pictures; returns their uids."""
    uids = []
    for first in range(0, len(pictures), per_shard):
        name = f"{first // per_shard:05d}"
        batch: dict[str, list[object]] = {"uid": [], "image": [], "caption": [], "meta": [], "url": []}
        with ShardWriter(Shard(root=str(root / "shards"), name=name)) as writer:
            for number, data in enumerate(pictures[first : first + per_shard], start=first):
                url, caption = f"http://site/{number % 5}.jpg", CAPTIONS[number % len(CAPTIONS)]
                uid = pair_uid(f"{number}", "")
                uids.append(uid)
                meta = {"url": url}
                image = EncodedImage(extension="jpg", data=data)
                writer.write(Sample(key=f"{number:09d}", uid=uid, caption=caption, images=(image,), meta=meta))
                for key, value in (("uid", uid), ("image", decode_image(data)), ("caption", caption), ("url", url)):
                    batch[key].append(value)
                batch["meta"].append(meta)
        for scorer_name in ("image", "caption", "fingerprint"):
            scorer = SCORERS[scorer_name]()
            judged = judge_batch(scorer, scorer.load(), batch)
            columns = judged if isinstance(judged, pa.Table) else pa.table(judged)
            if "uid" not in columns.column_names:
                columns = columns.add_column(0, "uid", pa.array(batch["uid"], pa.string()))
            write_scores(str(root / "scores"), name, columns, Origin.of(scorer))
    return uids


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    root = tmp_path_factory.mktemp("source")
    pictures = []
    for kind in ("clock", "table", "chart", "scene"):
        for seed in range(3):
            pictures += copies_of(render(kind, seed, size=(320, 280)).image)
    pictures.append(b"not an image")
    return root, make_source(root, pictures)


def test_copies_gather_around_the_largest_and_different_pictures_stay_apart(source: tuple[Path, list[str]]) -> None:
    root, uids = source
    report = find_repeats(str(root / "shards"), str(root / "scores"))
    assert (report.samples, report.unscored, report.clusters, report.image_repeats) == (49, 1, 12, 36)
    assert report.largest_cluster == 4
    rows = {row["uid"]: row for row in load_scores(str(root / "scores"), scorers=["repeats"]).to_pylist()}
    for group in range(12):
        members = uids[4 * group : 4 * group + 4]
        # The original and its re-encoding are as large; the lower uid of the two survives.
        survivor = min(members[:2])
        assert {rows[uid]["repeats.image_cluster"] for uid in members} == {survivor}
        assert sorted(rows[uid]["repeats.image_rank"] for uid in members) == [0, 1, 2, 3]
        assert rows[survivor]["repeats.image_rank"] == 0
        assert {rows[uid]["repeats.image_copies"] for uid in members} == {4}
    assert [rows[uids[-1]][f"repeats.{column}"] for column in COLUMNS[:3]] == [None] * 3
    assert rows[uids[-1]]["repeats.reason"]
    captions = [CAPTIONS[number % 4] for number in range(49)]
    for number, uid in enumerate(uids):
        expected = captions.count(captions[number]) if captions[number] is not None else None
        assert rows[uid]["repeats.text_copies"] == expected
        assert rows[uid]["repeats.url_copies"] == len(range(number % 5, 49, 5))


def test_a_sample_that_is_dropped_anyway_is_not_the_survivor(source: tuple[Path, list[str]]) -> None:
    root, uids = source
    original = min(uids[:2])
    find_repeats(str(root / "shards"), str(root / "scores"), RepeatsConfig(among=f'uid != "{original}"'))
    rows = {row["uid"]: row for row in load_scores(str(root / "scores"), scorers=["repeats"]).to_pylist()}
    assert rows[original]["repeats.image_rank"] > 0
    assert rows[original]["repeats.image_cluster"] == max(uids[:2])


def test_a_rerun_writes_the_same_bytes_and_says_what_it_was_made_from(source: tuple[Path, list[str]]) -> None:
    root, _ = source
    scores = str(root / "scores")
    find_repeats(str(root / "shards"), scores)
    path = table_path(scores, "repeats", "00000")
    before = Path(path).read_bytes()
    first = read_origin(storage.read_schema(path))
    Path(table_path(scores, "repeats", "00099")).write_bytes(before)
    find_repeats(str(root / "shards"), scores)
    assert Path(path).read_bytes() == before
    assert not Path(table_path(scores, "repeats", "00099")).exists()
    find_repeats(str(root / "shards"), scores, RepeatsConfig(max_distance=4))
    second = read_origin(storage.read_schema(path))
    assert first["fingerprint"] != second["fingerprint"]
    assert first["parameters"]["inputs"]["image"] == [SCORERS["image"]().fingerprint()]


def test_a_missing_scorer_is_named(source: tuple[Path, list[str]], tmp_path: Path) -> None:
    root, _ = source
    shutil_scores = tmp_path / "scores"
    for shard in ("00000", "00001"):
        for scorer in ("image", "caption"):
            path = table_path(str(root / "scores"), scorer, shard)
            storage.write_table(table_path(str(shutil_scores), scorer, shard), storage.read_table(path))
    with pytest.raises(ValueError, match="run the scorer `fingerprint` first"):
        find_repeats(str(root / "shards"), str(shutil_scores))
    report = find_repeats(str(root / "shards"), str(shutil_scores), RepeatsConfig(verify=False, max_distance=4))
    assert report.samples == 16
    Path(table_path(str(shutil_scores), "image", "00001")).unlink()
    with pytest.raises(ValueError, match="finish scoring first"):
        find_repeats(str(root / "shards"), str(shutil_scores), RepeatsConfig(verify=False))


@pytest.mark.parametrize("kind", ["clock", "table"])
def test_a_hundred_different_pictures_of_a_kind_are_not_merged(kind: str, tmp_path: Path) -> None:
    make_source(tmp_path, [encode(render(kind, seed).image) for seed in range(100)], per_shard=100)
    assert find_repeats(str(tmp_path / "shards"), str(tmp_path / "scores")).image_repeats == 0


def test_blank_pictures_of_one_colour_are_copies_and_of_two_are_not(tmp_path: Path) -> None:
    colours = [(250, 250, 250), (250, 250, 250), (20, 20, 20)]
    pictures = [encode(Image.fromarray(np.full((90, 90, 3), colour, np.uint8))) for colour in colours]
    make_source(tmp_path, pictures)
    assert find_repeats(str(tmp_path / "shards"), str(tmp_path / "scores")).clusters == 1


@pytest.mark.parametrize(
    "wrong", [{"max_distance": 17}, {"survivor": "image."}, {"among": "a b"}, {"color_distance": 300}]
)
def test_a_wrong_config_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"0-|syntax"):
        RepeatsConfig(**wrong)  # type: ignore[arg-type]
