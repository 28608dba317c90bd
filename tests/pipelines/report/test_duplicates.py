"""The report's duplicates and evaluation sets: counts, survivors, pairs, the S-curve."""

import io
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from mmcorpus.curation.evaluations import EvaluationsConfig, EvaluationSet, build_index
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.pipelines.report import contamination, duplicates, render_page, svg

CAPTIONS = ["a red cube", "a red cube", "a red cube", "two <b>green</b> balls", "two green balls", "alone", "silent"]


def uid(number: int) -> str:
    return f"{number:032x}"


def jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def run(tmp_path: Path) -> str:
    """Seven samples: three copies (the second survives), two near, one alone, one with nothing to compare."""
    root = str(tmp_path / "run")
    with ShardWriter(Shard(root=f"{root}/shards/pairs", name="00000")) as writer:
        for n, caption in enumerate(CAPTIONS):
            image = EncodedImage(extension="jpg", data=jpeg(n))
            meta = {"url": f"http://x.test/{n}.jpg"}
            writer.write(Sample(key=f"{n:05d}", uid=uid(n), caption=caption, images=(image,), meta=meta))
    table = pa.table(
        {
            "uid": [uid(n) for n in range(7)],
            "copies": pa.array([3, 3, 3, 2, 2, 1, None], pa.int32()),
            "rank": pa.array([2, 0, 1, 0, 1, 0, None], pa.int32()),
            "cluster": [uid(1), uid(1), uid(1), uid(3), uid(3), uid(5), None],
        }
    )
    parameters = {"by": "MinHash", "column": "caption", "preset": "fineweb", "survivor": None}
    write_scores(
        f"{root}/scores/pairs",
        "00000",
        table,
        Origin(scorer="near", version="1", parameters=parameters, fingerprint="f"),
    )
    storage.write_json(f"{root}/run.json", {"name": "x", "order": [], "stages": {}})
    (tmp_path / "run" / "ledger" / "pairs").mkdir(parents=True)
    return root


def test_a_pass_is_counted_and_its_clusters_lead_with_the_survivor(run: str) -> None:
    (one,) = duplicates.passes(run, ["pairs"])
    shown = duplicates.section(run, one, 8)
    assert shown["title"] == "near: MinHash, preset fineweb, column caption"
    assert shown["text"] == "3 of 7 samples of pairs are copies, in 2 clusters of up to 3. 1 had nothing to compare."
    (cluster,) = shown["clusters"]
    assert [card.uid for card in cluster["cards"]] == [uid(1), uid(2), uid(0)]
    assert [card.marked for card in cluster["cards"]] == [True, False, False]
    assert cluster["more"] == 0
    (pair,) = shown["pairs"]
    assert [card.uid for card in pair["cards"]] == [uid(3), uid(4)]
    assert ("<b>" in "".join(text for text, differs in pair["texts"][0] if differs)) is True
    assert [chart["title"] for chart in shown["charts"]] == ["cluster sizes", "S-curve"]
    assert "14 bands × 8 rows" in shown["charts"][1]["text"]
    assert "measured on" not in shown["charts"][1]["text"], "no two texts share a shingle of five words"


def test_the_page_shows_it_and_escapes_what_the_web_wrote(run: str) -> None:
    page = render_page(run)
    section = page[page.index('id="duplicates"') :]
    assert section.count("data:image/jpeg") == 5
    assert section.count('class="sample survivor"') == 2
    assert "<b>green" not in section
    assert re.search(r"<mark>&lt;", section)
    assert 'href="#duplicates"' in page


def test_differing_words_are_marked() -> None:
    first, second = duplicates.differing("a red cube.", "a blue cube")
    assert first == [("a ", False), ("red", True), (" cube", False), (".", True)]
    assert second == [("a ", False), ("blue", True), (" cube", False)]


def test_bars_are_as_high_as_their_counts() -> None:
    chart = svg.bars(["2", "3", "4+"], [40, 20, 0], "sizes", "samples")
    heights = [float(height) for height in re.findall(r'height="([\d.]+)"', chart)]
    assert len(heights) == 2
    assert heights[0] == pytest.approx(2 * heights[1], rel=0.01)
    assert "log scale" in svg.bars(["2", "3"], [10_000, 1], "sizes", "samples")


def test_evaluation_items_stand_beside_the_samples(run: str, tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "one.jpg").write_bytes(jpeg(5))
    (tmp_path / "eval" / "one.txt").write_text("An evaluation caption, <i>quite</i> long enough to be compared.")
    index = str(tmp_path / "index")
    build_index(EvaluationsConfig(sets={"bench": EvaluationSet(path=str(tmp_path / "eval"))}), index)
    table = pa.table(
        {
            "uid": [uid(n) for n in range(7)],
            "text_overlap": [0.0] * 6 + [0.25],
            "text_covered": [0.0] * 6 + [0.5],
            "text_match": [""] * 6 + ["bench/one.jpg"],
            "image_distance": pa.array([64] * 5 + [3, 64], pa.int32()),
            "image_match": [""] * 5 + ["bench/one.jpg", ""],
        }
    )
    origin = Origin(scorer="leaks", version="1", parameters={"index": index}, fingerprint="f")
    write_scores(f"{run}/scores/pairs", "00000", table, origin)
    shown = contamination.section(run, ["pairs"], 8)
    assert shown is not None
    assert shown["rows"] == [("pairs", "bench", "image", 1), ("pairs", "bench", "text", 1)]
    by_image, by_text = shown["pairs"]
    assert (by_image[0].uid, by_image[0].note) == (uid(5), "pairs: 3 of 64 bits differ")
    assert (by_text[0].uid, by_text[0].note) == (uid(6), "pairs: 25% of its n-grams, 50% of the item's")
    assert all(item.picture.startswith("data:image/jpeg;base64,/9j/") for _, item in shown["pairs"])
    page = render_page(run)
    section = page[page.index('id="evaluations"') :]
    assert section.count("data:image/jpeg") == 4
    assert "<i>quite" not in section
    storage.remove(index)
    assert "the index is not there any more" in render_page(run)


def test_a_run_without_either_has_no_such_section(tmp_path: Path) -> None:
    storage.write_json(f"{tmp_path}/run.json", {"name": "x", "order": [], "stages": {}})
    page = render_page(str(tmp_path))
    assert 'id="duplicates"' not in page
    assert 'id="evaluations"' not in page
