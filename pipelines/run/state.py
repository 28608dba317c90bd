"""`run.json`: what each stage of a run was made from, what became of it, and how long it took."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, Final

from mmcorpus.curation.engine import manifest
from mmcorpus.curation.engine.made_from import digest
from mmcorpus.curation.engine.manifest import Entries
from mmcorpus.curation.engine.records import StageRecord
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.storage import Damaged
from mmcorpus.curation.store.written import Notes
from mmcorpus.filters.secrets import masked_messages

FORMAT: Final = 1
FILE: Final = "run.json"
OWN: Final = "run"
"""The manifest of what the run itself writes, beside its stages."""
OWN_FILES: Final = ("recipe.yaml", "summary.json", "report.html", "truth.json")
DIGEST: Final = "digest"
"""Its entry that is the digest of all others."""
_BEFORE: Final = {"format", "name", "order", "stages"}
"""Its other entries, in all versions."""


class RunState:
    """The records of a run's stages, kept in its `run.json`; every change is written at once, atomically."""

    def __init__(self, root: str, *, name: str = "") -> None:
        self.root, self.name = root, name
        self.stages: dict[str, StageRecord] = {}
        self.retired: dict[str, StageRecord] = {}
        """Of stages that the recipe no longer has: their files stay, and are stale should it have them again."""
        self.manifest = ""
        """The SHA-256 of the manifest of what the run itself writes; empty while it is under way."""
        self.confirm: Callable[[], None] = lambda: None
        """Raises, before each write, if the run's folder is no longer this process's (`lock`)."""

    @classmethod
    def load(cls, root: str, *, name: str = "") -> "RunState":
        """The state in `root/run.json`; empty if there is none.

        Raises:
            Damaged: the file is no JSON, or differs from its own digest.
            ValueError: it is not a run's, or one of another version's.
        """
        state = cls(root, name=name)
        path = storage.join(root, FILE)
        if not storage.exists(path):
            return state
        stored = storage.read_json(path)
        try:
            _check(path, stored)
            if stored["format"] != FORMAT:
                raise ValueError(f"format {stored['format']}, this version reads {FORMAT}")
            state.name, state.manifest = name or stored["name"], stored.get("manifest", "")
            known = {entry.name for entry in dataclasses.fields(StageRecord)}
            records = {
                stage: StageRecord(**{key: value for key, value in record.items() if key in known})
                for stage, record in stored["stages"].items()
            }
            state.stages = {stage: records[stage] for stage in stored["order"]}
            state.retired = {stage: record for stage, record in records.items() if stage not in state.stages}
        except Damaged:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{path} is not the record of a run ({error}); give another --out, or move the file away: stages then "
                "go on from what their folders hold, or refuse it, and remove nothing"
            ) from None
        return state

    def settle(self, notes: Notes, *, since: float) -> None:
        """Note what the run itself has written, in a manifest of its own, and write the file.

        Files that were written before `since` (Unix time) and not noted are as they were.
        """
        before: Entries = {}
        with contextlib.suppress(Damaged):
            before = manifest.read_manifest(self.root, OWN, self.manifest)
        self.manifest = manifest.write_manifest(
            self.root, OWN, manifest.settle(self.root, OWN_FILES, before, notes, since)
        )
        self.write()

    def put(self, stage: str, record: StageRecord) -> None:
        """Set a stage's record, its texts without secrets, and write the file."""
        texts = {name: masked_messages(getattr(record, name)) for name in ("failures", "reason", "config")}
        self.stages[stage] = dataclasses.replace(
            record, **texts
        )  # a new one comes last, and finds its place at the next run
        self.write()

    def drop(self, stage: str) -> None:
        """Forget a stage and write the file."""
        self.stages.pop(stage, None)
        self.write()

    def take_order(self, stages: list[str]) -> None:
        """Order the records as a recipe's stages are; those of other stages retire."""
        known = self.stages | self.retired
        ordered = {stage: known[stage] for stage in stages if stage in known}
        if list(ordered) != list(self.stages):
            self.stages = ordered
            self.retired = {stage: record for stage, record in known.items() if stage not in ordered}
            self.write()

    def write(self) -> None:
        """Write the file: `order` has the recipe's stages, `stages` the retired ones too."""
        self.confirm()
        stages = {stage: dataclasses.asdict(record) for stage, record in (self.stages | self.retired).items()}
        value = {
            "format": FORMAT,
            "name": self.name,
            "order": list(self.stages),
            "stages": stages,
            "manifest": self.manifest,
        }
        storage.write_json(storage.join(self.root, FILE), {**value, DIGEST: digest(value)})


def _check(path: str, stored: Any) -> None:
    """Raise Damaged if the file is not what was written; earlier versions wrote no digest of it."""
    if not isinstance(stored, dict) or stored.keys() <= _BEFORE or not {"format", DIGEST} & stored.keys():
        return
    if stored.get(DIGEST) != digest({key: entry for key, entry in stored.items() if key != DIGEST}):
        raise Damaged(path, "record of a run", "it differs from its own digest")
