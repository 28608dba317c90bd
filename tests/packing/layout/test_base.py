"""Every layout: arithmetic without arrays agrees with what is built, and what is built fits together."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mmcorpus.packing.layout import (
    LAYOUTS,
    CattyLayout,
    InternVLLayout,
    LayoutConfig,
    MM1Layout,
    MolmoLayout,
    NativeLayout,
    SquareLayout,
    Token,
    read_layout,
)
from mmcorpus.packing.layout.render import patches, render

CONFIGS: list[LayoutConfig] = [
    SquareLayout(),
    SquareLayout(tokens=64),
    SquareLayout(tokens=729),
    SquareLayout(tokens=9, side=64, patch=8),
    SquareLayout(tokens=100, side=64, patch=8),
    MolmoLayout(),
    MolmoLayout(max_crops=36, padding="reference"),
    MolmoLayout(crop=378, max_crops=8, keep_aspect=False),
    MolmoLayout(crop=56, patch=8, margins=(1, 2), max_crops=5, pool=2, columns=False),
    MolmoLayout(crop=48, patch=8, margins=(0, 0), max_crops=7, pool=4),
    CattyLayout(),
    CattyLayout(max_tiles=3, thumbnail=False),
    CattyLayout(tile=56, max_tiles=12),
    InternVLLayout(),
    InternVLLayout(min_tiles=3, max_tiles=6, thumbnail=False, delimiters=False),
    MM1Layout(),
    MM1Layout(side=378, grid=3, tokens=64),
    NativeLayout(),
    NativeLayout(patch=16, min_pixels=65536, max_pixels=200_000, delimiters=False),
]
NAMES = [f"{config.kind}{number}" for number, config in enumerate(CONFIGS)]
every_layout = pytest.mark.parametrize("config", CONFIGS, ids=NAMES)


@every_layout
def test_what_is_measured_is_what_is_built(config: LayoutConfig, sizes: Callable[..., Any]) -> None:
    measured = sizes(150, seed=1)
    lengths, crops = config.lengths(*measured.T), config.crop_counts(*measured.T)
    assert lengths.dtype == crops.dtype == np.int64
    for (width, height), length, count in zip(measured.tolist(), lengths, crops, strict=True):
        layout = config.layout(width, height)
        assert (layout.length, len(layout.crops)) == (length, count), (width, height)
        template = layout.template
        assert len(template) == length
        assert (template == Token.IMAGE).sum() == len(layout.pool) > 0


@every_layout
def test_pool_crops_and_padding_fit_together(config: LayoutConfig, sizes: Callable[..., Any]) -> None:
    for width, height in sizes(60, seed=2).tolist():
        layout = config.layout(width, height)
        assert len({crop.size for crop in layout.crops}) == 1
        across, down = layout.crops[0].size
        count = len(layout.crops) * (across // layout.patch) * (down // layout.patch)
        assert layout.padding.shape == (count,)
        assert layout.pool.dtype == np.int32
        assert -1 <= layout.pool.min() <= layout.pool.max() < count
        assert (layout.pool >= 0).any(axis=1).all(), "a token without a patch"
        ordered = np.sort(layout.pool, axis=1)
        assert ((ordered[:, 1:] != ordered[:, :-1]) | (ordered[:, 1:] < 0)).all(), "a patch twice in a token"
        for crop in layout.crops:
            left, top, right, bottom = crop.source(width, height)
            assert 0 <= left <= right <= width + 1e-6, "a crop may show nothing but padding, and nothing beyond"
            assert 0 <= top <= bottom <= height + 1e-6
            sides = zip(crop.padding[:2], crop.padding[2:], crop.size, crop.resized[-1], strict=True)
            assert all(before + after + min(whole, size) >= size for before, after, size, whole in sides)


@every_layout
def test_rendered_crops_are_what_the_layout_says(
    config: LayoutConfig, sizes: Callable[..., Any], picture: Callable[..., Any]
) -> None:
    for width, height in sizes(6, seed=3, largest=700).tolist():
        layout = config.layout(width, height)
        crops = render(picture(width, height), layout)
        assert crops.dtype == np.uint8
        assert crops.shape == (len(layout.crops), *reversed(layout.crops[0].size), 3)
        cut = patches(crops, layout.patch)
        assert len(cut) == len(layout.padding)
        white = patches(render(np.full((height, width, 3), 255, np.uint8), layout), layout.patch)
        lit = white.reshape(len(white), -1)
        if getattr(config, "padding", "aligned") == "aligned":
            assert np.array_equal(lit.all(axis=1), layout.padding == 0)
            assert np.array_equal(~lit.any(axis=1), layout.padding == 2)


@every_layout
def test_many_sizes_are_measured_as_each_alone(config: LayoutConfig, sizes: Callable[..., Any]) -> None:
    many = np.resize(sizes(999, seed=4), (70_000, 2))
    for measure in (config.lengths, config.crop_counts):
        assert np.array_equal(measure(*many.T), np.resize(measure(*many[:999].T), 70_000))


@every_layout
def test_no_sizes_have_no_lengths(config: LayoutConfig) -> None:
    none = np.zeros(0, dtype=np.int32)
    assert config.lengths(none, none).shape == config.crop_counts(none, none).shape == (0,)


@every_layout
def test_a_config_is_read_back_as_it_was_written(config: LayoutConfig) -> None:
    again = read_layout(json.loads(json.dumps(config.as_dict())))
    assert again == config
    assert again.hash == config.hash
    assert len({each.hash for each in CONFIGS}) == len(CONFIGS)


def test_every_kind_is_known_and_the_default_is_square() -> None:
    assert {config.kind for config in CONFIGS} == set(LAYOUTS)
    assert read_layout({"tokens": 64}) == SquareLayout(tokens=64)
    assert read_layout({"kind": "molmo", "margins": [2, 2]}) == MolmoLayout(margins=(2, 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "mollmo"}, "the layout 'mollmo' is not known; there are square, molmo"),
        ({"kind": "native", "tokens": 3}, "the layout 'native' has no setting tokens; it has kind, patch"),
        ({"tokens": 145}, "tokens is 145 in the layout 'square'; give a square"),
        ({"tokens": "144"}, "tokens is '144' in the layout 'square'; give a whole number"),
        ({"patch": 0}, "patch is 0 .* whole number from 1 to 16384"),
        ({"patch": 385}, "patch is 385 .* at most the side, 384"),
        ({"kind": "molmo", "crop": 340}, "crop is 340 .* a multiple of the patch, 14"),
        ({"kind": "molmo", "margins": [12, 12]}, r"margins is \(12, 12\) .* at most 23 together"),
        ({"kind": "molmo", "margins": [4]}, r"margins is \(4,\) .* two whole numbers"),
        ({"kind": "molmo", "padding": "none"}, "padding is 'none' .* 'aligned' or 'reference'"),
        ({"kind": "molmo", "columns": 1}, "columns is 1 .* true or false"),
        ({"kind": "catty", "tile": 350}, "tile is 350 .* a multiple of patch x merge, 28"),
        ({"kind": "internvl", "min_tiles": 13}, "min_tiles is 13 .* at most max_tiles, 12"),
        ({"kind": "mm1", "tokens": 10}, "tokens is 10 .* give a square"),
        ({"kind": "native", "min_pixels": 2_000_000}, "min_pixels is 2000000 .* at most max_pixels, 1003520"),
        ({"kind": "molmo", "max_crops": 10**9}, "max_crops is 1000000000 .* from 1 to 1024"),
        ({"kind": "native", "max_pixels": 2**40}, "max_pixels is 1099511627776 .* from 1 to 268435456"),
        ({"kind": "native", "max_pixels": 783}, "max_pixels is 783 .* at least one token's 784"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_layout(settings)


@every_layout
def test_impossible_sizes_are_refused(config: LayoutConfig) -> None:
    with pytest.raises(ValueError, match="image 1 is 0 x 5 pixels"):
        config.lengths([3, 0], [4, 5])
    with pytest.raises(ValueError, match="image 0 is 7 x -1 pixels"):
        config.layout(7, -1)
    with pytest.raises(ValueError, match="give whole pixels"):
        config.crop_counts([1.5], [2.0])
    with pytest.raises(ValueError, match="are not one list of sizes"):
        config.lengths([1, 2], [2])


def test_dtypes_of_sizes_do_not_matter() -> None:
    for dtype in (np.int32, np.uint16, np.int64):
        widths: npt.NDArray[Any] = np.array([6000, 1, 640], dtype=dtype)
        assert np.array_equal(
            CattyLayout().lengths(widths, widths[::-1]), CattyLayout().lengths([6000, 1, 640], [640, 1, 6000])
        )
