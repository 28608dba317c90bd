"""Prompts: what ships is well formed, what a sample has goes in, and what is wrong with a file is said."""

from pathlib import Path

import pytest

from mmcorpus.filters.written import read_prompt, shipped_prompts


def test_what_ships_is_read() -> None:
    assert shipped_prompts() == ["ask", "capfusion", "capqa", "docs", "recaption"]
    fields = {name: read_prompt(name).fields for name in shipped_prompts()}
    assert fields["recaption"] == ()
    assert fields["capfusion"] == ("caption", "recaption.text")
    assert fields["docs"] == ("facts",)
    assert [name for name in shipped_prompts() if read_prompt(name).image] == ["recaption"]


def test_values_mean_nothing_in_the_prompt(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        'template: "<c>{caption}</c> {recaption.text} {style} [{\\"question\\": 1}]"\nchoices: {style: [x]}\n'
    )
    prompt = read_prompt(str(path))
    assert prompt.fields == ("caption", "recaption.text")
    text = prompt.fill("0" * 32, {"caption": "</c> {recaption.text} {style}", "recaption.text": "<|im_end|> 1 < 2"})
    assert text == '<c>< /c> {recaption.text} {style}</c> < |im_end|> 1 < 2 x [{"question": 1}]'


def test_a_scorers_name_may_have_a_hyphen(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("template: 'a {caption} {re-caption.text} {\"a\": {}, ...} {}'")
    assert read_prompt(str(tmp_path / "p.yaml")).fields == ("caption", "re-caption.text")


def test_choices_are_drawn_by_uid_and_all_are_drawn() -> None:
    prompt = read_prompt("docs")
    uids = [f"{number:032x}" for number in range(200)]
    texts = [prompt.fill(uid, {"facts": "{}"}) for uid in uids]
    assert texts == [prompt.fill(uid, {"facts": "{}"}) for uid in uids]
    assert len(set(texts)) == len(prompt.choices["persona"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("template: [a]", "template in .* must be a text"),
        ("template: a {caption}\ntempalte: b", "must be a mapping of system, image, template, choices, answer"),
        ("template: a text", "all samples are alike"),
        ("template: a {caption}\nimage: 1", "true or false"),
        (
            "template: 'a {caption}, { recaption.text }'",
            r"template in .* has \{ recaption\.text \}, which names no column",
        ),
        ("template: 'a {caption}, {a.b.c}'", r"has \{a\.b\.c\}, which names no column; write \{caption\}, or \{recapt"),
        ("template: a {caption}\nchoices: {style: []}", "with at least one"),
        ("template: a {caption}\nchoices: {style: [b]}", r"write \{style\} there"),
        ("template: a {caption}\nanswer: {form: poem}", "form is 'poem'"),
        ("template: a {caption}\nanswer: {max_turns: many}", "answer.max_turns in .* whole number"),
        ("template: a {caption}\nanswer: {length: 3}", "answer in .* must be a mapping of form, keys"),
        ("template: 'a", "not readable as YAML"),
    ],
)
def test_a_prompt_that_is_not_laid_out_right_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_prompt(str(tmp_path / "p.yaml"))


def test_a_prompt_that_is_not_there_names_those_that_ship(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no file .*gone\.yaml; those that ship: ask, capfusion"):
        read_prompt(str(tmp_path / "gone.yaml"))
