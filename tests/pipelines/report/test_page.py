import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.pipelines.report import render_page, write_report

HOSTILE = '<script>alert("x")</script> & "quotes"'


def uid(number: int) -> str:
    return f"{number:032x}"


def jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A run of five listed rows: one dead link, four downloaded, two of those dropped, one held out."""
    root = str(tmp_path / "run")
    with ShardWriter(Shard(root=f"{root}/shards/pairs", name="00000")) as writer:
        for n in range(4):
            image = EncodedImage(extension="jpg", data=jpeg(n))
            meta = {"url": f"http://x.test/{n}.jpg"}
            writer.write(Sample(key=f"{n:05d}", uid=uid(n), caption=HOSTILE, images=(image,), meta=meta))
    table = pa.table(
        {
            "uid": [uid(n) for n in range(4)],
            "min_side": pa.array([40, 30, None, 500], pa.int32()),
            "reason": pa.array([None, None, "undecodable", None], pa.string()),
        }
    )
    origin = Origin(scorer="image", version="1", fingerprint="f" * 16)
    write_scores(f"{root}/scores/pairs", "00000", table, origin)
    folder = f"{root}/ledger/pairs"
    ledger.write_stage(folder, "list", [ledger.entry(uid(n), "list", row=n) for n in range(5)])
    downloads = [ledger.entry(uid(n), "download") for n in range(4)]
    downloads.append(ledger.entry(uid(4), "download", rule="http_404", value="http_404: Not Found"))
    ledger.write_stage(folder, "download", downloads)
    rule = "image.min_side >= 35"
    selected = [
        ledger.entry(uid(0), "select"),
        ledger.entry(uid(1), "select", rule=rule, value="image.min_side=30.123456"),
        ledger.entry(uid(2), "select", rule=rule, value="unscored"),
        ledger.entry(uid(3), "select", value="heldout"),
    ]
    ledger.write_stage(folder, "select", selected)
    clause = {"clause": rule, "alone": 2, "in_order": 2, "unscored": 1, "columns": ["image.min_side"]}
    threshold = {"column": "image.min_side", "op": ">=", "value": 35}
    explain = {"samples": 4, "kept": 1, "heldout": 1, "clauses": [{**clause, "thresholds": [threshold]}]}
    storage.write_json(f"{root}/selections/pairs.explain.json", explain)
    counts = pa.array([1], pa.int32())
    storage.write_table(f"{root}/selections/pairs.parquet", pa.table({"uid": [uid(0)], "count": counts}))
    record = {"status": "done", "seconds": 2.0, "counts": {"samples": 4}}
    storage.write_json(
        f"{root}/run.json", {"name": HOSTILE, "order": ["pairs/score"], "stages": {"pairs/score": record}}
    )
    storage.write_bytes(f"{root}/recipe.yaml", b"name: x  # <b>bold</b>\n")
    return root


class Outline(HTMLParser):
    """Every tag that would load or run something, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.active: list[str] = []
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "link", "embed"):
            self.active.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def outline(page: str) -> Outline:
    parser = Outline()
    parser.feed(page)
    return parser


def test_what_the_web_wrote_is_text_and_nothing_is_loaded_from_elsewhere(run: str) -> None:
    page = outline(render_page(run))
    assert page.active == []
    assert all(source.startswith(("data:image/jpeg;base64,", "#")) for source in page.sources)
    assert 'alert("x")' in page.text, "the caption itself is shown"


def test_the_funnel_says_what_the_ledger_says(run: str) -> None:
    text = re.sub(r"\s+", " ", outline(render_page(run)).text)
    assert "listed 5 of 5" in text
    assert "downloaded 4 of 5 −1 http_404" in text
    assert "selected 2 of 4 1 of these are held out" in text
    assert "−2 image.min_side >= 35" in text


def test_failures_name_an_example_and_values_are_short(run: str) -> None:
    text = outline(render_page(run)).text
    assert "Not Found" in text
    assert "image.min_side=30.1234" in text
    assert "30.123456" not in text


def test_a_threshold_is_drawn_over_the_scores_it_judges(run: str) -> None:
    page = render_page(run)
    figure = next(part for part in page.split("<figure>")[1:] if "image.min_side" in part)
    assert 'class="threshold"' in figure
    assert "1 unscored" in figure


def test_a_picture_is_shown_for_kept_and_for_dropped(run: str) -> None:
    assert render_page(run).count("data:image/jpeg") == 4, "two kept, two dropped by the clause"


def test_the_report_is_written_and_an_empty_run_has_one_too(run: str, tmp_path: Path) -> None:
    assert Path(write_report(run)).read_text() == render_page(run)
    bare = str(tmp_path / "bare")
    storage.write_json(f"{bare}/run.json", {"name": "bare", "order": [], "stages": {}})
    assert "nothing has run yet" in render_page(bare)
    with pytest.raises(FileNotFoundError, match=re.escape("no run.json")):
        write_report(str(tmp_path / "elsewhere"))


class Inline(HTMLParser):
    """What a page would run or fetch, and its policy."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.fetched: list[str] = []
        self.policy = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.scripts += [name for name in given if name.startswith("on")]
        if tag in ("script", "iframe", "object", "embed", "link", "base", "form"):
            self.scripts.append(tag)
        address = given.get("src") or given.get("href") or given.get("xlink:href") or ""
        if not address.startswith(("#", "data:image/")) and address:
            self.fetched.append(address)
        if tag == "meta" and given.get("http-equiv") == "Content-Security-Policy":
            assert not self.fetched, "it stands before what it is about"
            self.policy = given["content"] or ""


def test_the_policy_forbids_all_that_the_page_does_not_do(run: str) -> None:
    text = render_page(run)
    found = Inline()
    found.feed(text)
    rules = {name: values for name, *values in (rule.split() for rule in found.policy.split(";"))}
    assert rules["default-src"] == ["'none'"], "so no script, no frame, no request"
    assert "script-src" not in rules
    assert rules["img-src"] == ["data:"]
    assert rules["style-src"] == ["'unsafe-inline'"]
    assert rules["form-action"] == rules["base-uri"] == ["'none'"]
    assert not found.scripts
    assert not found.fetched
    assert text.index("Content-Security-Policy") < text.index("<style>")
    assert "url(" not in text.partition("<style>")[2].partition("</style>")[0]


def test_both_ends_of_a_perplexity_and_of_what_is_ranked_are_shown(run: str) -> None:
    """Of what has a score; a column that is only compared with a number has no gallery."""
    perplexities = pa.table(
        {
            "uid": [uid(n) for n in range(4)],
            "ppl": pa.array([9.0, None, 3.0, 1234.5678]),
            "reason": pa.array([None, "blank", None, None], pa.string()),
        }
    )
    write_scores(
        f"{run}/scores/pairs", "00000", perplexities, Origin(scorer="judge", version="1", fingerprint="a" * 16)
    )
    path = f"{run}/selections/pairs.explain.json"
    explain = storage.read_json(path)
    clause = {**explain["clauses"][0], "clause": "top(image.min_side, 0.5)", "thresholds": []}
    storage.write_json(path, {**explain, "clauses": [*explain["clauses"], clause]})
    page = render_page(run)

    def notes(title: str) -> list[str]:
        gallery = page.split(f"<h3>pairs: {title}</h3>")[1].split("<h3>")[0]
        return re.findall(r'<div class="why">([^<]*)</div>', gallery)

    assert notes("lowest judge.ppl") == ["3", "9", "1235"]
    assert notes("highest judge.ppl") == ["1235", "9", "3"]
    assert notes("highest image.min_side") == ["500", "40", "30"]
    storage.write_json(path, explain)
    assert "lowest image.min_side" not in render_page(run)
