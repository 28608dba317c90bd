"""metrics.jsonl: one line a logged step, never doubled by a resumed run (docs/formats.md, Metrics)."""

import json
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any

from mmcorpus.curation.store import storage


class MetricsLog:
    """Appends lines to a file. A resumed run first cuts back what was written after its checkpoint.

    A local file grows line by line. An object store cannot append, so there the whole file is written by `flush`, which
    the trainer calls at each checkpoint.
    """

    def __init__(self, path: str, step: int, *, evaluated: bool = True) -> None:
        """`step`: the checkpoint's; `evaluated`: whether the evaluation after it is known there, or is made again."""
        self.path, self.step, self.evaluated = path, step, evaluated
        self._lines: list[dict[str, Any]] = []
        self._file: IO[str] | None = None

    def __enter__(self) -> "MetricsLog":
        self._lines = [line for line in read_metrics(self.path) if self._stays(line)]
        self.flush()
        if storage.is_local(self.path):
            self._file = open(storage.filesystem(self.path)[1], "a", encoding="utf-8")
        return self

    def _stays(self, line: Mapping[str, Any]) -> bool:
        of_step = "seconds" in line  # and no evaluation's
        return line["step"] < self.step or (line["step"] == self.step and (self.evaluated or of_step))

    def write(self, line: dict[str, Any]) -> None:
        """Add a line."""
        if self._file is not None:
            with storage.naming_full_disk(self.path):
                self._file.write(json.dumps(line) + "\n")
                self._file.flush()
        else:
            self._lines.append(line)

    def flush(self) -> None:
        """Make a remote file hold every line so far; a local one already does."""
        if self._file is None:
            storage.write_bytes(self.path, "".join(json.dumps(line) + "\n" for line in self._lines).encode())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        else:
            self.flush()


def read_metrics(path: str) -> list[dict[str, Any]]:
    """The lines of a metrics file; empty if there is none. A last line that a kill cut short is left out."""
    if not storage.exists(path):
        return []
    lines: list[dict[str, Any]] = []
    texts = storage.read_bytes(path).decode().splitlines()
    for number, text in enumerate(texts):
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError as error:
            if number + 1 < len(texts):
                raise ValueError(f"{path}: line {number + 1} is not JSON") from error
    return lines
