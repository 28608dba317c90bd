"""What a pack's stages are made from."""

import json
from pathlib import Path

import pytest

from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.pipelines.recipe.schema import PackEntry
from mmcorpus.pipelines.stages.packing import tokenizer_files, tokenizer_texts


def test_an_edited_tokenizer_folder_is_another_tokenizer(tmp_path: Path) -> None:
    """A template at the top or in a folder of its own, the vocabulary; not the weights that may lie beside them."""
    (tmp_path / "additional_chat_templates").mkdir()
    for name in ("tokenizer.json", "chat_template.jinja", "additional_chat_templates/tool.jinja"):
        (tmp_path / name).write_text("{}")
    before = tokenizer_files(str(tmp_path))
    assert list(before) == ["tokenizer_files"]
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert tokenizer_files(str(tmp_path)) == before
    seen = {before["tokenizer_files"]}
    for name in ("tokenizer.json", "chat_template.jinja", "additional_chat_templates/tool.jinja"):
        (tmp_path / name).write_text("{ }")
        seen |= set(tokenizer_files(str(tmp_path)).values())
    assert len(seen) == 4
    assert tokenizer_files("Qwen/Qwen2.5-1.5B-Instruct") == {}


def test_images_are_not_resized_where_their_size_decides() -> None:
    from mmcorpus.packing.layout import MM1Layout, NativeLayout

    with pytest.raises(ValueError, match="'native' an image's size decides"):
        PackEntry(sources=("pairs",), layout=NativeLayout(), images="resized")
    assert PackEntry(sources=("pairs",), layout=MM1Layout(), images="resized").image_side == 512
    with pytest.raises(ValueError, match="image_side is 0"):
        PackEntry(sources=("pairs",), image_side=0)


def test_a_tokenizer_learns_from_annotations_as_from_turns(tmp_path: Path) -> None:
    """Points as they are written, prompts, questions and answers; a conversation in turns, as before."""
    said = {"annotations": [
        {"style": "vqa2", "question": "What is it?", "answer": "a clock"},
        {"style": "pointing", "label": "hands", "points": [[48, 20.5]]},
    ]}  # fmt: skip
    turns = [{"from": "human", "value": "<image>\nWhy?"}, {"from": "gpt", "value": "So."}]
    shard = Shard(root=str(tmp_path), name="00000")
    with ShardWriter(shard) as writer:
        for uid, conversations in (("0" * 32, said), ("1" * 32, turns), ("2" * 32, {"annotations": []})):
            image = EncodedImage(extension="jpg", data=b"1")
            meta = {"conversations": json.dumps(conversations)}
            writer.write(Sample(key=uid[:2], uid=uid, caption=None, images=(image,), meta=meta))
    texts = list(tokenizer_texts(str(tmp_path), "conversation", {"0" * 32, "1" * 32, "2" * 32}))
    assert {"vqa2: What is it?", "a clock", "So."} <= set(texts)
    assert '<point x="48.0" y="20.5" alt="hands">hands</point>' in texts
    assert len(texts) == 6
