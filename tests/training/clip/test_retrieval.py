import math

import pytest
import torch
from torch.nn.functional import normalize

from mmcorpus.training.clip.pairs import find_pairs
from mmcorpus.training.clip.retrieval import drawn, retrieval
from tests.training.clip.conftest import MakePairs


def test_perfect_and_hopeless_vectors() -> None:
    own = torch.eye(20)
    captions = [str(number) for number in range(20)]
    perfect = retrieval(own, own, captions, 100.0)
    assert [perfect[name] for name in ("image_to_text_r1", "text_to_image_r1")] == [1.0, 1.0]
    assert perfect["heldout_loss"] < 1e-6
    shifted = retrieval(own, own.roll(1, 0), captions, 100.0)
    assert shifted["image_to_text_r1"] == 0.0


def test_a_model_that_gives_one_vector_to_all_recalls_nothing() -> None:
    same = normalize(torch.ones(12, 4), dim=-1)
    found = retrieval(same, same, [str(number) for number in range(12)], 10.0)
    assert found["image_to_text_r5"] == found["text_to_image_r5"] == 0.0
    assert found["heldout_loss"] == pytest.approx(math.log(12), rel=1e-5)


def test_recall_counts_what_stands_before() -> None:
    # Every image is nearest to text 0, then 1, …: the own text of image p has p others before it.
    images, texts = torch.arange(8.0, 0.0, -1.0).expand(8, 8), torch.eye(8)
    found = retrieval(images, texts, [str(number) for number in range(8)], 1.0)
    assert found["image_to_text_r1"] == 1 / 8
    assert found["image_to_text_r5"] == 5 / 8


def test_a_caption_of_the_same_words_is_right() -> None:
    images = torch.eye(4)
    texts = images[[1, 0, 3, 2]]
    assert retrieval(images, texts, ["a", "a", "b", "b"], 1.0)["image_to_text_r1"] == 1.0
    assert retrieval(images, texts, ["a", "c", "b", "d"], 1.0)["image_to_text_r1"] == 0.0


def test_the_pairs_drawn_follow_their_uids(squares: MakePairs) -> None:
    pairs = find_pairs({"s": squares("s", 20)})
    few, more = drawn(pairs, 5), drawn(pairs, 9)
    assert len(few) == 5
    assert set(few) < set(more)
    assert drawn(pairs, 100) == list(range(20))
