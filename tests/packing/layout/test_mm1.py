"""MM1: an overview and four quarters, 144 tokens each."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mmcorpus.packing.layout import MM1Layout, Token
from mmcorpus.packing.layout.render import render


def test_720_tokens_of_1344_pixels(sizes: Callable[..., Any]) -> None:
    config = MM1Layout()
    assert set(config.lengths(*sizes(300).T)) == {720}
    assert set(config.crop_counts(*sizes(300).T)) == {5}
    layout = config.layout(1344, 1344)
    assert layout.tokens == ((Token.IMAGE, 720),)
    assert [crop.box[:2] for crop in layout.crops] == [(0, 0), (0, 0), (672, 0), (0, 672), (672, 672)]
    assert layout.pool.shape == (720, 16), "48 x 48 patches, 4 x 4 of them a token"


def test_the_quarters_are_the_image_and_the_overview_all_of_it(picture: Callable[..., Any]) -> None:
    image = picture(1344, 1344)
    overview, *quarters = render(image, MM1Layout().layout(1344, 1344))
    top, bottom = (np.concatenate(quarters[at : at + 2], axis=1) for at in (0, 2))
    assert np.array_equal(np.concatenate([top, bottom]), image)
    assert overview.shape == (672, 672, 3)


def test_base_resolutions_of_the_paper() -> None:
    # 1792 pixels: 896 a crop; the tokens stay.
    assert MM1Layout(side=896).lengths([10], [10]).tolist() == [720]
    assert MM1Layout(side=378, tokens=64).lengths([10], [10]).tolist() == [320]
