"""Conversations in every published form become the same turns."""

import json
from typing import Any

import pytest

from mmcorpus.packing.turns import parse_conversation

TURNS = [("system", "be brief"), ("user", "<image>\nwhat is it?"), ("assistant", "a clock")]
SHARE_GPT = [
    {"from": "system", "value": "be brief"},
    {"from": "human", "value": "<image>\nwhat is it?"},
    {"from": "gpt", "value": "a clock"},
]
MESSAGES = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "\nwhat is it?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "a clock"}]},
]


@pytest.mark.parametrize(
    "given",
    [
        SHARE_GPT,
        MESSAGES,
        {"id": "1", "image": "a.jpg", "conversations": SHARE_GPT},
        {"messages": MESSAGES},
        [MESSAGES[0], {"user": "<image>\nwhat is it?", "assistant": "a clock", "source": "cauldron"}],
        [*SHARE_GPT[:2], {"from": "ChatGPT", "value": "a clock"}],
        [*SHARE_GPT[:2], {"from": "claude", "value": "a clock"}],
        [{**MESSAGES[0], "role": "developer"}, MESSAGES[1], {"role": "model", "content": "a clock"}],
        [MESSAGES[0], {"role": "user", "parts": [{"type": "image"}, {"text": "\nwhat is it?"}]},
         {"role": "model", "parts": [{"text": "a "}, {"text": "clock", "thoughtSignature": "x"}]}],
        {"contents": [MESSAGES[0], {"role": "user", "parts": [{"type": "image"}, "\nwhat is it?"]}, MESSAGES[2]]},
        [MESSAGES[0], {"role": "user", "content": [{"type": "image_url"}, "\nwhat is it?"]}, MESSAGES[2]],
    ],
)  # fmt: skip
def test_every_form_is_read(given: Any) -> None:
    assert parse_conversation(given) == parse_conversation(json.dumps(given)) == TURNS


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([{"role": "user", "content": "?"}, {"role": "tool", "content": "7"}], "turn 1 is a tool's"),
        ([{"role": "user", "content": "?"}, {"role": "assistant", "tool_calls": [{}]}], "turn 1 is a tool's"),
        ([{"from": "human", "value": "?"}, {"from": "function_call", "value": "{}"}], "turn 1 is a tool's"),
        ([{"role": "user", "content": [{"type": "audio", "audio": "a.wav"}]}], "turn 0 has a part .*'audio'"),
        ([{"role": "user", "content": [{"type": "text"}]}], "turn 0 has a part"),
        ([{"role": "user", "parts": [{"text": "?"}]}, {"role": "model", "parts": [{"text": "hm", "thought": True}]}],
         "turn 1 has a part .*it has text, thought"),
        ([{"role": "user", "parts": [{"functionCall": {}}]}], "turn 0 has a part .*functionCall"),
        ([{"role": "user", "content": None}], "turn 0 says nothing"),
        ([{"role": "user", "content": 7}], "turn 0 says nothing"),
        ([{"role": "critic", "content": "x"}], "turn 0 needs"),
        ({"text": "x"}, "not a list of turns"),
        ([["human", "x"]], "turn 0 is not an object"),
        ([{"user": "?", "assistant": " "}], "nothing to learn"),
    ],
)  # fmt: skip
def test_what_cannot_be_packed_says_why(given: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_conversation(given)
