"""`run.json`: what each stage of a run was made from, what became of it, and how long it took."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from mmcorpus.curation.store import storage

FORMAT: Final = 1
FILE: Final = "run.json"

Status = Literal["clearing", "running", "done", "partial", "failed", "interrupted"]
"""`partial`: finished, but some shards failed; it is tried again by the next run. `clearing`: stale output is going."""


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """What run.json keeps of one stage."""

    fingerprint: str
    """Of the stage's config, its code's version and its inputs' contents."""
    status: Status
    version: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    """What decides its output."""
    inputs: dict[str, str] = field(default_factory=dict)
    """Of each stage it needs, the content it was given."""
    content: str = ""
    """What the stages after it depend on: equal contents, nothing to redo."""
    parts: dict[str, str] = field(default_factory=dict)
    """Contents of its parts, e.g. of each scorer's tables."""
    counts: dict[str, Any] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    """Relative to the run's folder."""
    failures: list[str] = field(default_factory=list)
    """Shards (or the stage itself) that failed, each with its reason."""
    reason: str = ""
    """Why it was run: `new`, `resumed`, or what had changed."""
    started: float = 0.0
    """Unix time."""
    seconds: float = 0.0
    """Wall-clock, over all its attempts."""
    pid: int = 0
    """The process that runs it."""


class RunState:
    """The records of a run's stages, kept in its `run.json`; every change is written at once, atomically."""

    def __init__(self, root: str, *, name: str = "") -> None:
        self.root, self.name = root, name
        self.stages: dict[str, StageRecord] = {}
        self.confirm: Callable[[], None] = lambda: None
        """Raises, before each write, if the run's folder is no longer this process's (`lock`)."""

    @classmethod
    def load(cls, root: str, *, name: str = "") -> "RunState":
        """The state in `root/run.json`; empty if there is none. Raises `ValueError` if the file is not a run's."""
        state = cls(root, name=name)
        path = storage.join(root, FILE)
        if not storage.exists(path):
            return state
        try:
            stored = storage.read_json(path)
            if stored["format"] != FORMAT:
                raise ValueError(f"format {stored['format']}, this version reads {FORMAT}")
            state.name = name or stored["name"]
            known = {entry.name for entry in dataclasses.fields(StageRecord)}
            for stage in stored["order"]:
                record = stored["stages"][stage]
                state.stages[stage] = StageRecord(**{key: value for key, value in record.items() if key in known})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path} is not the record of a run ({error}); give another --out, or remove it") from None
        return state

    def put(self, stage: str, record: StageRecord) -> None:
        """Set a stage's record and write the file."""
        self.stages[stage] = record  # a new one comes last, and finds its place at the next run
        self.write()

    def keep_only(self, stages: list[str]) -> list[str]:
        """Forget stages that the recipe no longer has (their files stay) and take its order; returns their names."""
        gone = [stage for stage in self.stages if stage not in stages]
        ordered = {stage: self.stages[stage] for stage in stages if stage in self.stages}
        if list(ordered) != list(self.stages):
            self.stages = ordered
            self.write()
        return gone

    def write(self) -> None:
        self.confirm()
        stages = {stage: dataclasses.asdict(record) for stage, record in self.stages.items()}
        order = list(self.stages)
        value = {"format": FORMAT, "name": self.name, "order": order, "stages": stages}
        storage.write_json(storage.join(self.root, FILE), value)
