"""Near-duplicate pictures gather around the largest, and different pictures stay apart."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from benchmarks.lookalikes import lookalikes
from mmcorpus.curation.dedup import DedupReport, Source, deduplicate, same_picture
from mmcorpus.curation.dedup.image import NearImages, color_shift
from mmcorpus.curation.synthetic.render import render
from tests.curation.dedup.corpus import copies_of, encode, found, make_rows, source_at


def run(source: Source, folder: Path, method: NearImages | None = None, among: str | None = None) -> DedupReport:
    method = method or NearImages()
    return deduplicate("same", method, [source], str(folder / "dedup"), survivor=method.survivor, among=among)


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    kinds = ("clock", "table", "chart", "scene")
    copies = [copies_of(render(kind, 0, size=(320, 280)).image) for kind in kinds]
    return [*(copy for group in copies for copy in group), b"not an image"]


def test_copies_gather_around_the_largest_and_different_pictures_stay_apart(
    pictures: list[bytes], tmp_path: Path
) -> None:
    source = source_at(tmp_path)
    uids = make_rows(source, [{"caption": "a"}] * 21, pictures)
    report = run(source, tmp_path)
    assert (report.samples, report.unknown, report.clusters, report.duplicates, report.largest) == (21, 1, 4, 16, 5)
    rows = found("same", source)
    for group in range(4):
        members = uids[5 * group : 5 * group + 5]
        # The original, its re-encoding and its darker copy are as large; the lowest uid of them survives.
        survivor = min(members[0], members[1], members[4])
        assert {rows[uid][2] for uid in members} == {survivor}
        assert sorted(rows[uid][1] for uid in members) == [0, 1, 2, 3, 4]
        assert rows[survivor][:2] == (5, 0)
    assert rows[uids[-1]] == (None, None, None)
    assert run(source, tmp_path, among=f'uid != "{survivor}"').duplicates == 16
    assert found("same", source)[survivor][1] > 0


def test_a_missing_scorer_is_named(pictures: list[bytes], tmp_path: Path) -> None:
    source = source_at(tmp_path)
    make_rows(source, [{"caption": "a"}] * 5, pictures[:5])
    for path in Path(source.scores, "fingerprint").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="no scores of fingerprint for shard 00000 of web; run that scorer first"):
        run(source, tmp_path)
    assert run(source, tmp_path, NearImages(verify=False, max_distance=4)).clusters == 1


def forms() -> list[Image.Image]:
    """Four forms of one layout with other numbers, each as it is and compressed."""
    return [
        copy for form in lookalikes("form", 3, 4) for copy in (form, form.resize((form.width // 2, form.height // 2)))
    ]


def test_pictures_that_differ_in_a_digit_stay_apart_and_their_copies_do_not(tmp_path: Path) -> None:
    source = source_at(tmp_path)
    uids = make_rows(source, [{"caption": "a"}] * 8, [encode(form, 60) for form in forms()], per_shard=3)
    report = run(source, tmp_path)
    assert (report.clusters, report.duplicates, report.largest, report.unseen) == (4, 4, 2, 0)
    rows = found("same", source)
    assert [rows[uid][2] for uid in uids] == [uid for uid in uids[::2] for _ in range(2)]
    by_fingerprint = run(source, tmp_path, NearImages(pictures=False))
    assert by_fingerprint.largest > 2, "forms that the fingerprints do not tell apart"


def test_copies_of_one_picture_are_not_all_compared_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = lookalikes("form", 3, 2)
    files = [encode(pictures[number % 2], 60 + 4 * number) for number in range(8)]
    shape = {"image.phash": ["00" * 8] * 8, "fingerprint.dct": ["00" * 32] * 8, "fingerprint.color": ["00" * 48] * 8}
    rows = pa.table({**shape, "image": pa.array(files, pa.binary())})
    compared = []

    def counted(first: same_picture.Picture, second: same_picture.Picture) -> same_picture.Difference:
        compared.append(measure(first, second))
        return compared[-1]

    measure = same_picture.compare
    monkeypatch.setattr(same_picture, "compare", counted)
    first, second = np.triu_indices(8, 1)
    assert (NearImages().same_images(rows, first, second) == (first % 2 == second % 2)).all()
    assert sum(value.worst > 1 for value in compared) == 16, "no two of different pictures are spared the comparison"
    assert sum(value.worst <= 1 for value in compared) < 9, "of the 12 pairs of copies"


def test_crops_of_which_neither_holds_the_other_are_one_picture_by_a_third() -> None:
    image, other = lookalikes("meme", 3, 2)
    width, height = image.size
    crops = [image.crop((width // 25, 0, width, height)), image.crop((0, 0, width, height - height // 25))]
    files = [encode(each, 80) for each in (*crops, image, other)]
    shape = {"image.phash": ["00" * 8] * 4, "fingerprint.dct": ["00" * 32] * 4, "fingerprint.color": ["00" * 48] * 4}
    rows = pa.table({**shape, "image": pa.array(files, pa.binary())})
    apart, together = np.triu_indices(2, 1), np.triu_indices(4, 1)
    assert not NearImages().same_images(rows, *apart).any()
    assert (NearImages().same_images(rows, *together) == (together[1] < 3)).all()
    backwards = tuple(side[::-1] for side in together)
    assert (NearImages().same_images(rows, *backwards) == (together[1] < 3)[::-1]).all()


@pytest.mark.parametrize(("kind", "group"), [("departures", 1), ("table", 1)])
def test_a_copy_too_small_for_its_digits_is_of_the_picture_that_it_was_made_of(kind: str, group: int) -> None:
    images = lookalikes(kind, group, 3)
    small = [image.resize((image.width // 4, image.height // 4), Image.Resampling.LANCZOS) for image in images]
    files = [encode(each, 85) for each in (*images, *small)]
    count = len(files)
    shape = {"image.phash": ["00" * 8], "fingerprint.dct": ["00" * 32], "fingerprint.color": ["00" * 48]}
    rows = pa.table({**{name: own * count for name, own in shape.items()}, "image": pa.array(files, pa.binary())})
    first, second = np.triu_indices(count, 1)
    same = NearImages().same_images(rows, first, second)
    of = np.arange(count) % len(images)
    large = first < len(images)
    assert (same == (of[first] == of[second]))[large].all()


def test_crops_whose_hashes_are_further_apart_are_candidates_only_where_pictures_decide() -> None:
    shape = {"image.stored_width": [80] * 3, "image.stored_height": [60] * 3, "fingerprint.dct": ["00" * 32] * 3}
    rows = pa.table({"image.phash": [f"{value:016x}" for value in (0, 0x3FFF, 0x7FFF)], **shape})
    rows = rows.append_column("fingerprint.color", pa.array(["00" * 48] * 3))
    first, second = np.array([0, 0]), np.array([1, 2])  # 14 and 15 bits
    assert NearImages().same(rows, first, second).tolist() == [True, False]
    assert NearImages(candidate_hash_distance=15).same(rows, first, second).all()
    assert not NearImages(pictures=False).same(rows, first, second).any()
    gone = rows.append_column("image", pa.nulls(3, pa.binary()))
    assert not NearImages().same_images(gone, first, second).any()


def test_where_the_images_are_gone_the_fingerprints_decide_and_it_is_said(tmp_path: Path) -> None:
    source = source_at(tmp_path)
    make_rows(source, [{"caption": "a"}] * 8, [encode(form, 60) for form in forms()], per_shard=4)
    gone = Path(source.shards, "00001.tar")
    gone.rename(tmp_path / "kept.tar")
    report = run(source, tmp_path)
    assert report.unseen > 0
    Path(source.shards, "00000.tar").unlink()
    alone = run(source, tmp_path)
    assert alone.unseen > report.unseen
    assert alone.largest == run(source, tmp_path, NearImages(pictures=False)).largest
    (tmp_path / "kept.tar").rename(gone)
    assert run(source, tmp_path).unseen == report.unseen


def test_an_index_finds_the_images_where_they_lay(tmp_path: Path) -> None:
    old, new = source_at(tmp_path, "old"), source_at(tmp_path, "new")
    pictures = [encode(form, 60) for form in forms()]
    earlier = make_rows(old, [{"caption": "a"}] * 2, pictures[::4])
    later = make_rows(new, [{"caption": "a"}] * 4, pictures[1::2])

    def compare(source: Source, **more: bool) -> DedupReport:
        work, index = str(tmp_path / f"dedup-{source.name}"), str(tmp_path / "index")
        return deduplicate("same", NearImages(), [source], work, index=index, **more)

    assert compare(old, extend=True).duplicates == 0
    report = compare(new)
    assert (report.of_index, report.duplicates, report.unseen) == (2, 2, 0)
    rows = found("same", new)
    assert [rows[uid][2] for uid in later] == [earlier[0], later[1], earlier[1], later[3]]


@pytest.mark.parametrize("kind", ["clock", "table"])
def test_sixty_different_pictures_of_a_kind_are_not_merged(kind: str, tmp_path: Path) -> None:
    source = source_at(tmp_path)
    make_rows(source, [{"caption": "a"}] * 60, [encode(render(kind, seed).image) for seed in range(60)], per_shard=60)
    assert run(source, tmp_path).duplicates == 0


def test_blank_pictures_of_one_colour_are_copies_and_of_two_are_not(tmp_path: Path) -> None:
    colours = [(250, 250, 250), (250, 250, 250), (20, 20, 20)]
    source = source_at(tmp_path)
    blank = [encode(Image.fromarray(np.full((90, 90, 3), colour, np.uint8))) for colour in colours]
    make_rows(source, [{"caption": "a"}] * 3, blank)
    assert run(source, tmp_path).duplicates == 1


def test_the_tables_lead_to_every_near_pair() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**64, 200, np.uint64)
    flips = np.zeros(600, np.uint64)
    for _ in range(9):
        flips |= np.uint64(1) << rng.integers(0, 64, 600).astype(np.uint64)
    hashes = np.concatenate([base, base[rng.integers(0, 200, 600)] ^ flips])
    shape = {"image.stored_width": [80] * 800, "image.stored_height": [60] * 800}
    table = pa.table({"image.phash": [f"{value:016x}" for value in hashes], **shape})
    for distance in (0, 3, 8):
        method = NearImages(verify=False, max_distance=distance, expected=1000)
        keys = method.keys(table, {}).keys
        first, second = np.triu_indices(800, 1)
        near = np.bitwise_count(hashes[first] ^ hashes[second]) <= distance
        assert (keys[first[near]] == keys[second[near]]).any(axis=1).all()
        assert (method.same(table, first, second) == near).all()


def test_a_change_of_brightness_is_undone_and_no_other() -> None:
    dark = np.array([[10, 100, 200, 240]], np.float32)
    assert color_shift(dark, np.minimum(dark * 1.25, 255), 0.25)[0] < 8
    assert color_shift(np.minimum(dark * 1.25, 255), dark, 0.25)[0] < 8
    assert color_shift(dark, dark * 1.2, 0.0)[0] > 30
    assert color_shift(dark, dark[:, ::-1].copy(), 0.25)[0] > 100


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_distance": 17},
        {"color_distance": 300},
        {"brightness": 1.0},
        {"expected": 0},
        {"candidate_distance": 257},
        {"candidate_hash_distance": 65},
    ],
)
def test_a_wrong_parameter_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NearImages(**wrong)  # type: ignore[arg-type]
