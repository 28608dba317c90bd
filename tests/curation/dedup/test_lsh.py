"""Bands and rows against datasketch's optimiser and the published curve."""

import numpy as np
import pytest
from datasketch.lsh import _optimal_param

from mmcorpus.curation.dedup.lsh import match_probability, optimal_bands


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.95])
@pytest.mark.parametrize(("permutations", "weight"), [(64, 0.5), (128, 0.5), (128, 0.1)])
def test_the_optimiser_chooses_as_datasketch_does(threshold: float, permutations: int, weight: float) -> None:
    assert optimal_bands(threshold, permutations, weight, 1 - weight) == _optimal_param(
        threshold, permutations, weight, 1 - weight
    )


def test_data_juicers_bands_follow_from_its_threshold() -> None:
    assert optimal_bands(0.7, 256) == (25, 10)


def test_the_curve_is_that_of_the_book() -> None:
    """Mining of Massive Datasets, figure 3.8: b = 20, r = 5."""
    curve = match_probability([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], 20, 5)
    assert np.round(curve, 3).tolist() == pytest.approx([0.006, 0.047, 0.186, 0.470, 0.802, 0.975, 0.9996], abs=1e-3)
