"""Embeddings of evaluation pictures: the nearest is found, and another model's are refused."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmcorpus.curation.evaluations import EvaluationsConfig, EvaluationSet, build_index, find_matches
from mmcorpus.curation.evaluations.config import EmbeddingModel
from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.filters import DecodedImage, decode_image, judge_batch
from mmcorpus.filters.clip import ClipScorer
from mmcorpus.filters.evaluation_embeddings import read_embeddings


def picture(seed: int, crop: int = 0) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    image = Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.crop((crop, crop, 96 - crop, 96 - crop)).save(buffer, "PNG")
    return buffer.getvalue()


def decoded(data: bytes) -> DecodedImage:
    found = decode_image(data)
    assert isinstance(found, DecodedImage)
    return found


@pytest.fixture
def index(tmp_path: Path, tiny_clip: str) -> str:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(5):
        (folder / f"{seed}.png").write_bytes(picture(seed))
    (folder / "broken.png").write_bytes(b"nothing")
    config = EvaluationsConfig(
        sets={"eval": EvaluationSet(path=str(folder))}, clip=EmbeddingModel(model_name=tiny_clip)
    )
    build_index(config, str(tmp_path / "index"))
    return str(tmp_path / "index")


def test_the_nearest_evaluation_picture_is_found(index: str, tiny_clip: str, tmp_path: Path) -> None:
    scorer = ClipScorer(model_name=tiny_clip, evaluations=index)
    scorer.check()
    images = [decoded(picture(3)), decoded(picture(1, crop=5)), decoded(picture(77))]
    table = judge_batch(scorer, scorer.load(), {"image": images, "caption": ["a", "b", None]})
    same, cropped, other = table["evaluation_similarity"].to_pylist()
    assert same == pytest.approx(1.0, abs=1e-3)  # kept as float16
    assert table["evaluation_match"].to_pylist()[:2] == ["eval/3.png", "eval/1.png"]
    assert same > cropped > other
    vectors = read_embeddings(index).vectors
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-3)
    write_scores(
        str(tmp_path), "00000", table.add_column(0, "uid", [["a" * 32, "b" * 32, "c" * 32]]), Origin.of(scorer)
    )
    found = find_matches(str(tmp_path), "clip", similarity=(cropped + other) / 2).to_pylist()
    assert [(row["uid"][0], row["by"], row["item"]) for row in found] == [
        ("a", "embedding", "eval/3.png"),
        ("b", "embedding", "eval/1.png"),
    ]
    assert found[0]["similarity"] == pytest.approx(same)


def test_the_place_of_the_index_decides_nothing_and_its_contents_do(index: str, tiny_clip: str, tmp_path: Path) -> None:
    moved = str(tmp_path / "elsewhere")
    shutil.copytree(index, moved)
    plain, here, there = (
        ClipScorer(model_name=tiny_clip, evaluations=where).fingerprint() for where in (None, index, moved)
    )
    assert here == there != plain
    (tmp_path / "pictures" / "0.png").unlink()
    sets = {"eval": EvaluationSet(path=str(tmp_path / "pictures"))}
    build_index(EvaluationsConfig(sets=sets, clip=EmbeddingModel(model_name=tiny_clip)), moved)
    assert ClipScorer(model_name=tiny_clip, evaluations=moved).fingerprint() != here


def test_an_index_of_another_model_is_refused(index: str, tiny_clip: str, tmp_path: Path) -> None:
    other = str(tmp_path / "other")
    shutil.copytree(tiny_clip, other)
    weights = Path(other, "open_clip_config.json")
    weights.write_text(weights.read_text() + "\n")
    with pytest.raises(ValueError, match=r"holds embeddings of .* and this model is"):
        ClipScorer(model_name=other, evaluations=index).check()
    sets = {"eval": EvaluationSet(path=str(tmp_path / "pictures"))}
    build_index(EvaluationsConfig(sets=sets), str(tmp_path / "bare"))
    with pytest.raises(ValueError, match="holds no embeddings; make it again"):
        ClipScorer(model_name=tiny_clip, evaluations=str(tmp_path / "bare")).check()
    (tmp_path / "texts.jsonl").write_text('{"question": "which of these is the capital of France"}\n')
    texts = {"eval": EvaluationSet(path=str(tmp_path / "texts.jsonl"))}
    build_index(EvaluationsConfig(sets=texts, clip=EmbeddingModel(model_name=tiny_clip)), str(tmp_path / "texts"))
    with pytest.raises(ValueError, match="holds no pictures to be compared with"):
        ClipScorer(model_name=tiny_clip, evaluations=str(tmp_path / "texts")).check()
