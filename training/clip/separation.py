"""Separation of two groups of samples by a score: the area under the ROC curve, with its confidence interval."""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEVEL: Final = 0.95
"""Of the intervals."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Auc:
    """The chance that a sample of the higher group scores above one of the lower, ties counting half."""

    value: float
    """0 to 1; 0.5 tells nothing. NaN if a group is empty."""
    low: float
    high: float
    """The 95 % confidence interval; NaN if a group has fewer than two samples."""
    higher: int
    lower: int
    """Samples in each group."""

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def auc(higher: npt.ArrayLike, lower: npt.ArrayLike) -> Auc:
    """The AUC of independent samples, with DeLong's interval (DeLong et al. 1988; by ranks, as Sun and Xu 2014)."""
    above, below = np.asarray(higher, np.float64), np.asarray(lower, np.float64)
    m, n = len(above), len(below)
    if not m or not n:
        return Auc(value=np.nan, low=np.nan, high=np.nan, higher=m, lower=n)
    ranks = _ranks(np.concatenate([above, below]))
    value = float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))
    if m < 2 or n < 2:
        return Auc(value=value, low=np.nan, high=np.nan, higher=m, lower=n)
    # The share of the other group that each sample beats; the variance of these shares is that of the AUC.
    beaten, beating = (ranks[:m] - _ranks(above)) / n, 1 - (ranks[m:] - _ranks(below)) / m
    error = float(np.sqrt(beaten.var(ddof=1) / m + beating.var(ddof=1) / n))
    reach = NormalDist().inv_cdf(0.5 + LEVEL / 2) * error
    return Auc(value=value, low=max(0.0, value - reach), high=min(1.0, value + reach), higher=m, lower=n)


def _ranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
