"""Diagrams: answers recomputed from the DOT that drew them, and boxes found where their points are."""

import re

import numpy as np
import pytest

from mmcorpus.curation.synthetic.render import Rendered, render
from mmcorpus.curation.synthetic.render.canvas import COLORS


@pytest.fixture(scope="module")
def diagrams() -> list[Rendered]:
    return [render("diagram", seed) for seed in range(28)]


def edges(rendered: Rendered) -> list[tuple[str, str, str]]:
    """The edges in the code: from, to, label."""
    found = re.findall(r'^  "([^"]*)" -[->] "([^"]*)"(?: \[label="([^"]*)"\])?$', rendered.facts["code"], re.M)
    return [(start, end, label.strip()) for start, end, label in found]


def test_answers_follow_from_the_code(diagrams: list[Rendered]) -> None:
    asked = dict.fromkeys(("flowchart", "organisation chart", "mind map", "road map", "state diagram"), 0)
    for rendered in diagrams:
        answers, lines = dict(rendered.qa), edges(rendered)
        form = answers["What kind of diagram is this?"]
        asked[form] += 1
        assert [list(line) for line in lines] == rendered.facts["edges"]
        for question, answer in answers.items():
            if found := re.fullmatch(r'What follows if the answer to "(.*)" is (yes|no)\?', question):
                assert [end for start, end, label in lines if start == found[1] and label == found[2]] == [answer]
            elif found := re.fullmatch(r'What comes right after "(.*)"\?', question):
                assert answer in [end for start, end, _ in lines if start == found[1]]
            elif found := re.fullmatch(r"Who does (.*) report to\?", question):
                assert [start for start, end, _ in lines if end == found[1]] == [answer]
            elif found := re.fullmatch(r"How many people report directly to (.*)\?", question):
                assert str(sum(start == found[1] for start, *_ in lines)) == answer
            elif found := re.fullmatch(r"How long is the road between (.*) and (.*)\?", question):
                assert [label for start, end, label in lines if {start, end} == {found[1], found[2]}] == [answer]
            elif question == "How long is the longest road?":
                assert max(int(label) for *_, label in lines) == int(answer)
            elif found := re.fullmatch(r"How many roads lead to (.*)\?", question):
                assert str(sum(found[1] in (start, end) for start, end, _ in lines)) == answer
            elif found := re.fullmatch(r"Which state follows (.*) on (.*)\?", question):
                assert [end for start, end, label in lines if (start, label) == (found[1], found[2])] == [answer]
            elif found := re.fullmatch(r"To which branch does (.*) belong\?", question):
                assert [start for start, end, _ in lines if end == found[1]] == [answer]
    assert min(asked.values()) >= 2, asked


def test_boxes_are_filled_where_the_points_are(diagrams: list[Rendered]) -> None:
    for rendered in diagrams:
        pixels = np.asarray(rendered.image).astype(int)
        height, width = pixels.shape[:2]
        color = COLORS[rendered.facts["fill"]]
        assert {point.label for point in rendered.points} == set(rendered.facts["nodes"])
        for point in rendered.points:
            x, y = round(point.x * width / 100), round(point.y * height / 100)
            around = pixels[y - 7 : y + 8, x - 9 : x + 10].reshape(-1, 3)
            near = np.abs(around - color).max(axis=1) < 24
            assert near.mean() > 0.3, (rendered.facts["form"], rendered.facts["seed"], point)


def test_every_label_fits_its_box(diagrams: list[Rendered]) -> None:
    """Graphviz does not know the fonts: left and right of the text there is fill up to the border."""
    for rendered in diagrams[:12]:
        for label, width in re.findall(r'^  "([^"]*)" \[width=([\d.]+)', rendered.facts["code"], re.M):
            size = int(re.findall(r"node \[.*fontsize=(\d+)", rendered.facts["code"])[0])
            assert float(width) * 72 > 0.5 * size * len(label)
