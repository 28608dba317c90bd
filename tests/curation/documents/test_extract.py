"""The extract stage: every page a row, in shards that depend on the inputs alone."""

import functools
import gzip
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.crawl.optout.decide import OptOutConfig
from mmcorpus.curation.crawl.optout.site_rules import read_site_files
from mmcorpus.curation.documents.extract import ExtractReport, extract_documents
from mmcorpus.curation.html.nodes import ImageNode, from_json
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.compressed import HEAD
from mmcorpus.curation.store.shards import list_shards, read_rows
from mmcorpus.curation.synthetic.write_warc import Capture, write_warc
from tests.curation.documents.page_corpus import HOST, html, pages, tree

pytestmark = pytest.mark.filterwarnings("ignore")


def extract(inputs: Any, out: Path | str, *, kind: Any = "document", **options: Any) -> ExtractReport:
    """In this process, if the options do not say otherwise: what Ray adds is tested below."""
    options = {"records_per_shard": 4, "workers": 0, **options}
    return extract_documents(PagesConfig(**options), inputs, f"{out}/documents", f"{out}/ledger", kind=kind)


def rows(out: Path | str) -> list[dict[str, Any]]:
    return [row for shard in list_shards(f"{out}/documents") for row in read_rows(shard).to_pylist()]


def odd_pages() -> list[Capture]:
    """Ten pages, four of which are documents."""
    page = html(0)
    text = {"Content-Type": "text/html"}
    return [
        *pages(2),
        Capture(f"{HOST}/gone", b"<p>gone", text, status=404),
        Capture(f"{HOST}/cat.png", b"\x89PNG", {"Content-Type": "image/png"}),
        Capture(f"{HOST}/robots.txt", b"User-agent: *\nDisallow: /x", {"Content-Type": "text/plain"}),
        Capture(f"{HOST}/pdf", b"%PDF-1.4 x", text),
        Capture(f"{HOST}/empty", b"  ", text),
        Capture(f"{HOST}/gzip", gzip.compress(page)[:-20], {**text, "Content-Encoding": "gzip"}),
        Capture(f"{HOST}/bomb", gzip.compress(bytes(30_000_000)), {**text, "Content-Encoding": "gzip"}),
        Capture(f"{HOST}/zipped", gzip.compress(html(7)), {**text, "Content-Encoding": "gzip"}),
        Capture(f"{HOST}/last", html(9), text),
    ]


def test_every_page_is_a_row_and_the_ledger_adds_up(tmp_path: Path) -> None:
    path = str(tmp_path / "a.warc.gz")
    write_warc(path, odd_pages())
    report = extract(path, tmp_path)
    assert (report.pages, report.documents, report.shards) == (9, 4, 3)
    assert report.failed == {"http_404": 1, "not_html": 1, "empty": 1, "undecodable": 1, "too_large": 1}
    assert report.others == {"warcinfo": 1, "response image/png": 1, "robots.txt": 1}
    found = rows(tmp_path)
    assert [row["url"].rpartition("/")[2] for row in found] == [
        "0", "1", "gone", "pdf", "empty", "gzip", "bomb", "zipped", "last",
    ]  # fmt: skip
    assert [row["key"] for row in found] == [f"00000{part:04d}{row}" for part in range(3) for row in range(4)][:9]
    assert len({row["uid"] for row in found}) == 9
    first = found[0]
    assert {name: first[name] for name in ("status", "domain", "date", "file", "charset", "language", "title")} == {
        "status": "success", "domain": "site.test", "date": "2024-01-01T00:00:00Z", "file": path,
        "charset": "utf-8", "language": "en", "title": "Page 0",
    }  # fmt: skip
    nodes = from_json(first["nodes"])
    assert [node.url for node in nodes if isinstance(node, ImageNode)] == [f"{HOST}/i/0.jpg"]
    assert (first["images"], first["texts"]) == (1, len(nodes) - 1)
    assert first["words"] > 100
    with open(path, "rb") as file:
        file.seek(first["offset"])
        assert html(0) in gzip.decompress(file.read(first["length"]))
    table = ledger.read_stages(f"{tmp_path}/ledger")["extract"]
    assert sorted(table["uid"].to_pylist()) == sorted(row["uid"] for row in found)
    assert {row["uid"]: row["rule"] for row in table.to_pylist()} == {
        row["uid"]: row["error_message"] and row["error_message"].partition(":")[0] for row in found
    }
    assert [file.text for file in read_site_files(f"{tmp_path}/documents/sites")] == ["User-agent: *\nDisallow: /x"]


def test_text_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "a.warc")
    write_warc(path, [*pages(1), Capture(f"{HOST}/i", b"<p><img src=/a.jpg width=800 height=600>")])
    report = extract(path, tmp_path, kind="text")
    assert (report.documents, report.images) == (1, 0)
    assert report.failed == {"empty": 1}


def test_what_pages_ask_is_kept_with_who_asks(tmp_path: Path) -> None:
    (tmp_path / "block.txt").write_text("site.test/blocked\n")
    kind = {"Content-Type": "text/html"}
    write_warc(
        str(tmp_path / "a.warc"),
        [
            Capture(f"{HOST}/1", html(1, head='<meta name="robots" content="noai">'), kind),
            Capture(f"{HOST}/2", html(2), {**kind, "X-Robots-Tag": "noimageai"}),
            Capture(f"{HOST}/blocked/3", html(3), kind),
            Capture(f"{HOST}/4", html(4), kind),
        ],
    )
    lists = OptOutConfig(block_lists=(str(tmp_path / "block.txt"),))
    report = extract(str(tmp_path / "a.warc"), tmp_path, opt_out=lists)
    asked = [(row["opt_out"], [node.opt_out for node in from_json(row["nodes"]) if isinstance(node, ImageNode)])
             for row in rows(tmp_path)]  # fmt: skip
    assert asked[0] == ("meta robots: noai", ["meta robots: noai"])
    assert asked[1] == (None, ["header x-robots-tag: noimageai"])
    assert asked[2][0] == f"blocklist {tmp_path / 'block.txt'}: site.test/blocked"
    assert asked[3] == (None, [None])
    assert (report.opted_out, report.documents) == (2, 4)


class Counting(io.BytesIO):
    """A file that knows where it was read, but for the bytes that tell its kind."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.lowest = len(data)

    def read(self, size: int | None = -1) -> bytes:
        if size != HEAD:
            self.lowest = min(self.lowest, self.tell())
        return super().read(size)


@pytest.mark.parametrize("ending", [".warc.gz", ".warc.zst", ".warc"])
def test_a_rerun_seeks_to_what_is_missing_and_writes_the_same_bytes(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{ending}"
    write_warc(str(path), pages(14))
    extract(str(path), tmp_path / "whole")
    extract(str(path), tmp_path / "resumed")
    documents = tmp_path / "resumed" / "documents"
    for name in ("000000002", "000000003"):
        for end in (".parquet", "_stats.json"):
            (documents / f"{name}{end}").unlink()
    counting = Counting(path.read_bytes())
    import contextlib

    monkeypatch.setattr("mmcorpus.curation.documents.extract.open_input", lambda path: contextlib.nullcontext(counting))
    report = extract(str(path), tmp_path / "resumed")
    assert (report.extracted, report.pages) == (6, 14)
    begin = storage.read_json(f"{documents}/000000001_stats.json")["next"][0]
    assert begin > len(counting.getvalue()) // 2
    assert counting.lowest >= (begin if ending != ".warc.zst" else 0)
    assert tree(tmp_path / "whole") == tree(tmp_path / "resumed")
    counting.lowest = -1
    assert extract(str(path), tmp_path / "resumed").extracted == 0


def test_other_inputs_or_options_are_not_mixed(tmp_path: Path) -> None:
    write_warc(str(tmp_path / "a.warc"), pages(6))
    write_warc(str(tmp_path / "b.warc"), pages(6, begin=6))
    extract(str(tmp_path / "a.warc"), tmp_path)
    with pytest.raises(ValueError, match=r"documents made from something else \(inputs changed"):
        extract(str(tmp_path / "b.warc"), tmp_path)
    with pytest.raises(ValueError, match=r"documents made from something else \(records_per_shard changed from"):
        extract(str(tmp_path / "a.warc"), tmp_path, records_per_shard=5)
    (tmp_path / "documents" / "000000001_stats.json").unlink()
    write_warc(str(tmp_path / "a.warc"), pages(8))
    report = extract(str(tmp_path / "a.warc"), tmp_path)
    assert "has changed" in report.failed_files[str(tmp_path / "a.warc")]


def test_a_file_that_cannot_be_opened_is_named_and_tried_again(tmp_path: Path) -> None:
    write_warc(str(tmp_path / "a.warc"), pages(3))
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    (tmp_path / "list.paths").write_text("a.warc\nb.parquet\ngone.warc\n")
    report = extract(str(tmp_path / "list.paths"), tmp_path)
    assert report.documents == 3
    assert sorted(report.failed_files) == [str(tmp_path / "b.parquet"), str(tmp_path / "gone.warc")]
    table = ledger.read_stages(f"{tmp_path}/ledger")["extract"].to_pylist()
    assert [row["rule"] for row in table if row["rule"]] == ["unreadable_file"] * 2
    write_warc(str(tmp_path / "gone.warc"), pages(2, begin=3))
    pq.write_table(pa.table({"text": ["Now it is."]}), tmp_path / "b.parquet")
    report = extract(str(tmp_path / "list.paths"), tmp_path)
    assert (report.documents, report.failed_files) == (6, {})
    table = ledger.read_stages(f"{tmp_path}/ledger")["extract"].to_pylist()
    assert [row["verdict"] for row in table] == ["kept"] * 6


def test_folders_and_archives_and_tables_together(tmp_path: Path) -> None:
    import zipfile

    folder = tmp_path / "in"
    (folder / "site").mkdir(parents=True)
    for number in range(6):
        (folder / "site" / f"{number}.html").write_bytes(html(number))
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.writestr("7.html", html(7))
    table = {"html": [html(8).decode()], "url": [f"{HOST}/8"]}
    pq.write_table(pa.table(table), folder / "pages.parquet")
    report = extract(str(folder), tmp_path, url_prefix=f"{HOST}/")
    assert (report.files, report.documents, report.shards) == (4, 8, 4)
    assert sorted(row["url"] for row in rows(tmp_path)) == sorted(
        [f"{HOST}/8", f"{HOST}/7.html", *(f"{HOST}/site/{number}.html" for number in range(6))]
    )


def test_a_page_that_breaks_the_extractor_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mmcorpus.curation.html

    real = mmcorpus.curation.html.extract

    def breaks(body: bytes, url: str, *args: Any, **options: Any) -> Any:
        if url.endswith("/1"):
            raise RecursionError("too deep")
        return real(body, url, *args, **options)

    monkeypatch.setattr("mmcorpus.curation.html.extract", breaks)
    write_warc(str(tmp_path / "a.warc"), pages(3))
    report = extract(str(tmp_path / "a.warc"), tmp_path)
    assert (report.documents, report.failed) == (2, {"internal": 1})


def test_on_s3(s3_root: str, tmp_path: Path) -> None:
    write_warc(f"{s3_root}/in/a.warc.gz", pages(6))
    write_warc(f"{s3_root}/in/b.warc.zst", pages(6, begin=6))
    report = extract(f"{s3_root}/in", f"{s3_root}/out")
    assert (report.documents, report.failed_files) == (12, {})
    local = tmp_path / "in"
    fsspec.filesystem("s3").get(f"{s3_root}/in/", str(local), recursive=True)
    extract(f"{local}", tmp_path)
    remote = [{**row, "file": "", "uid": ""} for row in rows(f"{s3_root}/out")]
    assert remote == [{**row, "file": "", "uid": ""} for row in rows(tmp_path)]
    fs = fsspec.filesystem("s3")
    fs.rm(f"{s3_root}/out/documents/000000001_stats.json")
    assert extract(f"{s3_root}/in", f"{s3_root}/out").extracted == 2


class Ranges(http.server.SimpleHTTPRequestHandler):
    """A server of files that knows ranges, as Common Crawl's does."""

    def do_GET(self) -> None:
        data = Path(self.directory, self.path.lstrip("/")).read_bytes()
        asked = self.headers.get("Range")
        begin, end = 0, len(data)
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(len(data), int(last or len(data)) + 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        self.wfile.write(data[begin:end])

    def log_message(self, *_: Any) -> None:
        """Quiet."""


class NoRanges(http.server.SimpleHTTPRequestHandler):
    """Python's own server, which sends files whole."""

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture(params=[Ranges, NoRanges])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "www").mkdir()
    handler = functools.partial(request.param, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_over_http(server: str, tmp_path: Path) -> None:
    write_warc(f"{tmp_path}/www/a.warc.gz", pages(6))
    (tmp_path / "warc.paths.gz").write_bytes(gzip.compress(b"a.warc.gz\n"))
    refused = extract(str(tmp_path / "warc.paths.gz"), tmp_path / "refused", prefix=f"{server}/")
    assert "private_address: 127.0.0.1 is loopback" in refused.failed_files[f"{server}/a.warc.gz"]
    allowed = {"prefix": f"{server}/", "allow_private": True}
    report = extract(str(tmp_path / "warc.paths.gz"), tmp_path, **allowed)
    assert (report.documents, report.failed_files) == (6, {})
    (tmp_path / "documents" / "000000001_stats.json").unlink()
    assert extract(str(tmp_path / "warc.paths.gz"), tmp_path, **allowed).extracted == 2
    assert [row["file"] for row in rows(tmp_path)] == [f"{server}/a.warc.gz"] * 6


def test_on_ray_any_number_of_workers_writes_the_same(ray_local: None, tmp_path: Path) -> None:
    for number in range(3):
        write_warc(f"{tmp_path}/in/{number}.warc.gz", pages(9, begin=10 * number))
    report = extract(f"{tmp_path}/in", tmp_path / "one", workers=1)
    assert (report.documents, report.shards) == (27, 9)
    extract(f"{tmp_path}/in", tmp_path / "two", workers=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_pages_of_several_archives_are_no_captures_of_one_another(tmp_path: Path) -> None:
    names = []
    for site in ("alpha", "beta"):
        names.append(str(tmp_path / f"{site}.zip"))
        with zipfile.ZipFile(names[-1], "w") as archive:
            archive.writestr("index.html", html(1) + site.encode())
    report = extract(names, tmp_path)
    assert report.documents == 2
    assert [row["url"] for row in rows(tmp_path)] == ["file:///alpha.zip/index.html", "file:///beta.zip/index.html"]
    alone = tmp_path / "alone"
    extract(names[:1], alone)
    assert [row["url"] for row in rows(alone)] == ["file:///index.html"]


def test_a_file_of_another_kind_than_its_name_is_read_as_what_it_is(tmp_path: Path) -> None:
    write_warc(str(tmp_path / "a.warc"), [Capture(f"{HOST}/1", html(1), {"Content-Type": "text/html"})])
    for name in ("a.zip", "a.jsonl.gz", "a.parquet", "a.tar.gz"):
        (tmp_path / name).write_bytes((tmp_path / "a.warc").read_bytes())
        assert extract(str(tmp_path / name), tmp_path / f"out-{name}").documents == 1
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + html(1)
    records = [b"filedesc://b.arc 0.0.0.0 20040102030405 text/plain 0\n",
               b"http://a.test/ 1.2.3.4 20040102030405 text/html %d\n" % len(page) + page]  # fmt: skip
    (tmp_path / "b.warc.gz").write_bytes(b"".join(map(gzip.compress, records)))
    report = extract(str(tmp_path / "b.warc.gz"), tmp_path / "arc")
    assert (report.documents, report.failed_files) == (1, {})
    (tmp_path / "c.warc.gz").write_bytes(gzip.compress(b"no record of any kind"))
    report = extract(str(tmp_path / "c.warc.gz"), tmp_path / "none")
    assert "nothing in it can be read (1 bad_record)" in str(report.failed_files)
