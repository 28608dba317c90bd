"""The commands of docs/data.md, each on a small file of that corpus's layout."""

import base64
import gzip
import io
import json
import re
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from mmcorpus.curation.download import DownloadConfig
from mmcorpus.curation.download.lists import normalise
from mmcorpus.curation.store.shards import (
    EncodedImage,
    Sample,
    Shard,
    ShardWriter,
    list_shards,
    read_rows,
    read_samples,
)
from mmcorpus.curation.synthetic.write_warc import Capture, write_warc
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
    save_to_disk(root / "photos_on_disk", pa.table({"image": STRUCTS, "text": [pair["caption"] for pair in PAIRS]}))


def save_to_disk(folder: Path, table: pa.Table) -> None:
    """As `datasets` leaves it."""
    folder.mkdir()
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as sink,
    ):
        sink.write_table(table)
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')


def mds(root: Path) -> None:
    from streaming import MDSWriter

    with MDSWriter(out=str(root / "mds"), columns={"image": "bytes", "caption": "str"}) as writer:
        for pair in PAIRS:
            writer.write({"image": pair["image"], "caption": pair["caption"]})


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


def spoken(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "parts": list(parts)}, {"role": "model", "parts": [{"text": "A boat."}]}]


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
    "imagefolder/": instructions(
        "imagefolder/train/metadata.jsonl", "imagefolder/train",
        [{"file_name": f"{n}.jpg", "text": f"a boat {n}"} for n in range(3)],
    ),
    "mds/": mds,
    "FineVision/ai2d": parquet(
        "FineVision/ai2d/train-00000-of-00001.parquet",
        {"images": [[one] for one in STRUCTS], "texts": [[{"user": "What?", "assistant": "A boat."}]] * 3,
         "source": ["ai2d"] * 3, "relevance_ratings": [[5]] * 3},
    ),
    "the_cauldron/vqav2": parquet(
        "the_cauldron/vqav2/train-00000-of-00033.parquet",
        {"images": [[one] for one in STRUCTS],
         "texts": [[{"user": "What?", "assistant": "A boat.", "source": "VQAv2"}]] * 3},
    ),
    "LLaVA-OneVision-Data/": parquet(
        "LLaVA-OneVision-Data/ai2d/train-00000.parquet",
        {"id": ["a", "b", "c"], "image": STRUCTS, "conversations": [TURNS] * 3, "data_source": ["ai2d"] * 3},
    ),
    "llava_v1_5_mix665k.json": instructions(
        "llava_v1_5_mix665k.json", "playground/data/coco",
        [{"id": str(n), "image": f"coco/{n}.jpg", "conversations": TURNS} for n in range(3)],
    ),
    "sharegpt4v_instruct_gpt4-vision_cap100k.json": instructions(
        "sharegpt4v_instruct_gpt4-vision_cap100k.json", "sharegpt4v/data/sam/images",
        [{"id": f"sa_{n}", "image": f"sam/images/{n}.jpg", "conversations": TURNS} for n in range(3)],
    ),
    "mammoth_si_10M.json": instructions(
        "mammoth_si_10M.json", "mammoth/a",
        [{"id": n, "image": [f"a/{n}.jpg", "a/0.jpg"], "conversations": TURNS, "source": "x"} for n in range(3)],
    ),
    "sharegpt.json": instructions(
        "sharegpt.json", "none",
        [{"id": str(n), "conversations": [{"from": "human", "value": str(n)}, TURNS[1]]} for n in range(3)],
    ),
    "alpaca_data.json": instructions(
        "alpaca_data.json", "none",
        [{"instruction": f"Translate {n}", "input": "Boot" * n, "output": "A boat."} for n in range(3)],
    ),
    "swift.jsonl": instructions(
        "swift.jsonl", "images",
        [{"query": f"<image>What? {n}", "response": "A boat.", "images": [f"{n}.jpg"]} for n in range(3)],
    ),
    "chat.jsonl": instructions(
        "chat.jsonl", "images",
        [{"messages": answered("Hi")}, {"messages": answered("<image>What?"), "images": ["0.jpg"]},
         {"messages": answered([{"type": "image_url", "image_url": {"url": "1.jpg"}}, {"type": "text", "text": "?"}])}],
    ),
    "gemini.jsonl": instructions(
        "gemini.jsonl", "images",
        [{"systemInstruction": {"parts": [{"text": "Be brief."}]}, "contents": spoken({"text": "Hi"})},
         {"contents": spoken({"file_data": {"mime_type": "image/jpeg", "file_uri": "0.jpg"}}, {"text": "What?"})},
         {"contents": spoken({"fileData": {"fileUri": "1.jpg"}}, {"text": "What?"})}],
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
    texts = [row["conversations"] if "conversations" in row else row["caption"] for row in rows]
    assert all(texts)
    expected = {"sharegpt.json": 0, "alpaca_data.json": 0, "chat.jsonl": 2, "gemini.jsonl": 2}.get(words[2], 3)
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


def test_the_first_rows_tell_the_kind_where_it_is_not_said(tmp_path: Path) -> None:
    asked = tmp_path / "alpaca.json"
    asked.write_text('[{"instruction": "Count", "input": "", "output": "1, 2", "text": "### Instruction: Count"}]')
    turns = tmp_path / "turns.jsonl"
    turns.write_text('{"mine": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}\n')

    def said(name: str, *words: str) -> Any:
        return CliRunner().invoke(
            app, ["index", *words, "--out", str(tmp_path / name)], env={"COLUMNS": "400", "TERM": "dumb"}
        )

    for name, words in {"a": [str(asked)], "b": [str(turns), "--column", "conversations=mine"]}.items():
        result = said(name, *words)
        assert result.exit_code == 0, result.output
        assert "Its first rows are conversations" in result.output
        assert "1 samples of 1 rows" in result.output
    wrong = said("c", str(asked), "--kind", "pair")
    assert wrong.exit_code == 1
    assert "a conversation (instruction, output, input) is one by kind: conversation" in wrong.output


def test_images_at_several_addresses_of_a_row_are_listed_downloaded_and_found(tmp_path: Path) -> None:
    addresses = [f"https://i.test/{n}.jpg" for n in range(4)]
    rows = [{"image": addresses[:count], "conversations": TURNS} for count in (1, 2, 3)]
    rows.append({"image": [addresses[0], addresses[3]], "conversations": TURNS})
    (tmp_path / "x.json").write_text(json.dumps(rows))

    def said(*more: str) -> str:
        words = ["index", str(tmp_path / "x.json"), "--kind", "conversation", "--out", str(tmp_path / "out"), *more]
        return CliRunner().invoke(app, words, env={"COLUMNS": "400", "TERM": "dumb"}).output

    first = said()
    assert "1 rows have their image at an address; to get these: mmcorpus download" in first
    list_of_images = tmp_path / "out" / "shards" / "images_to_download.parquet"
    assert f"3 rows have several images, some at addresses; to get these: mmcorpus download {list_of_images}" in first
    assert sorted(pq.read_table(list_of_images)["url"].to_pylist()) == addresses
    with ShardWriter(Shard(root=str(tmp_path / "got"), name="00000")) as writer:
        for number in (2, 0, 1):
            image = EncodedImage(extension="jpg", data=picture(number))
            about = {"url": addresses[number], "width": 40, "height": 30}
            writer.write(Sample(key=f"{number}", uid=f"{number:032x}", caption=None, images=(image,), meta=about))
        writer.fail("3", "3" * 32, "http_404: not found")
    failed = pq.read_table(tmp_path / "got" / "00000.parquet").to_pylist()
    failed[-1]["url"] = addresses[3]
    pq.write_table(pa.Table.from_pylist(failed), tmp_path / "got" / "00000.parquet")
    again = said("--set", f"downloaded={tmp_path / 'got'}")
    assert "3 samples of 4 rows" in again
    assert "1 missing_image" in again
    assert not list_of_images.exists()
    (shard,) = list_shards(str(tmp_path / "out" / "shards"))
    images = [[image.data for image in sample.images] for sample in read_samples(shard)]
    assert images == [[picture(number) for number in range(count)] for count in (1, 2, 3)]
    assert read_rows(shard)["error_message"][3].as_py() == (
        "missing_image: https://i.test/3.jpg was not downloaded: http_404: not found"
    )
    assert not list((tmp_path / "out" / "shards").glob("*.tar")), "nothing was copied"
    assert "holds no shards that `mmcorpus download` made" in said("--set", f"downloaded={tmp_path / 'out' / 'shards'}")


def test_what_addresses_served_may_lie_in_a_folder(tmp_path: Path) -> None:
    rows = [{"image": [f"https://i.test/{n}.jpg" for n in range(count)], "conversations": TURNS} for count in (1, 2, 3)]
    (tmp_path / "x.json").write_text(json.dumps(rows))
    words = ["index", str(tmp_path / "x.json"), "--kind", "conversation", "--out", str(tmp_path / "again")]
    for number in range(3):
        (tmp_path / "got" / "i.test").mkdir(parents=True, exist_ok=True)
        (tmp_path / "got" / "i.test" / f"{number}.jpg").write_bytes(picture(number))
    result = CliRunner().invoke(app, [*words, "--image-root", str(tmp_path / "got"), "--set", "strip=https://"])
    assert result.exit_code == 0, result.output
    assert "3 samples of 3 rows" in result.output


DOCUMENTS = dict.fromkeys(re.findall(r"`(mmcorpus extract [^`]+)`", DOCS.read_text()))
URL = "http://a.test/page"
IMAGE = "http://a.test/a.jpg"
OBELICS = {
    "images": [None, IMAGE], "texts": ["It stands.", None], "metadata": json.dumps([None, {"alt_text": "A tower"}]),
    "general_metadata": json.dumps({"url": URL}),
}  # fmt: skip
PAGE = b"<html><body><article><p>It stands. " + b"And it stood there for many years, says the guide. " * 20
HTML = Capture(URL, PAGE + b"<p><img src=/a.jpg width=640 height=480 alt='A tower'></article></body></html>")


def table(path: str, *rows: dict[str, Any]) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        (root / path).parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(list(rows)), root / path)

    return make


def obelics_on_disk(root: Path) -> None:
    save_to_disk(root / "obelics_on_disk", pa.Table.from_pylist([OBELICS]))


def mmc4(root: Path) -> None:
    (root / "mmc4").mkdir()
    about = {"image_name": "x.jpg", "raw_url": IMAGE, "matched_text_index": 0, "matched_sim": 0.3}
    row = {"url": URL, "text_list": ["It stands."], "image_info": [about], "similarity_matrix": [[0.3]]}
    with zipfile.ZipFile(root / "mmc4" / "docs_no_face_shard_0_v2.jsonl.zip", "w") as archive:
        archive.writestr("docs_no_face_shard_0_v2.jsonl", json.dumps(row) + "\n")


def obelics_tar(root: Path) -> None:
    held = {"image_base64": base64.b64encode(picture(0)).decode()}
    row = {"texts": ["It stands.", None], "image_info": [None, held]}
    write_tar(root / "obelics_tars" / "00000.tar", [("0.json", json.dumps(row).encode())])


def mint_pdf(root: Path) -> None:
    pages = io.BytesIO()
    Image.open(io.BytesIO(picture(0))).save(pages, "TIFF")
    row = {"texts": ["It stands.", None], "images": [None, "page_1_image_1"], "url": URL, "pdf_name": "x.pdf"}
    members = [("0.json", json.dumps(row).encode()), ("0.pdf", b"%PDF-1.4"), ("0.tiff", pages.getvalue())]
    write_tar(root / "MINT-1T-PDF" / "CC-MAIN-0.tar", members)


def path_list(root: Path) -> None:
    (root / "crawl-data").mkdir()
    write_warc(str(root / "crawl-data" / "CC-MAIN-0.warc.gz"), [HTML])
    (root / "warc.paths.gz").write_bytes(gzip.compress(b"crawl-data/CC-MAIN-0.warc.gz\n"))


def wet(root: Path) -> None:
    (root / "wet").mkdir()
    text = "It stands.\nAnd it stood."
    head = f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: {URL}\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
    head += f"Content-Type: text/plain\r\nContent-Length: {len(text)}\r\n\r\n"
    (root / "wet" / "CC-MAIN-0.warc.wet.gz").write_bytes(gzip.compress(f"{head}{text}\r\n\r\n".encode()))


def arc(root: Path) -> None:
    (root / "arc").mkdir()
    first = b"1 0 InternetArchive\nURL IP-address Archive-date Content-type Archive-length\n\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + HTML.body
    records = [
        f"filedesc://0.arc 0.0.0.0 20040101000000 text/plain {len(first)}\n".encode() + first,
        f"{URL} 1.2.3.4 20040102030405 text/html {len(answer)}\n".encode() + answer + b"\n",
    ]
    (root / "arc" / "0.arc.gz").write_bytes(b"".join(map(gzip.compress, records)))


DOCUMENT_FILES: dict[str, Callable[[Path], None]] = {
    "OBELICS/data/*.parquet": table("OBELICS/data/train-00000-of-01335.parquet", OBELICS),
    "obelics_on_disk/": obelics_on_disk,
    "obelics_tars/*.tar": obelics_tar,
    "mmc4/*.jsonl.zip": mmc4,
    "MINT-1T-HTML/*.parquet": table(
        "MINT-1T-HTML/data_v1_1_00000.parquet",
        {"images": OBELICS["images"], "texts": OBELICS["texts"], "url": URL, "metadata": "[]", "language_id": "en"},
    ),
    "MINT-1T-PDF/*.tar": mint_pdf,
    "OmniCorpus-CC/*.parquet": table("OmniCorpus-CC/shard_0.parquet", {**OBELICS, "uid": "x", "safety": "{}"}),
    "warc.paths.gz": path_list,
    "wet/*.warc.wet.gz": wet,
    "arc/*.arc.gz": arc,
}


@pytest.mark.slow
def test_the_docs_commands_of_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_local: None) -> None:
    monkeypatch.chdir(tmp_path)
    assert set(DOCUMENT_FILES) == {shlex.split(command)[2] for command in DOCUMENTS}
    for command in DOCUMENTS:
        words = shlex.split(command.replace("prefix=https://data.commoncrawl.org/", f"prefix={tmp_path}/"))
        DOCUMENT_FILES[words[2]](tmp_path)
        here = ["--set", "workers=0"]  # the session's Ray works in another folder
        result = CliRunner().invoke(app, [*words[1:], *here], env={"COLUMNS": "200", "TERM": "dumb"})
        assert result.exit_code == 0, result.output
        shards = list_shards(str(tmp_path / words[words.index("--out") + 1] / "documents"))
        rows = [row for shard in shards for row in read_rows(shard).to_pylist()]
        assert len(rows) == 1, f"{command}: {result.output}"
        (row,) = rows
        nodes = json.loads(row["nodes"])
        assert next(node["text"] for node in nodes if "text" in node).startswith("It stands."), command
        assert [node for node in nodes if "url" in node] or "--kind" in words, "and its image"
        assert row["url"] == URL or words[2] == "obelics_tars/*.tar"


def test_pixmo_s_table_is_a_list_to_download(tmp_path: Path) -> None:
    (command,) = re.findall(r"`(mmcorpus download pixmo[^`]+)`", DOCS.read_text())
    (tmp_path / "pixmo").mkdir()
    rows = {
        "image_url": [f"http://a.test/{n}.jpg" for n in range(3)],
        "caption": ["a", "b", "c"],
        "transcripts": [["x"]] * 3,
    }
    pq.write_table(pa.table(rows), tmp_path / "pixmo" / "train-00000-of-00001.parquet")
    settings = dict(word.split("=") for word in shlex.split(command) if "=" in word)
    listed = normalise(DownloadConfig(**settings), str(tmp_path / "pixmo"), f"{tmp_path}/lists", f"{tmp_path}/ledger")
    assert pq.read_table(listed.path(0)).select(["url", "caption"]).to_pydict() == {
        "url": rows["image_url"], "caption": rows["caption"],
    }  # fmt: skip
