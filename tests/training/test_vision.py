"""Encoders: what is read of each is what transformers' own class computes."""

from typing import Any

import pytest
import torch
import transformers

from mmcorpus.training.config import EncoderConfig, RandomVision
from mmcorpus.training.vision import FAMILIES, VisionEncoder, build_vision

SMALL = RandomVision(image_size=16, patch_size=4, hidden_size=16, layers=3, heads=2, intermediate_size=32)
FAMILY = sorted(FAMILIES)


def small(family: str, **changes: Any) -> RandomVision:
    return RandomVision(**{**SMALL.__dict__, "family": family, **changes})


def own(family: str, images: torch.Tensor) -> tuple[Any, torch.Tensor, tuple[torch.Tensor, ...]]:
    """A model of transformers with these sizes, its pixels of the images, and all its hidden states."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 4, "image_size": 16
    }  # fmt: skip
    sizes |= {"mlp_ratio": 2} if family == "dinov2" else {"intermediate_size": 32}
    sizes |= {"num_patches": 16} if family == "siglip2" else {}
    config, model = getattr(transformers, FAMILIES[family].config), getattr(transformers, FAMILIES[family].model)
    built = model(config(**sizes)).eval()
    mean, std = (torch.tensor(each)[:, None, None] for each in (FAMILIES[family].mean, FAMILIES[family].std))
    pixels = (images / 255 - mean) / std
    given: dict[str, torch.Tensor] = {"pixel_values": pixels}
    if family == "siglip2":
        rows, columns = images.shape[2] // 4, images.shape[3] // 4
        cut = pixels.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 4, 5, 1).reshape(len(images), -1, 48)
        shapes = torch.tensor([[rows, columns]] * len(images))
        given = {"pixel_values": cut, "pixel_attention_mask": torch.ones(cut.shape[:2]), "spatial_shapes": shapes}
    elif family != "dinov2":
        given["interpolate_pos_encoding"] = torch.tensor(images.shape[2:] != (16, 16))
    with torch.no_grad():
        return built, pixels, built(**given, output_hidden_states=True).hidden_states


@pytest.mark.parametrize("family", FAMILY)
@pytest.mark.parametrize("shape", [(16, 16), (24, 12)])
def test_any_layer_is_what_transformers_calls_its_hidden_state(family: str, shape: tuple[int, int]) -> None:
    """Also of images of another size and shape than the encoder's, and several layers side by side."""
    images = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8)
    built, _, states = own(family, images)
    skip = FAMILIES[family].prefix
    with torch.no_grad():
        two = VisionEncoder([(built, (-2, -3))])
        torch.testing.assert_close(
            two(images), torch.cat([states[-2][:, skip:], states[-3][:, skip:]], -1), rtol=1e-4, atol=1e-5
        )
        assert (two.width, two.patches, len(two.blocks())) == (32, 16, 2), "the last block is not run"
        one = VisionEncoder([(own(family, images)[0], (-1,))])
        torch.testing.assert_close(one(images), states[-1][:, skip:], rtol=1e-4, atol=1e-5)


def test_features_of_several_encoders_stand_side_by_side() -> None:
    encoders = [
        EncoderConfig(source=small("siglip")),
        EncoderConfig(source=small("dinov2", hidden_size=32), layers=(-1,)),
    ]
    torch.manual_seed(0)
    both = build_vision(encoders).eval()
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        found = both(images)
        for place, name in ((slice(0, 16), "siglip"), (slice(16, 48), "dinov2")):
            alone = VisionEncoder([(dict(both.towers())[name], (-1,))])  # shortened already
            torch.testing.assert_close(found[..., place], alone(images))
    assert [name for name, _ in both.towers()] == ["siglip", "dinov2"]


@pytest.mark.parametrize("other", ["siglip", "clip"])
def test_dual_encoders_are_averaged_as_points_does(other: str) -> None:
    """α·general + (1-α)·OCR of their second-last layers, also of images of another size."""
    images = torch.randint(0, 256, (2, 3, 24, 16), dtype=torch.uint8)
    general, _, general_states = own("siglip", images)
    ocr, pixels, _ = own(other, images)
    with torch.no_grad():
        for parameter in ocr.parameters():
            parameter.mul_(1.5)  # `own` draws all alike
        given = {"pixel_values": pixels, "interpolate_pos_encoding": True, "output_hidden_states": True}
        ocr_states = ocr(**given).hidden_states
        dual = VisionEncoder([(general, (-2,)), (ocr, (-2,))], weights=(0.3, 0.7))
        found = dual(images)
    expected = 0.3 * general_states[-2] + 0.7 * ocr_states[-2][:, FAMILIES[other].prefix :]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert dual.width == 16, "one connector's width, not two"


def test_crops_of_several_sizes_are_each_seen_alone() -> None:
    vision = build_vision([EncoderConfig(source=small("siglip"))]).eval()
    images = torch.randint(0, 256, (3, 3, 16, 24), dtype=torch.uint8)
    sizes = ((24, 8), (16, 16), (24, 8))
    calls: list[int] = []
    hook = vision.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        found = vision.crops(images, sizes)
        assert len(calls) == 1, "sharded encoders wait for each other at each call"
        hook.remove()
        alone = [vision(images[row : row + 1, :, :height, :width])[0] for row, (width, height) in enumerate(sizes)]
    torch.testing.assert_close(found, torch.cat(alone))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="vision_layer -5 asks for more blocks than the encoder's 3"):
        VisionEncoder([(own("clip", torch.zeros(1, 3, 16, 16))[0], (-5,))])
    with pytest.raises(ValueError, match="siglip has 16, clip has 32"):
        build_vision(
            [EncoderConfig(source=small("siglip"), weight=0.5),
             EncoderConfig(source=small("clip", hidden_size=32), weight=0.5)]
        )  # fmt: skip
    with pytest.raises(ValueError, match="grids of different sizes"):
        build_vision([EncoderConfig(source=small("siglip")), EncoderConfig(source=small("clip", patch_size=8))])
