"""95 % intervals: Wilson's for independent hits, a bootstrap over clusters for everything else."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from mmcorpus.training.evaluation.metrics import Array, Mean, Metric

DRAWS: Final = 2000
_Z: Final = 1.959963984540054
_CHUNK: Final = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A metric's value over some questions, with its 95 % interval."""

    questions: int
    clusters: int
    """What is independent of each other: images, where several questions share one."""
    value: float
    """NaN where there is nothing to judge by."""
    low: float
    high: float


def estimate(metric: Metric, rows_NK: Array, clusters: Sequence[str], seed: int = 0) -> Estimate:
    """The metric of the questions whose numbers are the rows; `clusters` names what each belongs to.

    Hits and misses that are all independent get Wilson's interval (Wilson 1927), which holds near 0 and 1 as well.
    Otherwise whole clusters are drawn with replacement 2,000 times (percentiles; Efron and Tibshirani 1993, § 13.3):
    ten questions about one picture are not ten witnesses. Below some twenty clusters such intervals are too short.
    """
    names, of_row = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    n = len(rows_NK)
    value = float(metric.value(rows_NK.sum(0, keepdims=True))[0])
    if not n or math.isnan(value):
        return Estimate(questions=n, clusters=len(names), value=math.nan, low=math.nan, high=math.nan)
    hits = isinstance(metric, Mean) and bool(np.isin(rows_NK[:, 0], (0.0, 1.0)).all()) and rows_NK[:, 1].max() == 1.0
    if hits and len(names) == n:
        low, high = wilson(float(rows_NK[:, 0].sum()), n)
    else:
        sums_CK = np.zeros((len(names), rows_NK.shape[1]))
        np.add.at(sums_CK, of_row, rows_NK)
        low, high = _bootstrap(metric, sums_CK, seed)
    return Estimate(questions=n, clusters=len(names), value=value, low=low, high=high)


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Wilson's score interval of a share, 95 %."""
    share, z2 = hits / n, _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def _bootstrap(metric: Metric, sums_CK: Array, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    count = len(sums_CK)
    drawn: list[Array] = []
    for _ in range(0, DRAWS, _CHUNK):
        weights = rng.multinomial(count, np.full(count, 1.0 / count), size=_CHUNK).astype(np.float64)
        drawn.append(metric.value(weights @ sums_CK))
    values = np.concatenate(drawn)
    low, high = np.nanpercentile(values, [2.5, 97.5]) if np.isfinite(values).any() else (math.nan, math.nan)
    return float(low), float(high)
