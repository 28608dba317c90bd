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
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, Final

CPU_SECONDS: Final = 10.0
"""Processor time that one rendering may take; published templates take a few milliseconds."""
MEMORY: Final = 2**30
"""Bytes that the process may allocate beyond what it holds before it renders anything, on Linux."""
LONGEST: Final = 2**20
"""Characters that a template may write beyond four times what it is given."""
A_REQUEST: Final = 2**18
"""Characters that the process is given at once, about: a conversation by itself takes longer to send than to render."""
DEATHS: Final = 3
"""How often a template may end the process that renders it, by the time that it takes or else, and once more for each
LIVES conversations that it renders."""
LIVES: Final = 10_000

_process: subprocess.Popen[str] | None = None
_lock = threading.Lock()
_rendered: Counter[str] = Counter()
"""By template, how many conversations."""
_deaths: Counter[str] = Counter()


class TemplateHangsError(RuntimeError):
    """A template ended the process that renders it more than `DEATHS` times."""


def render(template: str, given: Mapping[str, Any]) -> str:
    """What a template writes for the names that it is given, `messages` and `add_generation_prompt` among them.

    Raises ValueError with the template's own words where it refuses them, or for the limit that it is over, and
    TemplateHangsError where that came too often.
    """
    (answer,) = render_all(template, given, [given["messages"]])
    if isinstance(answer, ValueError):
        raise answer
    return answer


def render_all(
    template: str, given: Mapping[str, Any], conversations: Sequence[Sequence[Mapping[str, Any]]]
) -> list[str | ValueError]:
    """What a template writes for each of several `messages`, all else that it is given being the same, or the error.

    Each conversation has limits of its own, and what one is over costs no other. Raises as `render` does where a
    template comes to an end too often.
    """
    head = json.dumps([template, {name: value for name, value in given.items() if name != "messages"}], default=str)
    rows = [json.dumps(messages, default=str) for messages in conversations]
    answers: list[str | ValueError] = []
    with _lock:
        while len(answers) < len(rows):
            taken = list(_a_request(rows[len(answers) :]))
            told, code = _ask(head, taken)
            _rendered[template] += len(told)
            answers += [text if error is None else ValueError(error) for text, error in told]
            if len(told) < len(taken):
                over = code == -signal.SIGPROF
                why = f"it took over {CPU_SECONDS:g} s of processor time" if over else (
                    f"it ended the process that renders it (exit status {code})"
                )  # fmt: skip
                answers.append(ValueError(why))
                _deaths[template] += 1
                if _deaths[template] > DEATHS + _rendered[template] // LIVES:
                    raise TemplateHangsError(
                        f"the chat template is not fit for these conversations: for {_deaths[template]} of "
                        f"{_rendered[template] + _deaths[template]} {why}; give the tokenizer another, or say "
                        "`chat_template: chatml`"
                    )
    return answers


def _a_request(rows: Sequence[str]) -> Iterator[str]:
    size = 0
    for row in rows:
        if size and size + len(row) > A_REQUEST:
            break
        size += len(row)
        yield row


def _ask(head: str, rows: Sequence[str]) -> tuple[list[tuple[str, str | None]], int | None]:
    """The answers of the process, which is started if there is none; where it ends before the last, its exit status."""
    global _process
    if _process is None:
        _process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(CPU_SECONDS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, encoding="ascii",
        )  # fmt: skip
        atexit.register(_end)
    told: list[tuple[str, str | None]] = []
    try:
        with contextlib.suppress(BrokenPipeError):
            _pipe(_process.stdin).write("\n".join([f"{len(rows)} {head}", *rows, ""]))
            _pipe(_process.stdin).flush()
            while len(told) < len(rows) and (answer := _pipe(_process.stdout).readline()):
                told.append(tuple(json.loads(answer)))
    except BaseException:  # interrupted in the midst of an answer, which must not be taken for the next one's
        _end()
        raise
    return told, _end() if len(told) < len(rows) else None


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
    """Answer requests: a line `count [template, names]` and so many lines of messages, by as many `[text, error]`."""
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
        count, _, head = line.partition(" ")
        rows = [sys.stdin.readline() for _ in range(int(count))]  # all, or both sides would wait to be read
        template, given = json.loads(head)
        for row in rows:
            signal.setitimer(signal.ITIMER_PROF, seconds)
            text, error = "", None
            try:
                talk = [json.loads(row)]
                text = render_jinja_template(conversations=talk, chat_template=template, **given)[0][0]
                if len(text) > LONGEST + 4 * len(row):
                    text, error = "", f"it writes {len(text):,} characters"
            except MemoryError:
                error = f"it wants more than {MEMORY / 2**30:g} GiB of memory"
            except Exception as raised:  # templates raise what they like: jinja2's errors, TypeError, KeyError
                error = str(raised)[:1000]
            answers.write(json.dumps([text, error]) + "\n")
            answers.flush()  # the next one may be the last
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    _serve(float(sys.argv[1]))
