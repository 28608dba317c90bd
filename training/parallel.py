"""One to eight devices, one code path: reductions over the processes, and the model parallelized over them.

Started by `torchrun`, which sets RANK; otherwise this process is the whole world. Gradients are sums over target
tokens, reduced in fp32 over the devices and divided by the global count, never averaged per device. `replicate` reduces
them after the backward pass in large buckets; `shard` is FSDP2, which overlaps its communication with the computation
and is the one to use for large models.
"""

import atexit
import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import nn

from mmcorpus.training.config import PackCompute
from mmcorpus.training.model import VisionLanguageModel

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

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()

    def autocast(self, precision: str) -> torch.autocast:
        """A context that computes in bf16 where `precision` is bf16, in fp32 otherwise."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16")

    def all_reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its fp32 sum over all processes; one that a process lacks counts as zero.

        Sharded parameters are left out: FSDP has reduced theirs in the backward pass.
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
        dist.init_process_group("nccl" if kind.startswith("cuda") else "gloo")
        atexit.register(_close)
    yield World(rank=dist.get_rank(), size=dist.get_world_size(), device=torch.device(kind))


def _close() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def parallelize(model: VisionLanguageModel, compute: PackCompute, world: World) -> VisionLanguageModel:
    """Move the model to its device(s): activation checkpointing → compile → sharding, in this order."""
    model.to(world.device)
    if compute.activation_checkpointing:
        model.language.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if compute.compile:
        for block in (*model.vision.blocks(), *model.blocks):
            block.compile()
    if compute.parallel == "shard" and world.size > 1:
        _shard(model, compute, world)
    return model


def _shard(model: VisionLanguageModel, compute: PackCompute, world: World) -> None:
    """FSDP2: the encoder as one unit, each block of the language model one, the rest with the root."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(world.device.type, (world.size,))
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if compute.precision == "bf16" else torch.float32, reduce_dtype=torch.float32
    )
    for unit in (model.vision, *model.blocks, model):
        fully_shard(unit, mesh=mesh, mp_policy=policy)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # sums, not means …
            module.set_force_sum_reduction_for_comms(True)  # … with a plain sum, which is all that gloo has
