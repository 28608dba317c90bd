"""Generated pages hold what their truth says, in its order, however they are sent."""

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.synthetic.miniweb import MiniWebConfig, generate_site, serve_site
from mmcorpus.curation.synthetic.miniweb.pages import PAGE_CORRUPTIONS
from mmcorpus.curation.synthetic.miniweb.pages.content import Shown
from mmcorpus.curation.synthetic.miniweb.pages.embed import WAYS
from mmcorpus.curation.synthetic.miniweb.pages.make import make_pages
from mmcorpus.curation.synthetic.miniweb.pages.plan import plan_pages
from mmcorpus.curation.synthetic.miniweb.pages.templates import TEMPLATES
from mmcorpus.curation.synthetic.miniweb.site import read_site
from mmcorpus.curation.synthetic.render import BASIC_KINDS as KINDS
from mmcorpus.curation.synthetic.render import render

CONFIG = MiniWebConfig(pairs=110, instructions=0, pages=90, spoil=0.45, waits=0, sides=(96, 128), seed=3)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pages") / "site"
    generate_site(CONFIG, str(out), workers=1)
    return out


@pytest.fixture(scope="module")
def truth(site: Path) -> list[dict]:
    return pq.read_table(site / "pages.truth.parquet").to_pylist()


def members(path: Path) -> Iterator[bytes]:
    """The records of a gzipped WARC; empty for one that is damaged."""
    data = path.read_bytes()
    for piece in re.split(rb"(?=\x1f\x8b\x08\x00\x00\x00\x00\x00)", data)[1:]:
        try:
            yield gzip.decompress(piece)
        except (zlib.error, gzip.BadGzipFile, EOFError):
            yield b""


@pytest.fixture(scope="module")
def records(site: Path) -> dict[tuple[str, str], tuple[dict[str, str], bytes]]:
    """HTTP headers (names in lower case, `status` among them) and body by address and date."""
    found = {}
    for path in sorted((site / "pages").glob("*.warc.gz")):
        for record in members(path):
            if b"WARC-Type: response" not in record:
                continue
            head, _, block = record.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
            http, _, body = block.partition(b"\r\n\r\n")
            status, *lines = http.decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            found[fields["WARC-Target-URI"], fields["WARC-Date"]] = (headers | {"status": status.split()[1]}, body[:-4])
    return found


def decode(headers: dict[str, str], body: bytes) -> str:
    """The page's text as a browser decodes it."""
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    if "transfer-encoding" in headers:
        body = b"".join(re.split(rb"(?:^|\r\n)[0-9a-f]+\r\n", body)) if body else body
    if body.startswith(b"\xff\xfe"):
        return body[2:].decode("utf-16-le")
    meta = re.search(rb'<meta[^>]*charset="?([\w-]+)', body)
    _, _, named = headers["content-type"].partition("charset=")
    name = named or (meta[1].decode() if meta else "utf-8")
    name = {"iso-8859-1": "cp1252", "gb2312": "gb18030", "shift_jis": "cp932"}.get(name.lower(), name)
    return body.decode(name)


class Stream(HTMLParser):
    """All of a page's body as one text without white space, in which every image address stands between marks."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._unseen += tag in ("script", "style", "title")
        if tag in ("img", "source", "a"):
            self.parts += [f"\0{value}\0" for _, value in attrs if value]

    def handle_endtag(self, tag: str) -> None:
        self._unseen -= tag in ("script", "style", "title")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append("".join(data.split()))


def stream(page: str) -> str:
    parser = Stream()
    parser.feed(page)
    return "".join(parser.parts)


def test_every_page_holds_its_nodes_in_order(truth: list[dict], records: dict):
    checked = 0
    for row in truth:
        if not row["nodes"]:
            continue
        text = stream(decode(*records[row["url"], row["date"]]))
        place = 0
        for node in row["nodes"]:
            if node["text"] is not None:
                wanted = "".join(node["text"].split())
            else:
                url = node["url"]
                wanted = url[:80] if url.startswith("data:") else urlsplit(url).path.rpartition("/")[2]
            found = text.find(wanted, place)
            assert found >= 0, (row["spoil"], row["template"], row["url"], wanted)
            place = found + (len(wanted) if node["text"] is not None else 1)
        checked += 1
    assert checked > 70


def test_every_page_is_a_record_and_only_damaged_ones_cannot_be_read(truth: list[dict], records: dict):
    for row in truth:
        assert ((row["url"], row["date"]) in records) == (row["spoil"] != "corrupt_record")
    assert Counter((row["url"], row["date"]) for row in truth).most_common(1)[0][1] == 1
    robots = [url for url, _ in records if url.endswith("/robots.txt")]
    assert "http://closed.miniweb.test/robots.txt" in robots
    assert ("http://quiet.miniweb.test/ai.txt", "2024-01-31T00:00:00Z") in records


def test_every_corruption_and_template_is_there(truth: list[dict]):
    slots = plan_pages(replace(CONFIG, pages=400, pairs=600))
    assert {slot.spoil for slot in slots} == {*PAGE_CORRUPTIONS, "clean"}
    assert {slot.template for slot in slots} == set(TEMPLATES)
    assert [(row["spoil"], row["template"]) for row in truth] == [(s.spoil, s.template) for s in plan_pages(CONFIG)]
    assert sum(row["spoil"] != "clean" for row in truth) == pytest.approx(0.45 * 90, abs=1)
    planted = Counter(node["spoil"] for row in truth for node in row["nodes"])
    for name in (
        "url_on_many_pages",
        "bytes_on_many_pages",
        "repeated_on_page",
        "repeated_paragraph",
        "http_404",
        "icon",
    ):
        assert planted[name], name


def test_good_pictures_are_served_at_every_address_that_shows_them(site: Path, truth: list[dict], get: Callable):
    routes = read_site(str(site)).routes
    pictures = [node for row in truth for node in row["nodes"] if node["url"] and node["spoil"] is None]
    for node in pictures:
        assert node["choices"][0] == node["url"]
        for url in node["choices"]:
            parts = urlsplit(url)
            assert parts.scheme == "data" or routes[parts.hostname + parts.path].status == 200
    remote = [node["url"] for node in pictures if node["url"].startswith("http")]
    assert max(Counter(remote).values()) <= 10
    with serve_site(str(site)) as running:
        for url in remote[:10]:
            assert get(url, running.connect_to).headers["Content-Type"].startswith("image/")
        assert get("http://blog.miniweb.test/static/logo.png", running.connect_to).status == 200


def test_pages_that_repeat_others_do(truth: list[dict]):
    by_url: dict[str, list[dict]] = {}
    for row in truth:
        by_url.setdefault(row["url"], []).append(row)
    for row in truth:
        original = by_url[row["duplicate_of"]] if row["duplicate_of"] else []
        if row["spoil"] == "captured_twice":
            (later,) = (other for other in original if other is not row)
            assert later["url"] == row["url"]
            assert later["date"] > row["date"]
        elif row["spoil"] == "near_duplicate":
            texts = {node["text"] for node in original[0]["nodes"]} & {node["text"] for node in row["nodes"]}
            assert len(texts) >= 3
        elif row["spoil"] == "same_images":
            assert [n["url"] for n in original[0]["nodes"] if n["url"]] == [n["url"] for n in row["nodes"] if n["url"]]
        else:
            assert row["duplicate_of"] is None
    assert sum(row["duplicate_of"] is not None for row in truth) >= 3


def test_the_same_bytes_every_time_and_none_are_left(site: Path, tmp_path: Path):
    generate_site(CONFIG, str(tmp_path), workers=1)
    for path in sorted((site / "pages").iterdir()):
        assert (tmp_path / "pages" / path.name).read_bytes() == path.read_bytes()
    for name in ("site.json", "pages.truth.parquet"):
        assert (tmp_path / name).read_bytes() == (site / name).read_bytes()
    generate_site(replace(CONFIG, pages=0), str(tmp_path), workers=1)
    assert not (tmp_path / "pages").exists()
    assert not (tmp_path / "pages.truth.parquet").exists()


def test_every_way_of_embedding_comes_up(records: dict):
    pages = "".join(decode(headers, body) for headers, body in records.values() if headers["status"] == "200"
                    and headers["content-type"].startswith("text/html") and "charset=utf-8" in headers["content-type"]
                    and "content-encoding" not in headers and "transfer-encoding" not in headers
                    and not body.startswith(b"\xff\xfe"))  # fmt: skip
    for sign in ('src="//', " srcset=", "<picture>", "<noscript><img", "data-srcset", "-preview", "?w=1024&amp;h=768"):
        assert sign in pages, sign
    assert len(WAYS) == 14


@pytest.mark.parametrize("seed", range(6))
def test_every_plan_can_be_made(seed: int):
    pictures = [render(kind, number, size=(80, 64)) for kind in KINDS for number in range(3)]
    shown = [
        Shown(url=f"http://images.miniweb.test/{number}.jpg", file="x", size=(80, 64), kind=picture.kind,
              facts=picture.facts, captions=picture.captions, qa=picture.qa)
        for number, picture in enumerate(pictures * 30)
    ]  # fmt: skip
    config = MiniWebConfig(pairs=2000, pages=300, spoil=0.9, seed=seed)
    made = make_pages(config, shown, shown[:5], lambda file: b"")
    assert len(made) == 300
    assert len({(page.draft.url, page.draft.date) for page in made}) == 300


def test_too_many_pages_for_the_pictures_are_refused():
    with pytest.raises(ValueError, match="too few pictures"):
        MiniWebConfig(pairs=20, pages=100)
    with pytest.raises(ValueError, match="pages is -1"):
        MiniWebConfig(pages=-1)
