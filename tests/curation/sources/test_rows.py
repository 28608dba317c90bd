"""Samples that are rows: Hugging Face parquet and Arrow, and JSON of instruction data."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.sources import rows
from mmcorpus.curation.sources.direct import kind_of
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.packing.turns import parse_conversation
from tests.curation.sources.conftest import picture

IMAGES = [picture(number, "PNG") for number in range(6)]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TURNS = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A boat."}]


def hf(data: bytes | None) -> dict[str, Any] | None:
    return None if data is None else {"bytes": data, "path": None}


def write(path: Path, table: pa.Table, form: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "parquet":
        pq.write_table(table, path, row_group_size=2)
        return path
    make = pa.ipc.new_file if form == "file" else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as sink, make(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


@pytest.mark.parametrize("form", ["parquet", "file", "stream"])
def test_image_structs_are_referred_to_by_their_rows(tmp_path: Path, indexed: Any, form: str) -> None:
    table = pa.table({"image": pa.array([hf(data) for data in IMAGES], IMAGE), "text": [f"boat {n}" for n in range(6)]})
    found = indexed(write(tmp_path / "in" / "data-00000.x", table, form).parent, samples_per_shard=3)
    assert found.captions == {f"boat {number}": (data,) for number, data in enumerate(IMAGES)}
    assert found.report.copied == 0
    assert [row["images"] for row in found.rows] == [1] * 6
    assert len(found.shards) == 3, "groups of two rows, of which two are more than a shard"
    again = indexed(write(tmp_path / "again.y", table, "parquet"), out="again")
    assert [row["uid"] for row in again.rows] == [row["uid"] for row in found.rows], "of their content alone"


def test_pairs_without_captions_are_told_of_their_other_columns(
    tmp_path: Path, indexed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    table = pa.table({"image": pa.array([hf(data) for data in IMAGES], IMAGE), "alt": ["boat", *"bcdef"]})
    path = write(tmp_path / "in" / "a.parquet", table, "parquet")
    assert len(indexed(path).samples) == 6
    assert "none of its first rows has a caption; other columns are alt (columns: caption=NAME)" in caplog.text
    caplog.clear()
    indexed(path, out="named", columns={"caption": "alt"})
    assert "has a caption" not in caplog.text


LAYOUTS = {
    "the_cauldron": (
        {"images": [[hf(IMAGES[0]), hf(IMAGES[1])], [hf(IMAGES[2])], []]},
        {"texts": [[{"user": "What?", "assistant": f"A {n}", "source": "x"}] for n in range(3)]},
    ),
    "llava_onevision": (
        {"id": ["a", "b", "c"], "image": [hf(IMAGES[0]), hf(IMAGES[1]), None]},
        {"conversations": [TURNS, TURNS, TURNS[1:]], "data_source": ["x"] * 3},
    ),
    "finevision": (
        {"images": [[hf(IMAGES[0])], [hf(IMAGES[1])], None]},
        {"texts": [[{"user": f"Q{n}", "assistant": "A"}] for n in range(3)], "source": ["s"] * 3, "rating": [5] * 3},
    ),
    "messages": (
        {"images": [[hf(IMAGES[0])], [hf(IMAGES[1])], []]},
        {
            "messages": [
                [{"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": f"Q{n}"}]},
                 {"role": "assistant", "content": [{"type": "text", "text": "A"}]}]
                for n in range(3)
            ]
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_layouts_need_no_mapping(tmp_path: Path, indexed: Any, layout: str) -> None:
    images, texts = LAYOUTS[layout]
    path = tmp_path / "train-00000-of-00001.parquet"
    pq.write_table(pa.table({**images, **texts}), path)
    found = indexed(path, kind="conversation")
    if layout == "messages":  # a part says that there is an image, and the row has none
        assert found.report.dropped == {"no_image": 1}
    else:
        assert found.report.samples == 3
        last = next(sample for sample in found.samples if not sample.images)
        assert json.loads(last.meta["conversations"])
    cells = next(iter(value for name, value in images.items() if name != "id"))
    expected = [[one["bytes"] for one in (cell if isinstance(cell, list) else [cell]) if one] for cell in cells if cell]
    assert [[image.data for image in sample.images] for sample in found.samples if sample.images] == expected
    assert [row["images"] for row in found.rows][:2] == [len(one) for one in expected][:2]


ASKED: dict[str, tuple[list[dict[str, Any]], list[tuple[str, str]]]] = {
    "alpaca": (
        [{"instruction": "Translate", "input": "Hund", "output": "dog", "text": "### Instruction: …"},
         {"instruction": "Count", "input": "", "output": "1, 2", "text": "### Instruction: …"}],
        [("Translate\nHund", "dog"), ("Count", "1, 2")],
    ),
    "ms-swift": ([{"query": "Hi", "response": "Ho"}, {"query": "Why?", "response": "So"}],
                 [("Hi", "Ho"), ("Why?", "So")]),
    "vqa": ([{"question": "What?", "answer": "A boat", "image": "a.png"}], [("What?", "A boat")]),
}  # fmt: skip


@pytest.mark.parametrize("form", ["json", "parquet"])
@pytest.mark.parametrize("layout", ASKED)
def test_a_question_and_its_answer_are_a_conversation(tmp_path: Path, indexed: Any, layout: str, form: str) -> None:
    told, expected = ASKED[layout]
    (tmp_path / "a.png").write_bytes(IMAGES[0])
    path = tmp_path / f"x.{form}"
    if form == "json":
        path.write_text(json.dumps(told))
    else:
        pq.write_table(pa.Table.from_pylist(told), path)
    assert kind_of(str(path)) == "conversation"
    found = indexed(path, kind="conversation")
    turns = [parse_conversation(sample.meta["conversations"]) for sample in found.samples]
    assert turns == [[("user", asked), ("assistant", answer)] for asked, answer in expected]
    assert [row["images"] for row in found.rows] == [int("image" in row) for row in told]


def test_what_was_said_before_a_question_comes_before_it(tmp_path: Path, indexed: Any) -> None:
    path = tmp_path / "x.jsonl"
    rows = [
        {"system": "be brief", "query": "And 3?", "response": "9", "history": [["2?", "4"]]},
        {"query": "no answer", "response": None},
        {"query": ["no text"], "response": "x"},
        {"query": "x", "response": "y", "history": "none"},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    found = indexed(path, kind="conversation")
    said = [parse_conversation(sample.meta["conversations"]) for sample in found.samples]
    asked = [("user", "2?"), ("assistant", "4"), ("user", "And 3?"), ("assistant", "9")]
    assert said == [[("system", "be brief"), *asked]]
    assert found.report.dropped == {"bad_conversation": 3}


def test_what_an_address_served_may_lie_in_a_folder(tmp_path: Path, indexed: Any) -> None:
    for number in range(2):
        (tmp_path / "got" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "got" / "a" / f"{number}.png").write_bytes(IMAGES[number])
    path = tmp_path / "x.json"
    addresses = ["https://i.test/a/0.png", "https://i.test/a/1.png"]
    rows = [
        {"image": addresses, "conversations": TURNS},
        {"image": [addresses[0], "https://j.test/a/1.png"], "conversations": TURNS},
        {"image": "https://i.test//etc/hostname", "conversations": TURNS},
    ]
    path.write_text(json.dumps(rows))
    found = indexed(path, kind="conversation", image_root=str(tmp_path / "got"), strip="https://i.test/")
    assert [[image.data for image in sample.images] for sample in found.samples] == [IMAGES[:2]]
    assert found.report.dropped == {"image_url": 1, "outside_root": 1}
    assert found.report.to_download == 0, "a download has an image a row"


def test_a_caption_of_an_image_is_a_pair_whatever_is_asked_beside_it(tmp_path: Path, indexed: Any) -> None:
    path = tmp_path / "x.json"
    (tmp_path / "a.png").write_bytes(IMAGES[0])
    path.write_text(json.dumps([{"image": "a.png", "caption": "a boat", "question": "What?", "answer": "A boat"}]))
    assert kind_of(str(path)) == "pair"
    assert indexed(path).rows[0]["answer"] == "A boat"


def test_columns_are_named_where_they_are_called_otherwise(tmp_path: Path, indexed: Any) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table({"picture": [hf(IMAGES[0])], "alt": ["a boat"], "uid": ["AB" * 16], "note": ["n"]})
    pq.write_table(table, path)
    failed = indexed(path, columns={"caption": "caption_en"}).report.failed
    assert failed == {str(path): f"{path} has no column 'caption_en'; it has picture, alt, uid, note"}
    found = indexed(path, columns={"image": "picture", "caption": "alt"}, out="again")
    assert found.captions == {"a boat": (IMAGES[0],)}
    assert (found.rows[0]["uid"], found.rows[0]["note"]) == ("ab" * 16, "n")


def llava(folder: Path) -> list[dict[str, Any]]:
    """LLaVA's rows, with what lies in its folder of images."""
    (folder / "data" / "coco" / "train2017").mkdir(parents=True)
    for number in range(3):
        (folder / "data" / "coco" / "train2017" / f"{number:012d}.jpg").write_bytes(IMAGES[number])
    names = [f"coco/train2017/{number:012d}.jpg" for number in range(3)]
    return [
        {"id": "0", "image": names[0], "conversations": TURNS},
        {"id": "1", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]},
        {"id": "2", "image": names[1:], "conversations": [{"from": "human", "value": "<image><image>"}, TURNS[1]]},
        {"id": "3", "image": "coco/train2017/gone.jpg", "conversations": TURNS},
    ]


@pytest.mark.parametrize("form", ["array", "pretty", "lines", "gzip"])
def test_llavas_json_beside_a_folder_of_images(tmp_path: Path, indexed: Any, form: str) -> None:
    rows = llava(tmp_path)
    text = {
        "array": json.dumps(rows), "pretty": json.dumps(rows, indent=2), "lines": "\n".join(map(json.dumps, rows)),
        "gzip": json.dumps(rows),
    }[form]  # fmt: skip
    path = tmp_path / "llava_v1_5_mix665k.json"
    if form == "gzip":
        import gzip

        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    found = indexed(path, kind="conversation", image_root=str(tmp_path / "data"), samples_per_shard=2)
    assert [[image.data for image in sample.images] for sample in found.samples] in (
        [[IMAGES[0]], [], IMAGES[1:3]],
        [[IMAGES[0]], IMAGES[1:3], []],
    )
    assert [row["images"] for row in found.rows] == [1, 0, 2, 0]
    assert found.rows[3]["error_message"].startswith("missing_image: coco/train2017/gone.jpg is not below")
    assert (found.report.copied, found.report.dropped) == (0, {"missing_image": 1})
    own = indexed(path, out="own", kind="conversation", image_root=str(tmp_path / "data" / "coco"), strip="coco/")
    assert [row["uid"] for row in own.rows[:3]] == [row["uid"] for row in found.rows[:3]]


def test_images_in_base64_are_copied_and_those_at_addresses_listed(tmp_path: Path, indexed: Any) -> None:
    told = base64.b64encode(IMAGES[0]).decode()
    url = f"data:image/png;base64,{told}"

    def chat(*parts: Any) -> list[dict[str, Any]]:
        return [
            {"role": "user", "content": [*parts, {"type": "text", "text": "What?"}]},
            {"role": "assistant", "content": "A"},
        ]

    rows: list[dict[str, Any]] = [
        {"messages": chat({"type": "image_url", "image_url": {"url": url}})},
        {"messages": chat({"type": "image", "source": {"data": told}}, {"type": "image", "image": "b.png"})},
        {"image": told, "conversations": TURNS},
        {"messages": chat({"type": "image_url", "image_url": {"url": "https://x.test/a.png"}})},
        {"image": ["https://x.test/a.png", "https://x.test/b.png"], "conversations": TURNS},
        {"image": told[:-7], "conversations": TURNS},
        {"messages": [{"role": "tool", "content": "42"}]},
        {"messages": "not a list"},
        {"image": told},
    ]  # fmt: skip
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.png").write_bytes(IMAGES[1])
    path = tmp_path / "in" / "chat.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n{broken\n")
    found = indexed(path, kind="conversation")
    assert [[image.data for image in sample.images] for sample in found.samples if sample.images] == [
        [IMAGES[0]], [IMAGES[0], IMAGES[1]], [IMAGES[0]],
    ]  # fmt: skip
    assert told not in json.dumps([row["conversations"] for row in found.rows]), "bytes are no text"
    assert (found.report.copied, found.report.to_download) == (3, 1)
    assert found.report.dropped == {"bad_conversation": 2, "image_url": 2, "bad_image": 1, "bad_row": 1}
    listed = pq.read_table(found.root / "shards" / "to_download.parquet").to_pylist()
    assert [row["url"] for row in listed] == ["https://x.test/a.png"]
    assert json.loads(listed[0]["conversations"])[0]["content"][0] == {"type": "image"}


@pytest.mark.parametrize(
    ("image", "count"),
    [
        ("a\\b c.png", 1), (".\\a\\b c.png", 1), ("a/b%20c.png", 1), ("file:a", 0), ("a\\b%20c.png", 1),
        ("a/100%25.png", 1), ("a/100%.png", 1), ("..\\secret.png", 0), ("%2e%2e/secret.png", 0),
        (["a/100%.png", "a\\b c.png"], 2),
        ({"base64": base64.b64encode(IMAGES[0]).decode()}, 1), ({"image": "a/b c.png"}, 1),
        ({"bytes": base64.b64encode(IMAGES[0]).decode(), "path": None}, 1), ({"bytes": None, "path": "a/b c.png"}, 1),
        (base64.encodebytes(IMAGES[0]).decode(), 1),
        ("data:image/png;base64,\r\n" + base64.encodebytes(IMAGES[0]).decode().replace("\n", "\r\n"), 1),
        ("data:image/svg+xml,%3Csvg/%3E", 0), ({"what": 3}, 0),
    ],
)  # fmt: skip
def test_an_image_is_found_as_others_write_it(tmp_path: Path, indexed: Any, image: Any, count: int) -> None:
    folder = tmp_path / "in" / "a"
    folder.mkdir(parents=True)
    for name in ("b c.png", "100%.png", "../../secret.png"):
        (folder / name).write_bytes(IMAGES[1])
    (tmp_path / "in" / "x.json").write_text(json.dumps([{"image": image, "conversations": TURNS}]))
    found = indexed(tmp_path / "in" / "x.json", kind="conversation")
    assert found.report.images == count
    assert found.report.dropped == ({} if count else {next(iter(found.report.dropped)): 1})
    assert "missing_image" not in found.report.dropped or not str(image).startswith("data:")


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/hostname", "a/../../secret.png", "link.png", "folder/secret.png", "x\0.png"]
)
def test_nothing_outside_of_the_root_is_read(tmp_path: Path, indexed: Any, name: str) -> None:
    root = tmp_path / "images"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(IMAGES[0])
    os.symlink(tmp_path / "secret.png", root / "link.png")
    os.symlink(tmp_path, root / "folder")
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"image": name, "conversations": TURNS}]))
    found = indexed(path, kind="conversation", image_root=str(root))
    assert found.samples == []
    assert found.report.dropped == {"outside_root": 1}
    assert "none of its 1 rows is a sample; the first: outside_root" in found.report.failed[str(path)]


def test_an_absolute_path_below_the_root_is_one_of_it(tmp_path: Path, indexed: Any) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(IMAGES[0])
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{"image": str(tmp_path / "images" / "a.png"), "caption": "a"}]))
    assert indexed(path, image_root=str(tmp_path / "images")).captions == {"a": (IMAGES[0],)}


def test_a_caption_that_is_no_text_is_a_reason(tmp_path: Path, indexed: Any) -> None:
    table = {"image": [hf(data) for data in IMAGES[:2]], "caption": [["one", "two"], ["three"]]}
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table(table), path)
    found = indexed(path)
    assert found.report.dropped == {"bad_caption": 2}
    assert str(path) in found.report.failed, "a file of bad rows alone is named"


def test_paths_are_below_the_folder_of_their_file(tmp_path: Path, indexed: Any) -> None:
    for name, data in (("a", IMAGES[0]), ("b", IMAGES[1])):
        (tmp_path / "in" / name / "images").mkdir(parents=True)
        (tmp_path / "in" / name / "images" / "0.png").write_bytes(data)
        rows = [{"image": "images/0.png", "caption": name}, {"image": "../c.png", "caption": f"{name} out"}]
        (tmp_path / "in" / name / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "in" / "c.png").write_bytes(IMAGES[2])
    found = indexed(tmp_path / "in", formats=("json",))
    assert found.captions == {"a": (IMAGES[0],), "b": (IMAGES[1],)}
    assert found.report.dropped == {"outside_root": 2}


PAGE = "http://x.test/page.html"
ANSWER = {"from": "gpt", "value": "It says <image>."}


@pytest.mark.parametrize("form", ["json", "parquet"])
def test_the_url_of_a_conversation_is_an_image_only_where_one_is_asked_for(
    tmp_path: Path, indexed: Any, form: str
) -> None:
    talks: list[Any] = [
        [{"from": "human", "value": "What is HTML?"}, ANSWER],
        [{"from": "human", "value": "<image>\nWhat is it?"}, ANSWER],
        [{"user": "And this? <image>", "assistant": "A boat"}],
        [{"user": "What is a boat?", "assistant": "It floats"}],
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]},
         {"role": "assistant", "content": "A boat"}],
    ]  # fmt: skip
    rows = [{"url": PAGE, "messages": json.dumps(talk)} for talk in talks]
    path = tmp_path / f"x.{form}"
    if form == "json":
        path.write_text(json.dumps(rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    found = indexed(path, kind="conversation")
    assert (found.report.samples, found.report.dropped, found.report.to_download) == (2, {"image_url": 3}, 3)
    assert [row["status"] == "success" for row in found.rows] == [True, False, False, True, False]
    mapped = indexed(path, kind="conversation", columns={"url": "url"}, out="mapped")
    assert mapped.report.to_download == 5, "it was said to be one"


@pytest.mark.parametrize("form", ["json", "parquet"])
def test_a_number_of_images_is_none(tmp_path: Path, indexed: Any, form: str) -> None:
    (tmp_path / "a.png").write_bytes(IMAGES[0])
    rows = [{"images": 1, "image": "a.png", "caption": "one"}]
    path = tmp_path / f"x.{form}"
    if form == "json":
        path.write_text(json.dumps([*rows, {"images": 1.0, "img": "a.png", "caption": "two"}]))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    assert indexed(path).captions == dict.fromkeys(["one", "two"][: 1 + (form == "json")], (IMAGES[0],))


def test_turns_as_parallel_lists_are_those_of_a_list(tmp_path: Path, indexed: Any) -> None:
    """Hugging Face stores a `Sequence` of objects so."""
    turns = [TURNS, [{"role": turn["from"], "content": turn["value"]} for turn in TURNS]]
    told: list[Any] = [{name: [turn[name] for turn in one] for name in one[0]} for one in turns]
    for place, one in enumerate([*told, {**told[0], "weight": None}, {**told[0], "value": ["?"]}]):
        path = tmp_path / f"{place}.parquet"
        pq.write_table(pa.table({"image": [IMAGES[0]], "conversations": [one]}), path)
        found = indexed(path, out=f"out{place}", kind="conversation")
        if place == 3:
            assert found.report.dropped == {"bad_conversation": 1}
        else:
            assert json.loads(found.rows[0]["conversations"]) == turns[place % 2]


def test_columns_beyond_what_arrow_reads_are_no_damage(tmp_path: Path, indexed: Any) -> None:
    kind: Any = pa.int32()
    for _ in range(120):
        kind = pa.struct([("x", kind)])
    pq.write_table(
        pa.table({"image": [IMAGES[0]], "text": ["a"], "deep": pa.array([None], kind)}), tmp_path / "a.parquet"
    )
    (error,) = indexed(tmp_path / "a.parquet").report.failed.values()
    assert "has columns that are nested more than 100 deep" in error
    assert "damaged" not in error


def test_turns_are_no_caption(tmp_path: Path, indexed: Any) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in llava(tmp_path)))
    found = indexed(path, image_root=str(tmp_path / "data"))
    assert found.report.dropped == {"bad_caption": 4}
    assert "say kind: conversation" in found.report.failed[str(path)]


def test_pixmos_addresses_become_a_list(tmp_path: Path, indexed: Any) -> None:
    table = {"image_url": ["http://x.test/1.jpg", "http://x.test/2.jpg"], "caption": ["one", "two"]}
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({**table, "transcripts": [["a"], ["b"]]}), path)
    found = indexed(path)
    assert found.report.to_download == 2
    assert [row["uid"] for row in found.rows] == [pair_uid(*row) for row in zip(*table.values(), strict=True)]
    assert "mmcorpus download" in found.report.failed[str(path)]
    listed = pq.read_table(found.root / "shards" / "to_download.parquet").to_pydict()
    assert listed == {"url": table["image_url"], "caption": table["caption"]}


@pytest.mark.parametrize("form", ["parquet", "file"])
def test_images_of_other_columns_are_in_no_row_and_it_is_said(
    tmp_path: Path, indexed: Any, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    nested = pa.list_(pa.struct([("view", pa.struct([("bytes", pa.large_binary())])), ("angle", pa.int8())]))
    table = pa.table(
        {
            "image": pa.array([hf(data) for data in IMAGES[:4]], IMAGE),
            "text": [f"t{number}" for number in range(4)],
            "depth": pa.array([hf(IMAGES[4])] * 4, IMAGE),
            "views": pa.array([[{"view": {"bytes": IMAGES[5]}, "angle": 1}]] * 4, nested),
            "masks": pa.array([[IMAGES[4], None]] * 4, pa.list_(pa.binary())),
            "packed": pa.array([IMAGES[4]] * 4).dictionary_encode(),
            "tags": [["a"], ["b"], [], None],
        }
    )
    found = indexed(write(tmp_path / "in" / "a.x", table, form).parent, samples_per_shard=2)
    assert found.captions == {f"t{number}": (data,) for number, data in enumerate(IMAGES[:4])}
    assert {*found.rows[0]} & {*table.column_names} == {"tags"}
    assert caplog.text.count("a.x: no part of the samples, as") == 1
    assert "that no `columns` names: depth, views, masks, packed\n" in caplog.text


def test_a_row_that_is_no_sample_has_no_images(tmp_path: Path, indexed: Any) -> None:
    images = pa.array([[hf(IMAGES[0])], [hf(IMAGES[1])]], pa.list_(IMAGE))
    table = pa.table({"images": images, "text": [7, None], "id": ["a", "b"]})
    found = indexed(write(tmp_path / "in" / "a.parquet", table, "parquet"))
    assert [(row["id"], str(row["error_message"])[:11]) for row in found.rows] == [("a", "bad_caption"), ("b", "None")]
    assert "PNG" not in str(found.rows)


def test_a_value_that_many_rows_have_and_that_is_too_long_costs_them_before_it_is_made(
    tmp_path: Path, indexed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MAX_TEXT", 1_000)
    codes = pa.array([1, 0, 0, 1], pa.int32())
    captions = pa.DictionaryArray.from_arrays(codes, pa.array(["x" * 1_001, "a boat"]))
    table = pa.table({"caption": captions, "jpg": [picture(seed) for seed in range(4)], "note": ["n"] * 4})
    pq.write_table(table, tmp_path / "x.parquet")
    found = indexed(tmp_path / "x.parquet").rows
    assert [row["error_message"] for row in found] == [
        None, *["bad_row: caption of 1,001 bytes; at most 1,000 are read"] * 2, None,
    ]  # fmt: skip


def test_dates_that_python_does_not_have_cost_no_file(tmp_path: Path, indexed: Any) -> None:
    table = pa.table({
        "caption": ["a", "b", "c"], "jpg": [picture(0), picture(1), b"no image"],
        "taken": pa.array([0, 2**62, 0], pa.timestamp("us")), "day": pa.array([1, 2**31 - 1, 1], pa.date32()),
        "lasted": pa.array([1, 2**62, 1], pa.duration("s")),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "x.parquet")
    found = indexed(tmp_path / "x.parquet").rows
    assert [row["status"] for row in found] == ["success", "success", "failed_to_index"]
    assert [row["taken"] is None for row in found] == [False, True, False]
    assert [row["day"] is None for row in found] == [False, True, False]
