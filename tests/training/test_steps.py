"""Steps counted in samples or target tokens."""

import numpy as np
import pytest

from mmcorpus.training.steps import CountedOrder


@pytest.mark.parametrize("batch", [9, 16, 100])
def test_steps_have_their_size_in_the_mean_and_every_sequence_once_an_epoch(batch: int) -> None:
    counts = np.random.default_rng(0).integers(0, 10, 50)
    order = CountedOrder(counts, batch, seed=3)
    steps = [order.step(step) for step in range(3 * order.per_epoch // batch + 2)]
    assert all(steps)
    stream = [pair for step in steps for pair in step]
    assert [epoch for epoch, _ in stream] == sorted(epoch for epoch, _ in stream)
    for epoch in range(3):
        assert sorted(item for e, item in stream if e == epoch) == list(range(50))
    sizes = np.cumsum([sum(int(counts[item]) for _, item in step) for step in steps])
    assert np.abs(sizes - batch * np.arange(1, len(steps) + 1)).max() <= counts.max(), "no drift"
    assert [order.step(step) for step in (3, 0, 1)] == [steps[step] for step in (3, 0, 1)]


def test_batches_that_a_sequence_exceeds_are_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 3 is less than one sequence has, up to 4"):
        CountedOrder(np.array([1, 4]), 3, 0)
    with pytest.raises(ValueError, match="nothing of what"):
        CountedOrder(np.array([0, 0]), 3, 0)
