"""`run.json`: what each stage of a run was made from, what became of it, and how long it took."""

import dataclasses
from collections.abc import Callable
from typing import Final

from mmcorpus.curation.engine.stage import StageRecord
from mmcorpus.curation.store import storage
from mmcorpus.filters.secrets import masked_messages

FORMAT: Final = 1
FILE: Final = "run.json"


class RunState:
    """The records of a run's stages, kept in its `run.json`; every change is written at once, atomically."""

    def __init__(self, root: str, *, name: str = "") -> None:
        self.root, self.name = root, name
        self.stages: dict[str, StageRecord] = {}
        self.retired: dict[str, StageRecord] = {}
        """Of stages that the recipe no longer has: their files stay, and are stale should it have them again."""
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
            records = {
                stage: StageRecord(**{key: value for key, value in record.items() if key in known})
                for stage, record in stored["stages"].items()
            }
            state.stages = {stage: records[stage] for stage in stored["order"]}
            state.retired = {stage: record for stage, record in records.items() if stage not in state.stages}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{path} is not the record of a run ({error}); give another --out, "
                "or remove the file: stages then go on from what their folders hold, or refuse it"
            ) from None
        return state

    def put(self, stage: str, record: StageRecord) -> None:
        """Set a stage's record, its texts without secrets, and write the file."""
        texts = {name: masked_messages(getattr(record, name)) for name in ("failures", "reason", "config")}
        self.stages[stage] = dataclasses.replace(
            record, **texts
        )  # a new one comes last, and finds its place at the next run
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
        value = {"format": FORMAT, "name": self.name, "order": list(self.stages), "stages": stages}
        storage.write_json(storage.join(self.root, FILE), value)
