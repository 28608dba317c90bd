"""Text in images: found where it stands, and not where there is none."""

import io
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mmcorpus.filters import DecodedImage, decode_image, judge_batch
from mmcorpus.filters.image_text import ImageTextScorer


def page(lines: int, size: tuple[int, int] = (640, 400)) -> Image.Image:
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for line in range(lines):
        draw.text((30, 20 + 60 * line), f"Line {line} of a page of text", fill="black", font=ImageFont.load_default(28))
    return image


def portrait() -> Image.Image:
    return Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").convert("RGB")


def judge(*images: Image.Image, **settings: Any) -> dict[str, list[Any]]:
    scorer = ImageTextScorer(**settings)
    decoded = []
    for image in images:
        file = io.BytesIO()
        image.save(file, "PNG")
        found = decode_image(file.getvalue())
        assert isinstance(found, DecodedImage)
        decoded.append(found)
    table = judge_batch(scorer, scorer.load(), {"image": decoded})
    assert table["reason"].null_count == len(images)
    return {name: table[name].to_pylist() for name in scorer.schema().names}


def test_lines_are_found_where_they_stand() -> None:
    columns = judge(page(6))
    assert columns["count"] == [6]
    boxes = json.loads(columns["boxes"][0])
    for line, (left, top, right, bottom) in enumerate(boxes):
        written = (20 + 60 * line + 14) / 400  # the middle of the line
        assert top < written < bottom
        assert left < 0.08 < 0.45 < right < 0.75
        assert 0.04 < bottom - top < 0.15
    assert columns["tallest"][0] == pytest.approx(max(bottom - top for _, top, _, bottom in boxes), abs=1e-3)


def test_more_text_covers_more() -> None:
    none, some, much = judge(page(0), page(2), page(6))["area_ratio"]
    assert none == 0.0
    assert 0.05 < some < 0.2
    assert 2.5 * some < much < 0.6


def test_pictures_without_text_have_none() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8))
    columns = judge(portrait(), noise, Image.new("RGB", (90, 40), (200, 30, 30)))
    assert max(columns["area_ratio"]) < 0.05
    assert columns["boxes"][1:] == ["[]", "[]"]


def test_large_images_are_searched_scaled_down() -> None:
    columns = judge(page(6).resize((1920, 1200)))
    assert columns["count"] == [6]


def test_turned_text_is_found() -> None:
    turned = page(3).rotate(20, fillcolor="white")
    columns = judge(turned)
    assert columns["count"] == [3]
    assert columns["area_ratio"][0] < 0.35  # boxes turn with the text; upright ones would cover much more


def test_parameters_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="max_side is 10; give 64 or more"):
        ImageTextScorer(max_side=10)
    with pytest.raises((ValueError, FileNotFoundError), match="nowhere"):
        ImageTextScorer(weights="./nowhere.onnx").check()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match="pip install --no-deps rapidocr-onnxruntime"):
        ImageTextScorer().check()
