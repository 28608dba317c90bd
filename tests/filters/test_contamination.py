"""The contamination scorer against an index that is built from a few items."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmcorpus.curation.evaluations import EvaluationsConfig, EvaluationSet, build_index
from mmcorpus.curation.synthetic.render import render
from mmcorpus.filters import SCORERS, decode_image, judge_batch
from mmcorpus.filters.contamination import ContaminationScorer

LONG = "The quick brown fox jumps over the lazy dog while two grey herons watch from the far bank of the river"
SHORT = "Which of the two clocks shows the later hour?"
OTHER = "A harbour at dusk with five fishing boats tied to the quay and one gull on every mast of them all"


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [render(kind, seed).image for seed, kind in enumerate(("scene", "chart", "table", "scene", "clock"))]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, pictures: list[Image.Image]) -> str:
    root = tmp_path_factory.mktemp("evaluations")
    (root / "pictures").mkdir()
    for number in range(3):
        (root / "pictures" / f"{number}.jpg").write_bytes(jpeg(pictures[number]))
    rows = [
        {"id": 7, "question": LONG},
        {"id": 8, "question": SHORT, "image": "pictures/1.jpg"},
        {"id": 9, "question": f"{LONG} {OTHER}", "choices": ["yes", "no"]},
    ]
    (root / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = {
        "questions": EvaluationSet(path=str(root / "set.jsonl")),
        "pictures": EvaluationSet(path=str(root / "pictures")),
    }
    build_index(EvaluationsConfig(sets=sets), str(root / "index"))
    return str(root / "index")


def judge(index: str, captions: list[str | None], images: list[Any], metas: list[Any] | None = None) -> Any:
    scorer = ContaminationScorer(index=index)
    batch = {"caption": captions, "image": images, "meta": metas or [{}] * len(captions)}
    return judge_batch(scorer, scorer.load(), batch).to_pylist()


@pytest.fixture(scope="module")
def clean(pictures: list[Image.Image]) -> Any:
    return decode_image(jpeg(pictures[4]))


def test_texts_are_matched_by_shared_words_alone(index: str, clean: Any) -> None:
    captions = [
        OTHER.replace("harbour", "port"),
        LONG.upper().replace(" ", " , "),
        f"Once upon a time there lived, far from here, an old king. {LONG}",
        "which of the two clocks shows the later hour",
        f"{SHORT} Or the earlier one, if there is any difference between them?",
        "a red clock",
        None,
    ]
    rows = judge(index, captions, [clean] * len(captions))
    assert [row["text_match"] for row in rows] == [
        "questions/9",
        "questions/7",
        "questions/7",
        "questions/8",
        "",
        "",
        "",
    ]
    assert rows[1]["text_overlap"] == rows[1]["text_covered"] == 1.0
    words, own = 12 + 21, 21 - 12
    assert rows[2]["text_overlap"] == pytest.approx(own / (words - 12))
    assert rows[2]["text_covered"] == 1.0
    assert 0 < rows[0]["text_covered"] < 0.5
    assert rows[4]["text_overlap"] == rows[6]["text_overlap"] == 0.0


def test_conversations_are_texts_too(index: str, clean: Any) -> None:
    turns = [{"from": "human", "value": f"<image>\n{SHORT}"}, {"from": "gpt", "value": "The left one."}]
    rows = judge(index, [None, None], [clean] * 2, [{"conversations": json.dumps(turns)}, {"conversations": "{"}])
    assert [row["text_match"] for row in rows] == ["questions/8", ""]
    turns[0]["value"] = f"{SHORT} Answer briefly."
    assert judge(index, [None], [clean], [{"conversations": json.dumps(turns)}])[0]["text_match"] == ""


def test_pictures_are_matched_as_copies_and_others_are_not(index: str, pictures: list[Image.Image]) -> None:
    half = pictures[0].resize((pictures[0].width // 2, pictures[0].height // 2))
    darker = pictures[2].point(lambda value: int(value * 0.93))
    squeezed = pictures[2].resize((pictures[2].width, pictures[2].height // 2))
    images = [jpeg(half, 60), jpeg(pictures[1], 40), jpeg(darker), jpeg(squeezed), jpeg(pictures[3]), b"none"]
    rows = judge(index, [""] * len(images), [decode_image(data) for data in images])
    # The picture of `questions` is one of `pictures` too: the first set wins.
    assert [row["image_match"] for row in rows] == ["pictures/0.jpg", "questions/8", "pictures/2.jpg", "", "", None]
    assert all(row["image_distance"] <= 8 for row in rows[:3])
    assert [row["image_distance"] for row in rows[3:]] == [64, 64, None]
    assert rows[5]["reason"] == "not_an_image"


def test_what_is_not_compared_is_not_asked_for(index: str) -> None:
    scorer = ContaminationScorer(index=index, compare=("text",))
    assert scorer.inputs == ("caption", "meta")
    assert scorer.schema().names == ["text_overlap", "text_covered", "text_match"]
    assert ContaminationScorer(index=index, compare=("image",)).inputs == ("image",)
    assert ContaminationScorer.inputs == ("caption", "image", "meta")


def test_the_fingerprint_is_of_the_contents_not_of_the_place(index: str, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(index, tmp_path / "moved")
    here, there = ContaminationScorer(index=index), ContaminationScorer(index=str(tmp_path / "moved"))
    assert here.fingerprint() == there.fingerprint()
    assert here.fingerprint() != ContaminationScorer(index=index, max_distance=4).fingerprint()
    build_index(
        EvaluationsConfig(sets={"a": EvaluationSet(path=str(Path(index).parent / "pictures"))}), str(tmp_path / "moved")
    )
    assert here.fingerprint() != there.fingerprint()


def test_no_index_is_said_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="index is empty"):
        SCORERS["contamination"]().check()
    with pytest.raises(ValueError, match=r"holds no index.json; make one with: mmcorpus evaluations"):
        ContaminationScorer(index=str(tmp_path)).check()
    with pytest.raises(ValueError, match="compare is empty"):
        ContaminationScorer(index="x", compare=())


def test_an_empty_index_matches_nothing(tmp_path: Path, clean: Any) -> None:
    (tmp_path / "empty.jsonl").write_text('{"question": "yes"}\n')
    build_index(
        EvaluationsConfig(sets={"a": EvaluationSet(path=str(tmp_path / "empty.jsonl"))}), str(tmp_path / "index")
    )
    row = judge(str(tmp_path / "index"), [LONG], [clean])[0]
    assert (row["text_overlap"], row["text_match"], row["image_distance"], row["image_match"]) == (0.0, "", 64, "")


def test_one_by_one_is_the_same_as_together(index: str, clean: Any) -> None:
    captions = [LONG, SHORT, OTHER, "x"]
    together = judge(index, captions, [clean] * 4)
    assert together == [judge(index, [caption], [clean])[0] for caption in captions]
    assert np.all([row["reason"] is None for row in together])
