"""Copies of pictures that are symmetric meet, though half of their hashes is noise, and other pictures do not."""

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from benchmarks.lookalikes import lookalikes
from mmcorpus.curation.dedup.image import NearImages
from mmcorpus.curation.dedup.mirrored import TABLES, Thumbnails
from mmcorpus.filters import SCORERS, decode_image, judge_batch
from tests.curation.dedup.corpus import copies_of, encode


def arrow() -> Image.Image:
    image = Image.new("RGB", (240, 200), "white")
    ImageDraw.Draw(image).polygon([20, 80, 140, 80, 140, 40, 220, 100, 140, 160, 140, 120, 20, 120], fill=(200, 30, 30))
    return image


SYMMETRIC = {
    kind: lookalikes(kind, group, 2)
    for kind, group in (("traffic light", 3001), ("progress bar", 3001), ("moon", 3001), ("flag", 3001), ("face", 3000))
}
"""Two pictures of each kind."""
NOISY = {"traffic light": 0, "progress bar": 0, "moon": 0, "flag": 1, "face": 0}
"""One of each pair whose hashes do not last."""


def table_of(files: list[bytes]) -> pa.Table:
    images = [decode_image(each) for each in files]
    batch = {"image": images, "meta": [{} for _ in images]}
    columns = {}
    for name in ("image", "fingerprint"):
        table = judge_batch(SCORERS[name](), SCORERS[name]().load(), batch)
        columns |= {f"{name}.{column}": table[column] for column in table.column_names}
    return pa.table(columns).select(list(NearImages().columns()))


def meet(method: NearImages, files: list[bytes]) -> np.ndarray:
    """Of each file, whether it and the first are candidates that pass."""
    rows = table_of(files)
    keys = method.keys(rows, {}).keys
    others = np.arange(1, len(files))
    return (keys[others] == keys[0]).any(axis=1) & method.same(rows, np.zeros_like(others), others)


@pytest.mark.parametrize("image", [*(SYMMETRIC[kind][place] for kind, place in NOISY.items()), arrow()],
                         ids=[*NOISY, "arrow"])  # fmt: skip
def test_copies_of_a_symmetric_picture_meet(image: Image.Image) -> None:
    width, height = image.size
    files = [
        *copies_of(image),
        encode(ImageEnhance.Color(image).enhance(1.4), 60),
        encode(image.resize((width, height // 2))),
    ]
    assert meet(NearImages(), files).tolist() == [True] * 5 + [False], "all but the squeezed one, of another shape"


@pytest.mark.parametrize("kind", list(NOISY))
def test_all_bits_of_their_hashes_would_not_find_them(kind: str) -> None:
    assert not meet(NearImages(pictures=False), copies_of(SYMMETRIC[kind][NOISY[kind]])).all()


@pytest.mark.parametrize("kind", ["traffic light", "progress bar", "moon"])
def test_symmetric_pictures_whose_colours_lie_elsewhere_do_not_meet(kind: str) -> None:
    assert not meet(NearImages(), [encode(each) for each in SYMMETRIC[kind]]).any()


def test_symmetries_are_told_from_thumbnails() -> None:
    rng = np.random.default_rng(0)
    half = rng.integers(0, 256, (4, 2, 3), np.uint8)
    left_right = np.concatenate([half, half[:, ::-1]], axis=1)
    rows = np.repeat(rng.integers(0, 256, (4, 1, 3), np.uint8), 4, axis=1)
    cells = [
        left_right,
        left_right.swapaxes(0, 1),
        rows,
        rows.swapaxes(0, 1),
        rng.integers(0, 256, (4, 4, 3), np.uint8),
    ]
    blank = np.full((4, 4, 3), 200, np.uint8)
    colours = np.stack([*cells, blank]).reshape(-1, 48)
    assert Thumbnails.of(colours).symmetries.tolist() == [0b0001, 0b0010, 0b0101, 0b1010, 0, 0]


def test_pictures_without_symmetry_have_keys_of_their_own() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (50, 48), np.uint8)
    keys = Thumbnails.of(colours).keys(np.arange(50, dtype=np.uint64))
    assert keys.shape == (50, TABLES)
    assert (keys == np.arange(50)[:, None]).all()


def test_a_row_s_keys_do_not_depend_on_the_rows_beside_it() -> None:
    files = [encode(image) for images in SYMMETRIC.values() for image in images]
    rows = table_of(files)
    together = NearImages().keys(rows, {}).keys
    for place in range(len(files)):
        assert (NearImages().keys(rows.slice(place, 1), {}).keys == together[place]).all()


def test_without_pictures_there_are_no_such_keys() -> None:
    rows = table_of([encode(arrow())])
    tables = {pictures: NearImages(pictures=pictures).keys(rows, {}).keys.shape[1] for pictures in (True, False)}
    assert tables[True] == tables[False] + TABLES
