"""Image rules: exact numbers on images whose numbers are known."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmcorpus.filters import SCORERS, DecodedImage, decode_image
from mmcorpus.filters.image import (
    area_thumbnail,
    histogram_statistics,
    laplacian_variance,
    perceptual_hashes,
    pixel_hash,
)


def as_decoded(pixels: np.ndarray, **changes: Any) -> DecodedImage:
    known = {"format": "png", "mode": "RGB", "frames": 1, "has_alpha": False, "orientation": 1, "nbytes": 1000}
    return DecodedImage(pixels=pixels, **{**known, **changes})


def judge(pixels: np.ndarray, meta: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    columns = SCORERS["image"]().load()({"image": [as_decoded(pixels, **changes)], "meta": [meta]})
    return {name: values[0] for name, values in columns.items()}


def grey(values: Any) -> np.ndarray:
    return np.repeat(np.asarray(values, np.uint8)[..., None], 3, axis=2)


def photo(seed: int = 0, side: int = 256) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def phash_of(image: Image.Image, **options: Any) -> int:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    decoded = decode_image(file.getvalue())
    assert isinstance(decoded, DecodedImage)
    return int(judge(decoded.pixels)["phash"], 16)


def test_sizes_are_those_of_the_stored_image_where_nothing_else_is_known() -> None:
    row = judge(grey(np.zeros((40, 100))), frames=3, has_alpha=True, nbytes=2000)
    assert (row["width"], row["height"], row["min_side"], row["max_side"]) == (100, 40, 40, 100)
    assert row["aspect_ratio"] == 2.5
    assert (row["stored_width"], row["stored_height"]) == (100, 40)
    assert row["bytes_per_pixel"] == 0.5
    assert (row["frames"], row["has_alpha"], row["format"]) == (3, True, "png")


def test_sizes_as_published_win() -> None:
    meta = {"original_width": 600, "original_height": 1500, "original_bytes": 90_000, "original_format": "gif"}
    row = judge(grey(np.zeros((50, 20))), {**meta, "frames": 7, "has_alpha": True})
    assert (row["width"], row["height"], row["min_side"], row["max_side"]) == (600, 1500, 600, 1500)
    assert row["aspect_ratio"] == 2.5
    assert (row["stored_width"], row["stored_height"]) == (20, 50)
    assert row["bytes_per_pixel"] == 0.1
    assert (row["frames"], row["has_alpha"], row["format"]) == (7, True, "gif")


def test_img2dataset_shards_have_only_the_original_sizes() -> None:
    row = judge(grey(np.zeros((50, 20))), {"original_width": 40, "original_height": 100, "original_format": None})
    assert row["max_side"] == 100
    assert row["bytes_per_pixel"] == 1.0
    assert row["format"] == "png"


def test_a_blank_image() -> None:
    row = judge(grey(np.full((64, 64), 200)))
    assert (row["blur"], row["entropy"], row["std"]) == (0.0, 0.0, 0.0)
    assert row["phash"] == "8000000000000000"


def test_two_halves_have_one_bit_of_entropy() -> None:
    values = np.zeros((64, 64), np.uint8)
    values[:, 32:] = 200
    std, entropy = histogram_statistics(values)
    assert (std, entropy) == (100.0, 1.0)
    # The Laplacian is 200 and -200 in the two columns at the edge, 0 elsewhere.
    assert laplacian_variance(values) == 200**2 * 2 / 64


def test_statistics_equal_the_plain_definitions() -> None:
    luma = np.random.default_rng(1).integers(0, 256, (37, 53), dtype=np.uint8)
    std, entropy = histogram_statistics(luma)
    shares = np.bincount(luma.ravel(), minlength=256) / luma.size
    assert std == pytest.approx(luma.std(), rel=1e-12)
    assert entropy == pytest.approx(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum(), abs=1e-8)
    wide = np.pad(luma.astype(np.int64), 1, mode="reflect")
    edges = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:] - 4 * wide[1:-1, 1:-1]
    assert laplacian_variance(luma) == pytest.approx(edges.var(), rel=1e-12)


def test_blur_falls_as_an_image_is_blurred() -> None:
    sharp = np.asarray(Image.fromarray(np.random.default_rng(2).integers(0, 256, (128, 128, 3), dtype=np.uint8)))
    soft = np.asarray(Image.fromarray(sharp).resize((16, 16)).resize((128, 128), Image.Resampling.BICUBIC))
    assert judge(sharp)["blur"] > 1000
    assert judge(soft)["blur"] < 100


@pytest.mark.parametrize(("height", "width"), [(64, 96), (37, 53), (7, 400), (1, 1)])
def test_thumbnails_are_area_averages(height: int, width: int) -> None:
    luma = np.random.default_rng(5).integers(0, 256, (height, width), dtype=np.uint8)
    # Every pixel as 32 x 32 equal parts: cells then hold whole parts.
    parts = luma.repeat(32, axis=0).repeat(32, axis=1)
    means = parts.reshape(32, height, 32, width).mean(axis=(1, 3))
    assert np.allclose(area_thumbnail(luma), means, atol=1e-9)


def test_phash_equals_a_direct_transform() -> None:
    side = np.arange(32)
    thumbnail = 100 + 50 * np.cos(np.pi * 3 * (2 * side[None, :] + 1) / 64) * np.ones((32, 1))
    coefficients = np.zeros((8, 8))
    for u in range(8):
        for v in range(8):
            waves = np.outer(np.cos(np.pi * u * (2 * side + 1) / 64), np.cos(np.pi * v * (2 * side + 1) / 64))
            coefficients[u, v] = (thumbnail * waves).sum() * (0.5 if u else 0.5**0.5) * (0.5 if v else 0.5**0.5) / 8
    bits = (np.round(coefficients, 6) > 0).ravel()  # most are 0, the median too
    expected = "".join("1" if bit else "0" for bit in bits)
    assert perceptual_hashes(thumbnail[None]) == [f"{int(expected, 2):016x}"]
    assert expected[0] == "1"
    assert expected[3] == "1"
    assert expected.count("1") == 2


def test_phash_survives_encoding_and_resizing_and_tells_images_apart() -> None:
    original = phash_of(photo(), quality=95)
    for copy in (phash_of(photo(), quality=30), phash_of(photo().resize((180, 180)), quality=80)):
        assert (original ^ copy).bit_count() <= 6
    others = [phash_of(photo(seed), quality=95) for seed in range(1, 9)]
    assert min((original ^ other).bit_count() for other in others) > 12


def test_pixel_hash_is_of_pixels_and_shape_alone() -> None:
    pixels = np.asarray(photo(side=24))
    assert pixel_hash(pixels) == pixel_hash(pixels.copy())
    assert pixel_hash(pixels) != pixel_hash(pixels.reshape(12, 48, 3))
    changed = pixels.copy()
    changed[0, 0, 0] ^= 1
    assert pixel_hash(pixels) != pixel_hash(changed)
    assert len(pixel_hash(pixels)) == 32
    # Turned copies are not contiguous in memory.
    assert pixel_hash(np.rot90(pixels)) == pixel_hash(np.ascontiguousarray(np.rot90(pixels)))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 5000), (5000, 1), (31, 33)])
def test_odd_shapes_are_scored(width: int, height: int) -> None:
    row = judge(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    assert row["max_side"] == max(width, height)
    assert len(row["phash"]) == 16
    assert row["blur"] >= 0


def test_columns_are_the_schema() -> None:
    scorer = SCORERS["image"]()
    assert list(judge(grey(np.zeros((9, 9))))) == scorer.schema().names
