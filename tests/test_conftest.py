"""What tests/conftest.py promises, of a suite made here: no part is skipped unseen, and nothing is left behind."""

import os
import subprocess
import sys
from pathlib import Path

SUITE = {
    "test_file.py": 'import pytest\npytest.importorskip("no_such_package")\n',
    "test_each.py": """\
import os, pathlib, pytest, subprocess, sys
def test_for_want_of_a_package():
    pytest.skip("no_such_package is not installed")
@pytest.mark.skipif(True, reason="not today")
def test_by_its_mark():
    pass
@pytest.mark.parametrize("number", [])
def test_of_nothing(number):
    pass
def test_beyond_this_machine():
    pytest.skip("this machine cannot: fly")
def test_that_leaves_something():
    code = "import tempfile; print(tempfile.mkdtemp())"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    pathlib.Path("made").write_text(made)
    assert os.environ["RAY_TMPDIR"] == os.path.dirname(made)
""",
}


def test_what_could_be_installed_is_not_skipped_and_nothing_is_left(tmp_path: Path) -> None:
    for name, text in SUITE.items():
        (tmp_path / name).write_text(text)
    root = Path(__file__).parent.parent
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "--rootdir", "."]
    ran = subprocess.run(
        [*command, "-rA", "--continue-on-collection-errors"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    for line in (
        "FAILED test_each.py::test_for_want_of_a_package",
        "ERROR test_each.py::test_by_its_mark",
        "ERROR test_each.py::test_of_nothing",
        "ERROR test_file.py",
        "PASSED test_each.py::test_that_leaves_something",
        "1 failed, 1 passed, 1 skipped, 3 errors",
    ):
        assert line in ran.stdout, ran.stdout
    made = Path((tmp_path / "made").read_text())
    assert not made.parent.exists()
