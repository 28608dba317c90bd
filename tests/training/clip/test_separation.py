import numpy as np
import pytest

from benchmarks.bootstrap import paired_auc
from mmcorpus.training.clip.separation import auc


def test_it_counts_the_pairs_in_the_right_order_and_half_the_ties() -> None:
    generator = np.random.default_rng(0)
    above, below = generator.integers(0, 8, 30) + 1.0, generator.integers(0, 8, 20).astype(float)
    pairs = (above[:, None] > below) + 0.5 * (above[:, None] == below)
    assert auc(above, below).value == pytest.approx(pairs.mean())
    assert auc([2, 3], [0, 1]).value == 1.0
    assert auc([0, 1], [2, 3]).value == 0.0
    assert auc([1, 1], [1, 1]).value == 0.5
    assert np.isnan(auc([], [1]).value)


def test_delongs_interval_is_that_of_the_definition() -> None:
    """Structural components by the definition (DeLong et al. 1988, eq. 4 to 6), by loops over pairs."""
    generator = np.random.default_rng(1)
    above, below = generator.normal(1, 1, 40), generator.normal(0, 1, 25)
    wins = (above[:, None] > below) + 0.5 * (above[:, None] == below)
    error = np.sqrt(wins.mean(1).var(ddof=1) / 40 + wins.mean(0).var(ddof=1) / 25)
    found = auc(above, below)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * error, rel=1e-5)


@pytest.mark.parametrize("measure", [auc, paired_auc])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(measure: object) -> None:
    """Two normals a distance of 1 apart: the AUC is Φ(1/√2) = 0.7602."""
    assert callable(measure)
    more = {} if measure is auc else {"draws": 200}
    held = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        found = measure(generator.normal(1, 1, 60), generator.normal(0, 1, 60), **more)
        held += found.low <= 0.76025 <= found.high
    assert 85 <= held <= 100


def test_pairs_that_move_together_have_a_narrower_interval_than_strangers() -> None:
    generator = np.random.default_rng(2)
    picture = generator.normal(0, 1, 200)
    above, below = picture + 0.5, picture + generator.normal(0, 0.1, 200)
    paired, alone = paired_auc(above, below), auc(above, below)
    assert paired.value == alone.value
    assert paired.high - paired.low < alone.high - alone.low
    with pytest.raises(ValueError, match="pairs"):
        paired_auc([1.0], [1.0, 2.0])
