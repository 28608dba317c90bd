"""Questions from files of each published layout, and what is said of files that are none."""

import base64
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.packing.render import RenderConfig
from mmcorpus.training.evaluation import EvaluationConfig, read_questions
from mmcorpus.training.evaluation.layouts import LAYOUTS
from mmcorpus.training.evaluation.question import Question
from tests.linear import assert_linear
from tests.training.conftest import png

RED, BLUE = png((200, 0, 0)), png((0, 0, 200))
TEN = [{"answer": "blue", "answer_id": n} for n in range(10)]


def written(folder: Path, name: str, value: Any) -> str:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def read(path: str, **settings: Any) -> list[Question]:
    return read_questions(path, EvaluationConfig(**settings))


def told(question: Question) -> tuple[Any, ...]:
    images = tuple(Path(image).name if isinstance(image, str) else image for image in question.images)
    return images, question.prompt, question.answers, question.metric, question.choices


OURS = {"id": "1", "images": ["a/b.png"], "prompt": "What?", "answers": ["red"], "metric": "exact"}

JSON: dict[str, tuple[Any, tuple[Any, ...], str]] = {
    "ours, lines": (
        json.dumps(OURS) + "\n\n" + json.dumps({**OURS, "id": "2", "category": "colour"}),
        (("b.png",), "What?", ("red",), "exact", ()),
        "",
    ),
    "ours, one line": (json.dumps(OURS), (("b.png",), "What?", ("red",), "exact", ()), ""),
    "ours, choices": (
        json.dumps({**OURS, "choices": ["red", "blue"], "metric": "choice"}),
        (("b.png",), "What?", ("A",), "choice", ("red", "blue")),
        "",
    ),
    "GQA": (
        {"0715": {"imageId": "n1", "question": "Is it?", "answer": "yes", "types": {"structural": "verify"}}},
        (("n1.jpg",), "Is it?", ("yes",), "exact", ()),
        "verify",
    ),
    "TextVQA": (
        {"data": [{"question_id": 7, "question": "Says?", "image_id": "ab", "answers": ["stop"] * 10}]},
        (("ab.jpg",), "Says?", ("stop",) * 10, "vqa", ()),
        "",
    ),
    "DocVQA": (
        {"dataset_name": "SP-DocVQA", "data": [{"questionId": 3, "question": "Date?", "image": "documents/x_1.png",
         "docId": 4, "answers": ["1/1", "1/1/98"]}]},
        (("x_1.png",), "Date?", ("1/1", "1/1/98"), "anls", ()),
        "",
    ),
    "InfographicVQA": (
        {"data": [{"questionId": 3, "question": "Date?", "image_local_name": "5.jpeg", "answers": ["1/1"]}]},
        (("5.jpeg",), "Date?", ("1/1",), "anls", ()),
        "",
    ),
    "ChartQA": (
        [{"imgname": "41.png", "query": "How many?", "label": "3.5"}],
        (("41.png",), "How many?", ("3.5",), "relaxed", ()),
        "",
    ),
    "POPE": (
        json.dumps({"question_id": 1, "image": "COCO_1.jpg", "text": "Is there a dog?", "label": "no"}),
        (("COCO_1.jpg",), "Is there a dog?", ("no",), "pope", ()),
        "",
    ),
    "SEED-Bench": (
        {
            "question_type": {"Scene Understanding": 1},
            "questions": [
                {"question_id": "1", "question": "Which?", "choice_a": "a", "choice_b": "b", "choice_c": "c",
                 "choice_d": "d", "answer": "C", "data_id": "1_2", "data_type": "image", "question_type_id": 1},
                {"question_id": "2", "question": "Video?", "choice_a": "a", "choice_b": "b", "choice_c": "c",
                 "choice_d": "d", "answer": "C", "data_id": "v.mp4", "data_type": "video", "question_type_id": 9},
            ],
        },
        (("1_2",), "Which?", ("C",), "choice", ("a", "b", "c", "d")),
        "Scene Understanding",
    ),
    "ScienceQA": (
        {"12": {"question": "Which?", "choices": ["x", "y"], "answer": 1, "hint": "Look.", "image": "image.png",
                "split": "test", "subject": "natural science"}},
        (("image.png",), "Look.\nWhich?", ("B",), "choice", ("x", "y")),
        "natural science",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", JSON)
def test_each_published_layout_is_told_by_its_content(name: str, tmp_path: Path) -> None:
    content, expected, category = JSON[name]
    first = read(written(tmp_path, "questions.dat", content), images="imgs")[0]
    assert told(first) == expected
    assert first.category == category
    assert all(str(image).startswith("imgs/") for image in first.images)


def test_vqav2_is_joined_with_its_annotations(tmp_path: Path) -> None:
    asked = {"data_subtype": "val2014", "questions": [{"image_id": 42, "question": "Hue?", "question_id": 420}]}
    path = written(tmp_path, "q.json", asked)
    with pytest.raises(ValueError, match="questions without answers; name the file of answers by `annotations`"):
        read(path)
    right = written(
        tmp_path,
        "a.json",
        {"annotations": [{"question_id": 420, "question_type": "what hue", "answer_type": "other", "answers": TEN}]},
    )
    (found,) = read(path, annotations=right)
    assert told(found) == (("COCO_val2014_000000000042.jpg",), "Hue?", ("blue",) * 10, "vqa", ())
    assert (found.category, found.cluster) == ("other", "42")
    other = written(tmp_path, "b.json", {"annotations": []})
    with pytest.raises(ValueError, match=r"b\.json has no answers to the question 420"):
        read(path, annotations=other)


def test_mmbench_tsv_with_images_and_with_numbers_of_images(tmp_path: Path) -> None:
    """A circular question names the row whose image it shares; empty choices are none."""
    file = io.StringIO()
    columns = ["index", "question", "hint", "A", "B", "C", "answer", "category", "image"]
    writer = csv.DictWriter(file, columns, delimiter="\t")
    writer.writeheader()
    row = {
        "index": "5",
        "question": "Which?",
        "hint": "Look\nwell",
        "A": "x",
        "B": "y",
        "answer": "B",
        "category": "ocr",
    }
    writer.writerow({**row, "image": base64.b64encode(RED).decode()})
    writer.writerow({**row, "index": "1000005", "A": "y", "B": "x", "answer": "A", "image": "5"})
    first, second = read(written(tmp_path, "mmbench.tsv", file.getvalue()))
    assert told(first) == ((RED,), "Look\nwell\nWhich?", ("B",), "choice", ("x", "y"))
    assert told(second)[0] == (RED,)
    assert first.cluster == second.cluster
    assert (first.category, second.id) == ("ocr", "1000005")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"question": "Which?", "options": ["x", "y"], "answer": "1", "image": {"bytes": RED, "path": "a.png"}},
            ((RED,), "Which?", ("B",), "choice", ("x", "y")),
        ),
        (
            {"id": "v1", "question": "In <image 2> and <image 1>?", "options": "['a <image 1>', 'b']", "answer": "A",
             "image_1": {"bytes": RED, "path": None}, "image_2": {"bytes": BLUE, "path": None}},
            ((BLUE, RED, RED), "In <image> and <image>?", ("A",), "choice", ("a <image>", "b")),
        ),
        (
            {"index": 3, "question": "Which?\nOptions: A: the red, B: the blue", "answer": "B", "image": RED},
            ((RED,), "Which?", ("B",), "choice", ("the red", "the blue")),
        ),
        (
            {"question": "Hue?", "answers": ["red"] * 9 + ["pink"], "image": {"bytes": RED, "path": None}},
            ((RED,), "Hue?", (*("red",) * 9, "pink"), "vqa", ()),
        ),
        (
            {"question_id": "9", "question": "Dog?", "answer": "no", "image": {"bytes": RED, "path": None}},
            ((RED,), "Dog?", ("no",), "exact", ()),
        ),
        (
            {"image": {"bytes": RED, "path": None}, "text": "Six cups.", "question": "How many cups are there?",
             "number": 6},
            ((RED,), "How many cups are there?", ("6",), "count", ()),
        ),
        (
            {"question": "How long?", "answer": "6 m", "number": 6, "image": {"bytes": RED, "path": None}},
            ((RED,), "How long?", ("6 m",), "exact", ()),
        ),
    ],
    ids=["AI2D", "MMMU", "MMStar", "VQAv2", "POPE", "CountBenchQA", "a column number of another"],
)  # fmt: skip
def test_rows_of_parquet(row: dict[str, Any], expected: tuple[Any, ...], tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([row, row]), tmp_path / "test-00000-of-00001.parquet")
    (tmp_path / "README.md").write_text("# A data set")
    first, second = read(str(tmp_path))
    assert told(first) == expected
    assert first.id != second.id
    alone = read(str(tmp_path / "test-00000-of-00001.parquet"))
    assert told(alone[0]) == expected


@pytest.fixture
def shards(tmp_path: Path) -> str:
    turns = [
        {"from": "human", "value": "<image>\nWhat time is it?"},
        {"from": "gpt", "value": "4:05"},
        {"from": "human", "value": "How many?"},
        {"from": "gpt", "value": "3"},
    ]
    with ShardWriter(Shard(root=str(tmp_path / "s"), name="00000")) as writer:
        for number in range(3):
            meta = {"url": f"x{number}", "conversations": json.dumps(turns)}
            image = EncodedImage(extension="png", data=RED)
            writer.write(
                Sample(key=f"0000{number}", uid=f"{number:032x}", caption="A clock.", images=(image,), meta=meta)
            )
    return str(tmp_path / "s")


def test_conversations_in_shards_are_asked_question_by_question(shards: str, tmp_path: Path) -> None:
    found = read(shards, categories={"time": "^What time", "count": "^How many"})
    assert len(found) == 6
    assert told(found[1]) == ((RED,), "How many?", ("3",), "exact", ())
    assert [question.category for question in found[:2]] == ["time", "count"]
    assert found[0].cluster == found[1].cluster != found[2].cluster
    selection = tmp_path / "held.txt"
    selection.write_text(f"{1:032x}\n")
    chosen = read_questions(shards, EvaluationConfig(), selection=str(selection))
    assert [question.cluster for question in chosen] == [f"{1:032x}"] * 2
    assert [question.id for question in read(shards, only="time")] == [f"{number:032x}.0" for number in range(3)]
    assert len(read(shards, limit=4)) == 4
    assert read(shards, limit=4) == read(shards, limit=4) != read(shards, limit=4, seed=1)


def lines(*rows: Any) -> str:
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lines({**OURS, "images": ["../../etc/passwd"]}), "is not a path within the images' folder"),
        (lines({**OURS, "images": ["http://x.test/a.png"]}), "is not a path within the images' folder"),
        (lines({**OURS, "images": ["/etc/a.png"]}), "is not a path within the images' folder"),
        (lines({**OURS, "answer": "x"}), "entry 1, read as jsonl: unknown key 'answer'"),
        (lines({**OURS, "answers": []}), "it has no answers"),
        (lines({**OURS, "answers": [None]}), "None is no text"),
        (lines({**OURS, "metric": "bleu"}), "the metric is 'bleu'; there are exact, vqa"),
        (lines({**OURS, "metric": "choice"}), "the metric choice needs `choices`"),
        (lines({**OURS, "metric": "count"}), "the metric count needs numbers"),
        (lines(OURS, '{"id": '), "line 2: no JSON"),
        (lines({"a": 1}, {"b": 2}), "no column question or prompt or query; it has a"),
        ("[1, 2]", "an entry is int, not an object"),
        ("[]", "holds no questions"),
        ("just text\n", "not JSON, parquet, or a tsv with a column `question`"),
        ("[" * 100_000, "is nested too deeply|no JSON"),
        ('{"info": 3}', "is a JSON object whose 'info' is no question"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(content: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, "bad.jsonl", content)
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    assert "bad.jsonl" in str(caught.value)


def test_nothing_there_and_no_text(tmp_path: Path, shards: Callable[[], str]) -> None:
    with pytest.raises(FileNotFoundError, match="there is nothing at"):
        read(str(tmp_path / "none.jsonl"))
    (tmp_path / "x.bin").write_bytes(b"\xff\xfe\x00\x01" * 9)
    with pytest.raises(ValueError, match="is neither text nor parquet"):
        read(str(tmp_path / "x.bin"))


def test_annotations_are_asked_one_by_one_as_the_packs_render_them(tmp_path: Path) -> None:
    """Each in all styles that it may have, with the metric of its style; texts by their tag or a prompt."""
    annotations = [
        {"style": "long_caption", "text": "A red clock on a wall."},
        {"style": "transcript", "text": "so a clock um it is red"},
        {"style": "clock_qa", "messages": [
            {"role": "user", "content": "What time is it?"}, {"role": "assistant", "content": "4:05"},
            {"role": "user", "content": "Which colour?"}, {"role": "assistant", "content": "red"}]},
        {"style": "pointing", "label": "hands", "points": [[48, 20.5], [70, 51]]},
        {"style": "pointing", "label": "cats", "points": []},
    ]  # fmt: skip
    meta = {"conversations": json.dumps({"annotations": annotations})}
    with ShardWriter(Shard(root=str(tmp_path / "s"), name="00000")) as writer:
        image = EncodedImage(extension="jpg", data=b"1")
        writer.write(Sample(key="0", uid="0" * 32, caption=None, images=(image,), meta=meta))
    render = RenderConfig(
        style_tags={"clock_qa": 0.0}, restyle={"pointing": ("pointing", "point_count")}, draw={"transcript": 1},
        prompts={"pointing": ("Point to the {label}.",), "point_count": ("Count the {label}.",),
                 "transcript": ("Speak.",)}, hint_noise=0.0, length_hint=1.0,
    )  # fmt: skip
    found = read(str(tmp_path / "s"), render=render)
    asked = [(one.category, one.metric, one.prompt, one.answers[0]) for one in found]
    points = 'points x1="48.0" y1="20.5" x2="70.0" y2="51.0" alt="hands">hands</points>'
    assert asked == [
        ("long_caption", "cider", "long_caption 1:", "A red clock on a wall."),
        ("transcript", "cider", "transcript: Speak.", "so a clock um it is red"),
        ("clock_qa", "exact", "What time is it?", "4:05"),
        ("clock_qa", "exact", "Which colour?", "red"),
        ("pointing", "points", "pointing: Point to the hands.", f"<{points}"),
        ("point_count", "count", "point_count: Count the hands.", f"Counting the <{points} shows a total of 2."),
        ("pointing", "points", "pointing: Point to the cats.", "There are none."),
        ("point_count", "count", "point_count: Count the cats.", "There are none."),
    ]
    assert len({one.id for one in found}) == len(found)
    assert {one.cluster for one in found} == {"0" * 32}
    timed = read(str(tmp_path / "s"), render=render, only="What time", metric="clock")
    assert [one.metric for one in timed] == ["clock"]
    counted = read(str(tmp_path / "s"), render=render, only="^point_count: ", by_count=True)
    assert [one.category for one in counted] == ["2", "0"]


MASKS = [{"size": [2, 2], "counts": [0, 2, 2]}, {"size": [2, 2], "counts": [2, 2]}]


def test_masks_come_with_points(tmp_path: Path) -> None:
    """Of samples by their annotations, of our lines by their key; not for counts, which no mask is asked about."""
    annotation = {"style": "pointing", "label": "hands", "points": [[20, 20.5], [70, 51]], "masks": MASKS}
    meta = {"conversations": json.dumps({"annotations": [annotation]})}
    with ShardWriter(Shard(root=str(tmp_path / "s"), name="00000")) as writer:
        image = EncodedImage(extension="jpg", data=b"1")
        writer.write(Sample(key="0", uid="0" * 32, caption=None, images=(image,), meta=meta))
    both = RenderConfig(restyle={"pointing": ("pointing", "point_count")})
    pointed, counted = read(str(tmp_path / "s"), render=both)
    assert [mask.holds((20.0, 20.0)) for mask in pointed.masks] == [True, False]
    assert counted.masks == ()
    line = {**OURS, "answers": list(pointed.answers), "metric": "points", "masks": MASKS}
    (ours,) = read(written(tmp_path, "q.jsonl", line))
    assert ours.masks == pointed.masks
    with pytest.raises(ValueError, match=r"q\.jsonl, entry 1, read as jsonl: a mask is"):
        read(written(tmp_path, "q.jsonl", {**line, "masks": [[[True, False]]]}))


@pytest.mark.parametrize("run", ["\n\t", ", ", "\n", " ", ",\n"])
def test_options_in_a_question_are_found_in_linear_time(run: str) -> None:
    def make(size: int) -> dict[str, object]:
        return {"question": "Which?\nOptions: A: red" + run * (size // len(run)) + "B", "answer": "A", "image": RED}

    assert_linear(LAYOUTS["rows"], make)
    assert LAYOUTS["rows"]({"question": "Q\nOptions: A: red,\n B: blue", "answer": "B", "image": RED}).choices == (
        "red", "blue"
    )  # fmt: skip
