"""The sequences of each step, where a batch is so many samples or target tokens.

The stream of all epochs' permutations is measured in that unit and cut into shares of the batch's size; a sequence
belongs to the step in whose share it begins. So every step has its size in the mean, without drift, and is a function
of its number alone, as with a fixed number of sequences (`data.Order`).
"""

import numpy as np
import numpy.typing as npt

from mmcorpus.training.data import epoch_order


class CountedOrder:
    """The (epoch, sequence) of each step."""

    def __init__(self, counts: npt.NDArray[np.int64], batch: int, seed: int) -> None:
        """`counts` are of each sequence, in the batch's unit. Raises ValueError for a batch that one sequence exceeds:
        some steps would be empty."""
        if not counts.sum():
            raise ValueError("the packs have nothing of what the batch is counted in")
        if batch < counts.max():
            raise ValueError(f"a batch of {batch} is less than one sequence has, up to {counts.max()}; give more")
        self.counts, self.batch, self.seed = counts, batch, seed
        self.per_epoch = int(counts.sum())
        self._epoch: tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None

    def step(self, step: int) -> list[tuple[int, int]]:
        """The (epoch, sequence) of step 0, 1, …, in order; at least one."""
        first, end = step * self.batch, (step + 1) * self.batch
        found: list[tuple[int, int]] = []
        for epoch in range(first // self.per_epoch, (end - 1) // self.per_epoch + 1):
            order, starts = self._of(epoch)
            offset = epoch * self.per_epoch
            low, high = np.searchsorted(starts, [first - offset, end - offset])
            found += [(epoch, int(item)) for item in order[low:high]]
        return found

    def _of(self, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The permutation of an epoch, and where each of its sequences begins."""
        if self._epoch is None or self._epoch[0] != epoch:
            order = epoch_order(len(self.counts), self.seed, epoch)
            counts = self.counts[order]
            self._epoch = (epoch, order, np.cumsum(counts) - counts)
        return self._epoch[1], self._epoch[2]
