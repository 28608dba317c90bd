"""The command: help, exit codes, messages."""

import ast
import ipaddress
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner

from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.pipelines.cli import app
from mmcorpus.pipelines.commands import common, export

ROOT = Path(__file__).parent.parent.parent
COMMANDS = [
    *(
        "run",
        "individual-select",
        "validate",
        "web",
        "render",
        "download",
        "evaluate",
        "evaluations",
        "extract",
        "score",
        "recaption",
        "dedup",
        "dfn",
        "image-based",
        "select",
        "reshard",
        "export-documents",
        "plan",
        "pack",
        "index",
        "train",
        "generate",
        "soup",
        "export-model",
        "import-model",
        "chat",
    ),
    *("status", "inspect", "verify", "report", "profiles", "scorers", "methods"),
]


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == code, result.output
    return result.output


def plain(text: str) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).replace("│", " ").split())


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_says_what_it_is_for_and_gives_examples(command: str) -> None:
    text = plain(call(command, "--help"))
    assert "Examples" in text
    assert text.count(f"mmcorpus {command}") >= 2 or command in ("profiles", "scorers", "methods", "train")


@pytest.mark.parametrize("layout", export.KINDS, ids=lambda layout: layout.__name__)
def test_each_export_says_what_is_lost(layout: Callable[..., None]) -> None:
    text = plain(call("export", layout.__name__, "--help"))
    assert "Lost" in text
    assert text.count(f"mmcorpus export {layout.__name__}") >= 1


def test_there_is_no_other_command() -> None:
    assert {info.name or info.callback.__name__ for info in app.registered_commands if info.callback} == set(COMMANDS)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from mmcorpus.pipelines.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = ('ray', 'torch', 'pyarrow', 'pandas', 'cv2', 'transformers', 'pydantic')\n"
        "print([module for module in heavy if module in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ast.literal_eval(out.stdout) == []


def test_checking_a_recipe_does_not_wait_for_torch() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from mmcorpus.pipelines.cli import app\n"
        "assert CliRunner().invoke(app, ['validate', 'pipelines/recipes/demo.yaml']).exit_code == 0\n"
        "print([module for module in ('ray', 'torch', 'transformers') if module in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ast.literal_eval(out.stdout) == []


def test_an_address_where_nothing_listens_is_told_at_once() -> None:
    # In a process of its own: here another test's Ray may be up, and then no address is knocked at.
    code = "from mmcorpus.pipelines.commands.common import Cluster; Cluster().start()"
    address = "ray://127.0.0.1:1"
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": address},
        check=False,
    )
    assert out.returncode == 1
    assert re.search(rf"RuntimeError: no Ray cluster answers at RAY_ADDRESS={address} \(.*refused\)", out.stderr)


def test_a_bad_recipe_is_exit_code_2_and_no_traceback(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: x\nsorces: {}\n")
    out = call("run", str(recipe), "--out", str(tmp_path / "out"), code=2)
    assert "r.yaml:2: sorces: unknown key; did you mean 'sources'?" in out
    assert "Traceback" not in out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.yaml", "--out", "x"], "there is no recipe at nowhere.yaml"),
        (["validate", "nowhere.yaml"], "there is no recipe at"),
        (["status", "nowhere"], "nowhere holds no run"),
        (["report", "nowhere"], "nowhere holds no run"),
        (["inspect", "nowhere"], "there is nothing at nowhere"),
        (["inspect", "nowhere", "abcdef"], "nowhere is not a run"),
        (["select", "nowhere", "--keep", "image.width > 3"], "there is no such folder of scores"),
        (["select", "nowhere", "--keep", "image.width >"], "syntax error"),
        (["select", "nowhere", "--set", "heldout_fracton=1"], "did you mean 'heldout_fraction'?"),
        (["select", "x", "--keep", "image.width > 3", "--out", "y.csv"], "is written as .parquet, .npy"),
        (["select", "x", "--set", "keep=3"], "--set keep=3: keep: should be text or a list, is 3"),
        (["score", "x", "--out", "y", "--scorer", "imag"], "command line: imag: unknown scorer"),
        (["web", "x", "--set", "spoil=2"], "spoil is 2.0: must be a share"),
        (["plan", "--source", "a", "--selection", "a=b", "--tokenizer", "t", "--out", "o"], "write it as NAME=VALUE"),
        (
            [
                *("plan", "--source", "a=b", "--selection", "a=b", "--tokenizer", "t", "--out", "o"),
                "--annotations",
                "c=d",
            ],
            "--annotations names c; give it for a source that --source names",
        ),
        (["train", "nowhere", "--out", "x", "--kind", "stf"], "give pretrain or sft"),
        (["train", "nowhere", "--out", "x"], "nowhere/manifest.json is missing"),
        (["dedup", "nowhere", "--by", "image"], "nowhere holds no shards/"),
        (["dedup", "x", "--by", "imgae"], "--by imgae: unknown method; did you mean 'image'?"),
        (["dedup", "x", "--by", "image", "--set", "max_distanc=3"], "did you mean 'max_distance'?"),
        (["score", "nowhere", "--out", "x", "--scorer", "imag"], "did you mean 'image'?"),
        (
            ["score", "x", "--out", "y", "--scorer", "image", "--set", "language.languages=[de]"],
            "not run here; those that do: image",
        ),
        (["select", "x", "--profile", "mm2"], "command line: profile: unknown 'mm2'; there are datacomp_basic"),
    ],
)
def test_wrong_usage_is_one_clear_message(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = call(*arguments, code=2)
    assert message in out
    assert "Traceback" not in out
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "r.yaml", "--out"],
        ["download", "list.csv", "--out"],
        ["score", "shards", "--out"],
        ["reshard", "shards", "--selection", "s", "--out"],
        ["pack", "p", "--source", "a=b", "--tokenizer", "t", "--out"],
        ["train", "packs", "--out"],
        ["render"],
        ["web"],
    ],
)
def test_a_file_where_a_folder_is_to_be_is_told_at_once(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"{tmp_path}/file is a file; name a folder" in plain(call(*arguments, str(tmp_path / "file"), code=2))


def test_profiles_and_scorers_are_listed() -> None:
    out = call("profiles")
    assert "datacomp_basic" in out
    assert "image.aspect_ratio <= 3.0" in out
    out = call("scorers")
    assert "image.min_side" in out or "min_side" in out
    assert "languages = ('en',)" in out
    assert "max_distance" in out


def test_select_explains_and_writes(tmp_path: Path) -> None:
    uids = [f"{number:032x}" for number in range(10)]
    table = pa.table({"uid": uids, "min_side": list(range(0, 100, 10))})
    origin = Origin(scorer="image", version="1", fingerprint="f")
    write_scores(str(tmp_path / "scores"), "00000", table, origin)
    out = str(tmp_path / "kept.txt")
    text = call("select", str(tmp_path / "scores"), "--keep", "image.min_side >= 50", "--explain", "--out", out)
    assert "image.min_side >= 50" in text
    assert Path(out).read_text().split() == uids[5:]
    assert "5 kept, 0 held out, 5 dropped" in call("select", str(tmp_path / "scores"), "--keep", "image.min_side >= 50")
    call("inspect", str(tmp_path / "scores" / "image" / "00000.parquet"))


def test_an_unreachable_cluster_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmcorpus.pipelines.commands.common import Cluster

    class Refused:
        def is_initialized(self) -> bool:
            return False

        def init(self, **_: object) -> None:
            raise ConnectionError("Failed to connect\nat length")

    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setitem(sys.modules, "ray", Refused())
    with pytest.raises(RuntimeError, match=r"no Ray cluster answers at RAY_ADDRESS=auto \(Failed to connect\)"):
        Cluster().start()


def test_a_local_ray_that_is_slow_to_start_is_started_again_and_then_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmcorpus.pipelines.commands.common import Cluster

    class Slow:
        tries = 0

        def is_initialized(self) -> bool:
            return False

        def shutdown(self) -> None:
            pass

        def init(self, **_: object) -> None:
            self.tries += 1
            if self.tries != good:
                raise Exception(
                    "The current node timed out during startup.\nThis could happen because …"
                )  # as Ray does

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", slow := Slow())
    good = 2
    Cluster().start()
    assert slow.tries == 2
    good = 9
    with pytest.raises(RuntimeError, match="Ray could not start on this machine: The current node timed out"):
        Cluster().start()
    assert slow.tries == 5


def test_sigterm_stays_the_commands_own_when_ray_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmcorpus.pipelines.commands.common import Cluster

    class Grasping:
        def is_initialized(self) -> bool:
            return False

        def init(self, **_: object) -> None:
            signal.signal(signal.SIGTERM, lambda *_: None)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", Grasping())
    before = signal.getsignal(signal.SIGTERM)
    Cluster().start()
    assert signal.getsignal(signal.SIGTERM) is before


def test_debug_shows_where_an_error_arose(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--debug", "validate", "nowhere.yaml"])
    assert isinstance(result.exception, FileNotFoundError)


def test_the_version_is_told() -> None:
    assert call("--version").startswith("mmcorpus 0.")


def test_what_failed_is_told_and_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    common.fail_if([])
    with pytest.raises(typer.Exit) as ended:
        common.guarded(common.fail_if)(["shard 00003: OSError: gone"])
    assert ended.value.exit_code == 1
    out, errors = capsys.readouterr()
    assert out == "failed: shard 00003: OSError: gone\nThe same command tries them again.\n"
    assert errors == "", "the exit is no error of its own"


LISTENING = """
import os, stat, sys
import psutil
from mmcorpus.pipelines.commands.common import Cluster
with Cluster(1):
    import ray
    assert ray.get(ray.remote(lambda: 1).remote()) == 1
    for process in psutil.Process().children(recursive=True):
        for one in process.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN:
                print("listens", one.laddr.ip, process.name())
    folder = ray._private.worker._global_node.get_session_dir_path()
    while not os.path.basename(folder).startswith(f"mmcorpus-{os.getuid()}"):
        folder = os.path.dirname(folder)
    print("folder", oct(stat.S_IMODE(os.stat(folder).st_mode)))
with Cluster(1):
    print("again")
"""


@pytest.mark.slow
def test_a_ray_of_ones_own_listens_on_loopback_alone_and_its_files_are_private(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    run = subprocess.run(
        [sys.executable, "-c", LISTENING], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines()]
    listening = {tuple(words[1:]) for words in lines if words[0] == "listens"}
    assert {name for _, name in listening} >= {"gcs_server", "raylet"}
    assert all(ipaddress.ip_address(ip.removeprefix("::ffff:")).is_loopback for ip, _ in listening), listening
    assert [words[1] for words in lines if words[0] == "folder"] == ["0o700"]
    assert lines[-1] == ["again"], "the folder of the first Ray serves the next"


def test_files_of_ray_in_a_folder_of_somebody_elses_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmcorpus.pipelines.commands.common import Cluster

    class Fake:
        def is_initialized(self) -> bool:
            return False

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ray", Fake())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"mmcorpus-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match=r"is no folder, or a link, .* or set RAY_TMPDIR"):
        Cluster().start()


def test_ray_may_open_its_folder_and_the_next_ray_starts_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    folder = Path(common._ray_folder())
    folder.mkdir()
    folder.chmod(0o777)  # as Ray does it
    assert Path(common._ray_folder()) == folder
    assert folder.parent.stat().st_mode & 0o077 == 0


def test_what_is_said_shows_controls_as_text_and_no_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    common.say("\x1b]52;c;eA==\x07 http://u:secretpw@h/x \u202egnp")
    common.complain("\x9b31m http://u:secretpw@h/x")
    shown = common.table("title \x1b[2J", ("a",), left=("a",))
    shown.add_row("caption \x1b]0;title\x1b \u2066x")
    common.console().print(shown)
    out, err = capsys.readouterr()
    assert "\\x1b]52;c;eA==\\x07 http://***@h/x \\u202egnp" in out
    assert "\\x9b31m http://***@h/x" in err
    assert "title \\x1b[2J" in out
    assert "caption \\x1b]0;title\\x1b \\u2066x" in out
    assert not set(out + err) & set("\x1b\x07\x9b\u202e\u2066")


def test_an_error_that_quotes_the_web_is_shown_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "debug", False)

    @common.guarded
    def failing() -> None:
        raise ValueError("\x1b]0;owned\x07 at http://u:secretpw@h/x")

    app = typer.Typer()
    app.command()(failing)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    assert "\\x1b]0;owned\\x07 at http://***@h/x" in result.output


def test_a_warning_that_quotes_the_web_is_shown_as_text() -> None:
    code = (
        "import logging\n"
        "from mmcorpus.pipelines.commands import common\n"
        "common.guarded(lambda: logging.getLogger('mmcorpus').warning('\\x1b]0;owned\\x07 %s', 'http://u:secretpw@h/x'))()"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert said == "\\x1b]0;owned\\x07 http://***@h/x\n"
