"""Faces: found in a photograph, not in what is none; boxes where the face is."""

import io
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from mmcorpus.filters import DecodedImage, decode_image, judge_batch
from mmcorpus.filters.faces import FacesScorer


def portrait() -> Image.Image:
    """Grace Hopper, from matplotlib's samples: one face, above the middle."""
    return Image.open(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg").convert("RGB")


def decoded(image: Image.Image) -> DecodedImage:
    file = io.BytesIO()
    image.save(file, "PNG")
    found = decode_image(file.getvalue())
    assert isinstance(found, DecodedImage)
    return found


def judge(*images: Image.Image, **settings: Any) -> dict[str, list[Any]]:
    scorer = FacesScorer(**settings)
    table = judge_batch(scorer, scorer.load(), {"image": [decoded(image) for image in images]})
    assert table["reason"].null_count == len(images)
    return {name: table[name].to_pylist() for name in scorer.schema().names}


def test_a_face_is_found_where_it_is() -> None:
    columns = judge(portrait())
    assert columns["count"] == [1]
    ((left, top, right, bottom),) = json.loads(columns["boxes"][0])
    assert 0.3 < left < 0.45 < 0.6 < right < 0.8
    assert 0.1 < top < 0.3 < 0.45 < bottom < 0.65
    assert columns["area_ratio"][0] == pytest.approx((right - left) * (bottom - top), abs=1e-3)
    assert columns["largest"] == columns["area_ratio"]


def test_several_faces_are_counted() -> None:
    one = portrait().resize((256, 300))
    wide = Image.new("RGB", (600, 300), (90, 120, 90))
    wide.paste(one, (0, 0))
    wide.paste(one, (300, 0))
    columns = judge(wide)
    assert columns["count"] == [2]
    assert columns["area_ratio"][0] > 1.5 * columns["largest"][0]


def test_size_and_shape_do_not_matter() -> None:
    large = judge(portrait().resize((1536, 1800)), max_side=640)
    small = judge(portrait().resize((128, 150)))
    assert large["count"] == small["count"] == [1]
    assert np.allclose(json.loads(large["boxes"][0]), json.loads(small["boxes"][0]), atol=0.08)


def test_images_of_other_sizes_before_it_are_not_seen() -> None:
    noise = np.random.default_rng(0)
    others = [Image.fromarray(noise.integers(0, 256, (*side, 3), dtype=np.uint8)) for side in ((90, 300), (400, 200))]
    after = judge(*others, portrait(), threshold=0.2)
    alone = judge(portrait(), threshold=0.2)
    assert after["count"] == [0, 0, 1]
    assert np.allclose(json.loads(after["boxes"][2]), json.loads(alone["boxes"][0]), atol=1e-3)


def test_what_has_no_face_has_none() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    columns = judge(Image.new("RGB", (300, 200), (200, 180, 160)), Image.fromarray(noise), Image.new("RGB", (5, 900)))
    assert columns["count"] == [0, 0, 0]
    assert columns["area_ratio"] == columns["largest"] == [0.0, 0.0, 0.0]
    assert columns["boxes"] == ["[]", "[]", "[]"]


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"threshold is 1\.5"):
        FacesScorer(threshold=1.5)
    with pytest.raises(ValueError, match="max_side is 10"):
        FacesScorer(max_side=10)
    with pytest.raises(ValueError, match=r"there are no weights at .*no\.onnx"):
        FacesScorer(weights=str(tmp_path / "no.onnx")).check()
    assert FacesScorer().model().startswith("centerface.onnx@")
