"""The index: what is in it, that it is the same every time, and the table of matches."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from mmcorpus.curation.evaluations import (
    EvaluationsConfig,
    EvaluationSet,
    build_index,
    find_matches,
    read_matched_items,
)
from mmcorpus.curation.evaluations.matches import index_of
from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.filters.contamination import ContaminationScorer, read_index

TEMPLATE = "Answer the question with one word or a short phrase and nothing else please"


def jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    Image.fromarray(coarse).resize((90, 60), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty questions, each with the same template before it, and two pictures, one of them broken."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "good.jpg").write_bytes(jpeg(0))
    (tmp_path / "pictures" / "bad.jpg").write_bytes(b"nothing")
    rows = [{"id": n, "text": f"{TEMPLATE} " + " ".join(f"word{n}of{place}" for place in range(20))} for n in range(20)]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def config(folder: Path, **settings: int | None) -> EvaluationsConfig:
    sets = {
        "questions": EvaluationSet(path=str(folder / "questions.jsonl")),
        "pictures": EvaluationSet(path=str(folder / "pictures")),
    }
    return EvaluationsConfig(sets=sets, **settings)  # type: ignore[arg-type]


def test_what_is_in_it(folder: Path) -> None:
    report = build_index(config(folder), str(folder / "index"))
    assert report.sets["questions"].items == 20
    assert (report.sets["pictures"].items, report.sets["pictures"].pictures) == (2, 1)
    assert (report.sets["pictures"].unreadable, report.sets["pictures"].example) == (
        1,
        "pictures/bad.jpg: not_an_image",
    )
    words = len(TEMPLATE.split())
    shared = words - 12
    assert report.common == shared
    assert report.grams == 20 * (words + 20 - 12 - shared)
    index = read_index(str(folder / "index"))
    assert index.names.to_pylist()[19:] == ["questions/19", "pictures/bad.jpg", "pictures/good.jpg"]
    assert (np.diff(index.grams.astype(np.float64)) > 0).all()
    assert index.gram_counts.tolist() == [report.grams // 20] * 20 + [0, 0]
    assert index.picture_items.tolist() == [21]
    assert build_index(config(folder, max_items=None), str(folder / "all")).common == 0


def test_the_same_sets_give_the_same_bytes(folder: Path) -> None:
    for name in ("one", "other"):
        build_index(config(folder), str(folder / name))
    names = sorted(path.name for path in (folder / "one").iterdir())
    assert names == ["grams.parquet", "index.json", "items.parquet", "pictures.parquet", "shown.parquet"]
    for name in names:
        assert (folder / "one" / name).read_bytes() == (folder / "other" / name).read_bytes()


def test_a_set_that_cannot_be_read_leaves_the_old_index(folder: Path) -> None:
    before = build_index(config(folder), str(folder / "index"))
    (folder / "questions.jsonl").write_text('{"id": 1, "text": "fine"}\nnot json\n')
    with pytest.raises(ValueError, match="line 2: no JSON"):
        build_index(config(folder), str(folder / "index"))
    assert ContaminationScorer(index=str(folder / "index")).model() == f"evaluations {before.content}"
    assert not list((folder / "index").glob("*.partial"))


def test_bad_configs_are_refused(folder: Path) -> None:
    for settings, message in (
        ({"n": 0}, "n: 0 words"),
        ({"min_words": 14}, "min_words: 14 is not in 1-13"),
        ({"max_items": 0}, "max_items: 0"),
    ):
        with pytest.raises(ValueError, match=message):
            config(folder, **settings)
    with pytest.raises(ValueError, match="sets is empty"):
        EvaluationsConfig()


def test_what_matched_what(folder: Path) -> None:
    index = str(folder / "index")
    build_index(config(folder), index)
    table = pa.table(
        {
            "uid": [f"{n:032x}" for n in range(4)],
            "text_overlap": [0.5, 0.0, 1.0, None],
            "text_covered": [0.25, 0.0, 1.0, None],
            "text_match": ["questions/3", "", "questions/4", None],
            "image_distance": pa.array([2, 64, 64, None], pa.int32()),
            "image_match": ["pictures/good.jpg", "", "", None],
        }
    )
    origin = Origin(scorer="contamination", version="1", parameters={"index": index}, fingerprint="0" * 16)
    write_scores(str(folder / "scores"), "00000", table, origin)
    matches = find_matches(str(folder / "scores"))
    assert matches["similarity"].null_count == 3
    assert matches.drop_columns("similarity").to_pylist() == [
        {"uid": f"{0:032x}", "item": "questions/3", "by": "text", "overlap": 0.5, "covered": 0.25, "distance": None},
        {"uid": f"{2:032x}", "item": "questions/4", "by": "text", "overlap": 1.0, "covered": 1.0, "distance": None},
        {
            "uid": f"{0:032x}",
            "item": "pictures/good.jpg",
            "by": "image",
            "overlap": None,
            "covered": None,
            "distance": 2,
        },
    ]
    assert index_of(str(folder / "scores")) == index
    found = read_matched_items(index, set(matches["item"].to_pylist()))
    assert sorted(found) == ["pictures/good.jpg", "questions/3", "questions/4"]
    assert found["questions/3"].text.startswith(TEMPLATE)
    assert found["questions/3"].thumbnail == b""
    with Image.open(io.BytesIO(found["pictures/good.jpg"].thumbnail)) as picture:
        assert picture.size == (90, 60)
    assert find_matches(str(folder / "none")).num_rows == 0
