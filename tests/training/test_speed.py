"""FLOPs by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mmcorpus.packing.packs import PackReader
from mmcorpus.training.balance import Work
from mmcorpus.training.data import PackLoader
from mmcorpus.training.model import VisionLanguageModel
from mmcorpus.training.speed import batch_flops, memory_gigabytes, peak_flops


def test_useful_work_leaves_out_padding_and_what_samples_do_not_see(
    model: VisionLanguageModel, mixed: list[Any], make_packs: Callable[..., str]
) -> None:
    model.freeze(vision=True, projector=False, language=False)
    work = Work.of(model)
    batch = PackLoader(PackReader(make_packs([mixed[:2], mixed[2:3]])), image_size=16, length=128).batch([0, 1])
    lengths = [
        length for row in batch.sample_ids_BL for length in torch.unique(row, return_counts=True)[1].tolist()[1:]
    ]
    assert batch.squares == sum(length**2 for length in lengths)
    useful, padded = batch_flops(work, batch, 16)
    shared = work.target * batch.target_tokens + work.crop * 3
    assert useful == pytest.approx(work.position * sum(lengths) + work.attention * batch.squares + shared)
    assert padded == pytest.approx(work.position * 256 + work.attention * 2 * 128**2 + shared)
    assert work.position == pytest.approx(6 * sum(parameter.numel() for parameter in model.blocks.parameters()))


def test_the_peak_is_positive_and_memory_is_counted_in_gigabytes() -> None:
    assert peak_flops(torch.device("cpu"), "fp32") > 1e8
    assert 0.05 < memory_gigabytes(torch.device("cpu")) < 500
