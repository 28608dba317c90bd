"""A server that is kept alive: started again, given up, and never left behind."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mmcorpus.curation.scoring.servers import supervise
from mmcorpus.curation.scoring.servers.replica import Replica, ReplicaSpec, check_python, free_port
from mmcorpus.filters.serving import ServerConfig
from tests.curation.scoring.servers.conftest import alive, fake, pids, until


def spec(tmp_path: Path, config: ServerConfig) -> ReplicaSpec:
    return ReplicaSpec(
        model_name="some/model",
        revision=None,
        config=config,
        port=free_port(set()),
        everywhere=False,
        api_key="key",
        log=str(tmp_path / "logs" / "server.log"),
    )


def test_a_server_runs_until_it_is_stopped_and_leaves_nothing_behind(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    replica = Replica(spec(tmp_path, fake(marks)))
    url, error = replica.settled()
    assert error is None
    assert url is not None
    assert url.endswith("/v1")
    assert len(pids(marks)) == 2
    assert all(alive(pid) for pid in pids(marks))
    replica.stop()
    assert not any(alive(pid) for pid in pids(marks))
    assert "serving on" in (tmp_path / "logs" / "server.log").read_text()


def test_a_server_that_dies_is_started_again_on_its_port(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    replica = Replica(spec(tmp_path, fake(marks)))
    replica.settled()
    first = pids(marks)
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(pids(marks)) == 4)
    assert replica.settled()[1] is None
    replica.stop()
    assert not any(alive(pid) for pid in pids(marks))


def test_a_server_that_hangs_is_started_again(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    replica = Replica(spec(tmp_path, fake(marks, hang_timeout=1.0)))
    replica.settled()
    (marks / "hang").touch()
    until(lambda: len(pids(marks)) >= 4)
    (marks / "hang").unlink()
    replica.stop()
    assert not any(alive(pid) for pid in pids(marks))


def test_a_server_that_dies_again_and_again_is_given_up_with_the_end_of_its_log(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    config = fake(marks, max_restarts=1)
    (marks / "die").touch()
    replica = Replica(spec(tmp_path, config))
    url, error = replica.settled()
    assert url is None
    assert error is not None
    assert "some/model does not run: the server ended with exit code 7 before it answered, after 1 restarts" in error
    assert error.endswith("CUDA out of memory, say")
    replica.stop()
    assert not any(alive(pid) for pid in pids(marks))


def test_a_server_runs_in_the_folder_of_the_run_without_what_ray_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os; print(os.getcwd(), [x for x in ('HOME', 'OMP_NUM_THREADS', 'RAY_JOB_ID') if x in os.environ])"
    monkeypatch.setenv("RAY_JOB_ID", "01000000")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    config = ServerConfig(command=(sys.executable, "-c", code, "{model}", "{host}", "{port}"), max_restarts=0)
    for folder, seen in ((tmp_path, tmp_path), (tmp_path / "elsewhere", Path.cwd())):
        replica = Replica(dataclasses.replace(spec(tmp_path, config), folder=str(folder)))
        assert str(replica.settled()[1]).endswith(f"{seen} ['HOME']")
        replica.stop()


@pytest.mark.parametrize(("worked", "tries"), [(supervise.STEADY + 1.0, 5), (1.0, 3)])
def test_deaths_long_after_one_another_are_not_added_up(
    worked: float, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor, watched = supervise.Supervisor({"max_restarts": 2}), list[int]()

    def watch() -> str | None:
        watched.append(len(watched))
        supervisor.ready_at = time.monotonic() - worked
        return "it died" if len(watched) < 5 else None

    for name, stand_in in (("_watch", watch), ("_start", lambda: None), ("_end", lambda: None)):
        monkeypatch.setattr(supervisor, name, stand_in)
    monkeypatch.setattr(supervise, "_owner_gone", lambda _: False)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert supervisor.run() == (0 if tries == 5 else 1)
    assert len(watched) == tries


@pytest.mark.parametrize("victim", ["owner", "supervisor"])
def test_no_server_outlives_its_owner_or_its_supervisor(tmp_path: Path, victim: str) -> None:
    marks = tmp_path / "marks"
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.curation.scoring.servers.test_supervise import *\n"
        "replica = Replica(spec(Path(sys.argv[1]), fake(Path(sys.argv[1]) / 'marks')))\n"
        "replica.settled()\n"
        "print(replica._supervisor.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    root = Path(__file__).parents[4]
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=root)
    assert owner.stdout is not None
    supervisor = int(owner.stdout.readline())
    server = [pid for pid in pids(marks) if "fake_server" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(owner.pid if victim == "owner" else supervisor, signal.SIGKILL)
    gone = pids(marks) if victim == "owner" else server
    until(lambda: not any(alive(pid) for pid in gone))
    owner.kill()
    owner.wait()
    for pid in filter(alive, pids(marks)):  # of a supervisor that was killed, the server alone is its to take along
        os.kill(pid, signal.SIGKILL)


def test_an_interpreter_without_vllm_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no vllm. Name the interpreter of an environment that has it"):
        check_python(ServerConfig(python=sys.executable))
    with pytest.raises(ValueError, match=r"server\.python: /nowhere/python cannot be run"):
        check_python(ServerConfig(python="/nowhere/python"))
    replica = Replica(spec(tmp_path, ServerConfig(python="/nowhere/python")))
    assert "cannot be run" in str(replica.settled()[1])
    replica.stop()


def test_a_command_is_told_where_and_what_to_serve() -> None:
    with pytest.raises(ValueError, match=r"command does not hold \{port\}"):
        ServerConfig(command=("serve", "{model}", "{host}"))
    with pytest.raises(ValueError, match="put python and args into it"):
        ServerConfig(command=("serve", "{model}", "{host}", "{port}"), args=("--x",))
    config = ServerConfig(python="py", args=("--max-model-len", "4096"))
    made = ReplicaSpec(
        model_name="a/b", revision="main", config=config, port=20_001, everywhere=False, api_key="k", log="x"
    )
    command = made.command("127.0.0.1")
    assert command[:3] == ["py", "-m", "vllm.entrypoints.openai.api_server"]
    assert command[command.index("--revision") + 1] == "main"
    assert command[-2:] == ["--max-model-len", "4096"]
    assert "k" not in command


@pytest.mark.parametrize(
    "pieces",
    [[b"a topsecret b", b"c"], [b"a top", b"secret b", b"c"], [bytes([byte]) for byte in b"a topsecret bc"]],
)
def test_the_log_has_no_secret_however_it_arrives(tmp_path: Path, pieces: list[bytes]) -> None:
    log, (read, write) = tmp_path / "log", os.pipe()
    copier = threading.Thread(target=supervise.copy_masked, args=(read, str(log), ["topsecret", "top"]))
    copier.start()
    for piece in pieces:
        os.write(write, piece)
        time.sleep(0.01)
    os.write(write, b" and top")
    until(lambda: b" bc" in log.read_bytes())  # what is no secret is there at once
    os.close(write)
    copier.join()
    os.close(read)
    assert log.read_bytes() == b"a *** bc and ***"


def test_a_server_that_prints_its_environment_shows_no_secret_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_inherited_one")
    code = "import os, sys; print(os.environ, sys.argv)"
    command = (sys.executable, "-c", code, "{model}", "{host}", "{port}", "--api-key", "of-the-command")
    config = ServerConfig(command=command, env={"UPSTREAM_TOKEN": "of-the-recipe"}, max_restarts=0)
    replica = Replica(spec(tmp_path, config))
    error = str(replica.settled()[1])
    replica.stop()
    log = (tmp_path / "logs" / "server.log").read_text()
    assert "'UPSTREAM_TOKEN': '***'" in log
    assert "some/model" in log
    for secret in ("hf_inherited_one", "of-the-recipe", "of-the-command"):
        assert secret not in log + error
