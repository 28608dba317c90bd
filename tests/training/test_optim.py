"""The optimiser's groups, the learning-rate schedule and the one division."""

import itertools
import math

import pytest
import torch
from torch import nn

from mmcorpus.training.model import VisionLanguageModel
from mmcorpus.training.optim import OptimizerConfig, ScheduleConfig, scale_and_clip


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
