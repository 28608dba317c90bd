"""Rendering into shards: the contract, resuming, and the same bytes for any number of workers."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmcorpus.curation.engine.output import RECORD
from mmcorpus.curation.engine.tasks import Failure, Outcome
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import Sample, Shard, ShardWriter, list_shards, read_rows, read_samples
from mmcorpus.curation.store.uid import is_uid
from mmcorpus.curation.synthetic.render import RenderConfig, render, render_shards
from mmcorpus.curation.synthetic.render import shards as render_module
from mmcorpus.curation.synthetic.render.conversations import conversations
from mmcorpus.curation.synthetic.render.shards import render_shard

SMALL = RenderConfig(count=22, samples_per_shard=5, size=(96, 96), seed=3)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in sorted(os.listdir(folder))}


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The engine without Ray, for what does not depend on it; lists the shards that it worked on."""
    worked: list[int] = []

    def run(make_work: Any, items: list[int], **_: Any) -> list[Any]:
        from mmcorpus.curation.engine.tasks import Outcome

        work = make_work()
        worked.extend(items)
        return [Outcome(name=str(item), result=work(item), error=None, seconds=0.0) for item in items]

    monkeypatch.setattr("mmcorpus.curation.engine.items.run_shards", run)
    return worked


def test_shards_keep_the_contract(tmp_path: Path, inline: list[int]) -> None:
    counts = render_shards(SMALL, str(tmp_path))
    assert counts["samples"] == 22
    assert (counts["shards"], counts["shards_rendered"], counts["shards_kept"]) == (5, 5, 0)
    assert sum(counts[kind] for kind in ("clock", "chart", "table", "scene")) == 22
    shards = list_shards(str(tmp_path))
    assert [shard.name for shard in shards] == [f"{number:05d}" for number in range(5)]
    samples = [sample for shard in shards for sample in read_samples(shard)]
    assert len({sample.uid for sample in samples}) == 22
    assert samples[21].key == "000040001"
    for index, sample in enumerate(samples):
        kind, seed = SMALL.sample(index)
        rendered = render(kind, seed, size=(96, 96))
        assert is_uid(sample.uid)
        assert sample.caption == rendered.caption
        assert json.loads(sample.meta["conversations"]) == conversations(rendered)
        assert json.loads(sample.meta["facts"]) == rendered.facts
        assert [tuple(point.values()) for point in json.loads(sample.meta["points"])] == [
            (point.label, point.x, point.y) for point in rendered.points
        ]
        picture = Image.open(io.BytesIO(sample.images[0].data))
        assert (picture.format, picture.size) == ("JPEG", (96, 96))
        assert sample.meta["original_bytes"] == len(sample.images[0].data)
    schemas = {read_rows(shard).schema for shard in shards}
    assert len(schemas) == 1
    rows = read_rows(shards[0])
    assert {"uid", "url", "caption", "status", "error_message", "width", "original_width", "conversations"} <= set(
        rows.column_names
    )
    assert rows.column("status").to_pylist() == ["success"] * 5


@pytest.mark.parametrize(("image_format", "magic"), [("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_formats(image_format: Any, magic: str, tmp_path: Path) -> None:
    config = RenderConfig(count=2, samples_per_shard=2, size=(64, 64), image_format=image_format, quality=70)
    render_shard(config, str(tmp_path), 0)
    for sample in read_samples(list_shards(str(tmp_path))[0]):
        assert sample.images[0].extension == image_format
        assert Image.open(io.BytesIO(sample.images[0].data)).format == magic


def test_a_second_run_renders_nothing(tmp_path: Path, inline: list[int]) -> None:
    render_shards(SMALL, str(tmp_path))
    before = contents(tmp_path)
    inline.clear()
    counts = render_shards(SMALL, str(tmp_path))
    assert inline == []
    assert (counts["shards_rendered"], counts["shards_kept"]) == (0, 5)
    assert contents(tmp_path) == before


def test_an_interrupted_run_resumes_to_the_same_bytes(
    tmp_path: Path, inline: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    render_shards(SMALL, str(tmp_path / "whole"))
    made = 0
    original = render_module.to_sample

    def failing(*arguments: Any) -> Sample:
        nonlocal made
        made += 1
        if made == 13:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(render_module, "to_sample", failing)
    with pytest.raises(KeyboardInterrupt):
        render_shards(SMALL, str(tmp_path / "cut"))
    assert sorted(os.listdir(tmp_path / "cut")) == [
        "00000.parquet", "00000.tar", "00000_stats.json", "00001.parquet", "00001.tar", "00001_stats.json", RECORD,
    ]  # fmt: skip
    inline.clear()
    render_shards(SMALL, str(tmp_path / "cut"))
    assert inline == [2, 3, 4]
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_more_pictures_keep_full_shards_and_fewer_remove(tmp_path: Path, inline: list[int]) -> None:
    grown = RenderConfig(count=31, samples_per_shard=5, size=(96, 96), seed=3)
    render_shards(SMALL, str(tmp_path / "a"))
    inline.clear()
    render_shards(grown, str(tmp_path / "a"))
    assert inline == [4, 5, 6]  # 4 was short
    render_shards(grown, str(tmp_path / "b"))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    inline.clear()
    render_shards(SMALL, str(tmp_path / "a"))
    assert inline == [4]
    render_shards(SMALL, str(tmp_path / "c"))
    assert contents(tmp_path / "a") == contents(tmp_path / "c")


def test_another_configuration_renders_anew(tmp_path: Path, inline: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    other = RenderConfig(count=22, samples_per_shard=5, size=(96, 96), seed=4)
    render_shards(SMALL, str(tmp_path / "a"))
    inline.clear()

    # Interrupted before the first new shard: no old shard may pass as one of the new configuration.
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("mmcorpus.curation.engine.items.run_shards", interrupted)
        with pytest.raises(KeyboardInterrupt):
            render_shards(other, str(tmp_path / "a"))
    assert list_shards(str(tmp_path / "a")) == []
    render_shards(other, str(tmp_path / "a"))
    render_shards(other, str(tmp_path / "b"))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_foreign_shards_are_left_alone(tmp_path: Path) -> None:
    with ShardWriter(Shard(root=str(tmp_path), name="00000")) as writer:
        writer.write(Sample(key="000000000", uid="0" * 32, caption="mine", images=()))
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="without a record of what they are made from"):
        render_shards(SMALL, str(tmp_path))
    assert contents(tmp_path) == before


def test_a_failed_shard_is_named_and_the_others_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(make_work: Any, items: list[int], **_: Any) -> list[Any]:
        work = make_work()
        done = [Outcome(name=str(item), result=work(item), error=None, seconds=0.0) for item in items[:-1]]
        failure = Failure(item="00004", kind="OSError", message="disk")
        return [*done, Outcome(name="00004", result=None, error=failure, seconds=0.0)]

    monkeypatch.setattr("mmcorpus.curation.engine.items.run_shards", run)
    with pytest.raises(RuntimeError, match=r"disk \(in 00004\); the rest is kept"):
        render_shards(SMALL, str(tmp_path))
    assert len(list_shards(str(tmp_path))) == 4


def test_shards_go_to_s3(s3_root: str, tmp_path: Path, inline: list[int]) -> None:
    config = RenderConfig(count=4, samples_per_shard=2, size=(64, 64))
    root = storage.join(s3_root, "pictures")
    render_shards(config, root)
    render_shards(config, str(tmp_path))
    assert {name: storage.read_bytes(storage.join(root, name)) for name in storage.list_names(root)} == contents(
        tmp_path
    )
    inline.clear()
    assert render_shards(config, root)["shards_kept"] == 2
    assert inline == []


@pytest.mark.slow
def test_one_worker_or_two_on_ray_same_bytes(ray_local: None, tmp_path: Path) -> None:
    config = RenderConfig(count=60, samples_per_shard=8, image_format="png")
    assert render_shards(config, str(tmp_path / "one"), workers=1)["shards_rendered"] == 8
    assert render_shards(config, str(tmp_path / "two"), workers=2)["shards_rendered"] == 8
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    # A shard that lost its commit is rendered again, and only that one.
    (tmp_path / "two" / "00003_stats.json").unlink()
    (tmp_path / "two" / "00003.tar").write_bytes(b"half")
    counts = render_shards(config, str(tmp_path / "two"))
    assert (counts["shards_rendered"], counts["shards_kept"]) == (1, 7)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_without_ray_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(RuntimeError, match=r"ray\.init"):
        render_shards(SMALL, str(tmp_path))
