"""The commands of docs/data.md, each on a small file of that corpus's layout."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mmcorpus.curation.store.shards import list_shards, read_rows, read_samples
from mmcorpus.pipelines.cli import app
from tests.curation.sources.conftest import as_tar, pairs, picture, write_tar

DOCS = Path(__file__).parents[3] / "docs" / "data.md"
PAIRS = pairs(3)
TURNS = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A boat."}]
STRUCTS = [{"bytes": pair["image"], "path": "x.jpg"} for pair in PAIRS]


def tars(folder: str, name: str, *, uids: bool = False, stats: bool = False) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        own = [
            {**pair, "json": {**pair["json"], **({"uid": f"{number:032x}"} if uids else {})}}
            for number, pair in enumerate(PAIRS)
        ]
        write_tar(root / folder / f"{name}.tar", as_tar(own))
        if stats:
            (root / folder / f"{name}_stats.json").write_text('{"successes": 3}')

    return make


def parquet(path: str, columns: dict[str, Any]) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), root / path)
        (root / path).with_name("README.md").write_text("# about the data")

    return make


def arrow(root: Path) -> None:
    """As `save_to_disk` leaves it."""
    folder = root / "photos_on_disk"
    folder.mkdir()
    table = pa.table({"image": STRUCTS, "text": [pair["caption"] for pair in PAIRS]})
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as sink,
    ):
        sink.write_table(table)
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')


def loose(root: Path) -> None:
    (root / "laion_files" / "00000").mkdir(parents=True)
    for name, data in as_tar(PAIRS):
        (root / "laion_files" / "00000" / name).write_bytes(data)
    (root / "laion_files" / "00000_stats.json").write_text('{"successes": 3}')


def instructions(path: str, images: str, rows: list[dict[str, Any]]) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for number in range(3):
            (root / images).mkdir(parents=True, exist_ok=True)
            (root / images / f"{number}.jpg").write_bytes(picture(number))
        lines = "\n".join(map(json.dumps, rows)) if path.endswith("l") else json.dumps(rows)
        (root / path).write_text(lines)

    return make


def answered(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}, {"role": "assistant", "content": "A boat."}]


MADE: dict[str, Callable[[Path], None]] = {
    "cc12m/": tars("cc12m", "cc12m-train-0000"),
    "datacomp/shards": tars("datacomp/shards", "00000", stats=True),
    "datacomp_small/": tars("datacomp_small", "00000000", uids=True, stats=True),
    "laion_parquet/": parquet(
        "laion_parquet/00000.parquet",
        {"key": ["0", "1", "2"], "jpg": [pair["image"] for pair in PAIRS], "caption": [p["caption"] for p in PAIRS],
         "status": ["success"] * 3, "error_message": pa.nulls(3, pa.string())},
    ),
    "laion_files/": loose,
    "photos/": parquet("photos/data/train-00000-of-00001.parquet", {"image": STRUCTS, "text": ["a", "b", "c"]}),
    "photos_on_disk/": arrow,
    "FineVision/ai2d": parquet(
        "FineVision/ai2d/train-00000-of-00001.parquet",
        {"images": [[one] for one in STRUCTS], "texts": [[{"user": "What?", "assistant": "A boat."}]] * 3,
         "source": ["ai2d"] * 3, "relevance_ratings": [[5]] * 3},
    ),
    "LLaVA-OneVision-Data/": parquet(
        "LLaVA-OneVision-Data/ai2d/train-00000.parquet",
        {"id": ["a", "b", "c"], "image": STRUCTS, "conversations": [TURNS] * 3, "data_source": ["ai2d"] * 3},
    ),
    "llava_v1_5_mix665k.json": instructions(
        "llava_v1_5_mix665k.json", "playground/data/coco",
        [{"id": str(n), "image": f"coco/{n}.jpg", "conversations": TURNS} for n in range(3)],
    ),
    "mammoth_si_10M.json": instructions(
        "mammoth_si_10M.json", "mammoth/a",
        [{"id": n, "image": [f"a/{n}.jpg", "a/0.jpg"], "conversations": TURNS, "source": "x"} for n in range(3)],
    ),
    "sharegpt.json": instructions(
        "sharegpt.json", "none",
        [{"id": str(n), "conversations": [{"from": "human", "value": str(n)}, TURNS[1]]} for n in range(3)],
    ),
    "chat.jsonl": instructions(
        "chat.jsonl", "images",
        [{"messages": answered("Hi")}, {"messages": answered("<image>What?"), "images": ["0.jpg"]},
         {"messages": answered([{"type": "image_url", "image_url": {"url": "1.jpg"}}, {"type": "text", "text": "?"}])}],
    ),
}  # fmt: skip
COMMANDS = dict.fromkeys(re.findall(r"`(mmcorpus index [^`]+)`", DOCS.read_text()))


@pytest.mark.parametrize("command", [text for text in COMMANDS if "--out" in text and "{" not in text])
def test_the_docs_command_of_each_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    words = shlex.split(command)
    if words[2] == "PATH":
        return
    MADE[words[2]](tmp_path)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words[1:], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    assert "3 samples of 3 rows" in result.output
    shards = list_shards(str(tmp_path / words[words.index("--out") + 1] / "shards"))
    rows = [row for shard in shards for row in read_rows(shard).to_pylist()]
    images = {image.data for shard in shards for sample in read_samples(shard) for image in sample.images}
    texts = [row["conversations"] if "conversation" in words else row["caption"] for row in rows]
    assert all(texts)
    expected = {"sharegpt.json": 0, "chat.jsonl": 2}.get(words[2], 3)
    assert len(images) == expected
    assert images <= {picture(number) for number in range(3)}
    assert not list(tmp_path.rglob("data/*/shards/*.tar")), "nothing was copied"
    if words[2] == "datacomp_small/":
        assert sorted(row["uid"] for row in rows) == [f"{number:032x}" for number in range(3)]


def test_what_a_command_says_and_how_it_ends(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"image": "gone.jpg", "caption": "x"}\n')
    good = write_tar(tmp_path / "good.tar", as_tar(PAIRS))
    result = CliRunner().invoke(
        app, ["index", str(good), str(bad), "--out", str(tmp_path / "out")], env={"COLUMNS": "400", "TERM": "dumb"}
    )
    assert result.exit_code == 1
    assert "3 samples of 4 rows in 2 shards, 3 images, 0 of them copied" in result.output
    assert "Dropped: 1 missing_image" in result.output
    assert f"failed: {bad}: none of its 1 rows is a sample; the first: missing_image: gone.jpg" in result.output
