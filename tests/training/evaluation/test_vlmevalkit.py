"""Questions as VLMEvalKit reads them: by pandas, as its data set classes do; and what is refused."""

import ast
import base64
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mmcorpus.training.evaluation import EvaluationConfig, read_questions
from mmcorpus.training.evaluation.question import Question
from mmcorpus.training.evaluation.vlmevalkit import write_tsv
from tests.pipelines.test_cli import call
from tests.training.conftest import png

RED, BLUE = png((200, 0, 0)), png((0, 0, 200))


def question(number: int, **more: Any) -> Question:
    fields = {"id": f"q{number}", "images": (RED,), "prompt": "Which?", "answers": ("A",), "metric": "choice",
              "choices": ("red", "blue")}  # fmt: skip
    return Question(**{**fields, **more})


def told(table: pd.DataFrame, row: int) -> list[str]:
    """Its choices as VLMEvalKit writes them into a prompt."""
    cells = table.iloc[row]
    return [f"{letter}. {cells[letter]}".strip() for letter in "ABCD" if letter in table and not pd.isna(cells[letter])]


def test_choices_come_back_as_they_were(tmp_path: Path) -> None:
    questions = [
        question(0, prompt='Tab\there, "quoted"\nand more', choices=("None", "NA", "3")),
        question(1, choices=("True", "4", "5", "07"), answers=("D",)),
        question(2, images=(RED, BLUE), prompt="Is <image> or <image> larger?", category="compare"),
    ]
    written = write_tsv(questions, str(tmp_path), "own")
    assert (written.name, written.questions, written.left_out) == ("own", 3, {})
    assert json.loads(written.data_config) == {"own": {"class": "CustomMCQDataset", "dataset": "own"}}
    table = pd.read_csv(written.path, sep="\t")
    assert list(table["index"]) == [0, 1, 2]
    assert list(table["id"]) == ["q0", "q1", "q2"]
    assert list(table["answer"]) == ["A", "D", "A"]
    assert list(table["category"]) == ["all", "all", "compare"]
    assert told(table, 0) == ["A. None", "B. NA", "C. 3"]
    assert told(table, 1) == ["A. True", "B. 4", "C. 5", "D. 07"]
    assert table["question"][0] == 'Tab\there, "quoted"\nand more'
    assert table["question"][2] == "Is <image 1> or <image 2> larger?"
    assert base64.b64decode(table["image"][0]) == RED
    assert [base64.b64decode(one) for one in ast.literal_eval(table["image"][2])] == [RED, BLUE]


@pytest.mark.parametrize(
    ("metric", "answers", "name", "kind", "cell"),
    [
        ("exact", ("4", "four"), "own_OCRVQA", "ImageVQADataset", "['4', 'four']"),
        ("relaxed", ("None",), "own_ChartQA", "ImageVQADataset", "['None']"),
        ("vqa", ("red",) * 10, "own_TextVQA", "ImageVQADataset", repr(["red"] * 10)),
        ("anls", ("7",), "own_DocVQA", "ImageVQADataset", "['7']"),
        ("pope", ("yes",), "own_POPE", "ImageYORNDataset", "Yes"),
    ],
)
def test_open_questions_name_the_class_that_judges_likewise(
    metric: str, answers: tuple[str, ...], name: str, kind: str, cell: str, tmp_path: Path
) -> None:
    written = write_tsv([question(0, metric=metric, answers=answers, choices=())], str(tmp_path), "own")
    assert Path(written.path).name == f"{name}.tsv"
    assert json.loads(written.data_config) == {name: {"class": kind, "dataset": name}}
    table = pd.read_csv(written.path, sep="\t")
    assert table["answer"][0] == cell
    assert "A" not in table


def test_a_bad_question_costs_itself(tmp_path: Path) -> None:
    bad = [question(1, images=()), question(2, images=(b"no image",)), question(3, answers=("A", "B")),
           question(4, images=(str(tmp_path / "gone.png"),))]  # fmt: skip
    written = write_tsv([*bad, question(0)], str(tmp_path), "own")
    assert written.left_out == {"no image": 1, "unreadable image": 2, "several right choices": 1}
    assert list(pd.read_csv(written.path, sep="\t")["id"]) == ["q0"]
    with pytest.raises(ValueError, match="none of the 4 questions can be written"):
        write_tsv(bad, str(tmp_path), "bad")


@pytest.mark.parametrize(
    ("questions", "name", "message"),
    [
        ([question(0), question(1, metric="exact", choices=())], "own", "judged by choice, exact; VLMEvalKit"),
        ([question(0, metric="cider", choices=())], "own", "judged by cider"),
        ([question(0)], "my_mmbench", "'mmbench', by which"),
        ([question(0, metric="exact", choices=())], "chartqa", "'chartqa', by which"),
        ([question(0)], "a/b", "letters, digits"),
    ],
)
def test_what_cannot_be_judged_alike_is_refused(
    questions: list[Question], name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        write_tsv(questions, str(tmp_path), name)
    assert not list(tmp_path.iterdir())


def test_our_own_reader_reads_it(tmp_path: Path) -> None:
    written = write_tsv([question(0, answers=("B",))], str(tmp_path), "own")
    (back,) = read_questions(written.path, EvaluationConfig())
    assert (back.prompt, back.choices, back.answers, back.images) == ("Which?", ("red", "blue"), ("B",), (RED,))


def test_the_command_reads_as_evaluate_does(tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(RED)
    lines = [{"id": str(n), "images": ["red.png"], "prompt": f"Which {n}?", "answers": ["red"], "metric": "exact"}
             for n in range(3)]  # fmt: skip
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    out = str(tmp_path / "LMUData")
    said = call("export", "vlmevalkit", str(tmp_path / "questions.jsonl"), "--out", out, "--name", "own",
                "--set", "only=Which .?[12]")  # fmt: skip
    assert "own_OCRVQA.tsv: 2 questions" in said
    assert "--data own_OCRVQA --data-config" in said
    assert list(pd.read_csv(f"{out}/own_OCRVQA.tsv", sep="\t")["id"]) == [1, 2]
    message = call("export", "vlmevalkit", str(tmp_path / "questions.jsonl"), "--out", out, "--name", "a b", code=2)
    assert "letters, digits" in message
