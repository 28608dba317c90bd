"""AUC of paired samples: the same pictures with their own captions and with others'."""

import numpy as np
import numpy.typing as npt

from mmcorpus.training.clip.separation import LEVEL, Auc, auc


def paired_auc(higher: npt.ArrayLike, lower: npt.ArrayLike, *, draws: int = 2000, seed: int = 0) -> Auc:
    """The AUC where sample i of both groups is the same picture (with its own caption, and with another's).

    The two groups are not independent, so the interval is a bootstrap over pictures (percentiles of `draws`).
    """
    above, below = np.asarray(higher, np.float64), np.asarray(lower, np.float64)
    if len(above) != len(below):
        raise ValueError(f"pairs are needed: {len(above)} samples and {len(below)}")
    plain = auc(above, below)
    generator = np.random.default_rng(seed)
    values = [auc(above[drawn], below[drawn]).value for drawn in generator.integers(0, len(above), (draws, len(above)))]
    low, high = np.quantile(values, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2]) if len(above) > 1 else (np.nan, np.nan)
    return Auc(value=plain.value, low=float(low), high=float(high), higher=len(above), lower=len(below))
