"""Rows that only their own sample pays for: names, depth, numbers of images, places that lie over each other."""

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.sources.found import MAX_IMAGES
from mmcorpus.curation.sources.shard import MAX_NAME
from tests.curation.sources.conftest import picture

DEEP = "[" * 900 + "]" * 900


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ('"\\ud800": 1', None),
        (f'"{"k" * (MAX_NAME + 1)}": 1', "bad_row: it names a value in 1,001 characters"),
        (f'"deep": {DEEP}', "bad_row: it is no JSON: it is nested more than 100 deep"),
        ('"deep": ' + '{"a":' * 500 + "1" + "}" * 500, "bad_row: it is no JSON: it is nested more than 100 deep"),
        ('"image": "\\ud800.jpg"', "missing_image: ?.jpg is not below"),
        ('"image": "http://x.test/\\udfff.jpg"', "image_url: http://x.test/?.jpg"),
        ('"image": [' + '"a.jpg",' * MAX_IMAGES + '"a.jpg"]', "bad_image: there are 10,001 images; at most 10,000"),
        ('"status": "\\ud800", "error_message": "\\ud800"', "?"),
    ],
)
def test_a_row_of_json_costs_itself(tmp_path: Path, indexed: Any, more: str, reason: str | None) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(picture(0))
    rows = ['{"image": "a.jpg", "caption": "before"}', f'{{"image": "a.jpg", "caption": "odd", {more}}}',
            '{"image": "a.jpg", "caption": "after"}']  # fmt: skip
    (folder / "rows.jsonl").write_text("\n".join(rows))
    found = indexed(folder, formats=("jsonl",))
    assert found.report.failed == {}
    lost = [row["error_message"] for row in found.rows if row["status"] != "success"]
    assert [text.startswith(reason) for text in lost] == ([] if reason is None else [True]), lost
    assert [one.caption for one in found.samples] == ["before", *([] if reason else ["odd"]), "after"]


def test_a_file_whose_name_is_no_text_is_copied(tmp_path: Path, indexed: Any) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a\udcff.jpg").write_bytes(picture(0))
    (folder / "rows.jsonl").write_text('{"image": "a\\udcff.jpg", "caption": "x"}\n')
    assert [one.images[0].data for one in indexed(folder, formats=("jsonl",)).samples] == [picture(0)]


def mds(columns: list[tuple[str, str]], samples: list[bytes], begins: list[int] | None = None) -> bytes:
    """A shard of columns whose sizes differ; begins: of samples, from the end of the header on."""
    names, encodings = [[column[place] for column in columns] for place in (0, 1)]
    head = {"column_names": names, "column_encodings": encodings, "column_sizes": [None] * len(columns)}
    text = json.dumps(head).encode()
    if begins is None:
        begins = [sum(map(len, samples[:count])) for count in range(len(samples) + 1)]
    first = 4 * (len(begins) + 1) + len(text)
    places = [first + begin for begin in begins]
    return struct.pack(f"<{len(begins) + 1}I", len(begins) - 1, *places) + text + b"".join(samples)


def values(*given: bytes) -> bytes:
    return struct.pack(f"<{len(given)}I", *map(len, given)) + b"".join(given)


def shard(folder: Path, data: bytes) -> Path:
    folder.mkdir()
    (folder / "shard.00000.mds").write_bytes(data)
    return folder


def test_names_depth_and_counts_in_mds(tmp_path: Path, indexed: Any) -> None:
    columns = [("images", "jpeg_array"), ("caption", "str"), ("more", "json"), ("\ud800", "str")]
    one = struct.pack("<2I", 1, len(picture(0))) + picture(0)
    many = struct.pack("<I", MAX_IMAGES + 1) + bytes(4 * (MAX_IMAGES + 1))
    samples = [values(one, b"a", b"1", b"x"), values(one, b"b", DEEP.encode(), b"x"), values(many, b"c", b"1", b"x")]
    found = indexed(shard(tmp_path / "in", mds(columns, samples)))
    assert [sample.caption for sample in found.samples] == ["a"]
    assert found.report.dropped == {"bad_row": 2}
    assert [row["?"] for row in found.rows if row["status"] == "success"] == ["x"]


@pytest.mark.parametrize("packed", [False, True])
def test_samples_that_lie_over_each_other(tmp_path: Path, indexed: Any, packed: bool) -> None:
    """Some cost nothing but themselves; so many that reading them has no end are refused before any is read."""
    columns = [("image", "bytes"), ("caption", "str")]
    sample = values(picture(0), b"a" * (1 << 20))
    data = mds(columns, [sample], [0, len(sample), 0, len(sample)])
    found = indexed(shard(tmp_path / "in", gzip.compress(data) if packed else data))
    assert found.report.dropped == {"bad_row": 1, "listed_twice": 1}
    data = mds(columns, [sample], [0, len(sample)] * 20_000)
    found = indexed(shard(tmp_path / "more", gzip.compress(data) if packed else data), out="out2")
    assert "lie over each other" in str(found.report.failed)


def test_a_text_that_a_dictionary_has_once_is_not_hashed_for_every_row(
    tmp_path: Path, indexed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmcorpus.curation.sources import shard as module

    hashed: list[int] = []
    known = module.row_uid
    monkeypatch.setattr(module, "row_uid", lambda *told: (hashed.append(len(told[1] or "")), known(*told))[1])
    monkeypatch.setattr(module, "MAX_SHARD", 10 << 20)
    count, text = 2_000, "x" * (1 << 20)
    numbers = pa.array([0] * count, pa.int32())
    columns = {name: pa.DictionaryArray.from_arrays(numbers, pa.array([one]))
               for name, one in (("image", picture(0)), ("caption", text))}  # fmt: skip
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "in" / "a.parquet")
    found = indexed(tmp_path / "in")
    assert found.report.dropped == {"bad_row": count - 9, "listed_twice": 8}
    assert sum(hashed) < 30 << 20
    assert len({row["uid"] for row in found.rows if row["error_message"] != "listed_twice"}) == count - 8
