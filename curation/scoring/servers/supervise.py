"""Keeps one model server running, and never outlives its owner. Needs the standard library alone.

    python supervise.py SPEC.json     (curation/scoring/servers/replica.py starts it, with its standard input a pipe)

The server runs in a process group of its own. It is started again when it dies or stops answering, a bounded number
of times. When standard input ends, the owner is gone, however it went (kill -9 included): the whole group is killed.
Should this process itself be killed, the kernel kills the server (Linux's parent-death signal).

Standard output tells what happens, a line of JSON an event: `ready`, `died`, `gave_up`.
"""

import contextlib
import ctypes
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, Final

GRACE: Final = 10.0
"""Seconds between asking the server's processes to end and killing them."""
_TICK: Final = 0.5
STEADY: Final = 600.0
"""A server that has worked for so many seconds may die as often again as a new one."""
_PROBE_SECONDS: Final = 5.0
_PROBE_TIMEOUT: Final = 5.0
_PR_SET_PDEATHSIG: Final = 1


class Supervisor:
    """Starts, watches, restarts and ends one server.

    `spec` holds `command`, `env`, `folder` (where it runs, or null), `log` (a path), `health` (a URL), `start_timeout`,
    `hang_timeout`, `max_restarts`, and `secrets`: texts that the log has not, whatever the server prints.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.restarts = 0
        self.ready_at: float | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._copier: threading.Thread | None = None

    def run(self) -> int:
        """Until the owner is gone (0) or the server has died once too often (1)."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the owner's; what it makes of it arrives here
        try:
            while True:
                self._start()
                reason = self._watch()
                self._end()
                if reason is None:
                    return 0
                if self.ready_at is not None and time.monotonic() - self.ready_at > STEADY:
                    self.restarts = 0
                if self.restarts >= self.spec["max_restarts"]:
                    _tell("gave_up", reason=f"{reason}, after {self.restarts} restarts")
                    return 1
                self.restarts += 1
                _tell("died", reason=reason, restart=self.restarts)
                if _owner_gone(min(30.0, 2.0**self.restarts)):
                    return 0
        finally:
            self._end()

    def _start(self) -> None:
        self._server = subprocess.Popen(
            self.spec["command"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.spec["env"],
            cwd=self.spec["folder"],
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        assert self._server.stdout is not None
        given = (self._server.stdout.fileno(), self.spec["log"], self.spec.get("secrets", ()))
        self._copier = threading.Thread(target=copy_masked, args=given, daemon=True)
        self._copier.start()

    def _watch(self) -> str | None:
        """Why the server has to be started again; None if the owner is gone."""
        assert self._server is not None
        self.ready_at, last = None, time.monotonic()
        rarely = min(_PROBE_SECONDS, self.spec["hang_timeout"] / 4)
        while not _owner_gone(_TICK if self.ready_at is None else rarely):
            code = self._server.poll()
            if code is not None:
                return f"the server ended with {_describe(code)}" + ("" if self.ready_at else " before it answered")
            if answers(self.spec["health"]):
                last = time.monotonic()
                if self.ready_at is None:
                    self.ready_at = last
                    _tell("ready", pid=self._server.pid)
            limit = self.spec["hang_timeout" if self.ready_at else "start_timeout"]
            if time.monotonic() - last > limit:
                return f"the server did not answer for {limit:g} s"
        return None

    def _end(self) -> None:
        """No process of the server's group is left when this returns."""
        if self._server is None:
            return
        group, self._server = self._server, None
        try:
            self._kill(group)
        finally:
            if self._copier is not None:  # at its end once nobody has the pipe any more
                self._copier.join(GRACE)
                if not self._copier.is_alive() and group.stdout is not None:
                    group.stdout.close()

    def _kill(self, group: "subprocess.Popen[bytes]") -> None:
        for sign, seconds in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group.pid, sign)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                group.poll()  # reaps it, so that the group can be empty
                if not _group_lives(group.pid):
                    return
                time.sleep(0.05)


def copy_masked(pipe: int, log: str, secrets: Sequence[str]) -> None:
    """Append what comes from a pipe to a log until it ends, secrets as `***`, at once but for what may begin one."""
    words = sorted({word.encode() for word in secrets if word}, key=len, reverse=True)
    pattern = re.compile(b"|".join(map(re.escape, words)) or rb"(?!)")
    held = b""
    with open(log, "ab", buffering=0) as file:
        while data := os.read(pipe, 65_536):
            held += data
            open_end = len(held) - max((_begun(word, held) for word in words), default=0)
            parts, at = [], 0
            for found in pattern.finditer(held):
                if found.start() >= open_end:  # it may be the beginning of a longer one
                    break
                parts += [held[at : found.start()], b"***"]
                at = found.end()
            with contextlib.suppress(OSError):  # a full disk must not block the server
                file.write(b"".join([*parts, held[at:open_end]]))
            held = held[max(at, open_end) :]
        with contextlib.suppress(OSError):
            file.write(pattern.sub(b"***", held))


def _begun(word: bytes, text: bytes) -> int:
    """The number of bytes at the end of a text with which a word begins, short of the whole word."""
    return next((n for n in range(min(len(word) - 1, len(text)), 0, -1) if text.endswith(word[:n])), 0)


def answers(url: str) -> bool:
    """Whether a server says that it is well."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_PROBE_TIMEOUT) as response:
            return bool(response.status == 200)
    except (OSError, ValueError):
        return False


def _owner_gone(seconds: float) -> bool:
    """Waits so long for standard input to end."""
    readable, _, _ = select.select([0], [], [], seconds)
    return bool(readable) and not os.read(0, 4096)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _describe(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _tell(event: str, **more: Any) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps({"event": event, **more}), flush=True)


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        given = json.load(file)
    os.remove(sys.argv[1])  # it may hold keys
    sys.exit(Supervisor(given).run())
