"""One managed model server: where it runs, how it is started, and what its log says when it fails."""

import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmcorpus.curation.scoring.servers import supervise
from mmcorpus.curation.store import storage
from mmcorpus.filters.secrets import known, remember, remember_config, remember_environment
from mmcorpus.filters.serving import ServerConfig

VLLM: Final = "vllm.entrypoints.openai.api_server"
LOOPBACK: Final = "127.0.0.1"
PORTS: Final = range(20_000, 32_000)
"""Below what Linux hands out to outgoing connections."""
_PARENT_SECONDS: Final = 1.0
_TAIL: Final = 4_000
_KEPT_LOG: Final = 20 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaSpec:
    """A server to run; the same again when its keeper is restarted."""

    model_name: str
    revision: str | None
    config: ServerConfig
    port: int
    everywhere: bool
    """Bind to this node's own address, for a cluster; else to loopback."""
    api_key: str
    log: str
    """The path of its log; on remote storage only when it ends."""
    folder: str | None = None
    """The folder for relative paths in its command; None, or one that this machine has not, for the keeper's own."""

    def command(self, host: str) -> list[str]:
        """The command line of the server."""
        model = os.path.expanduser(self.model_name)
        places = {"{model}": model, "{host}": host, "{port}": str(self.port)}
        if self.config.command is not None:
            place = re.compile("|".join(map(re.escape, places)))
            return [place.sub(lambda found: places[found[0]], part) for part in self.config.command]
        revision = ["--revision", self.revision] if self.revision else []
        given = ["--model", model, "--served-model-name", self.model_name, *revision]
        given += ["--host", host, "--port", str(self.port), "--disable-uvicorn-access-log"]
        return [python(self.config), "-m", VLLM, *given, *self.config.args]


class Replica:
    """Keeps one server. Lives in a Ray actor, so that it runs where the GPU is, and ends with the run.

    Args:
        with_parent: end it, too, when this process loses its parent. An actor's is Ray's own process on its node, which
            dies with a driver that started Ray; the actor itself first looks for Ray for a minute or two.
    """

    def __init__(self, spec: ReplicaSpec, *, with_parent: bool = False) -> None:
        self._spec = spec
        self.host = LOOPBACK
        if spec.everywhere:
            import ray

            self.host = str(ray.util.get_node_ip_address())
        self._local_log = _log_file(spec.log)
        self._error: str | None = None
        self._settled = threading.Event()
        self._supervisor: subprocess.Popen[bytes] | None = None
        try:
            check_python(spec.config, _working_folder(spec))
        except ValueError as error:
            self._error = str(error)
            self._settled.set()
            return
        self._supervisor = subprocess.Popen(
            [sys.executable, supervise.__file__, self._order()], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        threading.Thread(target=self._listen, daemon=True).start()
        if with_parent:
            threading.Thread(target=self._follow, args=(os.getppid(),), daemon=True).start()

    def settled(self) -> tuple[str | None, str | None]:
        """Its base URL once it answers, or why it does not, with the end of its log."""
        self._settled.wait()
        return (None, self._error) if self._error is not None else (f"http://{self.host}:{self._spec.port}/v1", None)

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        if self._supervisor is None:
            return
        self._let_go()
        self._supervisor.wait()
        if not storage.is_local(self._spec.log):
            storage.write_bytes(self._spec.log, Path(self._local_log).read_bytes()[-_KEPT_LOG:])

    def _let_go(self) -> None:
        """Close what the supervisor reads, at which it ends the server and itself."""
        assert self._supervisor is not None
        assert self._supervisor.stdin is not None
        with contextlib.suppress(OSError):
            self._supervisor.stdin.close()

    def _follow(self, parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_SECONDS)
        self._let_go()

    def _order(self) -> str:
        """The supervisor's orders, in a file that this user alone can read and that it removes."""
        config = self._spec.config
        given: dict[str, Any] = {
            "command": self._spec.command(self.host),
            "folder": _working_folder(self._spec),
            "env": _environment(self._spec),
            "log": self._local_log,
            "health": f"http://{self.host}:{self._spec.port}/health",
            "start_timeout": config.start_timeout,
            "hang_timeout": config.hang_timeout,
            "max_restarts": config.max_restarts,
            "secrets": _secrets(self._spec),
        }
        handle, path = tempfile.mkstemp(prefix="mmcorpus-server-", suffix=".json")
        with os.fdopen(handle, "w") as file:
            json.dump(given, file)
        return path

    def _listen(self) -> None:
        """The supervisor's events; the first that settles whether the server runs is what `settled` waits for."""
        assert self._supervisor is not None
        assert self._supervisor.stdout is not None
        for line in self._supervisor.stdout:
            event = json.loads(line)
            if event["event"] == "gave_up" and not self._settled.is_set():
                tail = Path(self._local_log).read_bytes()[-_TAIL:].decode("utf-8", "replace").strip()
                self._error = (
                    f"the model server of {self._spec.model_name} does not run: {event['reason']}. "
                    f"Its log, {self._spec.log}, ends:\n{tail or '(nothing)'}"
                )
            if event["event"] != "died":
                self._settled.set()
        if not self._settled.is_set():
            self._error = f"the model server of {self._spec.model_name} lost its supervisor"
            self._settled.set()


def python(config: ServerConfig) -> str:
    """The interpreter that serves."""
    return os.path.expanduser(config.python) if config.python else sys.executable


def check_python(config: ServerConfig, folder: str | None = None) -> None:
    """Raise ValueError if the interpreter is not there, or has no vLLM."""
    if config.command is not None:
        return
    interpreter = python(config)
    question = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        asked = subprocess.run(
            [interpreter, "-c", question], stdin=subprocess.DEVNULL, capture_output=True, check=False, cwd=folder
        )
    except OSError as error:
        raise ValueError(f"server.python: {interpreter} cannot be run: {error.strerror}") from None
    if asked.returncode:
        raise ValueError(
            f"server.python: {interpreter} has no vllm. Name the interpreter of an environment that has it "
            "(vLLM pins its own torch, so it is best kept apart), or give endpoints that serve the model already"
        )


def free_port(taken: set[int]) -> int:
    """A port that nobody listens at here now, none of `taken`."""
    while True:
        port = PORTS.start + secrets.randbelow(len(PORTS))
        with socket.socket() as probe:
            if port not in taken and probe.connect_ex((LOOPBACK, port)):
                return port


def _environment(spec: ReplicaSpec) -> dict[str, str]:
    """This process's, without what belongs to its Ray, which allows an actor one thread, and to its Python."""
    foreign = ("RAY_", "OMP_NUM_THREADS", "PYTHONBREAKPOINT", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**inherited, "VLLM_API_KEY": spec.api_key, **spec.config.env}


def _secrets(spec: ReplicaSpec) -> list[str]:
    """What must not stand in the server's log: its keys, and the values of the recipe's `env`."""
    remember_environment()
    remember_config({"env": spec.config.env, "args": [*spec.config.args], "command": [*(spec.config.command or ())]})
    remember([spec.api_key])
    return sorted(known())


def _working_folder(spec: ReplicaSpec) -> str | None:
    return spec.folder if spec.folder is not None and os.path.isdir(spec.folder) else None


def _log_file(log: str) -> str:
    """A local file for the log of a server."""
    if not storage.is_local(log):
        handle, path = tempfile.mkstemp(prefix="mmcorpus-server-", suffix=".log")
        os.close(handle)
        return path
    _, path = storage.filesystem(log)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return str(path)
