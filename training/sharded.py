"""Checkpoints of a sharded model by PyTorch's distributed checkpoint (DCP): each process writes the parts that it has.

Of weights on a GPU a process has one tensor at a time in the host's memory; in the background (`async_save`) it first
copies its part there, and training goes on while that is written. DCP plans who writes what, carries errors to every
process, and calls `finish` in the first once all have written: there the folder is committed. The files are safetensors
with the place of each part in them (`tensors.py`), so any number of processes reads them, as DCP's own
HuggingFaceStorageReader does; its writer is not used, since it makes up each file in memory, twice, and its bytes
differ from time to time.
"""

import datetime
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, ParamSpec, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from mmcorpus.curation.store import storage
from mmcorpus.training.errors import carriable
from mmcorpus.training.folder import abandon, clear, commit, part_of_folder, shard_name
from mmcorpus.training.tensors import Planned, in_order, write_file

Arguments = ParamSpec("Arguments")
T = TypeVar("T")

_KINDS: Final = ("model", "optimizer")
_PATIENCE: Final = datetime.timedelta(hours=2)
"""That a process waits for the others to write their parts."""


def save(
    path: str,
    tensors: Mapping[str, Mapping[str, torch.Tensor]],
    write_rest: Callable[[str], None],
    *,
    then: Callable[[], None],
    background: bool,
) -> Callable[[], None]:
    """Write the checkpoint `path`; every process calls it.

    Args:
        path: of the checkpoint.
        tensors: by kind (`model`, `optimizer`) and name, those of this process: sharded ones, or whole ones that are
            equal everywhere.
        write_rest: writes the other files into a local folder; called in the first process when all parts are there.
        then: called there when the checkpoint is complete.
        background: write while the caller goes on; the tensors are copied before this returns.

    Returns:
        What waits until the checkpoint is there; it raises, in every process, what any of them raised.
    """
    writer, group = _Writer(path, write_rest, then), _group()
    state = {kind: dict(named) for kind, named in tensors.items()}
    if background:
        saving: Any = dcp.async_save(state, storage_writer=writer, process_group=group)
        return functools.partial(_waited, path, saving.result)
    _waited(path, lambda: dcp.save(state, storage_writer=writer, process_group=group))
    return lambda: None


def _waited(path: str, wait: Callable[[], Any]) -> None:
    """Wait, and raise what went wrong itself, not DCP's list of what each process met."""
    try:
        wait()
    except dcp.CheckpointException as failed:
        if not dist.is_initialized() or dist.get_rank() == 0:
            abandon(path)
        error: BaseException = failed.failures[min(failed.failures)][0]
        raise error from failed


@functools.cache
def _group() -> dist.ProcessGroup:
    """All processes, over gloo: plans are no tensors of a GPU, and a thread must not share the trainer's group."""
    group: Any = dist.new_group(backend="gloo", timeout=_PATIENCE)
    return group


def _carried(work: Callable[Arguments, T]) -> Callable[Arguments, T]:
    """Its errors can be sent: DCP sends them as they are; where that fails, the others wait, and its words are lost."""

    @functools.wraps(work)
    def does(*arguments: Arguments.args, **named: Arguments.kwargs) -> T:
        try:
            return work(*arguments, **named)
        except BaseException as error:
            sent = carriable(error)
            if sent is error:
                raise
            raise sent from error

    return does


class _Writer(StorageWriter):
    """Writes a process's part of each kind of tensors into one file, and the first process the rest."""

    def __init__(self, path: str, write_rest: Callable[[str], None], then: Callable[[], None]) -> None:
        self.path, self.write_rest, self.then, self.ranks = path, write_rest, then, 0

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """A writer is of one checkpoint."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing: the folder is made once all processes have planned."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    @_carried
    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        clear(self.path)
        self.ranks = len(plans)
        return [
            SavePlan(plan.items, storage_data=(rank, self.ranks), planner_data=plan.planner_data)
            for rank, plan in enumerate(plans)
        ]

    @_carried
    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        rank, ranks = plan.storage_data
        kinds: dict[str, list[WriteItem]] = {kind: [] for kind in _KINDS}
        for item in plan.items:
            kinds[item.index.fqn.partition(".")[0]].append(item)
        with part_of_folder(self.path) as folder:
            for kind, items in kinds.items():
                write_file(os.path.join(folder, shard_name(kind, rank, ranks)), _planned(items, planner), None)
        done: Future[list[WriteResult]] = Future()
        done.set_result([])  # nothing that `finish` needs
        return done

    @_carried
    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        with part_of_folder(self.path) as folder:
            if storage.is_local(self.path):
                names = [shard_name(kind, rank, self.ranks) for kind in _KINDS for rank in range(self.ranks)]
                missing = [name for name in names if not os.path.exists(os.path.join(folder, name))]
                if missing:
                    raise FileNotFoundError(
                        f"{folder} lacks {missing[0]}, which another process has written: with compute.parallel shard "
                        "the training's folder must be one that all machines share, or a bucket"
                    )
            self.write_rest(folder)
        commit(self.path)
        self.then()

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return False  # it is not chosen by a path


def _planned(items: list[WriteItem], planner: SavePlanner) -> list[Planned]:
    resolve: Any = planner.resolve_data
    planned = []
    for item in items:
        data = item.tensor_data
        assert data is not None  # there are tensors alone
        planned.append(
            Planned(
                item.index.fqn.partition(".")[2],
                tuple(data.chunk.sizes),
                functools.partial(resolve, item),
                data.properties.dtype,
                tuple(data.chunk.offsets),
            )
        )
    return in_order(planned)
