"""One to eight devices, one code path: reductions over the processes, and the model parallelized over them.

Started by `torchrun`, which sets RANK; otherwise this process is the whole world. Gradients are sums over target
tokens, reduced in fp32 over the devices and divided by the global count, never averaged per device. `replicate` is DDP,
`shard` FSDP2, the one to use for large models; both overlap their communication with the last micro-batch's backward
pass. `training/launch.py` starts the processes of one machine.
"""

import atexit
import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from mmcorpus.training.config import PackCompute
from mmcorpus.training.model import VisionLanguageModel
from mmcorpus.training.rendezvous import join

BUCKET_ELEMENTS = 32 * 2**20
"""Gradients reduced in one call: 128 MB of fp32."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """The processes that train together, as one of them sees it."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files and talks to the user."""
        return self.rank == 0

    def sums(self, values: Sequence[float]) -> list[float]:
        """Each value summed over all processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def sums_by_name(self, values: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
        """Each value summed over all processes, by names of which a process may lack some."""
        if self.size == 1:
            return {name: list(value) for name, value in values.items()}
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, {name: list(value) for name, value in values.items()})
        names = dict.fromkeys(name for some in found for name in some)
        return {
            name: [sum(parts) for parts in zip(*(some[name] for some in found if name in some), strict=True)]
            for name in names
        }

    def gathered(self, names: Sequence[str]) -> list[str]:
        """The names of all processes, in their order, once each."""
        if self.size == 1:
            return list(names)
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, list(names))
        return list(dict.fromkeys(name for some in found for name in some))

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()

    def autocast(self, precision: str) -> torch.autocast:
        """A context that computes in bf16 where `precision` is bf16, in fp32 otherwise."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")

    def all_reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its fp32 sum over all processes; one that a process lacks counts as zero.

        Sharded parameters are left out: FSDP has reduced theirs in the backward pass. DDP needs no call of this.
        """
        if self.size == 1:
            return
        bucket: list[nn.Parameter] = []
        elements = 0
        for parameter in (parameter for parameter in parameters if not hasattr(parameter, "device_mesh")):
            if bucket and elements + parameter.numel() > BUCKET_ELEMENTS:
                _all_reduce(bucket)
                bucket, elements = [], 0
            bucket.append(parameter)
            elements += parameter.numel()
        if bucket:
            _all_reduce(bucket)


def _all_reduce(bucket: list[nn.Parameter]) -> None:
    for parameter in bucket:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in bucket if parameter.grad is not None]
    flat = torch.cat([gradient.float().flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, summed in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))


@contextlib.contextmanager
def open_world(device: str | None = None) -> Iterator[World]:
    """This process among those that torchrun started, or alone. `device`: cpu or cuda; None for what is there."""
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if "RANK" not in os.environ:
        yield World(rank=0, size=1, device=torch.device(kind))
        return
    if kind == "cuda":
        kind = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(kind)
    if not dist.is_initialized():
        # Left open for the next stage in this process: gloo hangs when it is closed and opened again.
        join("nccl" if kind.startswith("cuda") else "gloo")
        atexit.register(_close)
    yield World(rank=dist.get_rank(), size=dist.get_world_size(), device=torch.device(kind))


def _close() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def parallelize(model: VisionLanguageModel, compute: PackCompute, world: World) -> nn.Module:
    """Move the model to its device(s): activation checkpointing → compile → sharding or DDP, in this order. Returns
    what is called in its place: the model itself, or DDP around it."""
    model.to(world.device)
    if compute.activation_checkpointing:
        model.language.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if compute.compile:
        # Compiled code is kept by the blocks' class, and does not see hooks: an earlier run's would be taken for ours.
        torch.compiler.reset()
        for block in (*model.vision.blocks(), *model.blocks):
            block.compile()
    if compute.parallel == "shard" and world.size > 1:
        _shard(model, compute, world)
    elif world.size > 1 and any(parameter.requires_grad for parameter in model.parameters()):
        return _replicate(model, world)
    return model


def _replicate(model: VisionLanguageModel, world: World) -> nn.Module:
    """DDP whose gradients are sums over devices, where its own are means."""
    from torch.nn.parallel import DistributedDataParallel

    ids = [world.device.index] if world.device.type == "cuda" else None
    whole = DistributedDataParallel(
        model, device_ids=ids, gradient_as_bucket_view=True, bucket_cap_mb=128, forward_sync_buffers=False
    )
    whole.register_comm_hook(None, _summed)
    return whole


def _summed(state: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    work: Any = dist.all_reduce(bucket.buffer(), async_op=True)
    future: Any = work.get_future()
    return future.then(lambda done: done.value()[0])


@contextlib.contextmanager
def synchronized(called: nn.Module, *, now: bool, reshard: bool = True) -> Iterator[None]:
    """One micro-batch's forward and backward pass of what `parallelize` returned: gradients are reduced over the
    devices in the last (`now`), or with FSDP that frees its weights (`reshard`) in each."""
    from torch.distributed.fsdp import FSDPModule
    from torch.nn.parallel import DistributedDataParallel

    if isinstance(called, DistributedDataParallel):
        with contextlib.nullcontext() if now else called.no_sync():
            yield
        return
    if isinstance(called, FSDPModule) and not reshard:
        called.set_requires_gradient_sync(now)
        called.set_is_last_backward(now)
        called.set_reshard_after_backward(now)
    yield


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Forward passes without a gradient of a model that may be sharded: in evaluation mode, and afterwards as it was.

    FSDP keeps some weights whole after a forward pass (the root's, and with `reshard` false all), for a backward pass
    that does not come here: until they are shards again, the model's parameters are not those that are trained.
    """
    from torch.distributed.fsdp import FSDPModule

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def _shard(model: VisionLanguageModel, compute: PackCompute, world: World) -> None:
    """FSDP2: the encoder as one unit, each block of the language model one, the rest with the root."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(world.device.type, (world.size,))
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if compute.precision == "bf16" else torch.float32, reduce_dtype=torch.float32
    )
    for unit in (model.vision, *model.blocks, model):
        fully_shard(unit, mesh=mesh, mp_policy=policy, reshard_after_forward=compute.reshard)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # sums, not means …
            module.set_force_sum_reduction_for_comms(True)  # … with a plain sum, which is all that gloo has
