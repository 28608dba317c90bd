"""What every batch has in common: failed decodes, scorers that raise, columns of the wrong shape."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from mmcorpus.filters import DecodedImage, DecodeFailure, Scorer, judge_batch
from mmcorpus.filters.scorer import Batch, Columns, Unavailable


@dataclass(frozen=True, kw_only=True)
class Length(Scorer):
    name: ClassVar[str] = "length"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("caption",)

    def schema(self) -> pa.Schema:
        return pa.schema({"length": pa.int32()})

    def load(self) -> Callable[[Batch], Columns]:
        return lambda batch: {"length": [len(caption) for caption in batch["caption"]]}


@dataclass(frozen=True, kw_only=True)
class Width(Length):
    inputs: ClassVar[tuple[str, ...]] = ("image",)

    def load(self) -> Callable[[Batch], Columns]:
        return lambda batch: {"length": [image.width for image in batch["image"]]}


def run(scorer: Scorer, batch: dict[str, list[Any]]) -> pa.Table:
    return judge_batch(scorer, scorer.load(), batch)


def test_rows_in_order_with_a_reason_column() -> None:
    table = run(Length(), {"caption": ["abc", "", "z"], "uid": ["1", "2", "3"]})
    assert table.to_pydict() == {"length": [3, 0, 1], "reason": [None, None, None]}
    assert table.schema == pa.schema({"length": pa.int32(), "reason": pa.string()})


@dataclass(frozen=True, kw_only=True)
class Served(Length):
    """Breaks on a batch of several, and asks a server that is down for the second of them."""

    def load(self) -> Callable[[Batch], Columns]:
        def judge(batch: Batch) -> Columns:
            if len(batch["caption"]) > 1:
                raise ValueError("too many")
            if batch["caption"] == ["b"]:
                raise Unavailable("the server is down")
            return {"length": [1]}

        return judge


def test_what_cannot_be_judged_now_is_no_reason() -> None:
    with pytest.raises(Unavailable, match="the server is down"):
        run(Served(), {"caption": ["a", "b", "c"]})


def test_a_row_on_which_the_scorer_raises_costs_itself_alone() -> None:
    table = run(Length(), {"caption": ["abc", None, "z"]})
    assert table["length"].to_pylist() == [3, None, 1]
    reasons = table["reason"].to_pylist()
    assert reasons[0] is reasons[2] is None
    assert reasons[1].startswith("error: TypeError: ")


def test_a_scorer_that_raises_on_every_row_is_broken() -> None:
    with pytest.raises(TypeError):
        run(Length(), {"caption": [None, None]})
    assert run(Length(), {"caption": [None]})["length"].to_pylist() == [None]


@dataclass(frozen=True, kw_only=True)
class Leaving(Length):
    """A scorer whose library leaves the process on some rows."""

    def load(self) -> Callable[[Batch], Columns]:
        def judge(batch: Batch) -> Columns:
            if "leave" in batch["caption"]:
                sys.exit(3)
            return {"length": [len(caption) for caption in batch["caption"]]}

        return judge


def test_a_row_on_which_the_scorer_leaves_the_process_costs_itself_alone() -> None:
    table = run(Leaving(), {"caption": ["abc", "leave", "z"]})
    assert table["length"].to_pylist() == [3, None, 1]
    assert table["reason"].to_pylist() == [None, "error: SystemExit: 3", None]
    with pytest.raises(RuntimeError, match="SystemExit: 3"):
        run(Leaving(), {"caption": ["leave", "leave"]})


def test_images_that_could_not_be_decoded_never_reach_the_scorer() -> None:
    image = DecodedImage(
        pixels=np.zeros((2, 7, 3), np.uint8),
        format="png",
        mode="RGB",
        frames=1,
        has_alpha=False,
        orientation=1,
        nbytes=9,
    )
    failures = [DecodeFailure(reason="truncated"), DecodeFailure(reason="empty")]
    table = run(Width(), {"image": [failures[0], image, failures[1]]})
    assert table.to_pydict() == {"length": [None, 7, None], "reason": ["truncated", None, "empty"]}
    assert run(Width(), {"image": failures})["length"].to_pylist() == [None, None]


@pytest.mark.parametrize("columns", [{"lenght": [1, 2]}, {}, {"length": [1, 2], "more": [1, 2]}, {"length": [1]}])
def test_wrong_columns_are_refused(columns: dict[str, list[int]]) -> None:
    with pytest.raises(ValueError, match="scorer 'length' returned"):
        judge_batch(Length(), lambda batch: columns, {"caption": ["a", "b"]})


def test_only_what_it_asks_for_is_shown_to_a_scorer() -> None:
    def judge(batch: Batch) -> Columns:
        assert set(batch) == {"caption"}
        return {"length": [0] * len(batch["caption"])}

    judge_batch(Length(), judge, {"caption": ["a"], "image": [DecodeFailure(reason="empty")], "uid": ["u"]})


def test_scores_are_known_by_the_class_of_a_scorer_that_is_called_otherwise() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Words(Length):
        name: ClassVar[str] = "words"

    one, other = Length().named("x"), Words().named("x")
    assert one.parameters() == other.parameters()
    assert one.fingerprint() != other.fingerprint()
    assert one.fingerprint() == Length().named("x").fingerprint()
    assert Length().named("length").fingerprint() == Length().fingerprint() == "f747f3332cd498d0"
