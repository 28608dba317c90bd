"""Items in the order given, but each after those it needs."""

import pytest

from mmcorpus.curation.engine.order import in_order


def test_the_order_given_stays_where_it_can() -> None:
    assert in_order({"a": (), "b": (), "c": ("a",)}) == ["a", "b", "c"]
    assert in_order({"a": ("c",), "b": (), "c": ()}) == ["b", "c", "a"]
    assert in_order({"a": ("c",), "c": ("b",), "b": (), "d": ()}) == ["b", "c", "a", "d"]


def test_what_is_needed_and_not_listed_counts_as_there() -> None:
    assert in_order({"a": ("elsewhere",)}) == ["a"]


def test_a_circle_is_an_error() -> None:
    with pytest.raises(ValueError, match="cycle"):
        in_order({"a": ("b",), "b": ("a",)})
