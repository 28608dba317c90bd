"""Shares of a step: every sequence once, as many on each device, about the same work; costs of a model's parts."""

import itertools
import random

import numpy as np
import pyarrow as pa
import pytest

from mmcorpus.training.balance import Work, assign
from mmcorpus.training.config import ModelConfig
from mmcorpus.training.model import build_model


@pytest.mark.parametrize(("count", "world"), [(8, 8), (32, 8), (13, 4), (3, 5), (7, 1)])
def test_each_sequence_goes_to_one_device(count: int, world: int) -> None:
    rng = random.Random(count)
    step = rng.sample(range(1000), count)
    costs = np.array([rng.lognormvariate(0, 1) for _ in step])
    shares = assign(step, costs, world)
    assert sorted(itertools.chain(*shares)) == sorted(step)
    assert [len(share) for share in shares] == [len(step[rank::world]) for rank in range(world)]
    assert shares == assign(step, costs, world)


def test_one_device_keeps_the_order_and_several_begin_with_their_dearest() -> None:
    costs = {5: 1.0, 9: 3.0, 2: 2.0, 7: 4.0}
    assert assign([5, 9, 2, 7], list(costs.values()), 1) == [[5, 9, 2, 7]]
    shares = assign([5, 9, 2, 7], list(costs.values()), 2)
    assert sorted(shares) == [[7, 5], [9, 2]]
    with pytest.raises(ValueError, match="not one of each of 3"):
        assign([1, 2, 3], [1.0, 2.0], 2)


def test_shares_are_about_equal_where_turns_are_not() -> None:
    """A tenth of the sequences cost six times as much, as tiled images among texts do."""
    rng = np.random.default_rng(0)
    worst_turns, worst = [], []
    for _ in range(50):
        costs = rng.normal(1, 0.1, 32) * np.where(rng.random(32) < 0.1, 6, 1)
        turns = [costs[rank::8].sum() for rank in range(8)]
        shares = [costs[share].sum() for share in assign(range(32), costs, 8)]
        assert max(shares) <= max(turns) + 1e-9
        worst_turns.append(max(turns) / costs.mean() / 4)
        worst.append(max(shares) / max(costs.mean() * 4, costs.max() + np.sort(costs)[:3].sum()))
    assert np.mean(worst_turns) > 1.5
    assert np.mean(worst) < 1.03, "against what the dearest sequence alone asks for"


def test_work_counts_what_is_trained(tiny: ModelConfig) -> None:
    model = build_model(tiny, 320)
    model.freeze(vision=False, projector=False, language=False)
    trained = Work.of(model)
    model.freeze(vision=True, projector=False, language=False)
    frozen = Work.of(model)
    assert trained.crop == 3 * frozen.crop > 0
    assert trained.position == frozen.position == 6 * sum(p.numel() for p in model.language.model.layers.parameters())
    index = pa.table({"length": [10, 20], "targets": [1, 2], "attention": [100, 100], "crops": [0, 3]})
    one, two = frozen.costs(index)
    assert two - one == pytest.approx(10 * frozen.position + frozen.target + 3 * frozen.crop)
