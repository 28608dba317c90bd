"""What a pack's stages are made from."""

from pathlib import Path

import pytest

from mmcorpus.pipelines.recipe.schema import PackEntry
from mmcorpus.pipelines.stages.packing import tokenizer_files


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
