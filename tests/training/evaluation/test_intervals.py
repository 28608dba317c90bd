"""Intervals: Wilson's values, and that questions of one image are not independent."""

import math

import numpy as np
import pytest

from mmcorpus.training.evaluation.intervals import estimate, wilson
from mmcorpus.training.evaluation.metrics import METRICS

EXACT = METRICS["exact"]


def rows(scores: list[float]) -> np.ndarray:
    return np.array([[score, 1.0] for score in scores])


def test_wilsons_interval() -> None:
    """Newcombe 1998, table I: 81 of 263, and 0 of 20."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    found = estimate(EXACT, rows([1.0] * 20), [str(n) for n in range(20)])
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.8389, abs=5e-5)


def test_ten_questions_about_one_picture_are_one_witness() -> None:
    scores = [float(n % 2) for n in range(40) for _ in range(10)]
    together = estimate(EXACT, rows(scores), [str(n) for n in range(40) for _ in range(10)])
    alone = estimate(EXACT, rows(scores), [str(n) for n in range(400)])
    assert together.value == alone.value == 0.5
    assert (together.clusters, alone.clusters) == (40, 400)
    assert together.high - together.low > 2.5 * (alone.high - alone.low), "√10 times as wide"


def test_a_bootstrap_covers_what_it_should() -> None:
    """In 95 of 100 of samples of clusters, more or less, the truth lies within the interval."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(60):
        shares = rng.beta(2, 2, size=60)
        scores = (rng.random((60, 5)) < shares[:, None]).astype(float).ravel()
        found = estimate(EXACT, rows(scores.tolist()), [str(n) for n in range(60) for _ in range(5)])
        inside += found.low <= 0.5 <= found.high
    assert inside >= 52


def test_a_ratio_is_drawn_whole() -> None:
    pope = METRICS["pope"]
    numbers = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]] * 25, dtype=np.float64)
    found = estimate(pope, numbers, [str(n) for n in range(100)])
    assert found.value == pytest.approx(2 * 50 / (2 * 50 + 50))
    assert found.low < found.value < found.high
    assert estimate(pope, numbers, [str(n) for n in range(100)]) == found, "the same each time"
    assert math.isnan(estimate(EXACT, rows([]).reshape(0, 2), []).value)
