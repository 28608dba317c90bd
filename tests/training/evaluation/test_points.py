"""Points: how they are read from an answer, and matched."""

import pytest

from mmcorpus.training.evaluation.metrics import check
from mmcorpus.training.evaluation.points import inside, matched, read_mask, read_points
from tests.linear import assert_linear
from tests.training.evaluation.test_metrics import judged, question

TWO = '<points x1="10.0" y1="20.0" x2="50.0" y2="60.0" alt="dogs">dogs</points>'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('<point x="10.0" y="20.5" alt="a dog">a dog</point>', [(10.0, 20.5)]),
        (TWO, [(10.0, 20.0), (50.0, 60.0)]),
        (f"Counting the {TWO} shows a total of 2.", [(10.0, 20.0), (50.0, 60.0)]),
        ('<points y1="20" x1="10" x2="5">', [(10.0, 20.0)]),
        ('<point x = " 10 %" y="20"> and <point x="1" y="2">', [(10.0, 20.0), (1.0, 2.0)]),
        ('<point x="101" y="20">', []),
        ("There are none.", []),
        ('<point x="10.0" y="20.5', []),
        ('x="10" y="20"', []),
    ],
)
def test_reading(text: str, found: list[tuple[float, float]]) -> None:
    assert read_points(text) == found


def test_pairs_are_the_most_that_there_are() -> None:
    # nearest first would pair 4 with 5 and leave 0 alone
    assert matched([(4.0, 0.0), (9.0, 0.0)], [(0.0, 0.0), (5.0, 0.0)]) == 2
    assert matched([(0.0, 0.0), (1.0, 0.0)], [(0.5, 0.0)]) == 1
    assert matched([(3.0, 4.0)], [(0.0, 0.0)]) == 1
    assert matched([(3.1, 4.0)], [(0.0, 0.0)]) == 0


def test_metrics() -> None:
    one = '<point x="12" y="20">'
    three = '<points x1="12" y1="20" x2="90" y2="90" x3="0" y3="90">'
    for metric, expected in (("points", 2 / 3), ("point_precision", 1.0), ("point_recall", 0.5)):
        assert judged(metric, one, TWO) == pytest.approx(expected)
    for metric, expected in (("points", 0.4), ("point_precision", 1 / 3), ("point_recall", 0.5)):
        assert judged(metric, three, TWO) == pytest.approx(expected)
    for metric in ("points", "point_precision", "point_recall"):
        assert judged(metric, "There are none.", "There are none.") == 1.0
        assert judged(metric, one, "There are none.") == judged(metric, "None.", TWO) == 0.0


LEFT, TOP_RIGHT = {"size": [2, 4], "counts": [0, 4, 4]}, {"size": [10, 10], "counts": [60, 4, 6, 4, 6, 4, 6, 4, 6]}
"""The left half; six to ten tenths across, the upper four tenths down."""


def test_a_point_is_right_in_a_mask_of_its_own() -> None:
    masks = (read_mask(LEFT), read_mask(TOP_RIGHT))
    for point, held in (((0, 100), [1, 0]), ((49.9, 0), [1, 0]), ((50, 0), [0, 0]), ((60, 39.9), [0, 1]),
                        ((60, 40), [0, 0]), ((100, 0), [0, 1]), ((59.9, 0), [0, 0])):  # fmt: skip
        assert [mask.holds(point) for mask in masks] == held, point
    assert inside([(1, 1), (2, 2), (70, 10)], masks) == 2, "two in one mask are one"
    answer = '<points x1="25" y1="50" x2="80" y2="20" alt="dogs">dogs</points>'
    far, near = '<points x1="2" y1="95" x2="99" y2="5">', '<points x1="51" y1="50" x2="80" y2="41">'
    for metric in ("points", "point_precision", "point_recall"):
        assert judged(metric, far, answer, masks=masks) == 1.0
        assert judged(metric, near, answer, masks=masks) == 0.0
        assert judged(metric, "There are none.", answer, masks=masks) == 0.0
    assert judged("point_precision", f'{far}<point x="3" y="3">', answer, masks=masks) == pytest.approx(2 / 3)


def test_masks_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(ValueError, match="a mask of 2 x 4 pixels has runs of 7"):
        read_mask({**LEFT, "counts": [0, 4, 3]})
    for given in ([[True]], {"size": [2, 4], "counts": "04"}, {"size": [2], "counts": [2]}, {"counts": [1]},
                  {"size": [2, 4], "counts": [-1, 9]}, {"size": [0, 4], "counts": []}):  # fmt: skip
        with pytest.raises(ValueError, match="give COCO's run lengths as numbers"):
            read_mask(given)
    with pytest.raises(ValueError, match=r"1 masks, and answers of \[2\] points: give one a point"):
        check(question(TWO, metric="points", masks=(read_mask(LEFT),)))


@pytest.mark.parametrize("metric", ["points", "point_precision", "point_recall"])
def test_what_is_no_answer_with_points_is_refused(metric: str) -> None:
    check(question(TWO, metric=metric))
    check(question("There are none.", metric=metric))
    with pytest.raises(ValueError, match=f"the metric {metric} needs points in Molmo's syntax"):
        check(question("two dogs", metric=metric))


def test_reading_is_linear() -> None:
    assert_linear(read_points, lambda n: "<points " + 'x1="1" ' * n)
    assert_linear(read_points, lambda n: "<point " * n)
