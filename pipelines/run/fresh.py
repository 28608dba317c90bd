"""Stages that are made anew because somebody says so (`--fresh`): all that lies in their outputs is removed first."""

from collections.abc import Sequence
from dataclasses import dataclass

from mmcorpus.curation.engine import manifest
from mmcorpus.curation.engine.records import Records
from mmcorpus.curation.engine.stage import Stage
from mmcorpus.curation.store import storage
from mmcorpus.pipelines.run.runner import named


@dataclass(frozen=True, kw_only=True)
class Going:
    """An output of a stage that is to be made anew."""

    stage: str
    path: str
    """Relative to the run's folder."""
    files: int
    size: int
    """Bytes."""


def fresh_stages(stages: Sequence[Stage], targets: Sequence[str]) -> list[Stage]:
    """The stages that some targets name, in the run's order. Raises `ValueError` for one that names none."""
    chosen = {stage.name for target in targets for stage in named(stages, target)}
    return [stage for stage in stages if stage.name in chosen]


def what_goes(stages: Sequence[Stage], root: str) -> list[Going]:
    """What removing the stages' outputs would remove: files that others have put there too."""
    going = []
    for stage in stages:
        for output in stage.outputs:
            found = manifest.list_outputs(root, [output]).values()
            if found:
                size = sum(stat.size for stat in found)
                going.append(Going(stage=stage.name, path=output, files=len(found), size=size))
    return going


def remove(stages: Sequence[Stage], records: Records) -> None:
    """Remove what the stages made and their records. Killed on the way, it does the rest when it is called again."""
    for stage in stages:
        for output in stage.outputs:
            storage.remove(storage.join(records.root, output))
        storage.remove(manifest.manifest_path(records.root, stage.name))
        records.drop(stage.name)
