"""The order of the data, and what becomes of bad images and foreign packs."""

import io
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmcorpus.curation.store import storage
from mmcorpus.filters.decode import decode_rgb
from mmcorpus.packing.errors import PackError
from mmcorpus.packing.packs import PackReader
from mmcorpus.packing.tokens import load_tokenizer
from mmcorpus.packing.vocabulary import train_tokenizer
from mmcorpus.training.data import Order, PackLoader, check_packs, check_whole, micro_batches
from mmcorpus.training.images import load_square, square
from mmcorpus.training.optim import ScheduleConfig


def test_every_epoch_shows_each_sequence_once() -> None:
    order = Order(10, 4, seed=3)
    stream = [index for step in range(5) for _, index in order.step(step)]
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10))
    assert stream[:10] != stream[10:]
    assert Order(10, 4, seed=3).step(4) == order.step(4), "a step depends on what was asked before"
    assert Order(10, 4, seed=4).step(0) != order.step(0)


def test_steps_and_shares() -> None:
    assert ScheduleConfig().total_steps(10, 4) == 3
    assert ScheduleConfig(epochs=0.4).total_steps(10, 4) == 1
    assert ScheduleConfig(steps=7).total_steps(10, 4) == 7
    assert micro_batches([5, 7, 9], 2) == [[5, 7], [9]]


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_change_nothing(packs: str, threads: int) -> None:
    groups = [[0, 3], [1], [2, 4, 5], [0]]
    reader = PackReader(packs)
    plain = list(PackLoader(reader, image_size=16).batches(groups))
    threaded = list(PackLoader(reader, image_size=16, threads=threads).batches(groups))
    for one, other in zip(plain, threaded, strict=True):
        assert torch.equal(one.input_ids_BL, other.input_ids_BL)
        assert torch.equal(one.images_NCHW, other.images_NCHW)


def test_leaving_a_loader_early_leaves_no_threads(packs: str) -> None:
    stream = PackLoader(PackReader(packs), image_size=16, threads=2).batches([[0], [1], [2], [3], [4]])
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_a_broken_image_costs_its_sample_alone(pairs: list[Any], make_packs: Callable[..., str]) -> None:
    whole = PackReader(make_packs([pairs[:3]]))
    (sample, images), *others = pairs[:3]
    broken = PackReader(make_packs([[(sample, [images[0][:40]]), *others]]))
    good, bad = (PackLoader(reader, image_size=16).batch([0]) for reader in (whole, broken))
    assert (good.broken_images, bad.broken_images) == (0, 1)
    assert bad.target_tokens == sum(end - start for item, _ in others for start, end in item.loss_spans)
    assert (bad.images_NCHW[0] == 128).all()
    assert torch.equal(good.images_NCHW[1:], bad.images_NCHW[1:])


def test_blank_images_are_grey_and_carry_the_same_loss(packs: str) -> None:
    plain, blank = (PackLoader(PackReader(packs), image_size=16, blank=blank).batch([0, 1]) for blank in (False, True))
    assert (blank.images_NCHW == 128).all()
    assert not (plain.images_NCHW == 128).all()
    assert torch.equal(plain.targets_M, blank.targets_M)


def test_images_keep_their_colours_and_their_order(make_packs: Callable[..., str], pairs: list[Any]) -> None:
    colors = [(220, 20, 20), (20, 200, 20), (20, 20, 220)]
    items = [(sample, [_png(color)]) for (sample, _), color in zip(pairs, colors, strict=False)]
    batch = PackLoader(PackReader(make_packs([items])), image_size=16).batch([0])
    assert [tuple(image[:, 8, 8].tolist()) for image in batch.images_NCHW] == colors


def test_a_pack_of_another_tokenizer_is_refused(
    pairs: list[Any], make_packs: Callable[..., str], tokenizer_folder: str, tmp_path: Any
) -> None:
    """Two tokenizers of the same program share special ids and differ in words."""
    other = train_tokenizer(["entirely different words zebra quagga okapi"] * 2, 300, str(tmp_path / "other"))
    reader = PackReader(make_packs([pairs[:2]]))
    check_packs(reader, load_tokenizer(tokenizer_folder), 4)
    with pytest.raises(ValueError, match="vocabulary differs"):
        check_packs(reader, load_tokenizer(other), 4)
    with pytest.raises(ValueError, match="set the stage's tokens_per_image to 4"):
        check_packs(reader, load_tokenizer(tokenizer_folder), 16)
    reader.manifest["context_length"] = 10
    with pytest.raises(ValueError, match="sequences have 10 positions, and one has"):
        check_packs(reader, load_tokenizer(tokenizer_folder), 4)


def test_a_pack_with_other_special_ids_is_refused(
    pairs: list[Any], make_packs: Callable[..., str], tokenizer_folder: str
) -> None:
    reader = PackReader(make_packs([pairs[:2]]))
    tokenizer = load_tokenizer(tokenizer_folder)
    tokenizer.eos_token = "<|im_end|>"
    with pytest.raises(ValueError, match="special ids"):
        check_packs(reader, tokenizer, 4)


def _png(color: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (30, 20), color).save(file, "PNG")
    return file.getvalue()


def photograph(width: int, height: int) -> bytes:
    """A JPEG with slopes, edges and some noise."""
    rng = np.random.default_rng(0)
    across, down = np.arange(width)[None, :], np.arange(height)[:, None]
    waves = [
        90 + 60 * np.sin(across / width * k + down / height * (9 - k)) + 70 * (across // 97 % 2) for k in (3, 5, 7)
    ]
    pixels = np.stack(waves, axis=-1) + rng.normal(0, 6, (height, width, 3))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=88)
    return file.getvalue()


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (64, 64), (50, 60), (512, 384), (1, 3000), (3000, 1)])
def test_squares_are_pillow_s_but_for_rounding(size: tuple[int, int]) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*reversed(size), 3), dtype=np.uint8))
    theirs = np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    difference = np.abs(square(image, 64).astype(int) - theirs)
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.02


@pytest.mark.parametrize(("size", "scale"), [((800, 600), 4), ((600, 800), 4), ((300, 280), 2), ((200, 127), 1)])
def test_large_jpegs_are_scaled_by_libjpeg_where_it_hardly_shows(size: tuple[int, int], scale: int) -> None:
    """At twice the square or more; where it would be less, the pixels are those of the whole decode."""
    data = photograph(*size)
    decoded = decode_rgb(data, least=2 * 64)
    assert isinstance(decoded, Image.Image)
    assert decoded.size == (-(-size[0] // scale), -(-size[1] // scale))
    exact, scaled = load_square(data, 64), load_square(data, 64, scaled=True)
    assert exact is not None
    assert scaled is not None
    difference = np.abs(exact.astype(int) - scaled.astype(int))
    assert difference.mean() < 1 if scale > 1 else not difference.any()


def test_scaled_jpegs_are_upright_and_broken_ones_are_none() -> None:
    with Image.open(io.BytesIO(photograph(600, 300))) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        file = io.BytesIO()
        image.save(file, "JPEG", exif=exif, quality=88)
    decoded = decode_rgb(file.getvalue(), least=64)
    assert isinstance(decoded, Image.Image)
    assert decoded.size == (75, 150)
    assert load_square(file.getvalue()[:2000], 16, scaled=True) is None


def spoil(packs: str, reader: PackReader, number: int) -> None:
    """Flip a byte of a sequence."""
    path = Path(packs, "00000.tar")
    data = bytearray(path.read_bytes())
    data[reader.index["offset"][number].as_py() + 700] ^= 0xFF
    path.write_bytes(data)


def test_sequences_that_cannot_be_read_are_left_out_if_asked_for(
    pairs: list[Any], make_packs: Callable[..., str]
) -> None:
    packs = make_packs([pairs[:2], pairs[2:4], pairs[4:6]])
    reader = PackReader(packs)
    whole = PackLoader(reader, image_size=16).batch([0, 2])
    spoil(packs, reader, 1)
    with pytest.raises(PackError, match="sequence 1"):
        PackLoader(reader, image_size=16).batch([0, 1, 2])
    batch = PackLoader(reader, image_size=16, skip=True).batch([0, 1, 2])
    assert len(batch.corrupt) == 1
    assert re.search(r"00000\.tar: sequence 1 .*damaged", batch.corrupt[0])
    assert torch.equal(batch.targets_M, whole.targets_M)
    assert torch.equal(batch.images_NCHW, whole.images_NCHW)
    alone = PackLoader(reader, image_size=16, skip=True).batch([1])
    assert (alone.target_tokens, alone.positions, len(alone.images_NCHW)) == (0, 1, 0)


@pytest.mark.parametrize("change", ["cut", "empty", "gone", "another"])
def test_conversations_are_packed_in_the_template_beside_them(
    pairs: list[Any], make_packs: Callable[..., str], change: str
) -> None:
    packs = make_packs([pairs[:2]])
    path = Path(packs, "tokenizer", "chat_template.jinja")
    whole = path.read_text()
    check_whole(PackReader(packs))
    if change == "gone":
        path.unlink()
    else:
        path.write_text({"cut": whole[:40], "empty": "", "another": f"{whole} "}[change])
    with pytest.raises(PackError, match=r"tokenizer has (no|another) chat template than .*copy the pack again"):
        check_whole(PackReader(packs))


def test_packs_are_compared_with_their_manifest_before_training(
    pairs: list[Any], make_packs: Callable[..., str], tmp_path: Path
) -> None:
    packs = make_packs([pairs[:2]])
    check_whole(PackReader(packs))
    manifest = storage.read_json(f"{packs}/manifest.json")
    other = manifest | {"tokenizer": manifest["tokenizer"] | {"name": "other", "fingerprint": "0" * 32}}
    layout = manifest | {"tokens_per_image": 9}
    for changed, problem in ((other, "not the tokenizer 'other'"), (layout, "sequence 0 .* says 1 images, length")):
        storage.write_json(f"{packs}/manifest.json", changed)
        with pytest.raises(PackError, match=problem):
            check_whole(PackReader(packs))
    storage.write_json(f"{packs}/manifest.json", manifest)
    tar = Path(packs, "00000.tar")
    tar.write_bytes(tar.read_bytes()[:-1024])
    with pytest.raises(PackError, match="bytes that were written"):
        check_whole(PackReader(packs))
