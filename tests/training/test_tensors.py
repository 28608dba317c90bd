"""Weights of a folder: only its own files, by the names that its index gives."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mmcorpus.training.tensors import read_folder


@pytest.mark.parametrize(
    "named", ["../secret.safetensors", "/secret.safetensors", "in/side.safetensors", "..", ".", "", None, ["a"]]
)
def test_an_index_names_files_beside_it(tmp_path: Path, named: Any) -> None:
    folder = tmp_path / "model"
    (folder / "in").mkdir(parents=True)
    for path in (tmp_path / "secret.safetensors", folder / "a..b.safetensors", folder / "in" / "side.safetensors"):
        save_file({path.stem: torch.ones(1)}, path)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a..b.safetensors"}}))
    assert list(read_folder(str(folder))) == ["a..b"]
    index.write_text(json.dumps({"weight_map": {"x": "a..b.safetensors", "y": named}}))
    with pytest.raises(ValueError, match=r"index\.json names .*no file beside it"):
        read_folder(str(folder))


@pytest.mark.parametrize("index", [[], {}, {"weight_map": []}, {"weight_map": {}}])
def test_an_index_of_nothing_is_none(tmp_path: Path, index: Any) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="has no weight_map"):
        read_folder(str(tmp_path))
