import numpy as np
import pytest
import torch
from PIL import Image

from mmcorpus.training.clip.data import PairLoader, crop_box
from mmcorpus.training.clip.model import begin
from mmcorpus.training.clip.pairs import find_pairs
from mmcorpus.training.data import Order
from tests.training.clip.conftest import MakePairs, tiny


def test_an_epoch_holds_each_pair_at_most_once_and_no_batch_is_short() -> None:
    order = Order(10, 3, seed=1, whole=True)
    assert order.per_epoch == 9
    epochs = [[row for step in range(3 * e, 3 * e + 3) for epoch, row in order.step(step)] for e in range(4)]
    assert all(len(set(rows)) == 9 for rows in epochs)
    assert {epoch for epoch, _ in order.step(7)} == {2}
    assert epochs[0] != epochs[1]
    assert len({frozenset(rows) for rows in epochs}) > 1, "the same pair is left out of every epoch"


def test_the_order_follows_from_seed_and_step_alone() -> None:
    there, here = Order(20, 4, seed=3, whole=True), Order(20, 4, seed=3, whole=True)
    steps = [there.step(step) for step in range(12)]
    assert [here.step(step) for step in (11, 0, 7)] == [steps[11], steps[0], steps[7]]
    assert Order(20, 4, seed=4, whole=True).step(0) != steps[0]


def test_steps_of_epochs() -> None:
    assert tiny(steps=None, epochs=2.5).schedule.total_steps(3, 1) == 8  # three whole batches an epoch
    assert tiny(steps=7).schedule.total_steps(3, 1) == 7


@pytest.mark.parametrize("size", [(400, 300), (100, 400), (37, 1)])
@pytest.mark.parametrize("keep_aspect", [True, False])
def test_crops_lie_inside_and_are_as_large_as_asked(size: tuple[int, int], keep_aspect: bool) -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        left, top, right, bottom = crop_box(size, 0.8, generator, keep_aspect=keep_aspect)
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        if keep_aspect and size != (37, 1):
            assert (right - left) * (bottom - top) >= 0.78 * size[0] * size[1]
            assert (right - left) / (bottom - top) == pytest.approx(size[0] / size[1], rel=0.05)


def test_crops_of_wide_images_are_as_torchvision_has_them() -> None:
    """No part of a 4:1 image has 80 % of its area and proportions up to 4:3: the middle is taken."""
    assert crop_box((400, 100), 0.8, np.random.default_rng(0), keep_aspect=False) == (133, 0, 266, 100)


def test_whole_images_are_prepared_as_at_inference() -> None:
    preprocess = begin(tiny()).preprocess
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (31, 50, 3), dtype=np.uint8))
    pixels = preprocess.train(image, 1.0, np.random.default_rng(0))
    whole, own = preprocess.normalised(pixels[None])[0], preprocess.evaluate(image)
    one_level = 1 / 255 / min(preprocess.std)  # PyTorch's filter, and Pillow's
    torch.testing.assert_close(whole, own, atol=1.01 * one_level, rtol=0)
    assert (whole - own).abs().mean() < 0.05 * one_level


def test_threads_and_where_one_begins_are_not_seen(squares: MakePairs) -> None:
    pairs = find_pairs({"s": squares("s", 12)})
    clip, config, order = begin(tiny()), tiny(batch_size=4), Order(12, 4, seed=0, whole=True)
    steps = [order.step(step) for step in range(6)]
    plain = PairLoader(pairs, clip.preprocess, clip.tokenize, threads=0)
    threaded = PairLoader(pairs, clip.preprocess, clip.tokenize, threads=3)
    first = list(plain.training_batches(steps, config))
    for batches in (threaded.training_batches(steps, config), plain.training_batches(steps[2:], config)):
        later = list(batches)
        for one, other in zip(first[-len(later) :], later, strict=True):
            assert torch.equal(one.images_B3SS, other.images_B3SS)
            assert torch.equal(one.tokens_BT, other.tokens_BT)
    rows = {row: (epoch, row) for epoch, row in steps[0]}
    again = {row: index for index, (_, row) in enumerate(steps[3] + steps[4] + steps[5])}
    images = torch.cat([batch.images_B3SS for batch in first[3:]])
    place = {row: index for index, (_, row) in enumerate(steps[0])}
    same = [torch.equal(first[0].images_B3SS[place[row]], images[again[row]]) for row in rows]
    assert not all(same), "the crops of two epochs are the same"


def test_a_broken_image_is_marked_and_blank(squares: MakePairs, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = find_pairs({"s": squares("s", 4)})
    whole = type(pairs).image
    monkeypatch.setattr(type(pairs), "image", lambda self, row: b"broken" if row == 2 else whole(self, row))
    clip = begin(tiny())
    loader = PairLoader(pairs, clip.preprocess, clip.tokenize, threads=0)
    (batch,) = loader.evaluation_batches([[0, 2, 3]])
    assert batch.valid_B.tolist() == [True, False, True]
    assert torch.equal(batch.images_B3SS[1], torch.zeros(3, 16, 16))


def test_captions_are_tokenised_as_open_clip_does(squares: MakePairs) -> None:
    import open_clip

    pairs, clip = find_pairs({"s": squares("s", 4)}), begin(tiny())
    (batch,) = PairLoader(pairs, clip.preprocess, clip.tokenize, threads=0).evaluation_batches([[0, 1, 2, 3]])
    tokens = open_clip.SimpleTokenizer(context_length=12)([pairs.caption(row) for row in range(4)])
    assert torch.equal(batch.tokens_BT, tokens)
