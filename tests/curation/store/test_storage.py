"""Files local and on S3: whole or absent, equal values equal bytes."""

import os
import pickle
import re
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.row_tables import open_table, rows_of
from mmcorpus.curation.store.written import noting


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else str(request.getfixturevalue("s3_root"))


def test_what_is_written_is_read(root: str) -> None:
    path = storage.join(root, "deep", "er", "a.bin")
    assert not storage.exists(path)
    storage.write_bytes(path, b"0123456789")
    assert storage.exists(path)
    assert storage.read_bytes(path) == b"0123456789"
    assert storage.read_bytes(path, 2, 5) == b"234"
    storage.write_bytes(path, b"shorter")
    assert storage.read_bytes(path) == b"shorter"


def test_a_write_that_fails_leaves_what_was_there(root: str) -> None:
    path = storage.join(root, "a.bin")

    def interrupted() -> None:
        with storage.atomic_write(path) as file:
            file.write(b"half of it")
            raise RuntimeError("boom")

    for before in (None, b"before"):
        if before:
            storage.write_bytes(path, before)
        with pytest.raises(RuntimeError, match="boom"):
            interrupted()
        assert storage.exists(path) == (before is not None)
        assert storage.list_names(root) == (["a.bin"] if before else [])
    assert storage.read_bytes(path) == b"before"


def test_nothing_is_seen_before_the_end(root: str) -> None:
    path = storage.join(root, "a.bin")
    with storage.atomic_write(path) as file:
        file.write(b"x" * 100_000)
        file.flush()
        assert not storage.exists(path)
        assert storage.list_names(root) == []
    assert len(storage.read_bytes(path)) == 100_000


def test_names_are_sorted_and_of_one_folder(root: str) -> None:
    for name in ("b.txt", "a.txt", "sub/c.txt", "sub/deeper/d.txt"):
        storage.write_bytes(storage.join(root, name), b"x")
    assert storage.list_names(root) == ["a.txt", "b.txt", "sub"]
    assert storage.list_names(storage.join(root, "sub")) == ["c.txt", "deeper"]
    assert storage.list_names(storage.join(root, "none")) == []


def test_listings_are_not_cached(root: str) -> None:
    storage.write_bytes(storage.join(root, "a"), b"x")
    assert storage.list_names(root) == ["a"]
    storage.write_bytes(storage.join(root, "b"), b"x")
    assert storage.list_names(root) == ["a", "b"]
    storage.remove(storage.join(root, "a"))
    assert storage.list_names(root) == ["b"]


def test_move_replaces(root: str) -> None:
    old, new = storage.join(root, "old"), storage.join(root, "in", "new")
    storage.write_bytes(old, b"old")
    storage.write_bytes(new, b"new")
    storage.move(new, old)
    assert storage.read_bytes(old) == b"new"
    assert not storage.exists(new)


def test_remove_takes_files_and_folders_and_minds_nothing(root: str) -> None:
    for name in ("f/a", "f/b/c", "g"):
        storage.write_bytes(storage.join(root, name), b"x")
    storage.remove(storage.join(root, "f"))
    storage.remove(storage.join(root, "g"))
    storage.remove(storage.join(root, "never there"))
    assert storage.list_names(root) == []


def test_tables_and_json_round_trip_to_equal_bytes(root: str) -> None:
    table = pa.table({"uid": ["a", None], "x": pa.array([1, 2], pa.int32())}).replace_schema_metadata({"k": "v"})
    first, second = storage.join(root, "1.parquet"), storage.join(root, "2.parquet")
    for path in (first, second):
        storage.write_table(path, table)
    assert storage.read_bytes(first) == storage.read_bytes(second)
    assert storage.read_table(first).equals(table, check_metadata=True)
    assert storage.read_table(first, ["x"]).column_names == ["x"]
    assert storage.read_schema(first).names == ["uid", "x"]
    storage.write_json(storage.join(root, "1.json"), {"b": 1, "a": "ü"})
    storage.write_json(storage.join(root, "2.json"), {"a": "ü", "b": 1})
    assert storage.read_json(storage.join(root, "1.json")) == {"a": "ü", "b": 1}
    one, two = (storage.read_bytes(storage.join(root, name)) for name in ("1.json", "2.json"))
    assert one == two


def test_missing_files_say_so(root: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(storage.join(root, "none"))
    with pytest.raises(FileNotFoundError):
        storage.read_table(storage.join(root, "none.parquet"))


def test_a_full_disk_is_told_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=storage.DISK_FULL) as raised:
        storage.write_bytes(str(tmp_path / "a"), b"x")
    assert raised.value.filename == str(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


class RustError(Exception):
    """As safetensors and tokenizers raise them: no OSError, no errno."""


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RustError("I/O error: No space left on device (os error 28)")]
)
def test_a_full_disk_is_known_whoever_met_it(error: Exception) -> None:
    with (
        pytest.raises(OSError, match=storage.DISK_FULL) as raised,
        storage.naming_full_disk("outer"),
        storage.naming_full_disk("/run/inner's file"),
    ):
        raise error
    assert raised.value.errno == 28
    assert raised.value.filename == "/run/inner's file"


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(OSError, match="else") as raised, storage.naming_full_disk("/a"):
        raise OSError(5, "something else")
    assert raised.value.filename is None


def test_a_missing_bucket_is_named_and_not_made(s3_root: str) -> None:
    path = "s3://a-bucket-that-nobody-made/run/a.json"
    with pytest.raises(OSError, match="cannot be written: The specified bucket does not exist") as raised:
        storage.write_json(path, {})
    assert raised.value.filename == path
    assert not storage.exists("s3://a-bucket-that-nobody-made")


def test_remove_does_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    storage.remove(str(tmp_path / "link"))
    assert (tmp_path / "kept" / "file").exists()
    assert not (tmp_path / "link").exists()


def test_local_or_not(tmp_path: Path) -> None:
    assert storage.is_local(str(tmp_path))
    assert storage.is_local(f"file://{tmp_path}")
    assert not storage.is_local("s3://bucket/key")
    assert not storage.is_local("memory://x")


def test_what_killed_writers_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    left = ["a/b.parquet.0123456789ab.partial", "training/x/checkpoints/step-00000003.partial/model.safetensors"]
    kept = ["a/b.parquet", "holiday.mp4.partial", "training/x/checkpoints/step-00000002/state.json"]
    for name in (*left, *kept):
        storage.write_bytes(str(tmp_path / name), b"x")
    assert storage.sweep(str(tmp_path)) == 2
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
    assert storage.sweep(str(tmp_path / "nowhere")) == 0


def test_a_folder_in_a_files_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError, match="this is a folder; name a file"):
        storage.write_bytes(str(tmp_path / "a"), b"x")
    assert os.listdir(tmp_path) == ["a"]


def flipped(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


def test_a_page_that_differs_from_its_checksum_is_seen_and_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    storage.write_table(str(path), pa.table({"x": np.random.default_rng(0).random(1000)}))
    whole = path.read_bytes()
    start = pq.ParquetFile(path).metadata.row_group(0).column(0).dictionary_page_offset
    for place in range(start + 40, start + 5000, 487):
        flipped(path, place)
        with pytest.raises(storage.Damaged, match=re.escape(f"{path} is damaged, or no parquet file")):
            storage.read_table(str(path))
        with pytest.raises(storage.Damaged, match="mmcorpus verify"), storage.open_parquet(str(path)) as table:
            table.read_row_group(0)
        path.write_bytes(whole)
    assert storage.read_table(str(path)).num_rows == 1000


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1 cut", b"\0" * 100, b'{"x": [1, 2'])
@pytest.mark.parametrize("read", [storage.read_table, storage.read_schema, storage.read_json])
def test_what_cannot_be_read_is_named_and_noted(tmp_path: Path, read: Callable[[str], object], data: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(data)
    with noting() as notes, pytest.raises(storage.Damaged, match=re.escape(str(path))) as raised:
        read(str(path))
    assert list(notes.damaged) == [str(path)]
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.path) == (str(raised.value), str(path))


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_columns_of_one_name_are_not_called_damage(tmp_path: Path, form: str) -> None:
    table = pa.Table.from_arrays([pa.array(["1"]), pa.array(["a"]), pa.array(["b"])], names=["n", "text", "text"])
    path = str(tmp_path / f"x.{form}")
    if form == "parquet":
        storage.write_table(path, table)
    else:
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table)

    def read(columns: list[str]) -> int:
        with open_table(path) as opened:
            return len(list(rows_of(opened, columns)))

    assert read(["n"]) == 1
    with (
        noting() as notes,
        pytest.raises(storage.SeveralColumns, match=r"x\.\w+ has several columns named 'text'; rename"),
    ):
        read(["n", "text"])
    if form == "parquet":
        with pytest.raises(storage.SeveralColumns, match="several columns named 'text'"):
            storage.read_table(path, columns=["text"])
    assert not notes.damaged


def test_what_is_not_there_is_not_called_damaged(tmp_path: Path) -> None:
    for read in (storage.read_table, storage.read_schema, storage.read_json):
        with pytest.raises(FileNotFoundError):
            read(str(tmp_path / "none"))
    storage.write_table(str(tmp_path / "a.parquet"), pa.table({"x": [1]}))
    with pytest.raises(pa.ArrowInvalid, match="No match for FieldRef"):
        storage.read_table(str(tmp_path / "a.parquet"), columns=["y"])


@pytest.mark.parametrize("kind", ["local", "s3", "memory"])
def test_files_are_listed_with_their_sizes(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    root = {"local": str(tmp_path), "memory": f"memory://{tmp_path.name}"}.get(kind)
    root = str(request.getfixturevalue("s3_root")) if root is None else root
    for name, size in (("a/b/c.bin", 3), ("a.x/d.bin", 4), ("a/e.bin", 5)):
        storage.write_bytes(storage.join(root, name), b"x" * size)
    base = storage.filesystem(root)[1].rstrip("/") + "/"

    def listed(path: str) -> dict[str, int]:
        found = storage.list_files(storage.join(root, path))
        return {name.removeprefix(base): stat.size for name, stat in found.items()}

    assert listed("a") == {"a/b/c.bin": 3, "a/e.bin": 5}
    assert listed("a/e.bin") == {"a/e.bin": 5}
    assert listed("nothing") == {}
    assert all((stat.modified is None) == (kind != "local") for stat in storage.list_files(root).values())


@pytest.mark.parametrize(
    "read",
    [storage.read_bytes, storage.read_table, storage.read_schema, storage.exists, storage.list_names, storage.sha256],
)
@pytest.mark.parametrize("broken", ["answers 500", "breaks off"])
def test_what_a_store_says_is_told_of_its_path(
    read: Callable[[str], object], broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As s3fs raises them after its retries: without a path, or as aiohttp's own."""
    import aiohttp

    def fail(*_: object, **__: object) -> None:
        if broken == "answers 500":
            raise OSError(121, "Internal Server Error")
        raise aiohttp.ClientPayloadError("Response payload is not completed: received 6347 of 12694 bytes")

    class Broken(fsspec.AbstractFileSystem):
        protocol = "broken"
        cat_file = open = ls = exists = fail

    fsspec.register_implementation("broken", Broken, clobber=True)
    said = "Internal Server Error" if broken == "answers 500" else "the store broke off: .* 6347 of 12694 bytes"
    with pytest.raises(OSError, match=rf"{said}.*broken://b/l\.parquet"):
        read("broken://b/l.parquet")


def test_no_key_of_a_store_is_a_path_of_this_machine() -> None:
    """A store's listing may have keys that begin with a slash."""
    assert storage.join("s3://bucket", "/etc/passwd") == "s3://bucket//etc/passwd"
    assert storage.join("s3://bucket/a/", "/b", "c") == "s3://bucket/a//b/c"
    assert storage.join("s3://bucket/a/", "b", "c.txt") == "s3://bucket/a/b/c.txt"
    assert storage.join("/local", "/b") == "/b"


def test_a_store_that_refuses_a_connection_or_leads_astray_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMCORPUS_ALLOW_PRIVATE", "127.0.0.1")
    with pytest.raises(ValueError, match=r"^foo://h/x\.csv: Protocol not known: foo"):
        storage.filesystem("foo://h/x.csv")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError, match=r"'ftp://127\.0\.0\.1:\d+/x\.warc\.gz'"):
            storage.exists(f"ftp://127.0.0.1:{closed.getsockname()[1]}/x.warc.gz")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname" if self.path == "/file" else self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, said in (("loop", "redirects lead in a circle"), ("file", "no address of a web server")):
            with pytest.raises(OSError, match=said):
                storage.exists(f"http://127.0.0.1:{server.server_address[1]}/{name}")
            with pytest.raises(OSError, match=rf"{said}.*/{name}"):
                storage.filesystem(url := f"http://127.0.0.1:{server.server_address[1]}/{name}")[0].info(url)
        server.shutdown()
