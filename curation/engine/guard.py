"""The guard of a worker: one sample that stalls or kills its worker is set aside, and its shard is finished without it.

    row = guarded("extract", key, extractor.row, page)      # raises SetAside, with a reason

Before each sample the worker notes where it is, and has the kernel watch what the sample costs:

- *Processor time* by SIGPROF, whose handler raises in Python code (and in `re`). C code that does not come back dies of
  SIGVTALRM at twice the time: no lock of the interpreter keeps a signal's default action from ending a process.
- *Time by the clock* by SIGALRM, likewise. Both leave a traceback behind the note, which says why the process ended.
- *Memory* by RLIMIT_DATA, at which an allocation fails: MemoryError for most, an abort for some.

A worker that ended leaves its note. The engine begins its item again, and the next worker reads what happened: a limit
sets a sample aside at once, any other death at the second time, since the machine may have killed the worker for what
others did. Each death thus moves one sample on, and a shard of many bad samples comes to its end. Notes are a run's
own, so that who kills a run accuses no sample; what was set aside is kept beside the output, and a rerun knows it.

Scorers judge many rows at once. A batch that went over its budget or took its worker down is suspect: its rows are
tried one by one, and then what is left is judged together again, so that scores do not depend on what was tried.
"""

import contextlib
import faulthandler
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar

from mmcorpus.curation.engine.budget import DIED, SampleBudget, current_budget
from mmcorpus.curation.store import storage

Arguments = ParamSpec("Arguments")
Made = TypeVar("Made")

FOLDER: Final = "_set_aside"
"""Beside an output: by item, a JSON file of the samples that were set aside, with their reasons."""
DEADLY_STEP: Final = 20
"""So many samples that took their worker down, and none before that did not, mean that the step itself does."""
_CPU_TRACE: Final = 1 << 12
_WALL_TRACE: Final = 1 << 17
"""Where in a note's file the traceback of a worker lies that a limit ended."""
_SAMPLE, _BATCH, _AGAIN = "sample", "batch", "again"
_PLAIN_NAME = re.compile(r"[\w.-]{1,100}\Z", re.ASCII)


class SetAside(Exception):
    """A sample that goes on without a result; its text is the reason, `code: detail`."""


class DeadlyStep(RuntimeError):
    """A step that takes its worker down whatever it is given."""


class _OverBudget(BaseException):
    """Raised in the midst of a sample's work. No Exception, so that code which catches these does not go on."""


def guarded(
    step: str, sample: str, work: Callable[Arguments, Made], *args: Arguments.args, **options: Arguments.kwargs
) -> Made:
    """What `work` makes of one sample, within its budget where this process is a guarded worker.

    Args:
        step, sample: names, the sample's unique in its item. With other code or parameters a step needs another name.

    Raises:
        SetAside: the sample went over its budget or took its worker down, now or in an earlier attempt.
    """
    return work(*args, **options) if _current is None else _current.call(step, sample, work, *args, **options)


def guarded_batch(
    step: str, samples: Sequence[str], judge: Callable[[Sequence[int], dict[int, str]], Made]
) -> Made | list[Made]:
    """What `judge` makes of some samples together, or, where they cannot be judged together, of each.

    Args:
        judge: given the rows to be judged together, and of those that are set aside the reasons, by row. It is not
            given a batch anew after it raised.

    Returns:
        what `judge` made of all rows, or a list of what it made of each.
    """
    rows = range(len(samples))
    return judge(rows, {}) if _current is None else _current.batch(step, samples, judge)


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """What the workers of a run are guarded with."""

    folder: str
    """Of the output; what is set aside is kept in it."""
    notes: str
    """A folder of this run, where workers say which sample they are at."""
    budget: SampleBudget

    @classmethod
    @contextlib.contextmanager
    def over(cls, folder: str) -> Iterator["Watch"]:
        """A watch over the work on an output, on the Ray that is initialised.

        Notes lie on this machine's own disk if it is the only one, else beside the output, where all machines see them.
        """
        import ray

        kept = storage.join(folder, FOLDER)
        for name in storage.list_names(kept):
            if name.startswith("run-"):  # of a run that was killed
                storage.remove(storage.join(kept, name))
        alone = len(ray.nodes()) == 1 and not ray.util.client.ray.is_connected()
        notes = tempfile.mkdtemp(prefix="mmcorpus-") if alone else storage.join(kept, f"run-{uuid.uuid4().hex}")
        try:
            yield cls(folder=folder, notes=notes, budget=current_budget())
        finally:
            if alone:
                shutil.rmtree(notes, ignore_errors=True)
            elif storage.exists(notes):
                storage.remove(notes)
            if storage.is_local(kept):
                with contextlib.suppress(OSError):  # it holds what was set aside, or was never made
                    os.rmdir(storage.filesystem(kept)[1])

    @contextlib.contextmanager
    def guard(self, item: str) -> Iterator[None]:
        """Guard this process's work on one item; for the block of the `with`, `guarded` sees to its budget.

        Raises:
            DeadlyStep: the worker died at one sample after the other.
        """
        global _current
        guard = Guard(self, item)
        _current = guard
        try:
            yield
        finally:
            _current = None
            guard.close()

    def accuses(self, item: str) -> bool:
        """Whether the worker that died at an item was at a sample or a batch. The next one hears of it."""
        at, left = self.paths(item)[:2]
        accused = storage.exists(at) and _parse(storage.read_bytes(at)) is not None
        if accused:
            storage.move(at, left)
        return accused

    def acquit(self, item: str) -> None:
        """Forget where the worker on an item was: not the sample was at fault."""
        for path in self.paths(item)[:2]:
            if storage.exists(path):
                storage.remove(path)

    def paths(self, item: str) -> tuple[str, str, str]:
        """Of an item: the note, what a worker that died left, and what was learnt of such."""
        at = storage.join(self.notes, _file_name(item))
        return f"{at}.at", f"{at}.left", f"{at}.json"

    def learnt(self) -> str:
        """A digest of all notes: another one means that deaths taught something."""
        found = ((name, storage.read_bytes(storage.join(self.notes, name))) for name in storage.list_names(self.notes))
        return hashlib.blake2b(repr(list(found)).encode()).hexdigest()


class Guard:
    """The guard of one item in a worker process."""

    def __init__(self, watch: Watch, item: str) -> None:
        self.budget = watch.budget
        self._item = item
        self._record = storage.join(watch.folder, FOLDER, f"{_file_name(item)}.json")
        self._aside = {key: reason for key, reason in _json(self._record).items() if reason in self.budget.reasons}
        at, left, self._state_path = watch.paths(item)
        self._deaths: dict[str, int] = {}
        """By sample, in this run."""
        self._suspects: dict[str, int] = {}
        """By batch: 1, its rows are tried one by one before it is judged; 2, they are judged one by one."""
        self._succeeded: dict[str, int] = {}
        """By step, how many samples it lived through."""
        if storage.exists(at):  # what ended the worker before went unnoticed
            storage.move(at, left)
        if again := storage.exists(left):
            self._learn(storage.read_bytes(left))
            storage.remove(left)
        elif again := storage.exists(self._state_path):
            self._recall()
        self._note = _Note(at, again)
        self._clock = _Clock(self.budget, self._note)

    def call(
        self,
        step: str,
        sample: str,
        work: Callable[Arguments, Made],
        *args: Arguments.args,
        **options: Arguments.kwargs,
    ) -> Made:
        """See `guarded`."""
        if self._clock.running:  # a part of a sample's work: the sample's own budget holds
            return work(*args, **options)
        key = _key(step, sample)
        if key in self._aside:
            raise SetAside(self._aside[key])
        done = self._succeeded.get(step, 0)
        try:
            made = self._run(f"{_SAMPLE} {done} {key}\n", 1.0, work, *args, **options)
        except _OverBudget:
            reason = self.budget.over_cpu
        except MemoryError:
            reason = self.budget.over_memory
        else:
            self._succeeded[step] = done + 1
            return made
        self._set_aside(key, reason)
        raise SetAside(reason)

    def batch(
        self, step: str, samples: Sequence[str], judge: Callable[[Sequence[int], dict[int, str]], Made]
    ) -> Made | list[Made]:
        """See `guarded_batch`."""
        keys = [_key(step, sample) for sample in samples]
        aside = {row: self._aside[key] for row, key in enumerate(keys) if key in self._aside}
        name, rows, size = f"{keys[0]} and {len(keys) - 1} more", range(len(keys)), max(1, len(keys) - len(aside))
        level = self._suspects.get(name, 0)
        if level == 0:
            # One budget, and a twentieth of it for each row; of a step that has been seen to take more than that, four
            # times what it took.
            share = max(1 + size / 20, 4 * _PACE.get(step, 0.0) * size / self.budget.cpu_seconds)
            with contextlib.suppress(_OverBudget, MemoryError):
                return self._judge_all(_BATCH, step, name, share, judge, rows, aside)
        made, spent = list[Made](), 0.0
        for row, sample in enumerate(samples):
            if row not in aside:
                start = time.thread_time()
                try:
                    made.append(self.call(step, sample, judge, [row], {}))
                except SetAside as reason:
                    aside[row] = str(reason)
                else:
                    spent += time.thread_time() - start
            if row in aside:
                made.append(judge([row], aside))
        _PACE[step] = max(_PACE.get(step, 0.0), spent / size)
        if level < 2:
            with contextlib.suppress(_OverBudget, MemoryError):
                return self._judge_all(_AGAIN, step, name, float(size), judge, rows, aside)
        return made

    def _judge_all(
        self,
        kind: str,
        step: str,
        name: str,
        share: float,
        judge: Callable[[Sequence[int], dict[int, str]], Made],
        rows: Sequence[int],
        aside: dict[int, str],
    ) -> Made:
        done = self._succeeded.get(step, 0)
        made = self._run(f"{kind} {done} {name}\n", share, judge, rows, aside)
        self._succeeded[step] = done + len(rows) - len(aside)
        return made

    def close(self) -> None:
        """End the watch; what is noted stays, so that an exception in the item's work is told from a death."""
        self._clock.close()
        self._note.close()

    def _run(
        self,
        note: str,
        share: float,
        work: Callable[Arguments, Made],
        *args: Arguments.args,
        **options: Arguments.kwargs,
    ) -> Made:
        try:
            self._note.write(note.encode())
            self._clock.start(share)
            return work(*args, **options)
        finally:
            # A signal may come in the midst of this too, and must not leave the clock running.
            try:
                self._clock.stop()
            finally:
                self._clock.stop()
                self._note.write(b"\n")

    def _recall(self) -> None:
        state = _json(self._state_path)
        self._deaths, self._suspects = state.get("deaths", {}), state.get("suspects", {})
        self._succeeded = state.get("succeeded", {})

    def _learn(self, left: bytes) -> None:
        """Take in what a worker that died left."""
        self._recall()
        accused = _parse(left)
        if accused is None:
            return
        kind, done, key = accused
        step = key.partition(" ")[0]
        self._succeeded[step] = max(self._succeeded.get(step, 0), done)
        if kind != _SAMPLE:
            self._suspects[key] = 1 if kind == _BATCH else 2
        elif left[_WALL_TRACE:]:
            self._set_aside(key, self.budget.over_wall)
        elif left[_CPU_TRACE:_WALL_TRACE].strip(b"\0"):
            self._set_aside(key, self.budget.over_cpu)
        else:
            self._deaths[key] = self._deaths.get(key, 0) + 1
            if self._deaths[key] > 1:
                self._set_aside(key, DIED)
        state = {"deaths": self._deaths, "suspects": self._suspects, "succeeded": self._succeeded}
        storage.write_json(self._state_path, state)
        lost = sum(reason == DIED and at.partition(" ")[0] == step for at, reason in self._aside.items())
        if lost >= DEADLY_STEP and not self._succeeded[step]:
            # Or else a scorer that always crashes would be given every sample of the corpus, twice.
            for at in [at for at, reason in self._aside.items() if reason == DIED and at.startswith(f"{step} ")]:
                del self._aside[at]
            storage.write_json(self._record, self._aside)
            raise DeadlyStep(f"{step} took its worker down at each of the first {lost} samples: it is not their fault")

    def _set_aside(self, key: str, reason: str) -> None:
        self._aside[key] = reason
        storage.write_json(self._record, dict(sorted(self._aside.items())))


class _Note:
    """The file in which a worker says where it is. Its pages outlive the process, whatever ends it.

    Where machines share an object store alone, an item's first worker says nothing, and those after a death say where
    they are by an object a sample.
    """

    def __init__(self, path: str, again: bool) -> None:
        """`again`: an earlier worker on the same item died."""
        self._path, self._again, self._files = path, again, list[int]()
        if storage.is_local(path):
            inner = storage.filesystem(path)[1]
            os.makedirs(os.path.dirname(inner), exist_ok=True)
            for place in (0, _CPU_TRACE, _WALL_TRACE):
                self._files.append(os.open(inner, os.O_RDWR | os.O_CREAT | (0 if place else os.O_TRUNC), 0o600))
                os.lseek(self._files[-1], place, os.SEEK_SET)

    @property
    def traces(self) -> tuple[int, int] | None:
        """Files for the tracebacks of the two limits."""
        return (self._files[1], self._files[2]) if self._files else None

    def write(self, text: bytes) -> None:
        """Say where this worker is; an empty line: at no sample."""
        if self._files:
            os.pwrite(self._files[0], text, 0)
        elif self._again:
            storage.write_bytes(self._path, text)

    def close(self) -> None:
        for file in self._files:
            os.close(file)


class _Clock:
    """The kernel's timers and limits over one sample at a time. Timers are a process's, and only its main thread can be
    interrupted: in any other nothing is timed."""

    def __init__(self, budget: SampleBudget, note: _Note) -> None:
        self._budget, self.running = budget, False
        self._limit = self._began = 0.0
        self._memory: tuple[tuple[int, int], tuple[int, int]] | None = None
        self._timed = threading.current_thread() is threading.main_thread()
        self._before: Any = None
        if self._timed:
            self._before = signal.signal(signal.SIGPROF, self._over)
            for number, trace in zip((signal.SIGVTALRM, signal.SIGALRM), note.traces or (None, None), strict=True):
                if trace is not None:
                    faulthandler.register(number, file=trace, all_threads=False, chain=True)
        if sys.platform == "linux" and not _uses_gpu():
            soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
            with open("/proc/self/statm") as file:
                held = int(file.read().split()[5]) * resource.getpagesize()
            wanted = held + int(budget.memory_gib * 2**30)
            if all(limit == resource.RLIM_INFINITY or limit > wanted for limit in (soft, hard)):
                self._memory = (wanted, hard), (soft, hard)

    def start(self, share: float) -> None:
        """Begin a sample, or a batch that may take so many samples' time."""
        self._limit = self._budget.cpu_seconds * share
        if self._memory is not None:
            resource.setrlimit(resource.RLIMIT_DATA, self._memory[0])
        self._began, self.running = time.thread_time(), True
        if self._timed:
            signal.setitimer(signal.ITIMER_PROF, self._limit)
            signal.setitimer(signal.ITIMER_VIRTUAL, 2 * self._limit + 1)
            signal.setitimer(signal.ITIMER_REAL, self._budget.wall_seconds * max(1.0, share / 4))

    def stop(self) -> None:
        """End it; what the clock counted is forgotten."""
        self.running = False
        if self._timed:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        if self._memory is not None:
            resource.setrlimit(resource.RLIMIT_DATA, self._memory[1])

    def close(self) -> None:
        """Put back what this process did at these signals before."""
        self.stop()
        if self._timed:
            for number in (signal.SIGVTALRM, signal.SIGALRM):
                faulthandler.unregister(number)
            signal.signal(signal.SIGPROF, self._before)

    def _over(self, *_: object) -> None:
        if not self.running:
            return
        left = self._limit - (time.thread_time() - self._began)
        if left > 0:  # the timer counts other threads too, of which the sample knows nothing
            signal.setitimer(signal.ITIMER_PROF, max(left, 0.01))
            return
        raise _OverBudget


_current: Guard | None = None
"""The guard of the item that this process works on."""
_PACE: Final[dict[str, float]] = {}
"""By step, seconds of processor time a sample, the slowest batch that this process judged row by row."""


def _uses_gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def _key(step: str, sample: str) -> str:
    """A step and a sample as one line; long names by their digest."""
    name = sample.encode("unicode_escape").decode()
    return f"{step} {name if len(name) <= 200 else hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}"


def _parse(note: bytes) -> tuple[str, int, str] | None:
    """What a worker was at: a sample or batch, how many samples the step had lived through, and the key."""
    kind, _, rest = note.partition(b"\n")[0].decode().partition(" ")
    done, _, key = rest.partition(" ")
    return (kind, int(done), key) if key else None


def _json(path: str) -> dict[str, Any]:
    """A JSON object, empty where there is none."""
    try:
        return dict(json.loads(storage.read_bytes(path))) if storage.exists(path) else {}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it, and what it set aside is tried again") from None


def _file_name(item: str) -> str:
    return item if _PLAIN_NAME.match(item) else hashlib.blake2b(item.encode(), digest_size=12).hexdigest()
