"""What the notebooks stand on: overlaps, thresholds, disagreement, distributions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mmcorpus.curation.documents.views import node_key
from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter, commit_shard
from mmcorpus.curation.store.views import view_root, write_view_file
from mmcorpus.pipelines.notebook import Run, disagreement, distribution, gallery, jaccard, regions, threshold_slider
from mmcorpus.pipelines.notebook.plots import drawn_in
from mmcorpus.pipelines.run.state import RunState
from tests.curation.download.conftest import encoded, picture

UIDS = [f"{number:032x}" for number in range(10)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Ten samples, their score `mine.value` 0 to 9, the last one unscored."""
    RunState(str(tmp_path), name="x").write()
    with ShardWriter(Shard(root=str(tmp_path / "shards" / "pairs"), name="00000")) as writer:
        for number, uid in enumerate(UIDS):
            image = EncodedImage(extension="jpg", data=encoded(picture(40, 30, seed=number)))
            writer.write(Sample(key=f"{number:09d}", uid=uid, caption=f"caption <{number}>", images=(image,), meta={}))
    table = pa.table({"uid": UIDS, "value": [*map(float, range(9)), None], "other": [float(-n) for n in range(10)]})
    write_scores(
        str(tmp_path / "scores" / "pairs"), "00000", table, Origin(scorer="mine", version="1", fingerprint="f")
    )
    return Run(str(tmp_path))


def test_a_run_gives_scores_and_expressions(run: Run) -> None:
    scores = run.scores()
    assert list(scores.index) == UIDS
    assert set(scores["source"]) == {"pairs"}
    assert scores["mine.value"].isna().sum() == 1
    assert list(run.keep("mine.value >= 7", "pairs")) == UIDS[7:9], "a null never passes"
    assert list(run.keep("top(mine.other, 2)", "pairs")) == UIDS[:2]


def test_pages_show_their_images(tmp_path: Path) -> None:
    RunState(str(tmp_path), name="x").write()
    shards = str(tmp_path / "shards" / "pages")
    pictures = [encoded(picture(40, 30, seed=number)) for number in range(3)]
    nodes = [{"text": "a title"}, *({"image": number} for number in range(3))]
    with ShardWriter(Shard(root=shards, name="00000")) as writer:
        images = tuple(EncodedImage(extension="jpg", data=data) for data in pictures)
        writer.write(Sample(key="0", uid=UIDS[0], caption=None, images=images, meta={"nodes": nodes}))
    said = {"status": "success", "error_message": None, "document": UIDS[0]}
    trimmed = {"key": "0", "uid": UIDS[0], "caption": "a title", "nodes": json.dumps([nodes[0], nodes[2]])}
    views: dict[Any, dict[str, Any]] = {
        "image": {"key": node_key("0", 3), "uid": UIDS[1], "caption": "the third", "image": 2},
        "paragraph": {"key": node_key("0", 0), "uid": UIDS[2], "caption": "a title"},
        "document": trimmed,
    }
    for level, row in views.items():
        root = view_root(shards, level)
        rows = [{**row, **said}]
        commit_shard(Shard(root=root, name="00000"), pa.Table.from_pylist(rows))
        write_view_file(root, shards, level)
    found = Run(str(tmp_path)).pictures(UIDS[:3])
    assert [each.data for each in found] == [pictures[1], pictures[2], b""], "what a document kept, not what it had"
    assert [each.caption for each in found] == ["a title", "the third", "a title"]


def test_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no run"):
        Run(str(tmp_path))


def test_a_gallery_keeps_the_order_and_escapes(run: Run) -> None:
    html = gallery(run, [UIDS[3], UIDS[1]], note={UIDS[3]: 0.123456}).data
    assert html.index("caption &lt;3&gt;") < html.index("caption &lt;1&gt;")
    assert html.count("data:image/jpeg") == 2
    assert "0.1235" in html


def test_a_slider_shows_what_is_just_kept_and_just_dropped(run: Run) -> None:
    slider, view = threshold_slider(run, run.scores(), "mine.value", start=5, each=2).children
    assert slider.value == 5
    assert "keeps <b>4</b> of 10 (40.0%)" in view.value
    kept, dropped = view.value.split("just kept")[1].split("just dropped")
    assert [uid for uid in UIDS if f"&lt;{int(uid, 16)}&gt;</div>" in kept] == UIDS[5:7]
    assert [uid for uid in UIDS if f"&lt;{int(uid, 16)}&gt;</div>" in dropped] == UIDS[3:5]
    slider.value = 8
    assert "keeps <b>1</b> of 10" in view.value


def test_disagreement_goes_by_rank(run: Run) -> None:
    html = disagreement(run, run.scores(), "mine.value", "mine.other", each=1).data
    high, low = html.split("low mine.value, high mine.other")
    assert "caption &lt;8&gt;" in high
    assert "caption &lt;0&gt;" in low


def test_regions_and_jaccard() -> None:
    selections = {"a": pd.Index([1, 2]), "b": pd.Index([2, 3, 4])}
    found = {names: sorted(uids) for names, uids in regions(selections).items()}
    assert found == {("b",): [3, 4], ("a",): [1], ("a", "b"): [2]}
    assert jaccard(selections).loc["a", "b"] == 0.25
    assert regions({"a": pd.Index([1])}).keys() == {("a",)}


def test_a_long_tail_is_drawn_in_and_a_short_one_is_not() -> None:
    short = np.linspace(0, 1, 1000)
    assert drawn_in(short) is short
    tailed = np.append(short, [100.0, np.nan])
    assert np.nanmax(drawn_in(tailed)) < 2
    assert np.isnan(drawn_in(tailed)[-1])


def test_a_distribution_names_the_share_that_passes(run: Run) -> None:
    figure = distribution(run.scores(), "mine.value", thresholds=[(">=", 5.0)])
    assert figure.axes[1].get_title(loc="left") == ">= 5: 44.4% pass"
    with pytest.raises(ValueError, match=r"did you mean 'mine\.value'"):
        distribution(run.scores(), "mine.valeu")


def test_only_sources_that_were_asked_for_a_score_lack_it(run: Run) -> None:
    scores = run.scores()
    others = scores.assign(source="texts", **{"mine.value": np.nan})
    figure = distribution(pd.concat([scores, others]), "mine.value")
    assert figure.axes[0].get_title(loc="left") == "mine.value  (1 unscored)"
    assert figure.axes[0].get_legend() is None, "there is one source to be told from none"
