"""Every command that takes a folder of shards takes data of anybody: indexed beside its output, once, in place."""

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mmcorpus.curation.selection.tables import read_selection
from mmcorpus.curation.sources.direct import shards_of
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import list_tables, load_scores
from mmcorpus.curation.store.shards import (
    EncodedImage,
    Sample,
    Shard,
    ShardWriter,
    list_shards,
    read_rows,
    read_samples,
)
from mmcorpus.packing.vocabulary import train_tokenizer
from mmcorpus.pipelines.cli import app
from mmcorpus.pipelines.commands.data import kind_held
from tests.curation.sources.conftest import as_tar, pairs, picture, write_tar

PAIRS = pairs(6)
BYTES = {pair["image"] for pair in PAIRS}


def tars(folder: Path) -> Path:
    write_tar(folder / "cc12m" / "cc12m-train-0000.tar", as_tar(PAIRS[:3]))
    write_tar(folder / "cc12m" / "cc12m-train-0001.tar", as_tar(PAIRS[3:]))
    return folder / "cc12m"


def parquet(folder: Path) -> Path:
    structs = [{"bytes": pair["image"], "path": None} for pair in PAIRS]
    (folder / "photos" / "data").mkdir(parents=True)
    table = pa.table({"image": structs, "text": [pair["caption"] for pair in PAIRS]})
    pq.write_table(table, folder / "photos" / "data" / "train-00000.parquet")
    return folder / "photos"


def llava(folder: Path) -> Path:
    """The JSON beside its images, and what is none of it."""
    (folder / "llava" / "coco").mkdir(parents=True)
    rows = []
    for number, pair in enumerate(PAIRS):
        (folder / "llava" / "coco" / f"{number}.jpg").write_bytes(pair["image"])
        turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": pair["caption"]}]
        rows.append({"id": str(number), "image": f"coco/{number}.jpg", "conversations": turns})
    (folder / "llava" / "llava.json").write_text(json.dumps(rows))
    return folder / "llava"


LAYOUTS: dict[str, Callable[[Path], Path]] = {"tars": tars, "parquet": parquet, "llava": llava}


def mmcorpus(*words: Any, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(map(str, words)), env={"COLUMNS": "400", "TERM": "dumb"})
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer([pair["caption"] for pair in PAIRS], 300, str(folder))
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_plan_and_pack_take_it_and_index_once(tmp_path: Path, tokenizer: Path, layout: str) -> None:
    data, out = LAYOUTS[layout](tmp_path), tmp_path / "out"
    before = sorted(path for path in data.rglob("*"))
    source = ("--source", f"web={data}", "--tokenizer", tokenizer)
    said = mmcorpus("plan", *source, "--out", out / "plan.parquet", "--set", "tokens_per_image=9")
    kind = "conversation" if layout == "llava" else "pair"
    assert f"indexed as {kind}s in {out / 'shards.web'}, 6 samples of 6 rows" in said
    assert f"web ({kind}): 6 kept" in said
    assert set(pq.read_table(out / "plan.parquet")["kind"].to_pylist()) == {kind}
    (stats, *_) = sorted((out / "shards.web").glob("*_stats.json"))
    made = stats.stat().st_mtime_ns
    mmcorpus("pack", out / "plan.parquet", *source, "--out", out / "packs")
    assert stats.stat().st_mtime_ns == made, "what the plan indexed is known again"
    assert json.loads((out / "packs" / "manifest.json").read_text())["counts"]["samples"] == 6
    assert sorted(path for path in data.rglob("*")) == before, "nothing is written among the data"


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_commands_that_work_on_ray_take_it(tmp_path: Path, layout: str, ray_local: None) -> None:
    data, out = LAYOUTS[layout](tmp_path), tmp_path / "out"
    mmcorpus("score", data, "--out", out / "scores", "--scorer", "image")
    uids = sorted(load_scores(str(out / "scores"))["uid"].to_pylist())
    assert len(uids) == 6
    mmcorpus("select", data, "--keep", "image.min_side >= 10 and caption.words >= 0", "--out", out / "all.parquet")
    assert set(list_tables(str(out / "scores"))) == {"image", "caption"}, "the one that was lacking was added"
    expected = [] if layout == "llava" else uids  # conversations have no captions
    assert sorted(read_selection(str(out / "all.parquet"))["uid"].to_pylist()) == expected
    mmcorpus("select", data, "--keep", "image.min_side >= 10", "--out", out / "all.parquet")
    mmcorpus("dedup", data, "--by", "image", "--out", out)
    mmcorpus("select", out / "scores", "--keep", "same_image.rank == 0", "--out", out / "all.parquet")
    assert sorted(read_selection(str(out / "all.parquet"))["uid"].to_pylist()) == uids
    mmcorpus("reshard", data, "--selection", out / "all.parquet", "--out", out / "again")
    again = [sample for shard in list_shards(str(out / "again")) for sample in read_samples(shard)]
    assert sorted(sample.uid for sample in again) == uids
    assert {image.data for sample in again for image in sample.images} == BYTES
    mmcorpus("export", "webdataset", data, "--out", out / "wds")
    exported = [uid for shard in list_shards(str(out / "wds")) for uid in read_rows(shard)["uid"].to_pylist()]
    assert sorted(exported) == uids
    assert [path.name for path in out.glob("shards*")] == ["shards"], "one index served them all"


def test_what_was_told_to_index_is_not_asked_again_and_what_changed_is_read_anew(tmp_path: Path) -> None:
    data = llava(tmp_path)
    (data / "llava.json").rename(tmp_path / "chat.json")
    chat, out = tmp_path / "chat.json", tmp_path / "out"
    refused = shards_of(str(chat), str(tmp_path / "other"), workers=0).report
    assert refused is not None
    assert refused.dropped == {"missing_image": 6}
    mmcorpus("index", chat, "--kind", "conversation", "--image-root", data, "--out", out)
    found = shards_of(str(chat), str(out), name="chat", workers=0)
    assert (found.folder, found.kind) == (str(out / "shards"), "conversation")
    assert found.report is not None
    assert found.report.samples == 6
    chat.write_text(json.dumps(json.loads(chat.read_text())[:4]))
    again = shards_of(str(chat), str(out), workers=0).report
    assert again is not None
    assert again.samples == 4, "as it was told, of what is there now"
    other = shards_of(str(tars(tmp_path)), str(out), workers=0)
    assert other.folder == str(out / "shards.cc12m"), "beside what is of other data"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: storage.write_json(f"{folder}/made_from.json", {"config": {}, "version": "1", "inputs": {}}),
         "there are no complete shards"),
        (lambda folder: storage.write_json(f"{folder}/run.json", {}), "there are no complete shards"),
        (lambda folder: storage.write_json(f"{folder}/shards/00000_stats.json", {}), "give .*/in/shards"),
        (lambda folder: storage.write_bytes(f"{folder}/notes.md", b"# notes"), "nothing there can be read as samples"),
    ],
)  # fmt: skip
def test_folders_of_ours_are_no_data(tmp_path: Path, make: Callable[[str], None], said: str) -> None:
    make(str(tmp_path / "in"))
    with pytest.raises(ValueError, match=said):
        shards_of(str(tmp_path / "in"), str(tmp_path / "out"), workers=0)
    assert not (tmp_path / "out").exists()


def test_a_data_filtering_network_learns_from_it_but_under_torchrun_it_is_indexed_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def train(config: Any, sources: Any, out: str, **more: Any) -> Any:
        asked.update(sources)
        totals = SimpleNamespace(step=1, loss=1.0, heldout={})
        return SimpleNamespace(failures=[], totals=totals, training_pairs=6, model="model")

    monkeypatch.setattr("mmcorpus.training.clip.train_contrastive", train)
    (tmp_path / "trusted.txt").write_text("0" * 32)
    words = ("dfn", tars(tmp_path), "--trusted", tmp_path / "trusted.txt", "--out", tmp_path / "out" / "dfn")
    mmcorpus(*words)
    assert asked["shards"].shards == str(tmp_path / "out" / "shards")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "make them before: mmcorpus index" in mmcorpus(*words, code=2)


def test_scores_of_other_samples_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out" / "scores" / "image").mkdir(parents=True)
    table = pa.table({"uid": ["0" * 32], "min_side": [1]})
    pq.write_table(table, tmp_path / "out" / "scores" / "image" / "000000000.parquet")
    words = ("select", tars(tmp_path), "--keep", "image.min_side > 1", "--out", tmp_path / "out" / "a.parquet")
    assert "holds scores of other samples" in mmcorpus(*words, code=2)
    assert pq.read_table(tmp_path / "out" / "scores" / "image" / "000000000.parquet").equals(table)


class _Files(BaseHTTPRequestHandler):
    """A server that gives a file only by its whole address, query and all, and refuses everything else."""

    served: dict[str, bytes]

    def do_GET(self) -> None:
        data = self.served.get(self.path)
        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if data is None:
            self.send_response(403)
            self.end_headers()
            return
        if asked is not None:
            first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
            whole, data = len(data), data[first : last + 1]
        self.send_response(200 if asked is None else 206)
        if asked is not None:
            self.send_header("Content-Range", f"bytes {first}-{last}/{whole}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        pass


def test_the_query_of_an_address_is_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next((parquet(tmp_path) / "data").iterdir())
    handler = type("Handler", (_Files,), {"served": {"/a/b.parquet?download=true": path.read_bytes()}})
    monkeypatch.setenv("MMCORPUS_ALLOW_PRIVATE", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/a/b.parquet?download=true"
        found = shards_of(address, str(tmp_path / "out"), workers=0)
        assert {sample.images[0].data for shard in list_shards(found.folder) for sample in read_samples(shard)} == BYTES
        assert shards_of(address, str(tmp_path / "out"), name="web", workers=0).folder.endswith("/out/shards")
        server.shutdown()


TURNS = '[{"from": "human", "value": "?"}, {"from": "gpt", "value": "A boat."}]'


@pytest.mark.parametrize(
    ("caption", "about", "kind"),
    [
        ("a boat", {}, "pair"),
        (None, {"conversations": TURNS}, "conversation"),
        ("a boat", {"conversations": TURNS}, "pair"),
        (None, {"nodes": [{"text": "x"}, {"image": 0}]}, "document"),
    ],
)
def test_the_first_shard_tells_its_kind(tmp_path: Path, caption: str | None, about: dict[str, Any], kind: str) -> None:
    image = EncodedImage(extension="jpg", data=picture(0))
    with ShardWriter(Shard(root=str(tmp_path), name="00000")) as writer:
        writer.write(Sample(key="0", uid="0" * 32, caption=caption, images=(image,), meta=about))
    assert kind_held(str(tmp_path)) == kind
