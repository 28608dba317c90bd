"""A pack drawn: runs of tokens are those of the sequence, and the page stands alone and is safe."""

import io
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mmcorpus.curation.store.shards import EncodedImage
from mmcorpus.packing import IMAGE_TOKEN, PackedSequence, train_tokenizer
from mmcorpus.packing.index import write_index
from mmcorpus.packing.layout import InternVLLayout
from mmcorpus.packing.manifest import describe_tokenizer, write_manifest
from mmcorpus.packing.packs import PackShardWriter
from mmcorpus.packing.tokens import load_tokenizer
from mmcorpus.packing.window import PLAN_SCHEMA
from mmcorpus.pipelines.cli import app
from mmcorpus.pipelines.report.packs import samples_of
from mmcorpus.pipelines.report.training import seen


def picture(color: tuple[int, int, int]) -> EncodedImage:
    file = io.BytesIO()
    Image.new("RGB", (30, 20), color).save(file, "PNG")
    return EncodedImage(extension="png", data=file.getvalue())


def sequence(words: list[int]) -> PackedSequence:
    """A pair with two captions, a document of two images, a text that is nothing but context."""
    a, b, c, d = words
    return PackedSequence(
        sequence=0,
        input_ids=np.array([IMAGE_TOKEN, a, b, c, d, IMAGE_TOKEN, IMAGE_TOKEN, b, c, a, a], dtype=np.int32),
        uids=("a" * 32, "b" * 32, "c" * 32),
        sources=("pairs", "pages", "pairs"),
        lengths=(8, 10, 2),
        token_counts=(5, 4, 2),
        image_counts=(1, 2, 0),
        loss_spans=(((2, 4), (4, 5)), ((7, 9),), ()),
        images=(picture((200, 0, 0)), EncodedImage(extension="jpg", data=b"no image"), picture((0, 0, 200))),
        branches=((2, 4), (), ()),
    )


def test_runs_are_images_loss_and_text_where_they_stand() -> None:
    pair, document, text = samples_of(sequence([5, 6, 7, 8]), 4)
    assert [(run.kind, run.start, run.stop, run.branch) for run in pair.runs] == [
        ("image", 0, 4, 0), ("text", 4, 5, 0), ("loss", 5, 7, 1), ("loss", 7, 8, 2),
    ]  # fmt: skip
    assert [(run.kind, run.start, run.stop) for run in document.runs] == [
        ("image", 8, 12), ("image", 12, 16), ("loss", 16, 18),
    ]  # fmt: skip
    assert document.images == (1, 2)
    assert [(run.kind, run.start, run.stop) for run in text.runs] == [("text", 18, 20)]


def test_images_take_what_their_layout_says() -> None:
    layout = InternVLLayout()
    packed = sequence([5, 6, 7, 8])
    sizes = ((300, 200), (2000, 500), (448, 448))
    lengths = layout.lengths(*np.array(sizes).T)
    runs = [
        run
        for sample in samples_of(PackedSequence(**(fields(packed) | {"sizes": sizes})), layout)
        for run in sample.runs
        if run.kind == "image"
    ]
    assert [run.stop - run.start for run in runs] == lengths.tolist()


def fields(packed: PackedSequence) -> dict[str, Any]:
    return {name: getattr(packed, name) for name in PackedSequence.__slots__}


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = str(tmp_path_factory.mktemp("packs"))
    tokenizer = load_tokenizer(train_tokenizer(["red <b>bold</b> cats run"] * 3, 300, f"{root}/tokenizer"))
    words = [tokenizer.encode(word)[0] for word in ("red", "<", "cats", "run")]
    with PackShardWriter(root, "00000", tokens_per_image=4) as writer:
        writer.write(sequence(words))
    settings: dict[str, Any] = {"tokens_per_image": 4, "context_length": 24, "shards": [writer.record]}
    write_manifest(
        root,
        tokenizer=describe_tokenizer(tokenizer, "small"),
        parameters={"sources": {"pairs": "pair", "pages": "document"}},
        index=write_index(root, ["00000"]),
        **settings,
    )
    return root


class Tags(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_inspect_draws_a_page_that_stands_alone(packs: str, tmp_path: Path) -> None:
    page = tmp_path / "pack.html"
    result = CliRunner().invoke(app, ["inspect", packs, "--draw", str(page), "--sequence", "0"])
    assert result.exit_code == 0, result.output
    text = page.read_text()
    tags = Tags()
    tags.feed(text)
    names = [tag for tag, _ in tags.found]
    assert {"script", "link", "b-ld"}.isdisjoint(names)
    assert all(str(own["src"]).startswith("data:image/jpeg;base64,") for tag, own in tags.found if tag == "img")
    assert names.count("img") == 2
    assert "cannot be decoded" in text
    assert "<span class='loss'>&lt;" in text, "what a caption says is text"
    bar = [own for tag, own in tags.found if tag == "rect"]
    assert sum(float(own["width"] or 0) for own in bar if own["class"] in ("image", "text", "loss")) == 20
    assert sum(float(own["width"] or 0) for own in bar if (own["class"] or "").startswith("source-")) == 20
    assert "3 samples, 1 with several annotations, 3 images, 20 of 24 positions, 5 tokens with loss" in text


def test_inspect_says_what_it_cannot_draw(packs: str, tmp_path: Path) -> None:
    page = str(tmp_path / "pack.html")
    for arguments, message in (
        ([packs, "--draw", page, "--sequence", "7"], "has sequences 0 to 0, there is no 7"),
        ([str(tmp_path), "--draw", page], "manifest.json is missing"),
        ([packs, "--sequence", "0"], "--draw FILE"),
    ):
        result = CliRunner().invoke(app, ["inspect", *arguments])
        assert result.exit_code != 0
        assert message in " ".join(result.output.split())
    assert not Path(page).exists()


def test_how_often_samples_are_seen_is_the_plans(tmp_path: Path) -> None:
    import pyarrow as pa

    from mmcorpus.curation.store import storage

    copies = [("pairs", "a", 0), ("pairs", "a", 1), ("pairs", "a", 2), ("pairs", "b", 0), ("texts", "c", 0)]
    rows = [
        dict.fromkeys(PLAN_SCHEMA.names) | {"source": source, "uid": uid, "copy": copy, "part": 0}
        for source, uid, copy in copies
    ]
    storage.write_table(f"{tmp_path}/plans/mixed.parquet", pa.Table.from_pylist(rows, schema=PLAN_SCHEMA))
    assert seen(str(tmp_path), "mixed") == [
        {"source": "pairs", "samples": 2, "mean": 2.0, "times": [[1, 1], [3, 1]]},
        {"source": "texts", "samples": 1, "mean": 1.0, "times": [[1, 1]]},
    ]
    assert seen(str(tmp_path), "nowhere") == []


def test_inspect_says_which_tar_was_cut(packs: str, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(packs, cut)
    (tar,) = cut.glob("*.tar")
    size = tar.stat().st_size
    assert "damaged" not in CliRunner().invoke(app, ["inspect", str(cut)]).output
    os.truncate(tar, size - 512)
    said = " ".join(CliRunner().invoke(app, ["inspect", str(cut)]).output.split())
    assert f"damaged: {tar} has {size - 512:,} of the {size:,} bytes" in said
