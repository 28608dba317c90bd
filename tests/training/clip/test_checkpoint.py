import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmcorpus.training.clip import train_contrastive
from mmcorpus.training.clip.checkpoint import load_clip
from tests.training.clip.conftest import MakePairs, samples, tiny


@pytest.fixture
def trained(squares: MakePairs, tmp_path: Path) -> str:
    """The model of a short run."""
    return train_contrastive(tiny(steps=3), {"s": squares("s", 12)}, str(tmp_path / "o")).model


def test_open_clip_loads_it_and_gives_the_same_vectors(trained: str) -> None:
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{trained}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{trained}")
    ours = load_clip(trained.removesuffix("/model"))
    ours.model.eval()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 44, 3), dtype=np.uint8))
    captions = ["A red square.", "something else, far longer than the context of twelve tokens allows"]
    with torch.no_grad():
        mine = ours.encode(ours.preprocess.evaluate(image)[None], ours.tokenize(captions))
        theirs = (
            model.eval().encode_image(preprocess(image)[None], normalize=True),
            model.encode_text(tokenizer(captions), normalize=True),
        )
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)
    assert model.logit_scale.item() == ours.model.logit_scale.item()


def test_equal_runs_leave_equal_folders(squares: MakePairs, tmp_path: Path) -> None:
    sources = {"s": squares("s", 12)}
    reports = [train_contrastive(tiny(steps=3), sources, str(tmp_path / name)) for name in ("a", "b")]
    first, second = ({p.name: p.read_bytes() for p in Path(report.model).iterdir()} for report in reports)
    assert first == second
    assert set(first) == {"open_clip_config.json", "open_clip_model.safetensors"}
    assert json.loads(first["open_clip_config.json"])["preprocess_cfg"]["resize_mode"] == "squash"


def test_the_scorer_gives_the_models_own_cosines(trained: str) -> None:
    from mmcorpus.filters.decode import decode_image
    from mmcorpus.filters.dfn import DfnScorer

    made = samples(6, 40)
    batch: dict[str, Any] = {
        "image": [decode_image(sample.images[0].data) for sample in made],
        "caption": [sample.caption for sample in made],
    }
    found = DfnScorer(model_name=trained, device="cpu", dtype="fp32").load()(batch)
    clip = load_clip(trained.removesuffix("/model"))
    clip.model.eval()
    images = torch.stack([clip.preprocess.evaluate(Image.fromarray(image.pixels)) for image in batch["image"]])
    with torch.no_grad():
        image, text = clip.encode(images, clip.tokenize(batch["caption"]))
    np.testing.assert_allclose(found["similarity"], (image * text).sum(1).numpy(), atol=1e-5)


def test_the_scorer_knows_a_network_by_its_weights_not_its_place(trained: str, tmp_path: Path) -> None:
    import shutil

    from mmcorpus.filters.dfn import DfnScorer

    elsewhere = shutil.copytree(trained, tmp_path / "elsewhere" / "model")
    here, there = DfnScorer(model_name=trained), DfnScorer(model_name=str(elsewhere))
    assert here.fingerprint() == there.fingerprint()
    weights = elsewhere / "open_clip_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert here.fingerprint() != there.fingerprint()
