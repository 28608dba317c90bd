"""Conversations: ChatML as the template writes it, loss on answers and their ends."""

import json
from pathlib import Path
from typing import Any

import pytest

from mmcorpus.packing import IMAGE_TOKEN, encode_conversation, load_tokenizer, train_tokenizer
from mmcorpus.packing.tokens import encode_texts

QWEN_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\\na default<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""What Qwen2.5's template does with plain messages, its default system turn included."""

ROLES = {"human": "user", "gpt": "assistant", "system": "system"}


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: str) -> Any:
    return load_tokenizer(tokenizer_folder)


def templated(tokenizer: Any, conversation: list[dict[str, str]], template: str | None = None) -> list[int]:
    messages = [{"role": ROLES[turn["from"]], "content": turn["value"]} for turn in conversation]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False, chat_template=template)
    parts = text.split("<image>")
    ids: list[int] = []
    for number, part in enumerate(parts):
        ids += ([IMAGE_TOKEN] if number else []) + tokenizer(part, add_special_tokens=False)["input_ids"]
    return ids


CONVERSATIONS = [
    [{"from": "human", "value": "<image>\nwhat is it?"}, {"from": "gpt", "value": "a clock"}],
    [{"from": "human", "value": "look at <image> and say"}, {"from": "gpt", "value": " three\n"}],
    [
        {"from": "system", "value": "be brief"},
        {"from": "human", "value": "<image>"},
        {"from": "gpt", "value": "\n\nred"},
        {"from": "human", "value": "and\tthe other?  "},
        {"from": "gpt", "value": "blue 日本"},
    ],
]


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_a_conversation_is_what_the_chat_template_writes(tokenizer: Any, conversation: list[dict[str, str]]) -> None:
    ours = encode_conversation(tokenizer, json.dumps(conversation), 1).input_ids.tolist()
    assert ours == templated(tokenizer, conversation)
    with_system = (
        conversation if conversation[0]["from"] == "system" else [{"from": "system", "value": "hi"}, *conversation]
    )
    ours = encode_conversation(tokenizer, with_system, 1).input_ids.tolist()
    assert ours == templated(tokenizer, with_system, QWEN_TEMPLATE)


def test_loss_is_on_answers_and_their_ends_only(tokenizer: Any) -> None:
    sample = encode_conversation(tokenizer, CONVERSATIONS[2], 1)
    targets = [tokenizer.decode(sample.input_ids[start:end]) for start, end in sample.loss_spans]
    assert targets == ["\n\nred<|im_end|>", "blue 日本<|im_end|>"]


def test_a_token_shared_by_prompt_and_answer_carries_no_loss(tmp_path: Path) -> None:
    merged = load_tokenizer(train_tokenizer(["a\n\nb\n\nc\n\nd"] * 3 + ["x\n\ny", "z\n\n"], 300, str(tmp_path / "t")))
    double = encode_texts(merged, ["\n\n"])[0]
    assert len(double) == 1
    sample = encode_conversation(merged, [{"from": "human", "value": "q"}, {"from": "gpt", "value": "\nred"}], 0)
    ((start, end),) = sample.loss_spans
    assert sample.input_ids[start - 1] == double[0]
    assert merged.decode(sample.input_ids[start:end]) == "red<|im_end|>"


def test_missing_and_surplus_image_marks(tokenizer: Any) -> None:
    bare = encode_conversation(tokenizer, [{"from": "human", "value": "what?"}, {"from": "gpt", "value": "it"}], 1)
    marked = encode_conversation(
        tokenizer, [{"from": "human", "value": "<image>\nwhat?"}, {"from": "gpt", "value": "it"}], 1
    )
    assert bare.input_ids.tolist() == marked.input_ids.tolist()
    surplus = encode_conversation(
        tokenizer, [{"from": "human", "value": "<image> or <image>"}, {"from": "gpt", "value": "<image>"}], 1
    )
    assert (surplus.input_ids == IMAGE_TOKEN).sum() == 1
    assert tokenizer.decode(surplus.input_ids[surplus.input_ids >= 0]).count("<image>") == 2


@pytest.mark.parametrize(
    ("conversation", "problem"),
    [
        ("not json", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "not a list"),
        ('["x"]', "turn 0"),
        ('[{"from": "human", "value": 3}]', "turn 0"),
        ('[{"from": "robot", "value": "x"}]', "turn 0"),
        ('[{"from": "human", "value": "x"}]', "nothing to learn"),
        ("[]", "nothing to learn"),
    ],
)
def test_malformed_conversations_say_what_is_wrong(tokenizer: Any, conversation: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        encode_conversation(tokenizer, conversation, 1)
