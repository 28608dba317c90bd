"""URL lists in every format become the same list shards, every row accounted for."""

import bz2
import csv
import gzip
import io
import json
import threading
from collections import Counter
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.download.config import DownloadConfig
from mmcorpus.curation.download.formats import ListError, inspect
from mmcorpus.curation.download.lists import NormalisedList, normalise
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.ledger import read_stages
from mmcorpus.curation.store.uid import is_uid, pair_uid
from mmcorpus.filters.web import PrivateAddress

ROWS = [
    {"u": "http://a.test/1.jpg", "c": "one", "n": 1},
    {"u": "http://a.test/2.jpg", "c": "two, with a comma and a\nnew line", "n": 2},
    {"u": "http://a.test/1.jpg", "c": "one", "n": 3},
    {"u": "http://a.test/1.jpg", "c": "one, differently", "n": 4},
    {"u": "", "c": "no url", "n": 5},
    {"u": "ftp://a.test/1.jpg", "c": "bad url", "n": 6},
    {"u": "http://ü.test/ö", "c": "ünïcode", "n": 7},
]
CONFIG = DownloadConfig(url_col="u", caption_col="c", save_additional_columns=("n",), number_sample_per_shard=2)
KEPT = ["http://a.test/1.jpg", "http://a.test/2.jpg", "http://a.test/1.jpg", "http://ü.test/ö"]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    kind = path.name.split(".")[1]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return str(path)
    if kind == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    elif kind == "txt":
        text = "\n".join(row["u"] for row in rows)
    else:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, rows[0], delimiter="\t" if kind == "tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
        text = buffer.getvalue()
    pack = {".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(text.encode()))
    return str(path)


def run(config: DownloadConfig, urls: Any, out: Path | str) -> NormalisedList:
    return normalise(config, urls, storage.join(str(out), "lists"), storage.join(str(out), "ledger"))


def rows_of(listed: NormalisedList) -> list[dict[str, Any]]:
    return [row for number in range(listed.shards) for row in storage.read_table(listed.path(number)).to_pylist()]


@pytest.mark.parametrize("kind", ["parquet", "csv", "tsv", "jsonl", "csv.gz", "jsonl.bz2"])
def test_every_format_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    listed = run(CONFIG, write(tmp_path / f"list.{kind}", ROWS), tmp_path)
    assert (listed.rows, listed.kept, listed.shards) == (7, 4, 2)
    assert listed.dropped == {"listed_twice": 1, "no_url": 1, "bad_url": 1}
    assert listed.columns == ("uid", "url", "caption", "n")
    rows = rows_of(listed)
    assert [row["url"] for row in rows] == KEPT
    assert [int(row["n"]) for row in rows] == [1, 2, 4, 7]
    assert [row["uid"] for row in rows] == [pair_uid(row["url"], row["caption"]) for row in rows]
    stage = read_stages(str(tmp_path / "ledger"))["list"].to_pylist()
    assert sorted(row["row"] for row in stage) == list(range(7))
    assert Counter(row["rule"] for row in stage) == {None: 4, "listed_twice": 1, "no_url": 1, "bad_url": 1}
    assert {row["uid"] for row in stage if row["verdict"] == "kept"} == {row["uid"] for row in rows}


def test_a_text_list_has_urls_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "list.txt", ROWS)
    listed = run(DownloadConfig(), path, tmp_path)
    assert listed.columns == ("uid", "url")
    assert listed.dropped == {"bad_url": 1, "listed_twice": 2}
    with pytest.raises(ListError, match=r"\.txt list has URLs alone"):
        run(DownloadConfig(save_additional_columns=("n",)), path, tmp_path / "other")


def test_folders_globs_and_several_lists_are_one_list(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    first, second = write(folder / "a.csv", ROWS[:3]), write(folder / "b.jsonl", ROWS[3:])
    (folder / "README.md").write_text("not a list")
    digests = {
        run(CONFIG, urls, tmp_path / str(number)).digest
        for number, urls in enumerate([str(folder), f"{folder}/*.[cj]s*", [first, second], first])
    }
    assert len(digests) == 2
    whole = run(CONFIG, write(tmp_path / "whole.csv", ROWS), tmp_path / "whole")
    assert whole.digest in digests


def test_columns_that_are_not_there_are_named_with_the_nearest(tmp_path: Path) -> None:
    for kind in ("parquet", "csv", "jsonl"):
        path = write(tmp_path / f"l.{kind}", [{"URL": "http://a.test", "TEXT": "x"}])
        with pytest.raises(ListError, match=r"has no column 'URLs'; did you mean 'URL'\? It has: 'URL', 'TEXT'"):
            run(DownloadConfig(url_col="URLs", caption_col="TEXT"), path, tmp_path)


@pytest.mark.parametrize(
    ("urls", "message"),
    [
        ("nowhere/list.csv", "there is no URL list at"),
        ("nowhere/*.csv", "no URL list at"),
        ([], "no URL list was given"),
    ],
)
def test_lists_that_are_not_there(tmp_path: Path, urls: Any, message: str) -> None:
    with pytest.raises(ListError, match=message):
        run(DownloadConfig(), urls, tmp_path)


def test_what_is_no_list_by_its_contents_nor_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "list.xlsx").write_bytes(b"x")
    for urls in ("list.xlsx", "*.xlsx"):
        with pytest.raises(ListError, match=r"in \.parquet, \.csv"):
            run(DownloadConfig(), str(tmp_path / urls), tmp_path)


@pytest.mark.parametrize("kind", ["parquet", "jsonl.gz", "csv", "tsv.bz2"])
def test_a_list_that_is_named_itself_may_be_called_anything(tmp_path: Path, kind: str) -> None:
    """What a server calls it (`download?id=7`), or nothing at all."""
    path = Path(write(tmp_path / f"l.{kind}", ROWS)).rename(tmp_path / "urls")
    listed = run(CONFIG, str(path), tmp_path / "out")
    assert [row["url"] for row in rows_of(listed)] == KEPT


def test_rows_that_are_no_rows_cost_themselves(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text(
        'url,caption\nhttp://a.test/1,one\nhttp://a.test/2,two,three\n\nhttp://a.test/3,"x\n'
    )
    (tmp_path / "l.jsonl").write_text('{"url": "http://a.test/1", "caption": "\\ud800 x"}\n{broken\n[1]\n{"url": 5}\n')
    listed = run(DownloadConfig(), str(tmp_path / "l.csv"), tmp_path / "csv")
    assert (listed.rows, listed.kept, listed.dropped) == (3, 2, {"bad_row": 1})
    listed = run(DownloadConfig(), str(tmp_path / "l.jsonl"), tmp_path / "jsonl")
    assert (listed.rows, listed.kept, listed.dropped) == (4, 1, {"bad_row": 2, "bad_url": 1})
    assert rows_of(listed)[0]["caption"] == "? x"


def test_a_sources_own_uids(tmp_path: Path) -> None:
    own = "0123456789abcdef0123456789abcdef"
    rows = [
        {"url": "http://a.test/1", "caption": "a", "id": own},
        {"url": "http://a.test/2", "caption": "b", "id": own.upper()},
        {"url": "http://a.test/3", "caption": "c", "id": "00000000-0000-0000-0000-000000000001"},
        {"url": "http://a.test/4", "caption": "d", "id": "17"},
    ]
    listed = run(DownloadConfig(uid_col="id"), write(tmp_path / "l.jsonl", rows), tmp_path)
    assert [row["uid"] for row in rows_of(listed)] == [own, "0" * 31 + "1"]
    assert listed.dropped == {"listed_twice": 1, "bad_uid": 1}
    many = [{"url": f"http://a.test/{i}", "caption": "", "id": str(i)} for i in range(1000)]
    with pytest.raises(ListError, match="leave uid_col out"):
        run(DownloadConfig(uid_col="id"), write(tmp_path / "m.jsonl", many), tmp_path / "m")


def test_conversations_are_kept_as_json_and_tell_samples_apart(tmp_path: Path) -> None:
    turns = [[{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": answer}] for answer in ("A", "B")]
    config = DownloadConfig(caption_col=None, save_additional_columns=("conversations",))
    for kind in ("jsonl", "parquet"):
        path = write(tmp_path / f"l.{kind}", [{"url": "http://a.test/1", "conversations": turn} for turn in turns])
        rows = rows_of(run(config, path, tmp_path / kind))
        assert [json.loads(row["conversations"]) for row in rows] == turns
        assert len({row["uid"] for row in rows}) == 2
        assert all(is_uid(row["uid"]) for row in rows)


def test_types_of_additional_columns(tmp_path: Path) -> None:
    path = tmp_path / "l.parquet"
    table = pa.table(
        {"url": ["http://a.test/1"], "caption": ["x"], "score": pa.array([0.5], pa.float32()), "tags": [["a", "b"]]}
    )
    pq.write_table(table, path)
    config = DownloadConfig(save_additional_columns=("score", "tags"))
    listed = run(config, str(path), tmp_path)
    schema = storage.read_schema(listed.path(0))
    assert schema.field("score").type == pa.float32()
    assert rows_of(listed)[0]["tags"] == '["a", "b"]'
    clash = write(tmp_path / "m.csv", [{"url": "http://b.test", "caption": "", "score": "high", "tags": ""}])
    with pytest.raises(ListError, match="another type"):
        run(config, [str(path), clash], tmp_path / "clash")


def test_an_unchanged_list_is_not_read_again_and_a_changed_one_is(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", ROWS)
    first = run(CONFIG, path, tmp_path)
    before = Path(first.path(0)).stat().st_mtime_ns
    assert run(CONFIG, path, tmp_path) == first
    assert Path(first.path(0)).stat().st_mtime_ns == before
    write(tmp_path / "l.csv", ROWS[:2])
    second = run(CONFIG, path, tmp_path)
    assert (second.kept, second.shards) == (2, 1)
    assert sorted(storage.list_names(str(tmp_path / "lists"))) == ["00000.parquet", "list.json"]


def test_a_list_on_s3_and_into_s3(s3_root: str, tmp_path: Path) -> None:
    local = write(tmp_path / "l.parquet", ROWS)
    storage.write_bytes(f"{s3_root}/in/l.parquet", Path(local).read_bytes())
    expected = run(CONFIG, local, tmp_path)
    for number, urls in enumerate([f"{s3_root}/in/l.parquet", f"{s3_root}/in", f"{s3_root}/in/*.parquet"]):
        listed = run(CONFIG, urls, f"{s3_root}/out{number}")
        assert listed.digest == expected.digest
        assert storage.read_bytes(listed.path(0)) == storage.read_bytes(expected.path(0))


def test_a_list_over_http(tmp_path: Path) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    local = write(tmp_path / "l.csv", ROWS)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/l.csv?version=2"
        with pytest.raises(PrivateAddress, match="is loopback"):
            run(CONFIG, url, tmp_path / "refused")
        allowed = replace(CONFIG, allow_private=True)
        assert run(allowed, url, tmp_path / "http").digest == run(CONFIG, local, tmp_path).digest
        server.shutdown()


def test_an_unreadable_parquet_list_is_named(tmp_path: Path) -> None:
    (tmp_path / "junk.parquet").write_bytes(b"x" * 300)
    with pytest.raises(ListError, match=r"junk.parquet is not a readable parquet file"):
        inspect(str(tmp_path / "junk.parquet"), "url")


def test_lists_that_differ_in_a_secret_alone_are_one_and_none_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    row = "http://u:ROWSECRET@a.test/1.jpg,of,too many cells\n"
    (tmp_path / "l.csv").write_text(f"u,c,n\nhttp://a.test/1.jpg,one,1\n{row}{row}".replace("of,too", "of,x,too"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"127.0.0.1:{server.server_address[1]}/l.csv"
        allowed = replace(CONFIG, allow_private=True)
        first = run(allowed, f"http://alice:PW-SECRET@{place}?X-Amz-Signature=SIG-SECRET&v=1", tmp_path / "out")
        monkeypatch.setattr("mmcorpus.curation.download.lists.read_list", None)
        again = run(allowed, f"http://bob:OTHER@{place}?X-Amz-Signature=ROTATED&v=1", tmp_path / "out")
        assert again == first, "kept without being read"
        server.shutdown()
    assert first.dropped["bad_row"] == 2
    for path in (tmp_path / "out").rglob("*"):
        text = str(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else ""
        text += path.read_bytes().decode("utf-8", "replace") if path.is_file() else ""
        assert "SECRET" not in text, path


def test_captions_that_are_not_text(tmp_path: Path) -> None:
    values = ["a dog", None, float("nan"), ["a dog", "a brown dog"], {"en": "x"}, True, 1984, 1.5, [], "NaN"]
    lines = [{"url": f"http://a.test/{n}", "caption": value} for n, value in enumerate(values)]
    listed = run(DownloadConfig(), write(tmp_path / "l.jsonl", lines), tmp_path)
    assert [row["caption"] for row in rows_of(listed)] == ["a dog", None, None, "NaN"]
    assert listed.dropped == {"bad_row": 6}
    said = read_stages(str(tmp_path / "ledger"))["list"].to_pylist()
    assert "the caption is a list of 2, not text; give each caption a row of its own" in [row["value"] for row in said]
    assert "the caption is the number 1984, not text" in [row["value"] for row in said]
    (tmp_path / "l.csv").write_text("url,caption\nhttp://a.test/1,1984\n")
    assert [row["caption"] for row in rows_of(run(DownloadConfig(), str(tmp_path / "l.csv"), tmp_path / "csv"))] == [
        "1984"
    ]
    table = pa.table({"url": ["http://a.test/1"], "caption": [["a", "b"]]})
    pq.write_table(table, tmp_path / "nested.parquet")
    with pytest.raises(ListError, match=r"nested.parquet: column 'caption' holds list.*explode"):
        run(DownloadConfig(), str(tmp_path / "nested.parquet"), tmp_path / "nested")
    binary = pa.table({"url": ["http://a.test/1", "http://a.test/2"], "caption": [b"caf\xc3\xa9", b"\xff"]})
    pq.write_table(binary, tmp_path / "binary.parquet")
    listed = run(DownloadConfig(), str(tmp_path / "binary.parquet"), tmp_path / "binary")
    assert ([row["caption"] for row in rows_of(listed)], listed.dropped) == (["café"], {"bad_row": 1})


@pytest.mark.parametrize("value", ["Infinity", "-Infinity", "1e999"])
def test_a_caption_that_is_infinite_is_no_text(tmp_path: Path, value: str) -> None:
    (tmp_path / "l.jsonl").write_text(
        f'{{"url": "http://a.test/1", "caption": {value}}}\n{{"url": "http://a.test/2", "caption": "{value}"}}\n'
    )
    listed = run(DownloadConfig(), str(tmp_path / "l.jsonl"), tmp_path)
    assert [row["caption"] for row in rows_of(listed)] == [value], "as text it is text"
    assert listed.dropped == {"bad_row": 1}
    said = [row["value"] for row in read_stages(str(tmp_path / "ledger"))["list"].to_pylist()]
    assert f"the caption is the number {float(value)}, not text" in said
    pq.write_table(pa.table({"url": ["http://a.test/1"], "caption": [float(value)]}), tmp_path / "l.parquet")
    assert run(DownloadConfig(), str(tmp_path / "l.parquet"), tmp_path / "other").dropped == {"bad_row": 1}


def test_urls_that_are_not_text(tmp_path: Path) -> None:
    urls: list[Any] = [None, float("nan"), "  ", ["http://a.test/1"], {"u": 1}, True, 5, "http://a.test/\ud800.jpg"]
    listed = run(
        DownloadConfig(), write(tmp_path / "l.jsonl", [{"url": url, "caption": "x"} for url in urls]), tmp_path
    )
    assert (listed.kept, listed.dropped) == (0, {"no_url": 3, "bad_url": 5})


def test_blanks_around_a_url_make_no_other_sample(tmp_path: Path) -> None:
    rows = [{"url": url, "caption": "x"} for url in (" http://a.test/1", "http://a.test/1", "http://a.test/1\u00a0\n")]
    listed = run(DownloadConfig(), write(tmp_path / "l.jsonl", rows), tmp_path)
    assert (listed.kept, listed.dropped) == (1, {"listed_twice": 2})
    assert rows_of(listed)[0]["uid"] == pair_uid("http://a.test/1", "x")


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (pa.array([1], pa.int64()), pa.array([None], pa.float64()), pa.float64()),
        (pa.array([1], pa.int32()), pa.array([2**40], pa.int64()), pa.int64()),
        (pa.array([None], pa.null()), pa.array([2], pa.int16()), pa.int16()),
        (pa.array([1], pa.int64()), pa.array(["high"]), None),
        (pa.array([1], pa.int64()), pa.array([True]), None),
        (pa.array([1], pa.int64()), pa.array([2**63 + 5], pa.uint64()), None),
    ],
)
def test_a_column_of_two_types_is_widened_or_named(tmp_path: Path, first: Any, second: Any, together: Any) -> None:
    for name, values in (("a", first), ("b", second)):
        table = pa.table({"url": [f"http://{name}.test"], "caption": ["x"], "w": values})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    paths = [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    config = DownloadConfig(save_additional_columns=("w",))
    if together is None:
        differs = r"has another type .* than in .*a\.parquet \(int64\)"
        if second.type == pa.uint64():
            differs = "is .*int64 by what the lists say, and a value is none"
        with pytest.raises(ListError, match=rf"b\.parquet: column 'w' {differs}"):
            run(config, paths, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return
    listed = run(config, paths, tmp_path / "out")
    assert storage.read_schema(listed.path(0)).field("w").type == together
    assert [row["w"] for row in rows_of(listed)] == [*first.to_pylist(), *second.to_pylist()]


def test_decimals_are_kept_as_they_are_written(tmp_path: Path) -> None:
    table = pa.table(
        {"url": ["http://a.test"], "caption": ["x"], "price": pa.array(["1.50"]).cast(pa.decimal128(5, 2))}
    )
    pq.write_table(table, tmp_path / "l.parquet")
    config = DownloadConfig(save_additional_columns=("price",))
    assert rows_of(run(config, str(tmp_path / "l.parquet"), tmp_path))[0]["price"] == "1.50"


def test_long_rows_do_not_fill_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmcorpus.curation.download.lists.MAX_SHARD", 10_000)
    captions = ["x" * 4_000, "y" * 4_000, "z" * 4_000, "short", "w" * 2_000]
    rows = [{"url": f"http://a.test/{n}", "caption": caption} for n, caption in enumerate(captions)]
    listed = run(DownloadConfig(number_sample_per_shard=10), write(tmp_path / "l.jsonl", rows), tmp_path)
    assert ([len(row["caption"]) for row in rows_of(listed)], listed.dropped) == ([4_000, 4_000, 5], {"bad_row": 2})


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_texts_that_are_too_long_are_never_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A dictionary has them once, and a million rows may have them."""
    hashed: list[int] = []
    real = pair_uid
    monkeypatch.setattr(
        "mmcorpus.curation.download.lists.pair_uid",
        lambda url, caption: hashed.append(len(url) + len(caption)) or real(url, caption),
    )
    rows = [{"u": f"http://a.test/{n}", "c": "c" * 200_000, "n": n} for n in range(400)]
    rows += [{"u": "http://a.test/" + "u" * 200_000, "c": "c", "n": 0}, {"u": "http://a.test/x", "c": "kept", "n": 0}]
    listed = run(CONFIG, write(tmp_path / f"a.{kind}", rows), tmp_path / "out")
    assert [row["caption"] for row in rows_of(listed)] == ["kept"]
    assert listed.dropped == {"bad_row": 401}
    assert sum(hashed) < 200_000
    said = read_stages(str(tmp_path / "out" / "ledger"))["list"].to_pylist()
    assert all("at most 131,072 are read" in row["value"] for row in said if row["rule"] == "bad_row")


def test_a_file_of_which_no_row_can_be_read_is_named(tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl", [{"url": "http://a.test/1", "caption": "x"}, {"url": "http://a.test/2", "caption": [1]}]
    )
    write(tmp_path / "b.jsonl", [{"url": "http://a.test/3", "caption": ["x"]}] * 2)
    paths = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    for _ in range(2):  # made, and found again
        assert run(DownloadConfig(), paths, tmp_path / "out").unreadable == (paths[1],)


def test_what_is_no_list_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmcorpus.curation.download.lists.MAX_BAD_ROWS", 100)
    (tmp_path / "l.jsonl").write_text("{no json\n" * 200)
    with pytest.raises(ListError, match=r"l.jsonl is no list: of its first 100 rows 100 cannot be read"):
        run(DownloadConfig(), str(tmp_path / "l.jsonl"), tmp_path)
