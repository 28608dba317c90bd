"""Every renderer: purity, sizes, and the shape of what it returns."""

import hashlib
import io
import json
import os
import random
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mmcorpus.curation.synthetic.render import BASIC_KINDS, RenderConfig, Rendered, contact_sheet, render
from mmcorpus.curation.synthetic.render.canvas import BRIGHT, COLORS, fit_text, text_width
from mmcorpus.curation.synthetic.render.config import RENDER_VERSION

WRONG_ARTICLE = re.compile(r"\ba [aeiou]|\ban [^aeiou\W]|^A [aeiou]|^An [^aeiou]")


OWN = (*BASIC_KINDS, "dated_clock", "objects")
"""Those that need no engine."""


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def digest(rendered: Rendered) -> str:
    rest = json.dumps([rendered.caption, rendered.captions, rendered.qa, rendered.points, rendered.facts])
    return hashlib.sha256(png(rendered.image) + rest.encode()).hexdigest()


@pytest.mark.parametrize("kind", OWN)
def test_same_arguments_same_bytes_whatever_the_global_state(kind: str) -> None:
    random.seed(1)
    np.random.seed(1)
    state = random.getstate()
    first = [digest(render(kind, seed)) for seed in range(12)]
    assert random.getstate() == state
    random.seed(2)
    np.random.seed(2)
    assert [digest(render(kind, seed)) for seed in reversed(range(12))] == first[::-1]
    assert len(set(first)) == 12


def test_same_bytes_in_another_process_with_another_hash_seed() -> None:
    code = (
        "import hashlib\nfrom mmcorpus.curation.synthetic.render import render\n"
        f"pictures = [render(kind, 5) for kind in {OWN}]\n"
        "print([hashlib.sha256(r.image.tobytes() + r.caption.encode()).hexdigest() for r in pictures])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    pictures = [render(kind, 5) for kind in OWN]
    mine = [hashlib.sha256(r.image.tobytes() + r.caption.encode()).hexdigest() for r in pictures]
    assert outputs == {f"{mine}\n".encode()}


@pytest.mark.parametrize("kind", BASIC_KINDS)
def test_what_comes_back(kind: str) -> None:
    sizes = set()
    for seed in range(150):
        rendered = render(kind, seed)
        width, height = rendered.image.size
        sizes.add((width, height))
        assert rendered.image.mode == "RGB"
        assert min(width, height) >= 200
        assert max(width, height) <= 512
        assert max(width, height) / min(width, height) <= 2.0
        assert rendered.kind == kind
        assert rendered.caption in rendered.captions
        assert len(set(rendered.captions)) == len(rendered.captions) >= 3
        assert len(rendered.qa) >= 3
        assert len({question for question, _ in rendered.qa}) == len(rendered.qa)
        assert rendered.points
        assert all(0 <= p.x <= 100 and 0 <= p.y <= 100 and p.x == round(p.x, 1) for p in rendered.points)
        assert list(rendered.points) == sorted(rendered.points, key=lambda p: (p.y, p.x))
        assert json.loads(json.dumps(rendered.facts)) == rendered.facts
        assert (rendered.facts["kind"], rendered.facts["seed"]) == (kind, seed)
        assert rendered.facts["size"] == [width, height]
        for caption in rendered.captions:
            assert not WRONG_ARTICLE.search(caption), caption
            assert re.fullmatch(r"[A-Z0-9].*\.", caption), caption
            assert caption.count(". ") <= 1, caption
    assert len(sizes) > 60


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("size", [(64, 64), (64, 400), (700, 96), (256, 256), (120, 90), (1000, 640)])
def test_any_size_can_be_asked_for(kind: str, size: tuple[int, int]) -> None:
    for seed in range(25):
        rendered = render(kind, seed, size=size)
        assert rendered.image.size == size
        assert rendered.facts["size"] == list(size)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"unknown kind 'photo'.*clock"):
        render("photo", 0)
    with pytest.raises(ValueError, match=r"10x300.*64 to 4096"):
        render("clock", 0, size=(10, 300))


def test_captions_cannot_be_guessed() -> None:
    """Hardly any two pictures share a caption, so a model that sees nothing cannot know it."""
    for kind in BASIC_KINDS:
        captions = [render(kind, seed).captions for seed in range(200)]
        assert len({each[-1] for each in captions}) >= 199
        drawn = [render(kind, seed).caption for seed in range(200)]
        assert len({each.index(caption) for each, caption in zip(captions, drawn, strict=True)}) >= 5


def test_named_colors_do_not_look_alike() -> None:
    names = list(BRIGHT)
    for first in names:
        for second in names:
            if first != second:
                assert sum((a - b) ** 2 for a, b in zip(COLORS[first], COLORS[second], strict=True)) > 60**2


def test_what_is_rendered_changes_only_with_the_version() -> None:
    """Fails when the captions, answers or facts of seeds change: raise RENDER_VERSION then, and put the new digest."""
    said = hashlib.sha256()
    for kind in BASIC_KINDS:
        for seed in range(40):
            rendered = render(kind, seed, size=(320, 240))
            facts = {k: v for k, v in rendered.facts.items() if not k.startswith(("edges", "series", "angles"))}
            said.update(json.dumps([rendered.captions, rendered.qa, facts], sort_keys=True).encode())
    assert (RENDER_VERSION, said.hexdigest()[:16]) == (2, "d8f34218163c8147")


def test_text_is_fitted() -> None:
    assert fit_text(["Hi"], 12.0, 500.0) == 12.0
    size = fit_text(["A rather long title for a chart"], 20.0, 150.0)
    assert 8.0 < size < 20.0
    assert text_width("A rather long title for a chart", size) <= 150
    assert fit_text(["A rather long title for a chart"], 20.0, 10.0) == 8.0


def test_contact_sheet_shows_every_kind() -> None:
    sheet = contact_sheet(width=600, height=60, rows=1)
    assert sheet.size == (600, 8 + 4 * 68)
    for row in range(4):
        band = np.asarray(sheet.crop((8, 8 + row * 68, 592, 68 + row * 68)))
        assert len(np.unique(band.reshape(-1, 3), axis=0)) > 100


def test_config_errors_name_the_key() -> None:
    for wrong, match in (
        ({"kinds": {"clocks": 1.0}}, "kinds: unknown clocks; must be of clock"),
        ({"kinds": {"clock": 0.0}}, "kinds: weights"),
        ({"count": 0}, "count: must be at least 1"),
        ({"quality": 0}, "quality: must be 1 to 100"),
        ({"samples_per_shard": 0}, "samples_per_shard"),
        ({"image_format": "gif"}, "image_format"),
        ({"size": (8, 8)}, "size 8x8"),
        ({"photos": 1.5}, "photos: must be 0 to 1, got 1.5"),
        ({"conversations": "trees"}, "conversations: must be turns, annotations, got 'trees'"),
        ({"caption": "long"}, "caption: must be drawn, shortest, detailed, text, got 'long'"),
    ):
        with pytest.raises(ValueError, match=match):
            RenderConfig(**wrong)


def test_weights_decide_the_mix() -> None:
    config = RenderConfig(kinds={"scene": 3.0, "clock": 1.0}, count=4000)
    kinds = [config.sample(index)[0] for index in range(config.count)]
    assert set(kinds) == {"scene", "clock"}
    assert 0.72 < kinds.count("scene") / len(kinds) < 0.78
    assert len({config.sample(index) for index in range(config.count)}) == config.count
    assert RenderConfig(seed=1).sample(0) != RenderConfig(seed=2).sample(0)
