"""JSON whose depth is bounded."""

import pytest

from mmcorpus.curation.store.json_values import MAX_DEPTH, json_value


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":[', "]}")])
def test_depth(opening: str, closing: str) -> None:
    levels = MAX_DEPTH // (opening.count("[") + opening.count("{"))
    sound = opening * levels + closing * levels
    assert json_value(sound) == json_value(sound.encode())
    for times in (levels + 1, 900, 100_000):
        with pytest.raises(ValueError, match="nested more than 100 deep"):
            json_value(opening * times + closing * times)


def test_many_values_beside_each_other_are_no_depth() -> None:
    assert json_value(b"[" + b"[]," * 1000 + b'"[[[["]') == [*([[]] * 1000), "[[[["]
