"""Which answers are taken, and what is said of the others."""

import json

import pytest

from mmcorpus.filters.mllm.scorer import read_answer
from mmcorpus.filters.written import AnswerRules, check_answer

TURNS = AnswerRules(form="turns")
GOOD = [{"question": "What is red?", "answer": "The clock."}, {"question": "Where?", "answer": "On the wall."}]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("  A red clock on a wall.\n", "A red clock on a wall."),
        ('"A red clock on a wall."', "A red clock on a wall."),
        ('"Stop" and "Go" on two signs', '"Stop" and "Go" on two signs'),
        ("<think>Is it red? It is.</think>\nA red clock.", "A red clock."),
        ("There is an image of a cat on the mug.", "There is an image of a cat on the mug."),
        ("A poster of a film with a voice as an AI in it.", "A poster of a film with a voice as an AI in it."),
        ("A sign that says: I'm sorry, I can't help you", "A sign that says: I'm sorry, I can't help you"),
    ],
)
def test_a_text_is_taken_as_it_is_written(said: str, text: str) -> None:
    checked = check_answer(said, "stop", AnswerRules())
    assert (checked.text, checked.reason) == (text, None)


@pytest.mark.parametrize(
    ("said", "finish", "reason"),
    [
        (" \n", "stop", "empty_answer"),
        ("<think>So many things", "stop", "empty_answer"),
        ("A red clock on a", "length", "cut_off"),
        ("I'm sorry, but I can't assist with that.", "stop", "refusal"),
        ("Sorry, I cannot merge these.", "stop", "refusal"),
        ("Unfortunately, I am unable to see images.", "stop", "refusal"),
        ("As an AI language model, I have no eyes.", "stop", "refusal"),
        ("I don't see any image here.", "stop", "refusal"),
        ("I apologize, but as an AI assistant, my task is another.", "stop", "refusal"),
        ("Nein.", "stop", "too_short: 5 characters"),
        ("word " * 20, "stop", "too_long: 99 characters"),
        ("Eine rote Uhr hängt an einer weißen Wand über dem Tisch.", "stop", "other_language: de"),
        ("Keine Antwort von mir, niemals.", "stop", "refusal"),
    ],
)
def test_an_answer_that_cannot_be_used_has_a_reason(said: str, finish: str, reason: str) -> None:
    rules = AnswerRules(min_characters=6, max_characters=80, language="en", refusals=("keine antwort",))
    checked = check_answer(said, finish, rules)
    assert (checked.text, checked.reason) == (None, reason)


@pytest.mark.parametrize(
    "said",
    [
        json.dumps(GOOD),
        f"Here you are:\n```json\n{json.dumps(GOOD, indent=1)}\n```\nEnjoy!",
        f"Sure! {json.dumps(GOOD)}",
        json.dumps({"questions": GOOD}),
        json.dumps([*GOOD, {"question": "Why?"}, "no turn", {"question": "Who?", "answer": " "}, 7]),
        json.dumps([*GOOD, {"question": "How old is it?", "answer": "I'm sorry, but I cannot tell."}]),
    ],
)
def test_turns_are_found_whatever_stands_around_them_and_a_bad_one_costs_itself(said: str) -> None:
    checked = check_answer(said, "stop", TURNS)
    assert checked.text is not None, checked.reason
    assert json.loads(checked.text) == [
        {"from": "human", "value": "What is red?"},
        {"from": "gpt", "value": "The clock."},
        {"from": "human", "value": "Where?"},
        {"from": "gpt", "value": "On the wall."},
    ]


def test_the_last_key_answers_and_one_object_alone_is_a_list_of_it() -> None:
    rules = AnswerRules(form="turns", keys=("question", "draft", "edited"), max_turns=1)
    checked = check_answer('{"question": "Why?", "draft": "Well, because.", "edited": "Because."}', "stop", rules)
    assert checked.text == '[{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}]'
    assert check_answer('[{"question": "Why?", "edited": "Because."}]', "stop", rules).reason is not None, "no draft"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Q: What is red? A: The clock.", "not_json"),
        ("86", "not_json"),
        ("[" * 100_000, "not_json"),
        ("[]", "too_few_turns: 0 of 0 can be used"),
        ('[{"question": "Why?"}]', "too_few_turns: 0 of 1 can be used"),
        (json.dumps([{"question": "Q?", "answer": "x" * 50}]), "too_few_turns: 0 of 1 can be used"),
    ],
)
def test_what_has_no_turns_says_so(said: str, reason: str) -> None:
    assert check_answer(said, "stop", AnswerRules(form="turns", max_characters=40)).reason == reason


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"form": "xml"}, "form is 'xml'"),
        ({"keys": ("question",)}, "two or more"),
        ({"min_turns": 3, "max_turns": 2}, "min_turns is 3"),
        ({"min_characters": 0}, "min_characters is 0"),
        ({"language": "English"}, "a code such as en"),
        ({"refusals": ("(",)}, "no regular expression"),
    ],
)
def test_rules_that_make_no_sense_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnswerRules(**given)  # type: ignore[arg-type]


def test_lone_surrogates_that_json_escapes_are_no_part_of_a_text() -> None:
    """No table takes them, so that one answer would cost its shard."""
    said = '[{"question": "What \\ud83d is it?", "answer": "A clock\\udfff."}]'
    text = check_answer(said, "stop", TURNS).text
    assert text is not None
    assert text.encode()
    assert [turn["value"] for turn in json.loads(text)] == ["What \ufffd is it?", "A clock\ufffd."]
    answer = read_answer({"choices": [{"message": {"content": json.loads('"A \\ud800 clock"')}}]})
    assert answer.text == "A \ufffd clock"


def test_turns_after_the_last_that_is_taken_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmcorpus.filters.written import answer

    looked: list[str] = []
    refuses = answer._refuses
    monkeypatch.setattr(answer, "_refuses", lambda text, rules: looked.append(text) or refuses(text, rules))
    assert check_answer(json.dumps(GOOD * 1000), "stop", AnswerRules(form="turns", max_turns=3)).text is not None
    assert len(looked) == 4  # the whole, and three answers
