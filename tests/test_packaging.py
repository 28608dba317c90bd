"""The installed package: one name, mmcorpus, and all that belongs to it, among other people's own."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mmcorpus.training.exchange.own import MODEL_TYPE

ROOT = Path(__file__).parent.parent
FLOORS = ("curation", "filters", "packing", "pipelines", "training")
FOREIGN = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}


def tracked() -> set[str]:
    """Every file of the five folders, caches aside."""
    files = (path for floor in FLOORS for path in (ROOT / floor).rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}


def test_every_package_is_listed_and_no_other() -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = sorted(Path(name).parent for name in tracked() if name.endswith("/__init__.py"))
    assert sorted(table["packages"]) == [".".join(("mmcorpus", *folder.parts)) for folder in folders]
    assert table["package-dir"] == {f"mmcorpus.{floor}": floor for floor in FLOORS}
    for name in tracked():
        assert not name.endswith(".py") or Path(name).parent in folders, f"{name} lies in no package"
        assert not (ROOT / name).with_suffix("").is_dir() or not name.endswith(".py"), f"{name} has a folder's name"


def test_what_is_installed_has_the_entry_points_of_this_tree() -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    for group, named in table.items():
        found = {one.name: one.value for one in entry_points(group=group) if one.dist and one.dist.name == "mmcorpus"}
        assert found == named, "install it again: pip install --no-deps --editable ."
        assert all(callable(one.load()) for one in entry_points(group=group) if one.name in named)
    assert table["mmcorpus.models"].keys() == {MODEL_TYPE}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: setuptools leaves its build folder where it builds."""
    source = tmp_path_factory.mktemp("source")
    for floor in FLOORS:
        shutil.copytree(ROOT / floor, source / floor, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", source / "dist", source)
    (built,) = (source / "dist").glob("mmcorpus-*.whl")
    return built


def pip(python: str | Path, *arguments: str | Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, *arguments], capture_output=True, text=True, env=FOREIGN
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
def test_the_wheel_holds_every_file_under_one_name(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in held if not name.startswith("mmcorpus-0.2.0.dist-info/")} == {
        f"mmcorpus/{name}" for name in tracked()
    }


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of scripts of a fresh environment: the wheel, and what it needs from the environment of the tests.

    A path in a .pth file brings no .pth files of its own with it: an editable mmcorpus there stays unseen.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    scripts = folder / "bin"
    site = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder)}))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip(scripts / "python", "install", "--no-deps", "--ignore-installed", "--no-index", wheel)
    assert {path.name for path in site.iterdir()} == {"dependencies.pth", "mmcorpus", "mmcorpus-0.2.0.dist-info"}
    return scripts


def ask(folder: Path, *command: str | Path) -> str:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=FOREIGN)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A user's folder with packages of the same names as ours have in the repository."""
    for name in ("training", "filters"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n")
    return tmp_path


OURS = """
import mmcorpus.curation.store.storage, mmcorpus.filters, mmcorpus.packing, mmcorpus.pipelines.cli, mmcorpus.training
"""


@pytest.mark.slow
def test_it_lives_beside_a_users_own_packages(installed: Path, elsewhere: Path) -> None:
    code = f"{OURS}import filters, training\nassert filters.MINE and training.MINE\nprint(mmcorpus.training.__file__)"
    assert ask(elsewhere, installed / "python", "-c", code).startswith(str(installed.parent))
    assert "validate" in ask(elsewhere, installed / "mmcorpus", "--help")
    assert "validate" in ask(elsewhere, installed / "python", "-m", "mmcorpus.pipelines.cli", "--help")
    program = "mmcorpus.curation.synthetic.corpora.tuxpaint"
    assert "usage" in ask(elsewhere, installed / "python", "-m", program, "--help").lower()
    entry = "from importlib.metadata import entry_points; (one,) = entry_points(group='mmcorpus.models'); one.load()"
    ask(elsewhere, installed / "python", "-c", entry)


@pytest.mark.slow
def test_the_recipes_and_prompts_come_along(installed: Path, elsewhere: Path) -> None:
    where = "from importlib.resources import files; print(files('mmcorpus.pipelines') / 'recipes' / 'demo.yaml')"
    recipe = ask(elsewhere, installed / "python", "-c", where).strip()
    assert "is valid" in ask(elsewhere, installed / "mmcorpus", "validate", recipe)


@pytest.mark.slow
@pytest.mark.parametrize("install", ["wheel", "editable"])
def test_a_folder_called_mmcorpus_does_no_harm(install: str, installed: Path, tmp_path: Path) -> None:
    """Folders without __init__.py merge into the namespace: a run's output, or a clone called as the package is."""
    python = installed / "python" if install == "wheel" else Path(sys.executable)
    (tmp_path / "output" / "mmcorpus" / "training").mkdir(parents=True)
    code = f"{OURS}print(mmcorpus.training.__file__)"
    assert str(tmp_path) not in ask(tmp_path / "output", python, "-c", code), "a folder of data is no package"
    for floor in FLOORS:
        shutil.copytree(ROOT / floor, tmp_path / "mmcorpus" / floor, ignore=shutil.ignore_patterns("__pycache__"))
    above = ask(tmp_path, python, "-c", code)
    assert above.strip() == str(tmp_path / "mmcorpus" / "training" / "__init__.py"), "the current directory comes first"
    inside = "import filters, training\n" + code  # importable there by accident, and then other modules than ours
    assert str(tmp_path) not in ask(tmp_path / "mmcorpus", python, "-c", inside)
