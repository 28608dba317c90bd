"""Every notebook runs from top to bottom on the demo's output, and shows what it should."""

import base64
import io
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.run.run_recipe import run_recipe

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = {
    "web.generate.pairs": 300,
    "web.generate.instructions": 40,
    "web.generate.pages": 40,
    "web.generate.weights": "{drip: 0, endless: 0, slow: 0}",
    "dfn.schedule.steps": 4,
    "train.stages.pretrain.schedule.steps": 3,
    "train.stages.interleaved.schedule.steps": 3,
    "train.stages.sft.schedule.steps": 3,
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, ray_local: None) -> str:
    """The demo's run, made small."""
    out = str(tmp_path_factory.mktemp("demo") / "run")
    recipe = load_recipe(str(ROOT / "pipelines/recipes/demo.yaml"), [f"{key}={value}" for key, value in SMALL.items()])
    assert run_recipe(recipe, out).problems == ()
    return out


def execute(path: Path, run: str) -> nbformat.NotebookNode:
    """The notebook with its outputs; its `RUN = …` line names the run given."""
    notebook = nbformat.read(path, as_version=4)
    named = 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            lines = cell.source.splitlines()
            named += sum(line.startswith("RUN = ") for line in lines)
            cell.source = "\n".join(f"RUN = {run!r}" if line.startswith("RUN = ") else line for line in lines)
    assert named == 1, "a notebook names its run once, as RUN = …"
    resources = {"metadata": {"path": str(ROOT / "notebooks")}}
    NotebookClient(notebook, timeout=300, startup_timeout=300, kernel_name="python3", resources=resources).execute()
    return notebook


@pytest.mark.soak
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_something_in_every_cell_but_the_first(path: Path, demo: str) -> None:
    notebook = execute(path, demo)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code[1:]:
        assert cell.outputs, f"this cell shows nothing:\n{cell.source}"
    for output in (output for cell in code for output in cell.outputs):
        assert output.output_type != "stream" or output.name != "stderr", output.text
        data: dict[str, Any] = output.get("data", {})
        if "image/png" in data:
            picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
            assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 10, "an empty figure"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
