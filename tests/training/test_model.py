"""Invariants 6 and 7: packing changes no sample's logits or loss, and padding carries none."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from mmcorpus.packing.sequence import PackedSequence
from mmcorpus.packing.tokens import encode_captions
from mmcorpus.training import attention
from mmcorpus.training.attention import block_causal_flex, block_causal_mask
from mmcorpus.training.batch import PackedBatch, collate, expand
from mmcorpus.training.config import ModelConfig
from mmcorpus.training.images import load_square
from mmcorpus.training.model import VisionLanguageModel, build_language, build_model
from tests.training.conftest import TINY, noise


def batch_of(sequences: Sequence[PackedSequence], size: int, length: int | None = None) -> PackedBatch:
    pieces = []
    for one in sequences:
        images = [load_square(image.data, size) for image in one.images]
        pixels = np.stack(images) if images else np.zeros((0, 3, size, size), dtype=np.uint8)  # type: ignore[arg-type]
        spans, counts = one.loss_spans, one.token_counts
        pieces.append(expand(one.input_ids, one.lengths, counts, spans, pixels, [], 4, one.branches))
    return collate(pieces, length=length)


def alone(model: VisionLanguageModel, mixed: list[Any], sequence: Callable[..., PackedSequence]) -> list[PackedBatch]:
    return [batch_of([sequence([item])], model.vision.image_size) for item in mixed]


@torch.no_grad()
def test_packed_logits_and_losses_are_each_samples_own(
    model: VisionLanguageModel, mixed: list[Any], sequence: Callable[..., PackedSequence]
) -> None:
    packed = batch_of([sequence(mixed[:4]), sequence(mixed[4:])], model.vision.image_size)
    logits_BLK = model.logits(packed)
    losses = model.token_losses(packed)
    row = start = first_loss = 0
    for number, single in enumerate(alone(model, mixed, sequence)):
        if number == 4:
            row, start = 1, 0
        own = model.logits(single)[0, : single.positions]
        torch.testing.assert_close(logits_BLK[row, start : start + len(own)], own, rtol=1e-4, atol=1e-5)
        own_losses = model.token_losses(single)
        last_loss = first_loss + len(own_losses)
        torch.testing.assert_close(losses[first_loss:last_loss], own_losses, rtol=1e-4, atol=1e-5)
        start, first_loss = start + len(own), last_loss
    assert first_loss == len(losses) == packed.target_tokens > 0
    torch.testing.assert_close(model(packed), losses)


@torch.no_grad()
def test_a_sample_sees_neither_the_words_nor_the_images_of_its_neighbours(
    model: VisionLanguageModel, mixed: list[Any], sequence: Callable[..., PackedSequence]
) -> None:
    packed = batch_of([sequence(mixed[:3])], model.vision.image_size)
    before = model.logits(packed)[0]
    middle = packed.sample_ids_BL[0] == 1
    changed = packed.input_ids_BL.clone()
    changed[0, middle & (packed.input_ids_BL[0] != -200)] = 7
    images = packed.images_NCHW.clone()
    images[1] = 255 - images[1]
    for other in (
        model.logits(_replace(packed, input_ids_BL=changed))[0],
        model.logits(_replace(packed, images_NCHW=images))[0],
    ):
        assert torch.equal(before[~middle], other[~middle])
        assert not torch.allclose(before[middle], other[middle])


@torch.no_grad()
def test_without_isolation_neighbours_are_seen(
    model: VisionLanguageModel, mixed: list[Any], sequence: Callable[..., PackedSequence]
) -> None:
    packed = batch_of([sequence(mixed[:3])], model.vision.image_size)
    isolated = model.logits(packed)[0]
    model.set_attention(isolated=False, implementation="sdpa")
    joined = model.logits(packed)[0]
    first = packed.sample_ids_BL[0] == 0
    torch.testing.assert_close(isolated[first], joined[first], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(isolated[packed.sample_ids_BL[0] == 1], joined[packed.sample_ids_BL[0] == 1])


@torch.no_grad()
def test_padding_changes_nothing_and_gives_no_nan(
    model: VisionLanguageModel, mixed: list[Any], sequence: Callable[..., PackedSequence]
) -> None:
    items = sequence(mixed[:2])
    short, long = (batch_of([items], model.vision.image_size, length=length) for length in (None, 200))
    assert torch.isfinite(model.logits(long)).all()
    torch.testing.assert_close(model(long), model(short), rtol=1e-5, atol=1e-4)


def test_gradients_with_padding_are_finite_and_those_of_the_samples_alone(
    model: VisionLanguageModel, mixed: list[Any], sequence: Callable[..., PackedSequence]
) -> None:
    model(batch_of([sequence(mixed)], model.vision.image_size, length=256)).sum().backward()
    packed = {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    assert len(packed) == len(list(model.parameters()))
    model.zero_grad()
    for single in alone(model, mixed, sequence):
        model(single).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            packed[name], parameter.grad, rtol=2e-3, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_an_image_reaches_exactly_its_own_places(
    model: VisionLanguageModel, mixed: list[Any], sequence: Callable[..., PackedSequence]
) -> None:
    packed = batch_of([sequence(mixed)], model.vision.image_size)
    with torch.no_grad():
        embedded = model.embed(packed).flatten(0, 1)[packed.image_positions].view(len(packed.images_NCHW), 4, -1)
        torch.testing.assert_close(embedded, model.encode_images(packed.images_NCHW))


def test_images_and_places_that_differ_in_number_are_refused(
    model: VisionLanguageModel, mixed: list[Any], sequence: Callable[..., PackedSequence]
) -> None:
    packed = batch_of([sequence(mixed)], model.vision.image_size)
    with pytest.raises(ValueError, match="28 image positions but its 6 images give 24"):
        model(_replace(packed, images_NCHW=packed.images_NCHW[:-1]))


def test_the_mask_by_hand() -> None:
    mask = block_causal_mask(torch.tensor([[0, 0, 1, -1]]))[0, 0]
    assert mask.tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [False, False, True, False],
        [False, False, False, True],
    ]


def seen_by_hand(batch: PackedBatch, window: int | None = None) -> list[list[list[bool]]]:
    """Molmo's rule, position by position, within a sliding window."""
    branches = batch.branch_ids_BL
    assert branches is not None
    found = []
    rows = (each.tolist() for each in (batch.sample_ids_BL, branches, batch.position_ids_BL))
    for samples, ids, positions in zip(*rows, strict=True):
        places = range(len(samples))
        found.append(
            [
                [
                    samples[q] == samples[k] and k <= q and ids[k] in (0, ids[q])
                    and (window is None or positions[q] - positions[k] < window)
                    for k in places
                ]
                for q in places
            ]
        )  # fmt: skip
    return found


def test_the_mask_of_annotations_is_what_brute_force_says(
    tokenizer: Any, mixed: list[Any], sequence: Callable[..., PackedSequence]
) -> None:
    from torch.nn.attention.flex_attention import create_mask

    sample, _ = several(tokenizer)
    packed = batch_of([sequence([mixed[0], (sample, [noise(7)]), mixed[3]]), sequence(mixed[:2])], 16)
    batch, length = packed.sample_ids_BL.shape
    for window in (None, 6):
        what = packed.sample_ids_BL, packed.branch_ids_BL, packed.position_ids_BL, window
        mask = block_causal_mask(*what)[:, 0]
        assert mask.tolist() == seen_by_hand(packed, window)
        assert mask.any(-1).all(), "an empty row of the softmax is NaN"
        flex = block_causal_flex(*what)
        assert torch.equal(create_mask(flex.mask_mod, batch, None, length, length, device="cpu")[:, 0], mask)


def test_varlen_is_sdpa(
    model: VisionLanguageModel, mixed: list[Any], sequence: Callable[..., PackedSequence], tokenizer: Any
) -> None:
    """Losses and gradients, of grouped-query heads, with padding, and of samples that see each other."""
    packed = batch_of([sequence(mixed[:4]), sequence(mixed[4:])], model.vision.image_size)
    for isolated in (True, False):
        found = {}
        for kernel in ("sdpa", "varlen"):
            model.set_attention(isolated=isolated, implementation=kernel)
            model.zero_grad()
            losses = model(packed)
            losses.sum().backward()
            found[kernel] = losses.detach(), {name: one.grad.clone() for name, one in model.named_parameters()}
        torch.testing.assert_close(found["varlen"][0], found["sdpa"][0], rtol=1e-5, atol=1e-5)
        for name, gradient in found["sdpa"][1].items():
            torch.testing.assert_close(found["varlen"][1][name], gradient, rtol=1e-3, atol=1e-4)
    branched = batch_of([sequence([(several(tokenizer)[0], [noise(7)])])], model.vision.image_size)
    model.set_attention(isolated=True, implementation="varlen")
    with pytest.raises(ValueError, match="set sdpa or flex"):
        model(branched)


def test_varlens_kernel_is_given_bf16_alone_under_autocast(
    model: VisionLanguageModel, mixed: list[Any], sequence: Callable[..., PackedSequence], monkeypatch: Any
) -> None:
    """Rotary embeddings make queries and keys fp32, which PyTorch's flash kernel refuses, beside values in bf16."""
    packed, seen = batch_of([sequence(mixed[:4])], model.vision.image_size), set[torch.dtype]()
    model.set_attention(isolated=True, implementation="varlen")

    def kernel(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **more: Any) -> torch.Tensor:
        seen.update((q.dtype, k.dtype, v.dtype))
        return F.scaled_dot_product_attention(q, k, v, **more)

    monkeypatch.setattr(attention, "F", SimpleNamespace(scaled_dot_product_attention=kernel, pad=F.pad))
    with torch.autocast("cpu", torch.bfloat16):
        model(packed).sum().backward()
    assert seen == {torch.bfloat16}


CAPTIONS = ("a red square", "a blue square number 3, seen from the left", "white")


def several(tokenizer: Any) -> tuple[Any, list[Any]]:
    """A sample with these captions, and one sample of each caption."""
    samples = encode_captions(tokenizer, [CAPTIONS, *CAPTIONS])
    return samples[0], samples[1:]


@torch.no_grad()
def test_an_annotation_has_the_logits_and_losses_of_its_image_with_it_alone(
    model: VisionLanguageModel, tokenizer: Any, mixed: list[Any], sequence: Callable[..., PackedSequence]
) -> None:
    sample, singles = several(tokenizer)
    assert len(sample.branches) == 3
    image = [noise(7)]
    for neighbours, before in (([(sample, image)], 0), ([mixed[0], (sample, image), mixed[3]], 1)):
        packed = batch_of([sequence(neighbours)], model.vision.image_size)
        logits_LK, losses = model.logits(packed)[0], model.token_losses(packed)
        start = sum(batch_of([sequence([item])], 16).positions for item in neighbours[:before])
        first_loss = sum(batch_of([sequence([item])], 16).target_tokens for item in neighbours[:before])
        place, prefix = start + 5, 5  # four positions of the image and the line break
        for single in singles:
            alone = batch_of([sequence([(single, image)])], model.vision.image_size)
            own = model.logits(alone)[0, : alone.positions]
            length = len(own) - prefix
            torch.testing.assert_close(logits_LK[start : start + prefix], own[:prefix], rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(logits_LK[place : place + length], own[prefix:], rtol=1e-5, atol=1e-6)
            own_losses = model.token_losses(alone)
            last_loss = first_loss + len(own_losses)
            torch.testing.assert_close(losses[first_loss:last_loss], own_losses, rtol=1e-5, atol=1e-6)
            place, first_loss = place + length, last_loss
        if before == 0:
            assert (place, first_loss) == (packed.positions, len(losses))


def test_models_come_from_local_folders(tmp_path: Any) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    SiglipVisionModel(SiglipVisionConfig(**sizes, image_size=8, patch_size=4)).save_pretrained(tmp_path / "vision")
    language = Qwen2ForCausalLM(Qwen2Config(**sizes, num_key_value_heads=1, vocab_size=320))
    language.save_pretrained(tmp_path / "language")
    config = ModelConfig(vision=str(tmp_path / "vision"), language=str(tmp_path / "language"), tokens_per_image=4)
    model = build_model(config, 300)
    loaded = dict(model.language.named_parameters())
    for name, parameter in language.named_parameters():
        assert torch.equal(loaded[name], parameter)
    with pytest.raises(ValueError, match="embeds 320"):
        build_language(str(tmp_path / "language"), 400)


def test_random_weights_depend_on_the_seed_alone(tiny: ModelConfig) -> None:
    torch.manual_seed(5)
    first = build_model(tiny, 300, seed=1).state_dict()
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn), "building a model moved the global generator"
    again, other = build_model(tiny, 300, seed=1).state_dict(), build_model(tiny, 300, seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["projector.fc1.weight"], other["projector.fc1.weight"])


def _replace(batch: PackedBatch, **changes: torch.Tensor) -> PackedBatch:
    return dataclasses.replace(batch, **changes)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "olmo2", "gpt_neox", "phi", "smollm3"])
def test_any_causal_language_model_will_do(
    kind: str, mixed: list[Any], sequence: Callable[..., PackedSequence], tmp_path: Path
) -> None:
    """Packed = alone, and the losses are those of transformers' own forward on the same embeddings."""
    sizes: dict[str, Any] = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 320,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    grouped = {} if kind in ("gpt_neox", "phi") else {"num_key_value_heads": 2, "head_dim": 8}
    torch.manual_seed(0)
    language = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**sizes, **grouped))
    language.save_pretrained(tmp_path)
    net = build_model(dataclasses.replace(TINY, language=str(tmp_path)), 300).eval()
    assert len(net.blocks) == 2
    packed = batch_of([sequence(mixed[:3])], 16)
    losses = net(packed)
    apart = [net(batch_of([sequence([item])], 16)) for item in mixed[:3]]
    torch.testing.assert_close(losses, torch.cat(apart), rtol=1e-4, atol=1e-4)
    alone = batch_of([sequence(mixed[:1])], 16)
    with torch.no_grad():
        logits = net.language(inputs_embeds=net.embed(alone)).logits.flatten(0, 1)[alone.predict_positions_M]
    theirs = torch.nn.functional.cross_entropy(logits.float(), alone.targets_M, reduction="none")
    torch.testing.assert_close(apart[0], theirs, rtol=1e-4, atol=1e-4)
