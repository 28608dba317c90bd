"""JSON a value at a time: the same rows however it is laid out and divided, and in bounded memory."""

import io
import json
from typing import Any

import pytest

from mmcorpus.curation.sources import json_rows
from mmcorpus.curation.sources.json_rows import BadJson, layout_of, ranges, read_rows

ROWS: list[dict[str, Any]] = [
    {"id": number, "text": 'é"]},\n{[' * (number % 7), "nested": [{"x": None}, [1.5, True]]} for number in range(100)
]
TEXTS = {
    "array": json.dumps(ROWS), "pretty": json.dumps(ROWS, indent=1, ensure_ascii=False),
    "mark": "\ufeff" + json.dumps(ROWS, ensure_ascii=False), "lines": "\n".join(map(json.dumps, ROWS)),
    "windows": "\r\n\r\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("read", [7, 1 << 20])
def test_every_layout_gives_its_rows_by_ranges(monkeypatch: pytest.MonkeyPatch, name: str, read: int) -> None:
    monkeypatch.setattr(json_rows, "_READ", read)
    data = TEXTS[name].encode()
    layout = layout_of(data[:512])
    assert layout == ("jsonl" if name in ("lines", "windows") else "json")
    assert layout is not None
    found = ranges(io.BytesIO(data), layout, 33)
    assert [part[2] for part in found] == [33, 33, 33, 1]
    assert [row for part in reversed(found) for row in read_rows(io.BytesIO(data), layout, part)] == [
        *ROWS[99:], *ROWS[66:99], *ROWS[33:66], *ROWS[:33],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ('[{"a": 1}]', "json"),
        ("[]", "json"),
        ("[1, 2]", None),
        ('{\n "a": 1}', None),
        ("caption\turl", None),
        ("", None),
    ],
)
def test_what_is_neither_is_known(text: str, layout: str | None) -> None:
    assert layout_of(text.encode()) == layout


@pytest.mark.parametrize(
    "text", ['[{"a": 1}, {"b":', '[{"a": 1}, {"b"}]', '[{"a": 1}', '[{"a": 1}, nonsense]', "[" * 9_999]
)
def test_a_damaged_array_says_where(text: str) -> None:
    with pytest.raises(BadJson, match="at byte"):
        ranges(io.BytesIO(text.encode()), "json", 10)


def test_a_line_that_is_no_row_costs_itself() -> None:
    data = b'{"a": 1}\n{broken\n[1]\n{"b": "\xff"}\n{"c": 2}\n' + b'{"d":' * 9_999 + b"\n"
    (part,) = ranges(io.BytesIO(data), "jsonl", 10)
    rows = list(read_rows(io.BytesIO(data), "jsonl", part))
    assert [row for row in rows if isinstance(row, dict)] == [{"a": 1}, {"c": 2}]
    assert [row.split(":")[0] for row in rows if isinstance(row, str)] == [
        "it is no JSON", "it is list, not an object", "it is not UTF-8", "it is no JSON",
    ]  # fmt: skip


def test_lines_may_end_with_a_comma_as_those_of_an_array_without_brackets() -> None:
    data = b'{"a": 1},\n{"b": 2} , \r\n\n{"c": ","}\n,\n{"d": 4},,'
    (part,) = ranges(io.BytesIO(data), "jsonl", 10)
    rows = list(read_rows(io.BytesIO(data), "jsonl", part))
    assert [row for row in rows if isinstance(row, dict)] == [{"a": 1}, {"b": 2}, {"c": ","}]
    assert [row.split(":")[0] for row in rows if isinstance(row, str)] == ["it is no JSON", "it is no JSON"]


@pytest.mark.parametrize(
    "value",
    [
        '{"a":' * 9_999 + '"]}\\"}"' + "}" * 9_999,
        "[" * 9_999 + "]" * 9_999,
        '{"id": ' + "9" * 5_000 + "}",
        "9" * 5_000,
    ],
)
@pytest.mark.parametrize("read", [7, 1 << 20])
def test_an_element_that_python_cannot_hold_costs_itself(
    monkeypatch: pytest.MonkeyPatch, value: str, read: int
) -> None:
    monkeypatch.setattr(json_rows, "_READ", read)
    data = f'[{{"a": 1}}, {value}\n, {{"c": 2}}]'.encode()
    found = ranges(io.BytesIO(data), "json", 1)
    assert [part[2] for part in found] == [1, 1, 1]
    rows = [row for part in found for row in read_rows(io.BytesIO(data), "json", part)]
    assert rows[::2] == [{"a": 1}, {"c": 2}]
    assert str(rows[1]).startswith("it is no JSON: ")


def test_such_an_element_that_does_not_end_is_damage() -> None:
    for value in ('{"a":' * 9_999, '{"a":' * 9_999 + '"' + "}" * 9_999 + "]", "9" * 5_000):
        with pytest.raises(BadJson, match="does not end"):
            ranges(io.BytesIO(f'[{{"a": 1}}, {value}'.encode()), "json", 10)


class Endless(io.RawIOBase):
    """A line that does not end for a long time, and one after it."""

    def __init__(self, size: int) -> None:
        self.left, self.asked = size, 0

    def seek(self, offset: int, whence: int = 0) -> int:
        return offset

    def read(self, size: int = -1) -> bytes:
        taken = min(size, self.left)
        self.left -= taken
        if not taken and not self.asked:
            self.asked = 1
            return b'\n{"a": 1}'
        return b"x" * taken


def test_a_line_that_is_too_long_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "MAX_VALUE", 1 << 16)
    spans = list(json_rows._spans(Endless(1 << 24), "jsonl"))
    assert [end - start for start, end, _ in spans] == [1 << 24, 8]
    assert len(spans[0][2]) <= (1 << 16) + (1 << 20)
    with pytest.raises(BadJson, match="too long"):
        list(json_rows._spans(io.BytesIO(b'["' + b"x" * (1 << 22)), "json"))
