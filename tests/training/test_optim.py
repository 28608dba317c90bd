"""The optimiser's groups, the learning-rate schedule and the one division."""

import itertools
import math

import pytest
import torch
from torch import nn

from mmcorpus.training.model import VisionLanguageModel
from mmcorpus.training.optim import (
    GroupConfig,
    OptimizerConfig,
    ScheduleConfig,
    grouped,
    mm1_learning_rate,
    mm1_weight_decay,
    scale_and_clip,
)


def test_vectors_and_biases_do_not_decay(model: VisionLanguageModel) -> None:
    decayed, plain = OptimizerConfig(weight_decay=0.5).build(model).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.5, 0.0)
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert all(p.ndim == 1 or names[p].endswith("bias") for p in plain["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))


def test_frozen_parts_are_not_the_optimisers(model: VisionLanguageModel) -> None:
    model.freeze(vision=True, projector=False, language=True)
    held = {id(p) for group in OptimizerConfig().build(model).param_groups for p in group["params"]}
    assert held == {id(p) for p in model.projector.parameters()}


def test_warm_up_then_cosine_to_zero() -> None:
    schedule = ScheduleConfig(warmup=0.1)
    rates = [schedule.learning_rate(1.0, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] < 0.001
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[10:]))
    assert ScheduleConfig().learning_rate(1.0, 0, 1) == 1.0


def test_sums_are_divided_by_the_count_and_clipped() -> None:
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))]
    parameters[0].grad = torch.tensor([30.0, 40.0])
    assert scale_and_clip(parameters, 10.0, 100.0) == pytest.approx(5.0)
    assert parameters[0].grad.tolist() == pytest.approx([3.0, 4.0])
    assert scale_and_clip(parameters, 1.0, 1.0) == pytest.approx(5.0)
    assert parameters[0].grad.tolist() == pytest.approx([0.6, 0.8])
    parameters[0].grad = torch.tensor([math.nan, 0.0])
    assert math.isnan(scale_and_clip(parameters, 1.0, 1.0))


def test_other_shapes_of_the_schedule() -> None:
    floor = ScheduleConfig(warmup=0.1, floor=0.1)
    rates = [floor.learning_rate(1.0, step, 100) for step in range(101)]
    assert (rates[10], rates[100]) == (1.0, pytest.approx(0.1))
    assert rates[55] == pytest.approx(0.55)
    wsd = ScheduleConfig(warmup=0.1, shape="wsd", decay=0.2, floor=0.5)
    rates = [wsd.learning_rate(2.0, step, 100) for step in range(101)]
    assert rates[10:81] == [2.0] * 71
    assert (rates[90], rates[100]) == (pytest.approx(1.5), pytest.approx(1.0))
    assert [ScheduleConfig(shape="constant", warmup=0.0).learning_rate(3.0, step, 9) for step in (0, 8)] == [3.0, 3.0]
    assert ScheduleConfig().learning_rate(1.0, 4, 10, warmup=0.5) == 1.0, "a group's own warm-up"
    counted = ScheduleConfig(warmup=200)
    assert [counted.learning_rate(1.0, step, 22_000) for step in (0, 99, 199)] == [1 / 200, 0.5, 1.0]
    assert [counted.learning_rate(1.0, step, 22_000, warmup=2000) for step in (199, 1999)] == [0.1, 1.0]
    assert counted.learning_rate(1.0, 9, 10) == 0.05, "of a run that is shorter"


def test_mm1s_law_gives_the_rates_that_the_paper_names() -> None:
    for size, rate in ((1.2e9, 8.6e-5), (2.9e9, 5.9e-5), (6.4e9, 4.2e-5), (30e9, 2.2e-5)):
        assert mm1_learning_rate(int(size)) == pytest.approx(rate, rel=0.03)
    assert mm1_weight_decay(4e-5) == pytest.approx(4e-6)


def test_a_parameter_is_in_the_first_group_that_matches(model: VisionLanguageModel) -> None:
    names = [name for name, _ in model.named_parameters()]
    groups = (
        GroupConfig(match="*norm*", weight_decay=0.0),
        GroupConfig(match="language", last_blocks=1),
        GroupConfig(match="projector.fc1"),
    )
    found = grouped(names, groups)
    assert all(found[name] == 0 for name in names if "norm" in name)
    assert {name for name in names if found.get(name) == 1} == {
        name for name in names if name.startswith("language.model.layers.1.") and "norm" not in name
    }
    assert {name for name in names if found.get(name) == 2} == {"projector.fc1.weight", "projector.fc1.bias"}
    assert "projector.fc2.weight" not in found
    for group in (GroupConfig(match="projektor"), GroupConfig(match="projector.fc1.weight")):
        with pytest.raises(ValueError, match=f"the group '{group.match}' has no parameters.*components are language"):
            grouped(names, (*groups, group))


def test_groups_have_their_own_rates_and_decay(model: VisionLanguageModel) -> None:
    groups = (
        GroupConfig(match="vision", learning_rate=1e-6, weight_decay=0.3),
        GroupConfig(match="projector", warmup=0.2),
    )
    model.train_groups(groups)
    assert model.train_vision
    held = OptimizerConfig(learning_rate=1e-2, weight_decay=0.1).build(model, groups).param_groups
    assert [(g["label"], g["initial_lr"], g["weight_decay"], g["warmup"]) for g in held] == [
        ("vision", 1e-6, 0.3, None), ("vision", 1e-6, 0.0, None),
        ("projector", 1e-2, 0.1, 0.2), ("projector", 1e-2, 0.0, 0.2),
    ]  # fmt: skip
    assert not any(parameter.requires_grad for parameter in model.language.parameters())
