"""CLIP scores are open_clip's own; captions that are cut are flagged; what is missing is said before any work."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from mmcorpus.filters import judge_batch
from mmcorpus.filters import open_clip_names as checkpoint
from mmcorpus.filters.clip import ClipScorer, ConceptConfig
from mmcorpus.filters.clip_model import Preprocess, _create, _to_tensor_step, _transform
from mmcorpus.filters.decode import DecodedImage
from mmcorpus.filters.heads import HeadConfig
from mmcorpus.filters.open_clip_names import Checkpoint

CAPTIONS = ["a red clock on a wall", "", None, "word " * 14, "word " * 15, "two cats, <b>asleep</b> &amp; warm", "  "]
WATERMARK = ConceptConfig(positive=("a stock photo with a watermark", "a watermark"), negative=("a photo",))


def images() -> list[DecodedImage]:
    rng = np.random.default_rng(0)
    sizes = [(40, 60), (33, 32), (20, 90), (64, 64), (31, 31), (100, 45), (48, 48)]
    return [
        DecodedImage(
            pixels=rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
            format="jpeg",
            mode="RGB",
            frames=1,
            has_alpha=False,
            orientation=1,
            nbytes=1,
        )
        for height, width in sizes
    ]


def scores(scorer: ClipScorer, rows: list[int] | None = None) -> pa.Table:
    chosen = rows if rows is not None else list(range(len(CAPTIONS)))
    shown = images()
    batch = {"image": [shown[row] for row in chosen], "caption": [CAPTIONS[row] for row in chosen]}
    return judge_batch(scorer, scorer.load(), batch)


def by_open_clip(folder: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings and logits as open_clip's README computes them."""
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    with torch.no_grad():
        pixels = torch.stack([transform(Image.fromarray(image.pixels)) for image in images()])
        tokens = tokenizer([caption or "" for caption in CAPTIONS])
        image, text = model.encode_image(pixels, normalize=True), model.encode_text(tokens, normalize=True)
        return image, text, model.get_logits(pixels, tokens)[0].diagonal()


def test_scores_are_open_clips_own_whatever_the_batch(tiny_clip: str) -> None:
    image, text, logits = by_open_clip(tiny_clip)
    expected = (image * text).sum(-1)
    captioned = [row for row, caption in enumerate(CAPTIONS) if caption and caption.strip()]
    for batch_size, rows in ((256, None), (2, None), (256, [6, 5, 4, 3, 2, 1, 0])):
        table = scores(ClipScorer(model_name=tiny_clip, batch_size=batch_size), rows)
        order = rows or list(range(len(CAPTIONS)))
        for at, row in enumerate(order):
            if row in captioned:
                assert table["similarity"][at].as_py() == pytest.approx(float(expected[row]), abs=1e-5)
                assert table["logit"][at].as_py() == pytest.approx(float(logits[row]), abs=1e-4)
            else:
                assert table["similarity"][at].as_py() is None
                assert table["reason"][at].as_py() == ("no_caption" if CAPTIONS[row] is None else "blank")


def test_a_caption_longer_than_the_context_is_scored_and_flagged(tiny_clip: str) -> None:
    table = scores(ClipScorer(model_name=tiny_clip))
    # Sixteen places hold a start, fourteen words and an end.
    assert table["caption_too_long"].to_pylist() == [False, False, False, False, True, False, False]
    assert table["similarity"][4].as_py() == pytest.approx(table["similarity"][4].as_py())
    assert table["reason"][4].as_py() is None


def test_a_long_caption_is_seen_with_any_padding(tiny_clip: str) -> None:
    class EndIsPadding:
        """As SigLIP's: every text ends in 1, and 1 fills the rest."""

        def __call__(self, texts: list[str], context_length: int = 6) -> torch.Tensor:
            rows = [[7] * min(len(text.split()), context_length - 1) for text in texts]
            return torch.tensor([row + [1] * (context_length - len(row)) for row in rows])

    preprocess = Preprocess(Checkpoint(model_name=tiny_clip, pretrained=None))
    tokenizer = EndIsPadding()
    preprocess._tokenizer, preprocess._context, preprocess._padding = tokenizer, 6, tokenizer([""])[0]
    assert preprocess.tokens(["a " * words for words in (0, 3, 4, 5, 6, 9)])[1].tolist() == [False] * 4 + [True] * 2


def test_embeddings_are_unit_vectors_in_half_precision(tiny_clip: str) -> None:
    image, text, _ = by_open_clip(tiny_clip)
    table = scores(ClipScorer(model_name=tiny_clip, save_embeddings=True))
    assert table.schema.field("image").type == pa.list_(pa.float16(), 64)
    for row, caption in enumerate(CAPTIONS):
        np.testing.assert_allclose(np.asarray(table["image"][row].as_py(), np.float32), image[row], atol=1e-3)
        if caption and caption.strip():
            np.testing.assert_allclose(np.asarray(table["text"][row].as_py(), np.float32), text[row], atol=1e-3)
        else:
            assert table["text"][row].as_py() is None


def test_a_concept_is_the_zero_shot_probability_of_its_prompts(tiny_clip: str) -> None:
    import open_clip

    image, _, _ = by_open_clip(tiny_clip)
    model = open_clip.create_model(f"local-dir:{tiny_clip}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tiny_clip}")
    with torch.no_grad():
        classes = [model.encode_text(tokenizer(list(texts)), normalize=True).mean(0) for texts in
                   (WATERMARK.positive, WATERMARK.negative)]  # fmt: skip
        classifier = torch.stack([one / one.norm() for one in classes], dim=1)
        expected = (model.logit_scale.exp() * image @ classifier).softmax(-1)[:, 0]
    table = scores(ClipScorer(model_name=tiny_clip, concepts={"watermark": WATERMARK}))
    np.testing.assert_allclose(table["watermark"].to_numpy(), expected.numpy(), atol=1e-5)
    assert table["watermark"].null_count == 0


def test_a_head_is_inferred_from_its_weights(tiny_clip: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    layers = torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1)).eval()
    torch.save({f"layers.{name}": value for name, value in layers.state_dict().items()}, tmp_path / "head.pth")
    image, _, _ = by_open_clip(tiny_clip)
    plain = HeadConfig(weights=str(tmp_path / "head.pth"))
    unsafe = HeadConfig(weights=str(tmp_path / "head.pth"), activation="relu", output="probability")
    scorer = ClipScorer(model_name=tiny_clip, heads={"aesthetic": plain, "unsafe": unsafe})
    table = scores(scorer)
    with torch.no_grad():
        expected = layers(image)[:, 0]
        relu = layers[2](layers[0](image).relu())[:, 0].sigmoid()
    np.testing.assert_allclose(table["aesthetic"].to_numpy(), expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(table["unsafe"].to_numpy(), relu.numpy(), atol=1e-5)
    assert "aesthetic 64-8-1 none value" in scorer.model()


def test_a_head_for_another_model_is_refused(tiny_clip: str, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(768, 1).state_dict(), tmp_path / "head.pth")
    with pytest.raises(ValueError, match="head for embeddings of 768 numbers, and this model gives 64"):
        ClipScorer(model_name=tiny_clip, heads={"a": HeadConfig(weights=str(tmp_path / "head.pth"))}).load()
    torch.save({"a.weight": torch.zeros(3, 64), "b.weight": torch.zeros(1, 5)}, tmp_path / "head.pth")
    with pytest.raises(ValueError, match=r"no chain of linear layers .*a.weight \[3, 64\]"):
        ClipScorer(model_name=tiny_clip, heads={"a": HeadConfig(weights=str(tmp_path / "head.pth"))}).load()


def test_a_file_of_weights_of_a_listed_architecture(
    tiny_clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip
    from safetensors.torch import load_file

    config = json.loads((Path(tiny_clip) / "open_clip_config.json").read_text())["model_cfg"]
    (tmp_path / "tiny.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    monkeypatch.setattr(checkpoint, "_configs", lambda: tmp_path)
    state = load_file(Path(tiny_clip) / "open_clip_model.safetensors")
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "epoch_1.pt")
    scorer = ClipScorer(model_name="tiny", pretrained=str(tmp_path / "epoch_1.pt"))
    scorer.check()
    assert scorer.model().startswith("tiny ")
    with torch.no_grad():
        assert scores(scorer)["similarity"][0].as_py() is not None
    with pytest.raises(ValueError, match="'openai' is no file, and open_clip has no such weights for tiny"):
        ClipScorer(model_name="tiny").model()


def test_what_is_missing_is_said(tiny_clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def problem(**parameters: Any) -> str:
        with pytest.raises(ValueError) as found:  # noqa: PT011 (the message is what is tested)
            ClipScorer(**parameters).check()
        return str(found.value)

    assert "it has ViT-L-14" in problem(model_name="ViT-L14")
    assert "no file of weights at /nowhere/weights.pt" in problem(
        model_name="ViT-B-32", pretrained="/nowhere/weights.pt"
    )
    assert "no open_clip_config.json in" in problem(model_name=str(tmp_path))
    shutil.copy(Path(tiny_clip) / "open_clip_config.json", tmp_path)
    assert "there are no weights" in problem(model_name=str(tmp_path))
    assert "has its own weights; drop it" in problem(model_name=tiny_clip, pretrained="openai")
    monkeypatch.setenv("HOME", str(Path(tiny_clip).parent))
    ClipScorer(model_name=f"~/{Path(tiny_clip).name}").check()
    assert "heads.a.weights: there is no file" in problem(
        model_name=tiny_clip, heads={"a": HeadConfig(weights="no.pth")}
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'mmcorpus[models]'" in problem(model_name=tiny_clip)


def test_weights_that_do_not_fit_are_said(tiny_clip: str, tmp_path: Path) -> None:
    shutil.copytree(tiny_clip, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["width"] = 32
    (tmp_path / "model" / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"open_clip could not load .*size mismatch for visual\.class"):
        ClipScorer(model_name=str(tmp_path / "model")).load()


def test_columns_must_be_names_of_their_own(tiny_clip: str) -> None:
    with pytest.raises(ValueError, match="concepts: 'similarity' cannot be a column"):
        ClipScorer(model_name=tiny_clip, concepts={"similarity": WATERMARK})
    with pytest.raises(ValueError, match="heads: 'a' is the name of a concept too"):
        ClipScorer(model_name=tiny_clip, concepts={"a": WATERMARK}, heads={"a": HeadConfig(weights="w.pth")})
    with pytest.raises(ValueError, match="positive needs at least one prompt"):
        ConceptConfig(positive=(), negative=("a photo",))


def test_the_fingerprint_knows_the_weights_and_the_precision_but_not_the_speed(tiny_clip: str, tmp_path: Path) -> None:
    first = ClipScorer(model_name=tiny_clip).on("cpu")
    assert first.dtype == "fp32"
    assert ClipScorer(model_name=tiny_clip, batch_size=3).on("cpu").fingerprint() == first.fingerprint()
    assert ClipScorer(model_name=tiny_clip).on("cuda").dtype == "bf16"
    assert ClipScorer(model_name=tiny_clip).on("cuda").fingerprint() != first.fingerprint()
    assert ClipScorer(model_name=tiny_clip, dtype="fp32").on("cuda").fingerprint() == first.fingerprint()
    assert first.named("other").on("cpu").name == "other"
    shutil.copytree(tiny_clip, tmp_path / "model")
    before = ClipScorer(model_name=str(tmp_path / "model")).model()
    weights = tmp_path / "model" / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    assert ClipScorer(model_name=str(tmp_path / "model")).model() != before


def test_bf16_is_close(tiny_clip: str) -> None:
    exact = scores(ClipScorer(model_name=tiny_clip))["similarity"]
    close = scores(ClipScorer(model_name=tiny_clip, dtype="bf16"))["similarity"]
    for one, other in zip(exact.drop_null().to_pylist(), close.drop_null().to_pylist(), strict=True):
        assert one != other
        assert one == pytest.approx(other, abs=0.02)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine cannot: it has a GPU")
def test_cuda_without_a_gpu_is_said(tiny_clip: str) -> None:
    with pytest.raises(ValueError, match="torch sees no GPU here"):
        ClipScorer(model_name=tiny_clip, device="cuda").load()


@pytest.mark.parametrize("name", ["RN50", "coca_ViT-B-32", "ViT-B-16-SigLIP", "convnext_base_w", "EVA02-B-16"])
def test_any_architecture_is_preprocessed_without_its_weights(name: str) -> None:
    found = Checkpoint(model_name=name, pretrained=None)
    with torch.device("meta"):
        model = _create(found, name, None, device="meta", load_weights=False, pretrained_text=False)
    steps = _transform(model).transforms
    assert _to_tensor_step(steps) == len(steps) - 2
    assert found.dimensions() == json.loads((checkpoint._configs() / f"{name}.json").read_text())["embed_dim"]


def test_a_row_that_breaks_the_preprocessing_costs_itself_alone(tiny_clip: str) -> None:
    import dataclasses

    shown = images()
    shown[1] = dataclasses.replace(shown[1], pixels=np.zeros((0, 5, 3), np.uint8))
    scorer = ClipScorer(model_name=tiny_clip)
    table = judge_batch(scorer, scorer.load(), {"image": shown[:3], "caption": ["a", "b", "c"]})
    assert table["reason"][1].as_py().startswith("error: ")
    assert table["similarity"].null_count == 1


def test_code_that_lies_beside_a_model_is_not_run(tmp_path: Path) -> None:
    """open_clip hands `tokenizer_kwargs` of the model's own config to transformers, `trust_remote_code` among them."""
    from mmcorpus.filters.clip_model import load_open_clip_tokenizer

    text = {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"text_cfg": text}}))
    (tmp_path / "config.json").write_text('{"model_type": "none"}')
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["code.Code", null]}}')
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Code: pass\n")
    with pytest.raises(ValueError, match="contains custom code"):
        load_open_clip_tokenizer(f"local-dir:{tmp_path}")
    assert not (tmp_path / "ran").exists()
