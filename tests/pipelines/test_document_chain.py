"""The whole chain on pages, by the command line: every page accounted for, killed and resumed to the same bytes."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.synthetic.miniweb import MiniWebConfig
from mmcorpus.packing.packs import PackReader
from tests.pipelines.whole_runs import (
    QUICK,
    hashes,
    kill_on_the_way,
    moments,
    records,
    run_here,
    write_recipe,
    written,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_local")]

SECTIONS = """\
sources:
  captions: {urls: "${web}/pairs.parquet"}
  pages: {kind: document, pages: "${web}/pages/*.warc.gz", extract: {records_per_shard: 9}}
  texts: {kind: text, pages: "${web}/pages/*.warc.gz"}
score:
  scorers:
    image: {on: [captions, pages.images]}
    url: {on: [pages.images]}
    caption: {on: [captions, pages.paragraphs, texts]}
    document: {on: [pages]}
dedup:
  same_file: {by: bytes, sources: [pages.images]}
  repeated: {by: columns, on: [domain, caption], sources: [pages.paragraphs]}
  same_text: {by: text, sources: [texts]}
select:
  captions: {keep: image.min_side >= 60}
  pages.images: {keep: image.min_side >= 60 and same_file.copies <= 10}
  pages.paragraphs: {keep: repeated.copies <= 3, require: caption.characters < 4000}
  pages: {profile: mm1_documents, heldout_fraction: 0.3}
  texts: {keep: same_text.rank == 0}
pack:
  all:
    {sources: [captions, pages, texts], mix: {captions: 45, pages: 45, texts: 10}, context_length: 256,
     tokens_per_image: 4, max_images: 5, too_long: split, sequences_per_shard: 10}
"""
STAGES = """\
    pretrain:
      {pack: all, schedule: {steps: 2}, data: {batch_sequences: 2, micro_batch_sequences: 2},
       freeze: {vision: false}, compute: {precision: fp32}, heldout: {every: 2}}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = MiniWebConfig(pairs=60, pages=20, instructions=0, spoil=0.2, weights=QUICK, sides=(64, 128))
    return write_recipe(tmp_path_factory.mktemp("recipe"), SECTIONS, STAGES, site, name="pages", per_shard=40)


@pytest.fixture(scope="module")
def finished(recipe: Path, tmp_path_factory: pytest.TempPathFactory, ray_local: None) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    assert "Every sample is accounted for." in run_here(recipe, out)
    return out


def results(out: Path) -> dict[str, str]:
    """The hash of every file of documents, their views, scores, selections, plans, packs and ledgers, by path."""
    parts = ["documents/pages", "documents/pages.urls", "documents/texts", "scores", "selections", "plans", "packs"]
    parts += ["ledger", *(f"shards/pages{view}" for view in ("", ".images", ".paragraphs", ".trimmed"))]
    files = (path for part in parts for path in (out / part).rglob("*"))
    return hashes(out, (path for path in files if path.suffix in (".tar", ".parquet")))


def test_pages_become_packs_that_a_model_learns_from(finished: Path) -> None:
    out = finished
    summary = json.loads((out / "summary.json").read_text())
    assert summary["balance"] == []
    assert set(summary["sources"]) >= {"captions", "pages", "pages.urls", "pages.images", "texts"}
    assert [stage["stage"] for stage in summary["sources"]["pages"]] == ["extract", "capture", "trim", "select", "pack"]
    for stages in summary["sources"].values():
        for stage in stages:
            assert stage["entered"] == stage["kept"] + sum(stage["dropped"].values())
    reader = PackReader(str(out / "packs/all"))
    kinds = {source for sequence in reader for source in sequence.sources}
    assert kinds == {"captions", "pages", "texts"}
    assert max(len(sequence.images) for sequence in reader) <= 5
    plan = pq.read_table(out / "plans/all.parquet").to_pylist()
    assert any(row["part"] > 0 for row in plan)
    assert any(row["images"] > 1 for row in plan if row["kind"] == "document")
    assert not any(row["images"] for row in plan if row["kind"] == "text")
    metrics = [json.loads(line) for line in (out / "training/pretrain/metrics.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in metrics) == 2
    assert any("heldout_loss" in line for line in metrics)


def test_a_document_can_be_followed_to_its_record(recipe: Path, finished: Path) -> None:
    from mmcorpus.pipelines.report.inspect import story

    out = finished
    plan = pq.read_table(out / "plans/all.parquet").to_pylist()
    document = next(row["uid"] for row in plan if row["kind"] == "document" and row["images"])
    told = "\n".join(story(str(out), document))
    for part in (
        "    url: http",
        "00000.warc.gz",
        "    offset: ",
        "extract: kept",
        "capture: kept",
        "pack all: sequence",
    ):
        assert part in told
    shard = next((out / "shards/pages.images").glob("*.parquet"))
    image = next(row["uid"] for row in pq.read_table(shard).to_pylist() if row["status"] == "success")
    told = "\n".join(story(str(out), image))
    assert "in document " in told
    assert "download: kept" in told


@pytest.mark.soak
def test_killed_anywhere_it_resumes_to_the_same_bytes(recipe: Path, finished: Path, tmp_path: Path) -> None:
    expected = results(finished)
    kill_on_the_way(recipe, tmp_path / "out", moments(finished, seed=0, kills=3))
    assert written(tmp_path / "out") < written(finished), "it was killed too late to prove anything"
    run_here(recipe, tmp_path / "out")
    assert results(tmp_path / "out") == expected


def test_a_threshold_of_images_redoes_no_download_and_no_score(recipe: Path, finished: Path) -> None:
    out = finished
    before = records(out)
    output = run_here(recipe, out, "--set", "select.pages.images.keep=image.min_side >= 90", "--until", "all/packs")
    assert "pages.images/select: keep changed" in output
    after = records(out)
    same = {name for name in before if after.get(name) == before[name]}
    kept = {"pages/extract", "pages/capture", "pages/list", "pages.urls/download", "pages/place", "pages.images/score"}
    assert same >= kept | {"pages.paragraphs/select", "dedup/same_file", "texts/select", "captions/select"}
    assert not same & {"pages.images/select", "pages/trim", "pages/score", "pages/select", "all/plan", "all/packs"}
