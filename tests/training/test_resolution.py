"""An encoder between stages: at another resolution it computes what interpolating in the forward pass does."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mmcorpus.training import StageConfig, train
from mmcorpus.training.checkpoint import load_model
from mmcorpus.training.config import ConnectorConfig, EncoderConfig, ModelConfig
from mmcorpus.training.model import VisionLanguageModel, build_model
from tests.training.conftest import TINY

IMAGES = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def encoder(family: str, **changes: Any) -> EncoderConfig:
    assert not isinstance(TINY.vision, str)
    return EncoderConfig(source=dataclasses.replace(TINY.vision, family=family, **changes), layers=(-1,))


def built(*encoders: EncoderConfig, connector: str = "average_mlp", **more: Any) -> VisionLanguageModel:
    kind = ConnectorConfig(kind=connector, **more)  # type: ignore[arg-type]
    config = ModelConfig(encoders=encoders, connector=kind, language=TINY.language, tokens_per_image=4)
    return build_model(config, 300).eval()


@pytest.mark.parametrize("family", ["siglip", "siglip2", "clip", "dinov2"])
@torch.no_grad()
def test_it_computes_what_interpolating_as_it_goes_does(family: str) -> None:
    net = built(encoder(family), encoder("siglip", patch_size=4), connector="attention_pool", heads=4)
    for parameter in net.vision.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.2)
    theirs, patches = net.vision(IMAGES), net.vision.patches
    net.set_image_size(32)
    assert (net.vision.image_size, net.vision.patches) == (32, 4 * patches)
    torch.testing.assert_close(net.vision(IMAGES), theirs, rtol=1e-5, atol=1e-5)
    assert net.encode_images(IMAGES).shape[1] == 4
    tower = net.vision.towers()[0][1]
    assert tower.config.num_patches == 64 if family == "siglip2" else tower.config.image_size == 32


def test_a_stage_and_those_after_it_see_more(
    packs: str, tiny: ModelConfig, stage: Callable[..., StageConfig], tmp_path: Any
) -> None:
    first = train(stage(steps=1), packs, str(tmp_path / "one"), model=tiny, device="cpu").checkpoint
    second = stage(steps=2, checkpoint_every=1, image_size=32)
    report = train(second, packs, str(tmp_path / "two"), init=first, device="cpu")
    net, _, _ = load_model(report.checkpoint)
    assert (net.vision.image_size, net.config.tokens_per_image) == (32, 4)
    assert train(second, packs, str(tmp_path / "two"), init=first, device="cpu").checkpoint == report.checkpoint
    third = train(stage(steps=1), packs, str(tmp_path / "three"), init=report.checkpoint, device="cpu")
    assert load_model(third.checkpoint)[0].vision.image_size == 32


@pytest.mark.parametrize(
    ("side", "connector", "message"),
    [
        (3, "average_mlp", "image_size 3 is less than 4, the pixels a side of siglip's patches"),
        (32, "shuffle_mlp", "shuffle_mlp has weights for other patches a token than image_size 32 gives with"),
        (4, "average_mlp", "tokens_per_image is 4, but the encoder gives 1 patches"),
    ],
)
def test_sizes_that_it_cannot_have_are_refused(side: int, connector: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built(encoder("siglip"), connector=connector).set_image_size(side)


@pytest.mark.parametrize(
    ("side", "tokens", "connector"), [(4, 1, "average_mlp"), (32, 16, "shuffle_mlp"), (32, 1, "attention_mlp")]
)
def test_a_size_and_what_an_image_becomes_change_together(side: int, tokens: int, connector: str) -> None:
    """Each alone would be refused: more tokens than there are patches, or other patches a token."""
    net = built(encoder("siglip"), connector=connector)
    before = {name: value.clone() for name, value in net.projector.state_dict().items()}
    net.set_image_size(side, tokens)
    assert (net.vision.image_size, net.config.layout, net.projector.layout) == (side, tokens, tokens)
    assert net.encode_images(IMAGES[..., :side, :side]).shape[1] == tokens
    assert all(torch.equal(value, before[name]) for name, value in net.projector.state_dict().items())
