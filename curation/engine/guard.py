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
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, ParamSpec, TypeVar

from mmcorpus.curation.engine.budget import DIED
from mmcorpus.curation.engine.limits import Clock, OverBudget
from mmcorpus.curation.engine.watch import (
    AGAIN,
    BATCH,
    FOLDER,
    SAMPLE,
    Note,
    Watch,
    file_name,
    limit_of,
    parse_note,
    read_object,
)
from mmcorpus.curation.store import storage

Arguments = ParamSpec("Arguments")
Made = TypeVar("Made")

DEADLY_STEP: Final = 20
"""So many samples that took their worker down, and none before that did not, mean that the step itself does."""


class SetAside(Exception):
    """A sample that goes on without a result; its text is the reason, `code: detail`."""


class DeadlyStep(RuntimeError):
    """A step that takes its worker down whatever it is given."""


def guarded(
    step: str, sample: str, work: Callable[Arguments, Made], *args: Arguments.args, **options: Arguments.kwargs
) -> Made:
    """Run `work` on one sample, within the sample's budget where this process is a guarded worker.

    Args:
        step, sample: names, the sample's unique in its item. With other code or parameters a step needs another name.

    Raises:
        SetAside: the sample went over its budget or took its worker down, now or in an earlier attempt.
    """
    return work(*args, **options) if _current is None else _current.call(step, sample, work, *args, **options)


def guarded_batch(
    step: str, samples: Sequence[str], judge: Callable[[Sequence[int], dict[int, str]], Made]
) -> Made | list[Made]:
    """Run `judge` on some samples together, or on each alone where together they went over their budget or killed the
    worker.

    Args:
        judge: given the rows to be judged together, and of those that are set aside the reasons, by row. It is not
            given a batch anew after it raised.

    Returns:
        what `judge` made of all rows, or a list of what it made of each.
    """
    rows = range(len(samples))
    return judge(rows, {}) if _current is None else _current.batch(step, samples, judge)


@contextlib.contextmanager
def guard(watch: Watch, item: str) -> Iterator[None]:
    """Guard this process's work on one item: in the block of the `with`, `guarded` sees to its samples' budget.

    Raises:
        DeadlyStep: the worker died at one sample after the other.
    """
    global _current
    _current = made = Guard(watch, item)
    try:
        yield
    finally:
        _current = None
        made.close()


class Guard:
    """The guard of one item in a worker process."""

    def __init__(self, watch: Watch, item: str) -> None:
        self.budget = watch.budget
        self._record = storage.join(watch.folder, FOLDER, f"{file_name(item)}.json")
        self._aside = {
            key: reason for key, reason in read_object(self._record).items() if reason in self.budget.reasons
        }
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
        self._note = Note(at, again)
        self._clock = Clock(self.budget, self._note.traces, ends=not watch.here)

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
            made = self._run(f"{SAMPLE} {done} {key}\n", 1.0, work, *args, **options)
        except OverBudget:
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
            with contextlib.suppress(OverBudget, MemoryError):
                return self._judge_all(BATCH, step, name, share, judge, rows, aside)
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
            with contextlib.suppress(OverBudget, MemoryError):
                return self._judge_all(AGAIN, step, name, float(size), judge, rows, aside)
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
        state = read_object(self._state_path)
        self._deaths, self._suspects = state.get("deaths", {}), state.get("suspects", {})
        self._succeeded = state.get("succeeded", {})

    def _learn(self, left: bytes) -> None:
        """Take in what a worker that died left."""
        self._recall()
        accused = parse_note(left)
        if accused is None:
            return
        kind, done, key = accused
        step = key.partition(" ")[0]
        self._succeeded[step] = max(self._succeeded.get(step, 0), done)
        if kind != SAMPLE:
            self._suspects[key] = 1 if kind == BATCH else 2
        elif limit := limit_of(left):
            self._set_aside(key, self.budget.over_wall if limit == "wall" else self.budget.over_cpu)
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
            self._keep()
            raise DeadlyStep(f"{step} took its worker down at each of the first {lost} samples: it is not their fault")

    def _set_aside(self, key: str, reason: str) -> None:
        self._aside[key] = reason
        self._keep()

    def _keep(self) -> None:
        if self._aside:
            storage.write_json(self._record, dict(sorted(self._aside.items())))
        elif storage.exists(self._record):
            storage.remove(self._record)


_current: Guard | None = None
"""The guard of the item that this process works on."""
_PACE: Final[dict[str, float]] = {}
"""By step, seconds of processor time a sample, the slowest batch that this process judged row by row."""


def _key(step: str, sample: str) -> str:
    """A step and a sample as one line; long names by their digest."""
    key = f"{step} {sample}".encode("unicode_escape").decode()
    return key if len(key) <= 500 else f"{step[:200]} {hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"
