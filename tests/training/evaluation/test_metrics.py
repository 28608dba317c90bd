"""Metrics, held against the values of the reference implementations on fixed cases."""

import math
from typing import Any, get_args

import pytest

from mmcorpus.training.evaluation.asking import read
from mmcorpus.training.evaluation.cider import caption_words, cider
from mmcorpus.training.evaluation.config import EvaluationConfig, MetricName
from mmcorpus.training.evaluation.metrics import METRICS, check, chosen, edit_distance
from mmcorpus.training.evaluation.question import Question, as_letter
from mmcorpus.training.evaluation.words import first_number, vqa_words
from tests.linear import assert_linear


def question(*answers: str, metric: str = "exact", **more: Any) -> Question:
    return Question(id="q", images=(), prompt="?", answers=answers, metric=metric, **more)


def judged(metric: str, answer: str, *answers: str, **more: Any) -> float:
    asked = question(*answers, metric=metric, **more)
    kind = METRICS[metric]
    return float(kind.value(kind.judge([answer], [asked]).sum(0, keepdims=True))[0])


def test_the_names_in_configs_are_the_metrics() -> None:
    assert get_args(MetricName) == tuple(METRICS)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("A red Bus.", "red bus"),
        ("two", "2"),
        ("none", "0"),
        ("yes, it is", "yes it is"),
        ("10,000", "10000"),
        ("3.5", "3.5"),
        ("it's\n the dog's", "it's dog's"),
        ("dont know", "don't know"),
        ("blue/green", "blue green"),
        ("t-shirt", "t shirt"),
    ],
)
def test_answers_are_normalised_as_the_official_vqa_script_does(text: str, normal: str) -> None:
    assert vqa_words(text) == normal


def test_vqa_accuracy_leaves_each_human_out_in_turn() -> None:
    """Of ten humans n say so: n / 10 · min(1, (n-1)/3) + (10-n) / 10 · min(1, n/3)."""
    for n in range(11):
        answers = ["blue"] * n + [f"other {k}" for k in range(10 - n)]
        expected = n / 10 * min(1, max(0, n - 1) / 3) + (10 - n) / 10 * min(1, n / 3)
        assert judged("vqa", "The Blue", *answers) == pytest.approx(expected)
    with pytest.raises(ValueError, match="vqa compares with what several humans said, and it has 1 answers"):
        check(question("blue", metric="vqa"))


@pytest.mark.parametrize(
    ("answer", "right", "value"),
    [
        ("96", "100", 1.0),
        ("94.9", "100", 0.0),
        ("105", "100", 1.0),
        ("-105", "-100", 1.0),
        ("52%", "0.5", 1.0),
        ("0.5", "50%", 1.0),
        ("0", "0", 1.0),
        ("0.01", "0", 0.0),
        ("Blue.", "blue", 1.0),
        ("blue one", "blue", 0.0),
        ("nan", "nan", 1.0),
        ("inf", "5", 0.0),
    ],
)
def test_relaxed_accuracy(answer: str, right: str, value: float) -> None:
    assert judged("relaxed", answer, right) == value


@pytest.mark.parametrize(
    ("answer", "right", "within_a_minute", "hour"),
    [
        ("It is 4:05.", "4:04", 1.0, 1.0),
        ("4:06", "4:04", 0.0, 1.0),
        ("12:59", "1:00", 1.0, 0.0),
        ("1:00", "12:59", 1.0, 0.0),
        ("16:04", "4:04", 1.0, 1.0),
        ("0:10", "12:10", 1.0, 1.0),
        ("404", "4:04", 0.0, 0.0),
        ("4:60", "5:00", 0.0, 0.0),
    ],
)
def test_clocks(answer: str, right: str, within_a_minute: float, hour: float) -> None:
    assert judged("clock", answer, right) == within_a_minute
    assert judged("clock_hour", answer, right) == hour
    with pytest.raises(ValueError, match="needs times such as 4:04"):
        check(question("noon", metric="clock"))


def test_anls() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == 3
    assert judged("anls", "sitting", "kitten", "sittin") == pytest.approx(6 / 7)
    assert judged("anls", "ABC  Inc", "abc inc") == 1.0
    assert judged("anls", "abcd", "abxy") == 0.5
    assert judged("anls", "abcd", "axyz") == 0.0, "below a half it is nothing"
    assert judged("anls", "", "") == 1.0


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("(C)", "C"),
        ("B. a cat", "B"),
        (" B\n\nbecause of the tail", "B"),
        ("[A], I say", "A"),
        ("The correct option is:  C", "C"),
        ("The answer is C.", "C"),
        ("Answer: (b)", "B"),
        ("a dog", "A"),
        ("I think it is (B)", "B"),
        ("it must be C", "C"),
        ("A cat and a dog are there", None),
        ("D", None),
        ("B or C", None),
        ("", None),
    ],
)
def test_the_letter_of_an_answer(answer: str, letter: str | None) -> None:
    assert chosen(answer, question("A", metric="choice", choices=("a dog", "a cat", "a cow"))) == letter


def test_answers_to_choices_become_letters() -> None:
    choices = ["red", "2", "blue"]
    letters = [as_letter(answer, choices) for answer in ("C", "(a)", "blue", "2", "0", "violet")]
    assert letters == ["C", "A", "C", "B", "A", "violet"]
    with pytest.raises(ValueError, match=r"answers \['violet'\] name none of its 3 choices"):
        question("violet", choices=("red", "2", "blue"))


def test_counts_are_read_in_digits_and_words() -> None:
    assert first_number("There are twelve, not 13") == 12
    assert first_number("1,234 people") == 1234
    assert first_number("nothing to see") is None
    assert judged("count", "I see Three circles.", "3") == 1.0
    assert judged("count", "4 or 3", "3") == 0.0
    pointed = 'Counting the <points x1="4.0" y1="9.5" x2="70.0" y2="51.0" alt="4 cats">4 cats</points>'
    assert judged("count", f"{pointed} shows a total of 2.", "2") == 1.0
    assert judged("count", pointed, f"{pointed} shows a total of 2.") == 1.0
    assert judged("count", f"{pointed} shows a total of 3.", "2") == 0.0, "what it says, not what it points at"
    assert judged("count", "There are none.", "0") == judged("count", "0", "There are none.") == 1.0


def test_pope_is_the_f1_of_yes() -> None:
    answers = ["Yes, it is.", "No, there is none.", "There is not a dog.", "Yes.", "Yes. Not sure."]
    truth = ["yes", "yes", "no", "no", "yes"]
    kind = METRICS["pope"]
    rows = kind.judge(answers, [question(right, metric="pope") for right in truth])
    assert rows.sum(0).tolist() == [2, 1, 1]
    assert float(kind.value(rows.sum(0, keepdims=True))[0]) == pytest.approx(4 / 6)
    nothing = kind.judge(["no"], [question("no", metric="pope")])
    assert math.isnan(float(kind.value(nothing)[0])), "no yes at all: there is no F1"


def test_cider_is_that_of_pycocoevalcap() -> None:
    """Values of pycocoevalcap 1.2.0's CiderScorer for these captions, computed once."""
    captions = [
        "a red clock on a white wall",
        "two dogs play in the green grass near a tree",
        "a plate of food",
        "the man rides a wave",
    ]
    references = [
        ["a red clock hangs on the white wall", "a clock on a wall", "the clock is red"],
        ["two dogs playing in the grass", "two brown dogs run near a tree in a park"],
        ["a white plate with food on it", "a plate of pasta and a fork", "food on a plate"],
        ["a man riding a wave on a surfboard", "a surfer rides a big wave", "the man rides a wave"],
    ]
    expected = [2.780190518142927, 2.1470087990094733, 2.3786522155411918, 4.55712721753799]
    assert cider(captions, references) == pytest.approx(expected, abs=1e-9)
    assert cider(["A red clock, on a white wall!", *captions[1:]], references)[0] == pytest.approx(expected[0])
    assert cider(["", "x"], [["a b"], ["c"]]) == [0.0, 0.0]


@pytest.mark.parametrize(
    "said", ["answer" + " " * 9, "(A) ", "the answer is ", "1,", "a.", "answer: ", "\n \t", "option:", "don't "]
)
def test_answers_are_read_in_linear_time(said: str) -> None:
    asked = question("A", metric="choice", choices=("x", "y"))
    thoughts = EvaluationConfig(chain_of_thought=True)

    def judge(answer: str) -> None:
        for text in (answer, read(answer, thoughts)):
            chosen(text, asked)
            vqa_words(text)
            first_number(text)
            caption_words(text)

    assert_linear(judge, lambda size: said[:-1] + said[-1] * (size // 2) + said * (size // (2 * len(said))))
