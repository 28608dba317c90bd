"""YAML that users write is read within bounds, and without what would silently mean something else."""

import time

import pytest
import yaml

from mmcorpus.filters import yaml_data
from mmcorpus.filters.yaml_data import MOST_CHARACTERS, read_text


def test_a_text_within_bounds_is_what_it_says() -> None:
    assert read_text("a: &x [1, two]\nb: *x\n") == {"a": [1, "two"], "b": [1, "two"]}


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("# " + "x" * MOST_CHARACTERS, 1, "characters"),
        ("a:\n" + "- 1\n" * 2000, 998, "more than 1,000 values"),
        ("a: &a [1]\nb: [" + "*a, " * 2000 + "]", 2, "more than 1,000 values"),
        ("a: " + "[" * 200_000, 1, "within each other"),
        ("- " * 200_000 + "x", 1, "within each other"),
        ("a: &a {x: 1}\nb: {<<: *a}", 2, "<< is not read here"),
        ("m0: &m0 {k: 1}\n" + "".join(f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}\n" for n in range(1, 40)), 2, "<<"),
        ("a: 1\nb: 2\na: 3", 3, "'a' stands twice"),
        ("a: {b: 1, b: 1}", 1, "'b' stands twice"),
        ("a: !!python/object/apply:os.system [echo]", 1, "could not determine a constructor"),
    ],
)
def test_what_goes_beyond_is_refused_with_its_line(
    text: str, line: int, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml_data, "MOST_NODES", 1000)
    begun = time.process_time()
    with pytest.raises(yaml.MarkedYAMLError, match=complaint) as caught:
        read_text(text)
    mark = caught.value.problem_mark
    assert mark is not None
    assert abs(mark.line + 1 - line) <= 1
    assert time.process_time() - begun < 10
