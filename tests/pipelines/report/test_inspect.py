"""A sample's story: its URL, its scores and what made them, each verdict, its packs (invariant 10)."""

from pathlib import Path

import pyarrow as pa
import pytest

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.ledger import entry, write_stage
from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.pipelines.report.inspect import describe, story
from mmcorpus.pipelines.run.state import RunState

A, B = "a" * 32, "b" * 32


@pytest.fixture
def run(tmp_path: Path) -> str:
    root = str(tmp_path)
    RunState(root, name="x").write()
    with ShardWriter(Shard(root=f"{root}/shards/web", name="00000")) as writer:
        for uid in (A, B):
            image = EncodedImage(extension="jpg", data=b"jpg")
            meta = {"url": f"http://{uid[0]}.example/x.jpg"}
            writer.write(Sample(key=uid[0], uid=uid, caption=f"a clock {uid[0]}", images=(image,), meta=meta))
    table = pa.table({"uid": [A, B], "min_side": [64, 512]})
    origin = Origin(scorer="image", version="3", model="m@1", parameters={"p": 1}, fingerprint="f" * 16)
    write_scores(f"{root}/scores/web", "00000", table, origin)
    write_stage(f"{root}/ledger/web", "list", [entry(A, "list", row=7), entry(B, "list", row=8)])
    dropped = entry(B, "select", rule="image.min_side <= 500", value="image.min_side=512")
    write_stage(f"{root}/ledger/web", "select", [entry(A, "select"), dropped])
    storage.write_table(f"{root}/selections/web.parquet", pa.table({"uid": [A], "count": pa.array([2], pa.int32())}))
    plan = {"uid": [A], "sequence": [7], "position": [1], "copy": [0], "tokens": [9], "length": [152]}
    storage.write_table(f"{root}/plans/pretrain.parquet", pa.table(plan))
    return root


def test_a_sample_is_traced_through_the_run(run: str) -> None:
    assert story(run, A[:6]) == [
        f"sample {A}",
        "source web",
        f"  in shard {run}/shards/web/00000.tar, key a",
        "    url: http://a.example/x.jpg",
        "    caption: a clock a",
        "    status: success",
        '  scores of image (version 3 m@1; {"p": 1})',
        "    min_side 64",
        "  list: kept (row 7 of the list)",
        "  select: kept",
        f"  in {run}/selections/web.parquet, count 2",
        "pack pretrain: sequence 7, place 1, copy 0, 9 tokens, 152 positions",
    ]


def test_a_dropped_sample_names_the_rule_and_the_value_that_decided(run: str) -> None:
    lines = story(run, B)
    assert lines[-1] == "  select: dropped by image.min_side <= 500: image.min_side=512"


@pytest.mark.parametrize(("uid", "message"), [("e" * 32, "no sample of"), ("clock", "is not a uid"), ("a", "first 6")])
def test_what_cannot_be_traced_is_told(run: str, uid: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        story(run, uid)


def test_an_exported_model_and_exported_samples_are_told(tmp_path: Path) -> None:
    model, samples = tmp_path / "hf", tmp_path / "wds"
    model.mkdir()
    (model / "x").write_text("")
    parts = {"text_config": {"model_type": "qwen2"}, "vision_config": {"model_type": "siglip_vision_model"}}
    config = {"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "dtype": "bfloat16", **parts}
    storage.write_json(str(model / "config.json"), config)
    (model / "model.safetensors").write_bytes(bytes(2_000_000))
    assert describe(str(model)) == [
        f"exported model {model}: LlavaForConditionalGeneration (llava), for transformers and vLLM",
        "  text: qwen2",
        "  vision: siglip_vision_model",
        "  weights: 2.0 MB in 1 files, bfloat16",
        "  chat template: none; other files: config.json, x",
    ]
    (model / "config.json").write_text("[]")
    with pytest.raises(storage.Damaged, match=r"config\.json"):
        describe(str(model))
    storage.write_json(str(samples / "made_from.json"), {"config": {"a": 1}, "version": "1", "inputs": {}})
    storage.write_json(str(samples / "done" / "00000.json"), {})
    assert describe(str(samples)) == [
        f"exported samples {samples}: 1 shards are written", '  made with {"a": 1}'
    ]  # fmt: skip
