"""Chats as model servers' APIs write them: Gemini's contents of parts, Anthropic's sources, system turns beside."""

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.sources.direct import kind_of
from mmcorpus.packing.turns import parse_conversation
from tests.curation.sources.conftest import picture

IMAGES = [picture(number) for number in range(3)]
ANSWER = {"role": "model", "parts": [{"text": "A boat."}]}


def gemini(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "parts": [*parts, {"text": "What?"}]}, ANSWER]


def inline(data: bytes, kind: str = "image/jpeg") -> dict[str, str]:
    return {"mime_type": kind, "data": base64.urlsafe_b64encode(data).decode()}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_gemini_s_contents_are_conversations(tmp_path: Path, indexed: Any, form: str) -> None:
    (tmp_path / "a.jpg").write_bytes(IMAGES[1])
    rows: list[dict[str, Any]] = [
        {"systemInstruction": None, "contents": gemini({"inline_data": inline(IMAGES[0])})},
        {"contents": gemini({"file_data": {"file_uri": "a.jpg", "mime_type": "image/jpeg"}})},
        {"systemInstruction": {"parts": [{"text": "Be brief."}]}, "contents": gemini()},
    ]
    if form == "jsonl":  # a table has one type for a column
        camel = {"inlineData": {"mimeType": "image/jpeg", "data": inline(IMAGES[2])["data"]}}
        rows.append({"contents": gemini(camel, {"fileData": {"fileUri": "a.jpg"}})})
        rows.append({"contents": gemini({"inlineData": inline(b"RIFF", "audio/wav")})})
        (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    assert kind_of(str(tmp_path / f"x.{form}")) == "conversation"
    found = indexed(tmp_path / f"x.{form}", kind="conversation")
    assert found.report.dropped == {}
    images = {sample.key: [image.data for image in sample.images] for sample in found.samples}
    assert [images.get(row["key"], []) for row in found.rows][:4] == [
        [IMAGES[0]], [IMAGES[1]], [], [IMAGES[2], IMAGES[1]]
    ][: len(rows)]  # fmt: skip
    turns = [parse_conversation(row["conversations"]) for row in found.rows[:3]]
    assert turns[:2] == [[("user", "<image>What?"), ("assistant", "A boat.")]] * 2
    assert turns[2] == [("system", "Be brief."), ("user", "What?"), ("assistant", "A boat.")]
    if form == "jsonl":
        with pytest.raises(ValueError, match="it has inlineData"):
            parse_conversation(found.rows[4]["conversations"])


def test_a_text_called_contents_is_no_conversation(tmp_path: Path, indexed: Any) -> None:
    row = {"contents": "a page", "question": "What?", "answer": "A boat."}
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "x.parquet")
    for name in ("x.jsonl", "x.parquet"):
        found = indexed(tmp_path / name, out=f"of-{name}", kind="conversation")
        assert parse_conversation(found.rows[0]["conversations"]) == [("user", "What?"), ("assistant", "A boat.")]
        assert found.rows[0]["contents"] == "a page"


def test_a_system_turn_in_a_column_opens_the_turns(tmp_path: Path, indexed: Any) -> None:
    own = [{"role": "system", "content": "mine"}]
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    rows = [
        {"system": "be brief", "messages": said},
        {"system": "be brief", "messages": [*own, *said]},
        {"system": 7, "messages": said},
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = indexed(tmp_path / "x.jsonl", kind="conversation")
    turns = [parse_conversation(row["conversations"]) for row in found.rows]
    asked = [("user", "Hi"), ("assistant", "Ho")]
    assert turns == [[("system", "be brief"), *asked], [("system", "mine"), *asked], asked]


def test_anthropic_s_sources_are_base64_of_any_kind(tmp_path: Path, indexed: Any) -> None:
    held = {"type": "base64", "media_type": "image/jpeg", "data": base64.b64encode(IMAGES[0]).decode()}
    said = [
        {"role": "user", "content": [{"type": "image", "source": held}]},
        {"role": "assistant", "content": "A boat"},
    ]
    (tmp_path / "x.jsonl").write_text(json.dumps({"messages": said}))
    (sample,) = indexed(tmp_path / "x.jsonl", kind="conversation").samples
    assert [image.data for image in sample.images] == [IMAGES[0]]
