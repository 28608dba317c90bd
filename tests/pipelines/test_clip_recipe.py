"""CLIP in a recipe: several models under names of one's own; what is missing is told by its key, before any work."""

from pathlib import Path

import pytest

from mmcorpus.filters.clip import ClipScorer
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.recipe.problems import RecipeError

RECIPE = """
name: clip
sources: {{pairs: {{urls: {urls}}}}}
score:
  model_workers: 1
  scorers:
    clip_a:
      uses: clip
      model_name: {model}
      save_embeddings: true
      concepts: {{watermark: {{positive: [a watermark], negative: [a photo]}}}}
    clip_b: {{uses: clip, model_name: {other}, batch_size: 8}}
select:
  pairs: {{keep: clip_a.similarity >= 0.3 and clip_a.watermark < 0.5 and not clip_b.caption_too_long}}
"""


def write(tmp_path: Path, model: str, other: str) -> str:
    (tmp_path / "list.csv").write_text("url,caption\\n")
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(urls=tmp_path / "list.csv", model=model, other=other))
    return str(path)


def test_several_models_under_names_of_ones_own(tmp_path: Path, tiny_clip: str) -> None:
    recipe = load_recipe(write(tmp_path, tiny_clip, tiny_clip))
    first, second = recipe.scorers["clip_a"], recipe.scorers["clip_b"]
    assert isinstance(first, ClipScorer)
    assert isinstance(second, ClipScorer)
    assert (first.name, second.name, second.batch_size) == ("clip_a", "clip_b", 8)
    assert first.concepts["watermark"].positive == ("a watermark",)
    assert recipe.file.score.model_workers == 1


def test_a_model_that_is_not_there_is_told_by_its_key(tmp_path: Path, tiny_clip: str) -> None:
    with pytest.raises(RecipeError) as found:
        load_recipe(write(tmp_path, tiny_clip, "ViT-B-33"))
    assert "score.scorers.clip_b" in str(found.value)
    assert "open_clip lists no such architecture; it has ViT-B-32" in str(found.value)
