"""What engines draw: the same each time, in any size, with what they are made from; what is said where one lacks."""

import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcorpus.curation.synthetic.render import KINDS, RenderConfig, render, render_shards
from mmcorpus.curation.synthetic.render import engines as module
from mmcorpus.curation.synthetic.render.config import engine_of
from mmcorpus.curation.synthetic.render.engines import ENGINES, draw_graph, draw_typst, draw_vega

DRAWN = [kind for kind in KINDS if engine_of(kind) not in (None, "html")]


@pytest.mark.parametrize("kind", DRAWN)
def test_what_comes_back(kind: str) -> None:
    for seed in range(6):
        rendered = render(kind, seed)
        facts = rendered.facts
        assert rendered.image.mode == "RGB"
        assert facts["size"] == list(rendered.image.size)
        assert json.loads(json.dumps(facts)) == facts
        assert {"code", "language", "persona", "topic", "text"} <= facts.keys()
        assert rendered.text == facts["text"] != ""
        assert len(set(rendered.captions)) == len(rendered.captions) >= 4
        assert all(re.fullmatch(r"[A-Z0-9“\"].*\.", caption) and ".." not in caption for caption in rendered.captions)
        assert len(rendered.qa) >= 4
        assert len({question for question, _ in rendered.qa}) == len(rendered.qa)
        assert all(answer for _, answer in rendered.qa)
        assert rendered.points
        assert all(0 <= point.x <= 100 and 0 <= point.y <= 100 for point in rendered.points)
        if seed == 0:
            again = render(kind, seed)
            assert again.image.tobytes() == rendered.image.tobytes()
            assert (again.captions, again.qa, again.points, again.facts) == (
                rendered.captions, rendered.qa, rendered.points, facts,
            )  # fmt: skip


@pytest.mark.parametrize("size", [(64, 400), (300, 100)])
def test_any_size_can_be_asked_for_and_points_stay_on_their_things(size: tuple[int, int]) -> None:
    whole, small = render("diagram", 3), render("diagram", 3, size=size)
    assert small.image.size == size
    assert small.facts["size"] == list(size)
    scale = min(size[0] / whole.image.width, size[1] / whole.image.height)
    middle = {point.label: (point.x - 50, point.y - 50) for point in whole.points}
    # In per cent with a decimal each; and the drawing is scaled and placed to whole pixels.
    for point in small.points:
        x, y = middle[point.label]
        assert (point.x - 50) * size[0] == pytest.approx(x * whole.image.width * scale, abs=0.1 * size[0] + 100 / 2)
        assert (point.y - 50) * size[1] == pytest.approx(y * whole.image.height * scale, abs=0.1 * size[1] + 100 / 2)


def test_what_lacks_is_named_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def without(name: str) -> str:
        if name == "typst":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr("importlib.metadata.version", without)
    module.check.cache_clear()
    with pytest.raises(
        RuntimeError, match=r"Typst is not installed; install it with: pip install 'mmcorpus\[render\]'"
    ):
        render("document", 0)
    with pytest.raises(RuntimeError, match="Typst is not installed"):
        render_shards(RenderConfig(kinds={"document": 1.0, "clock": 1.0}, count=2), str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("mmcorpus.curation.synthetic.render.browser.version", lambda: "")
    with pytest.raises(RuntimeError, match=r"a headless browser is not installed.*MMCORPUS_BROWSER"):
        render("page", 0)
    assert RenderConfig().engines() == set()  # the basic kinds need none


def test_shards_are_made_from_the_engines_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of an engine draws anew; text as caption, annotations as conversations."""
    from mmcorpus.curation.engine.tasks import Outcome
    from mmcorpus.curation.store.shards import list_shards, read_samples

    def run(make_work: Any, items: list[int], **_: Any) -> list[Any]:
        work = make_work()
        return [Outcome(name=str(item), result=work(item), error=None, seconds=0.0) for item in items]

    monkeypatch.setattr("mmcorpus.curation.engine.items.run_shards", run)
    config = RenderConfig(
        kinds={"document": 1.0}, count=2, samples_per_shard=2, caption="text", conversations="annotations"
    )
    assert render_shards(config, str(tmp_path))["shards_rendered"] == 1
    assert render_shards(config, str(tmp_path))["shards_rendered"] == 0
    for sample, index in zip(read_samples(list_shards(str(tmp_path))[0]), range(2), strict=True):
        rendered = render(*config.sample(index))
        assert sample.caption == rendered.facts["text"]
        assert "annotations" in json.loads(sample.meta["conversations"])
        assert json.loads(sample.meta["facts"])["code"] == rendered.facts["code"]
    monkeypatch.setattr(module, "_installed", lambda name: "9.9")
    assert render_shards(config, str(tmp_path))["shards_rendered"] == 1


def is_ink(picture: np.ndarray, box: tuple[float, float, float, float], color: tuple[int, int, int]) -> np.ndarray:
    left, top, right, bottom = (round(edge) for edge in box)
    return np.abs(picture[top:bottom, left:right].astype(int) - color).max(axis=2) < 60


def test_marks_are_where_things_are_drawn() -> None:
    source = module.MARKED + (
        "#set page(width: 200pt, height: auto, margin: 20pt)\n#set text(font: \"DejaVu Sans\")\nSome text "
        '#text(fill: red, mark("red", "RED")) and more\n#align(right)[#text(fill: blue, mark("blue", "BLUE"))]\n'
    )  # fmt: skip
    picture, marks = draw_typst(source, 144)
    pixels = np.asarray(picture)
    for mark, color in zip(marks, ((255, 65, 54), (0, 116, 217)), strict=True):
        all_ink = is_ink(pixels, (0, 0, *picture.size), color)
        inside = is_ink(pixels, mark[1:], color)
        assert all_ink.sum() > 60
        assert inside.sum() > 0.95 * all_ink.sum()
    picture, marks = draw_graph('digraph { node [style=filled, color="#00ff00"]; a -> b; b -> c; a -> c }', "dot", 1.3)
    pixels = np.asarray(picture)
    assert [mark.name for mark in marks] == ["a", "b", "c"]
    for mark in marks:
        assert is_ink(pixels, mark[1:], (0, 255, 0)).mean() > 0.6
    assert (
        sum(is_ink(pixels, mark[1:], (0, 255, 0)).sum() for mark in marks)
        > 0.97 * is_ink(pixels, (0, 0, *picture.size), (0, 255, 0)).sum()
    )
    spec = {
        "data": {"values": [{"a": "x", "b": 3, "k": "mark one"}, {"a": "y", "b": 7, "k": "mark two"}]},
        "mark": {"type": "bar", "color": "#00ff00"}, "width": 120, "height": 90, "background": "white",
        "encoding": {"x": {"field": "a"}, "y": {"field": "b", "type": "quantitative"}, "description": {"field": "k"}},
    }  # fmt: skip
    picture, marks = draw_vega(spec, 2.0)
    pixels = np.asarray(picture)
    assert [mark.name for mark in marks] == ["one", "two"]
    heights = [mark.bottom - mark.top for mark in marks]
    assert heights[1] / heights[0] == pytest.approx(7 / 3, abs=0.02)
    for mark in marks:
        assert is_ink(pixels, mark[1:], (0, 255, 0)).mean() > 0.95


def test_every_engine_says_its_version() -> None:
    assert ENGINES["typst"].version().startswith("typst 0.")
    assert {engine_of(kind) for kind in KINDS} - {None} == set(ENGINES)
