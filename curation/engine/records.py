"""The records of a run's stages: what each was made from, what became of it, and which files it committed."""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from mmcorpus.curation.engine.made_from import MadeFrom

Status = Literal["clearing", "running", "done", "partial", "failed", "interrupted", "damaged"]
"""`partial`: finished, but some shards failed; it is tried again by the next run. `clearing`: stale output is going.
`damaged`: it was done, and some of its files no longer are as it committed them (`engine/mend.py`)."""


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """The record of a stage that has begun."""

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
    scratch: list[str] = field(default_factory=list)
    """Patterns of files among them that may be removed."""
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
    manifest: str = ""
    """The SHA-256 of its manifest (`engine/manifest.py`); empty before there is one."""
    unsettled: float = 0.0
    """The Unix time from when on files may have been written that the manifest does not know; 0 if there are none."""
    unproven: bool = False
    """Its manifest was lost, and taken again from what lay in its outputs: files of others may be among them."""
    damaged: list[str] = field(default_factory=list)
    """Its files that are known to be damaged or gone, relative to the run's folder."""

    @property
    def made_from(self) -> MadeFrom:
        """What it was made from."""
        return MadeFrom(config=self.config, version=self.version, inputs=self.inputs)


class Records(Protocol):
    """The store of a run's stage records; every change is written at once, atomically."""

    root: str
    """The run's folder."""
    stages: dict[str, StageRecord]

    def put(self, stage: str, record: StageRecord) -> None:
        """Set a stage's record and write it."""

    def drop(self, stage: str) -> None:
        """Forget a stage, and write that."""
