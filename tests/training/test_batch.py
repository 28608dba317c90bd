"""Expanding and collating packed sequences."""

import numpy as np
import pytest

from mmcorpus.training.batch import IMAGE_TOKEN, Piece, collate, expand


def piece(broken: tuple[int, ...] = ()) -> Piece:
    """The worked example of training/batch.py."""
    images = np.zeros((2, 3, 2, 2), dtype=np.uint8)
    ids = np.array([-200, 10, 11, 2, -200, 12, 2], dtype=np.int32)
    return expand(ids, [7, 6], [4, 3], [[(2, 4)], [(5, 7)]], images, broken, 4)


def test_the_worked_example() -> None:
    found = piece()
    assert found.input_ids.tolist() == [-200] * 4 + [10, 11, 2] + [-200] * 4 + [12, 2]
    assert found.positions.tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5]
    assert found.sample_ids.tolist() == [0] * 7 + [1] * 6
    assert found.predicts.tolist() == [4, 5, 10, 11]
    assert found.targets.tolist() == [11, 2, 12, 2]


def annotated(broken: tuple[int, ...] = ()) -> Piece:
    """The second worked example, between two samples of one caption each."""
    images = np.zeros((2, 3, 2, 2), dtype=np.uint8)
    ids = np.array([-200, 12, 2, -200, 10, 11, 2, 12, 13, 2, 7, 8], dtype=np.int32)
    spans = [[(1, 3)], [(5, 7), (7, 10)], [(11, 12)]]
    return expand(ids, [6, 10, 2], [3, 7, 2], spans, images, broken, 4, [(), (5, 7), ()])


def test_annotations_go_on_where_their_image_ends() -> None:
    found = annotated()
    assert found.positions.tolist() == [*range(6), 0, 1, 2, 3, 4, 5, 6, 5, 6, 7, 0, 1]
    assert found.branch_ids.tolist() == [0] * 11 + [1, 1, 2, 2, 2] + [0, 0]
    assert found.targets.tolist() == [12, 2, 11, 2, 12, 13, 2, 8]
    assert found.predicts.tolist() == [3, 4, 10, 11, 10, 13, 14, 16], (
        "both first words are predicted from the line break"
    )
    assert annotated(broken=(1,)).targets.tolist() == [12, 2, 8]
    batch = collate([piece(), annotated()])
    assert batch.branch_ids_BL is not None
    assert batch.branch_ids_BL.tolist() == [[0] * 24, found.branch_ids.tolist() + [0] * 6]
    assert collate([piece()]).branch_ids_BL is None


def test_a_broken_image_takes_the_loss_of_its_own_sample_only() -> None:
    assert piece(broken=(0,)).targets.tolist() == [12, 2]
    assert piece(broken=(1,)).targets.tolist() == [11, 2]
    assert piece(broken=(1,)).broken_images == 1


def test_a_samples_first_token_is_never_a_target() -> None:
    images = np.zeros((0, 3, 2, 2), dtype=np.uint8)
    found = expand(np.array([5, 6, 7, 8]), [2, 2], [2, 2], [[(0, 2)], [(2, 4)]], images, [], 4)
    assert found.targets.tolist() == [6, 8]
    assert found.predicts.tolist() == [0, 2]


def test_an_image_is_never_a_target() -> None:
    images = np.zeros((1, 3, 2, 2), dtype=np.uint8)
    found = expand(np.array([5, -200, 7]), [6], [3], [[(0, 3)]], images, [], 4)
    assert found.targets.tolist() == [7]


def test_lengths_that_disagree_are_refused() -> None:
    images = np.zeros((1, 3, 2, 2), dtype=np.uint8)
    with pytest.raises(ValueError, match="tokens_per_image"):
        expand(np.array([-200, 1]), [9], [2], [[]], images, [], 4)
    with pytest.raises(ValueError, match="2 images"):
        expand(np.array([-200, 1]), [5], [2], [[]], np.zeros((2, 3, 2, 2), dtype=np.uint8), [], 4)


def test_padding_is_nobodys_and_predicts_nothing() -> None:
    short = expand(np.array([5, 6]), [2], [2], [[(1, 2)]], np.zeros((0, 3, 2, 2), dtype=np.uint8), [], 4)
    batch = collate([short, piece()], multiple=8)
    assert batch.input_ids_BL.shape == (2, 16)
    assert batch.sample_ids_BL[0].tolist() == [0, 0] + [-1] * 14
    assert batch.predict_positions_M.tolist() == [0, 16 + 4, 16 + 5, 16 + 10, 16 + 11]
    assert batch.targets_M.tolist() == [6, 11, 2, 12, 2]
    assert (batch.input_ids_BL.flatten()[batch.image_positions] == IMAGE_TOKEN).all()
    assert (batch.target_tokens, batch.positions, len(batch.images_NCHW)) == (5, 15, 2)


def test_a_sequence_longer_than_the_context_is_refused() -> None:
    with pytest.raises(ValueError, match="context length 8"):
        collate([piece()], length=8)
