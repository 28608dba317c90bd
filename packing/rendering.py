"""Chat templates rendered in a process of their own: they are programs from the web, and none may hang or kill ours.

Jinja's sandbox keeps a template from Python's objects and from long `range`s, but not from nested loops, powers, or
strings that double; so the kernel keeps the time and the memory. Run as a program, this file is that process.
"""

import atexit
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from typing import IO, Any, Final

CPU_SECONDS: Final = 10.0
"""Processor time that one rendering may take; published templates take a few milliseconds."""
MEMORY: Final = 2**30
"""Bytes that the process may allocate beyond what it holds before it renders anything, on Linux."""
LONGEST: Final = 2**20
"""Characters that a template may write beyond four times what it is given."""

_process: subprocess.Popen[str] | None = None
_lock = threading.Lock()


def render(template: str, given: dict[str, Any]) -> str:
    """What a template writes for the names that it is given, `messages` and `add_generation_prompt` among them.

    Raises ValueError with the template's own words where it refuses them, or for the limit that it is over.
    """
    global _process
    with _lock:
        if _process is None:
            _process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(CPU_SECONDS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, encoding="ascii",
            )  # fmt: skip
            atexit.register(_end)
        try:
            _pipe(_process.stdin).write(json.dumps([template, given], default=str) + "\n")
            _pipe(_process.stdin).flush()
            answer = _pipe(_process.stdout).readline()
        except BrokenPipeError:
            answer = ""
        except BaseException:  # interrupted in the midst of an answer, which must not be taken for the next one's
            _end()
            raise
        if not answer:
            code = _end()
    if not answer:
        raise ValueError(
            f"it took over {CPU_SECONDS:g} s of processor time" if code == -signal.SIGPROF
            else f"it ended the process that renders it (exit status {code})"
        )  # fmt: skip
    text, error = json.loads(answer)
    if error is not None:
        raise ValueError(error)
    return str(text)


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def _end() -> int | None:
    """End the process, if there is one; its exit status."""
    global _process
    process, _process = _process, None
    atexit.unregister(_end)
    if process is None:
        return None
    with contextlib.suppress(BrokenPipeError):  # a request that it never read
        _pipe(process.stdin).close()
    _pipe(process.stdout).close()
    try:
        return process.wait(1)  # it may have ended by itself, which its status tells
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _forget() -> None:
    """A forked process must not talk over its parent's pipes."""
    global _process, _lock
    _process, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)


def _serve(seconds: float) -> None:
    """Answer requests, a line each: `[template, names]` by `[text, null]` or `[null, error]`."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what a library prints is no answer
    from transformers.utils.chat_template_utils import render_jinja_template

    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            held = int(file.read().split()[5]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = held + MEMORY if hard == resource.RLIM_INFINITY else min(held + MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        text, error = "", None
        try:
            template, given = json.loads(line)
            talk = [given.pop("messages")]
            text = render_jinja_template(conversations=talk, chat_template=template, **given)[0][0]
            if len(text) > LONGEST + 4 * len(line):
                text, error = "", f"it writes {len(text):,} characters"
        except MemoryError:
            error = f"it wants more than {MEMORY / 2**30:g} GiB of memory"
        except Exception as raised:  # templates raise what they like: jinja2's errors, TypeError, KeyError
            error = str(raised)[:1000]
        answers.write(json.dumps([text, error]) + "\n")
        answers.flush()
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    _serve(float(sys.argv[1]))
