"""The number in an answer: what parses, what does not, and the expectation against sums done by hand."""

import math

import pytest

from mmcorpus.filters.mllm.answer import Answer, expected, open_digits, parse

Spelled = list[tuple[str, dict[str, float]]]


def answer(text: str, tokens: Spelled | None = None, finish: str = "stop") -> Answer:
    """Tokens with the probabilities of their alternatives."""
    spelled = [(token, [(other, math.log(share)) for other, share in tops.items()]) for token, tops in tokens or ()]
    return Answer(text=text, finish=finish, tokens=spelled)


def rating(text: str, tokens: Spelled, **branches: Answer) -> float:
    one = answer(text, tokens)
    value = expected(one, parse(one), {name.removeprefix("after_"): branch for name, branch in branches.items()})
    assert value is not None
    return value


@pytest.mark.parametrize(
    ("text", "integer"),
    [
        ("100", 100),
        ("0", 0),
        ("86", 86),
        ("86.", 86),
        ("86/100", 86),
        ("86 / 100.", 86),
        (" 86", 86),
        ("\n\n86", 86),
        ("85\nThe caption names the bird.", 85),
        ("85, because it fits", 85),
        ("85 - it fits", 85),
        ("86%", 86),
        ("86 out of 100", 86),
        ("**86**", 86),
        ('"86"', 86),
        ("Score: 86", 86),
        ("**Rating:** 86", 86),
        ("The score is 86.", 86),
        ("007", 7),
        ("86.0", 86),
        ("85.5", 86),
        ("85.4", 85),
    ],
)
def test_numbers_are_read_as_they_are_written(text: str, integer: int) -> None:
    parsed = parse(answer(text))
    assert (parsed.integer, parsed.reason) == (integer, None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty_answer"),
        (" \n", "empty_answer"),
        ("I'm sorry, I can't rate this image.", "no_number"),
        ("It depicts 3 dogs", "no_number"),
        ("7/10", "no_number"),
        ("86/10", "no_number"),
        ("80-90", "no_number"),
        ("80 to 90", "no_number"),
        ("0 to 100", "no_number"),
        ("-5", "no_number"),
        ("1,000", "no_number"),
        ("85th", "no_number"),
        ("٨٥", "no_number"),
        ("101", "out_of_range"),
        ("1000000000000000000000", "out_of_range"),
    ],
)
def test_refusals_and_nonsense_give_no_number(text: str, reason: str) -> None:
    parsed = parse(answer(text))
    assert (parsed.integer, parsed.reason) == (None, reason)


def test_a_hundred_that_was_cut_off_is_not_ten() -> None:
    assert parse(answer("10", finish="length")).reason == "cut_off"
    assert parse(answer("1", finish="length")).reason == "cut_off"
    assert parse(answer("10", finish="stop")).integer == 10
    assert parse(answer("100", finish="length")).integer == 100
    assert parse(answer("86", finish="length")).integer == 86
    assert parse(answer("10 ", finish="length")).integer == 10


def test_digits_as_tokens_weigh_every_number_along_the_answer() -> None:
    value = rating("85", [("8", {"8": 1.0}), ("5", {"5": 0.6, "0": 0.3, "2": 0.1})])
    assert value == pytest.approx(0.6 * 85 + 0.3 * 80 + 0.1 * 82)


def test_the_example_of_the_docstring() -> None:
    value = rating("85", [("8", {"8": 0.7, "9": 0.2, "7": 0.1}), ("5", {"5": 0.6, "0": 0.3, "2": 0.1})])
    assert value == pytest.approx(0.7 * (0.6 * 85 + 0.3 * 80 + 0.1 * 82) + 0.2 * 94.5 + 0.1 * 74.5)
    assert value == pytest.approx(84.6, abs=0.05)


def test_a_digit_that_may_stand_alone_does_so_by_the_probability_of_an_end() -> None:
    value = rating("8", [("8", {"8": 1.0}), ("<|im_end|>", {"<|im_end|>": 0.75, "5": 0.25})])
    assert value == pytest.approx(0.75 * 8 + 0.25 * 85)
    off_path = rating("8", [("8", {"8": 0.5, "3": 0.5}), ("<|im_end|>", {"<|im_end|>": 0.75, "5": 0.25})])
    assert off_path == pytest.approx(0.5 * (0.75 * 8 + 0.25 * 85) + 0.5 * (0.75 * 3 + 0.25 * 34.5))


def test_a_hundred_of_three_tokens() -> None:
    tokens: Spelled = [
        ("1", {"1": 0.8, "9": 0.2}),
        ("0", {"0": 0.9, "5": 0.1}),
        ("0", {"0": 0.95, "<|im_end|>": 0.05}),
        ("<|im_end|>", {"<|im_end|>": 1.0}),
    ]
    on_path = 0.9 * (0.95 * 100 + 0.05 * 10) + 0.1 * 15
    assert rating("100", tokens) == pytest.approx(0.8 * on_path + 0.2 * 94.5)


def test_a_one_not_taken_means_a_hundred_beside_high_answers_and_a_teen_beside_low_ones() -> None:
    ends = {"<|im_end|>": 1.0}
    high = rating("95", [("9", {"9": 0.8, "1": 0.2}), ("5", {"5": 1.0}), ("<|im_end|>", ends)])
    assert high == pytest.approx(0.8 * 95 + 0.2 * 100)
    low = rating("25", [("2", {"2": 0.8, "1": 0.2}), ("5", {"5": 1.0}), ("<|im_end|>", ends)])
    assert low == pytest.approx(0.8 * 25 + 0.2 * 14.5)


def test_whole_numbers_as_tokens_are_their_own_values() -> None:
    tops = {"85": 0.5, "90": 0.25, "9": 0.05, "100": 0.1, "The": 0.1}
    value = rating("85", [("85", tops), ("<|eot|>", {"<|eot|>": 1.0})])
    assert value == pytest.approx((0.5 * 85 + 0.25 * 90 + 0.05 * 9 + 0.1 * 100) / 0.9)


def test_what_is_no_number_or_too_large_is_left_out_and_the_rest_sums_to_one() -> None:
    assert rating("50", [("50", {"50": 0.4, "150": 0.4, "I": 0.2})]) == pytest.approx(50)
    assert rating("50", [("5", {"5": 0.5, "I": 0.5}), ("0", {"0": 1.0})]) == pytest.approx(50)


def test_a_blank_before_the_number_and_tokens_that_read_alike() -> None:
    assert rating(" 86", [(" ", {" ": 1.0}), ("8", {"8": 1.0}), ("6", {"6": 0.5, "4": 0.5})]) == pytest.approx(85)
    assert rating(" 86", [(" 86", {" 86": 0.5, "86": 0.25, "80": 0.25})]) == pytest.approx(0.75 * 86 + 0.25 * 80)
    labelled = [("Score", {"Score": 1.0}), (":", {":": 1.0}), (" ", {" ": 1.0}), ("7", {"7": 1.0}), ("0", {"0": 1.0})]
    assert rating("Score: 70", labelled) == pytest.approx(70)


def test_what_the_model_goes_on_with_replaces_the_guess() -> None:
    tokens: Spelled = [("8", {"8": 0.6, "1": 0.25, "9": 0.15}), ("9", {"9": 1.0})]
    one = answer("89", tokens)
    assert open_digits(one, parse(one), 0.2) == ["1"]
    assert open_digits(one, parse(one), 0.1) == ["1", "9"]
    after_1 = answer("00", [("0", {"0": 0.9, "5": 0.1}), ("0", {"0": 1.0})])
    after_9 = answer("0", [("0", {"0": 0.8, "1": 0.2})])
    value = rating("89", tokens, after_1=after_1, after_9=after_9)
    assert value == pytest.approx(0.6 * 89 + 0.25 * (0.9 * 100 + 0.1 * 15) + 0.15 * (0.8 * 90 + 0.2 * 91))


def test_without_log_probabilities_there_is_an_integer_and_no_expectation() -> None:
    one = answer("86")
    assert parse(one).integer == 86
    assert expected(one, parse(one)) is None
    refused = answer("No.", [("No", {"No": 1.0}), (".", {".": 1.0})])
    assert expected(refused, parse(refused)) is None


def test_expectations_stay_within_the_range() -> None:
    value = rating("100", [("1", {"1": 1.0}), ("0", {"0": 1.0}), ("0", {"0": 1.0})])
    assert value == pytest.approx(100)
    assert rating("0", [("0", {"0": 0.9, "1": 0.1}), ("<|im_end|>", {"<|im_end|>": 1.0})]) == pytest.approx(0.1)


def test_an_answer_comes_back_from_the_cache_with_the_same_rating() -> None:
    tokens: Spelled = [("8", {"8": 0.7, "9": 0.2, "The": 0.1}), ("5", {"5": 0.6, "0": 0.4}), ("<e>", {"<e>": 1.0})]
    one = answer("85", tokens)
    again = Answer.from_dict(one.as_dict())
    assert expected(again, parse(again)) == pytest.approx(expected(one, parse(one)), abs=1e-3)
    assert "The" not in str(one.as_dict())
