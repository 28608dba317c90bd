"""The trainer's parts: measured peak, attention kernels, memory against speed, bf16 against fp32, a profiler's trace.

A measured step is a training step as the trainer makes it: packs read and decoded ahead by threads, forward and
backward pass under autocast, the gradient divided and clipped, AdamW. FLOPs are those that the trainer's own `mfu`
counts.
"""

import dataclasses
import functools
import gc
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import torch
import torch.nn.functional as F

from benchmarks.common import RESULTS
from benchmarks.gpu.sizes import Emit, Sizes, on_device, open_packs, rows_of
from mmcorpus.packing.packs import PackReader
from mmcorpus.training.attention import Attention
from mmcorpus.training.balance import Work
from mmcorpus.training.batch import PackedBatch
from mmcorpus.training.config import PackCompute
from mmcorpus.training.data import PackLoader
from mmcorpus.training.model import VisionLanguageModel
from mmcorpus.training.optim import OptimizerConfig, scale_and_clip
from mmcorpus.training.parallel import World, parallelize
from mmcorpus.training.speed import batch_flops, memory_gigabytes, peak_flops

KERNELS: Final[tuple[Attention, ...]] = get_args(Attention)
KERNELS_SHOWN: Final = 12
"""Kernels of the trace that take most time, in the table."""
LOSS_OFF: Final = 0.02
"""How much, relatively, the loss in bf16 may be off from that in fp32."""
COSINE: Final = 0.98
"""What the cosine of the two gradients must exceed."""


def peak(sizes: Sizes, folder: Path, emit: Emit) -> None:
    """FLOP/s of square bf16 products with fp32 sums, the best of some: what no step can exceed."""
    device = torch.device(sizes.device)
    for side in sizes.matmuls:
        left, right = torch.randn(2, side, side, device=device, dtype=torch.bfloat16)
        best = float("inf")
        for _ in range(8):
            _synchronize(device)
            start = time.perf_counter()
            for _ in range(4):
                torch.mm(left, right)
            _synchronize(device)
            best = min(best, (time.perf_counter() - start) / 4)
        reached = 2.0 * side**3 / best
        emit({"side": side, "TFLOP/s": reached / 1e12, "of data sheet": reached / _sheet(device)})


def kernel(attention: Attention, sizes: Sizes, folder: Path, emit: Emit) -> None:
    """One attention kernel, eager and with compiled blocks."""
    for compiled in (False, True):
        measured(sizes, folder, emit, attention=attention, compiled=compiled, micro=sizes.micro, again=False)


def memory(sizes: Sizes, folder: Path, emit: Emit) -> None:
    """The best kernel with and without activation checkpointing, by micro-batch; what does not fit says so."""
    best = fastest(folder)
    for micro, again in itertools.product(sizes.grid, (False, True)):
        if (micro, again) != (sizes.micro, False):  # measured with the kernels
            measured(
                sizes, folder, emit, attention=best["attention"], compiled=best["compile"], micro=micro, again=again
            )


def fastest(folder: Path) -> dict[str, Any]:
    """The row of the kernel with the highest useful MFU; eager SDPA where none has been measured."""
    rows = [row for name in KERNELS for row in rows_of(folder, name) if row.get("MFU useful")]
    return max(rows, key=lambda row: float(row["MFU useful"]), default={"attention": "sdpa", "compile": False})


def measured(
    sizes: Sizes, folder: Path, emit: Emit, *, attention: Attention, compiled: bool, micro: int, again: bool
) -> None:
    """Emit the rates of one way to train, or why there are none."""
    row: dict[str, Any] = {"attention": attention, "compile": compiled, "micro-batch": micro, "checkpointing": again}
    try:
        compute = PackCompute(precision="bf16", attention=attention, compile=compiled, activation_checkpointing=again)
    except ValueError as error:
        emit(row | {"note": f"not offered: {error}"})
        return
    try:
        row |= _rates(sizes, folder, compute, micro)
    except torch.OutOfMemoryError:
        row |= {"note": "out of memory"}
    except Exception as error:  # of a kernel or its compiler: the next way is tried all the same
        row |= {"note": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"}
    emit(row)
    gc.collect()
    if sizes.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


@dataclasses.dataclass(kw_only=True)
class Run:
    """A model under training, its optimiser, and micro-batches without end."""

    model: VisionLanguageModel
    optimizer: torch.optim.Optimizer
    batches: Iterator[PackedBatch]
    world: World
    compute: PackCompute

    @classmethod
    def of(cls, sizes: Sizes, reader: PackReader, compute: PackCompute, micro: int) -> "Run":
        model = on_device(sizes.model, sizes)
        model.set_attention(isolated=True, implementation=compute.attention)
        world = World(rank=0, size=1, device=torch.device(sizes.device))
        parallelize(model, compute, world).train()
        length = sizes.context if compute.compile else None
        loader = PackLoader(reader, image_size=model.vision.image_size, length=length, threads=sizes.threads)
        numbers = itertools.cycle(range(len(reader)))
        groups = (list(itertools.islice(numbers, micro)) for _ in itertools.count())
        return cls(
            model=model, optimizer=OptimizerConfig().build(model), batches=loader.batches(groups), world=world,
            compute=compute,
        )  # fmt: skip

    def step(self) -> tuple[PackedBatch, float]:
        """Train on one micro-batch; the batch, and the seconds that it was waited for."""
        start = time.perf_counter()
        batch = next(self.batches)
        waited = time.perf_counter() - start
        with self.world.autocast(self.compute.precision):
            loss = self.model(batch.to(self.world.device)).sum()
        loss.backward()
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        scale_and_clip(trained, batch.target_tokens, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return batch, waited


def _rates(sizes: Sizes, folder: Path, compute: PackCompute, micro: int) -> dict[str, Any]:
    run = Run.of(sizes, open_packs(folder), compute, micro)
    device, work = run.world.device, Work.of(run.model)
    start = time.perf_counter()
    for number in range(sizes.warm):
        run.step()
        _synchronize(device)
        if number == 0:
            first = time.perf_counter() - start
    useful = padded = waits = 0.0
    positions = images = 0
    start = time.perf_counter()
    for _ in range(sizes.steps):
        batch, waited = run.step()
        flops = batch_flops(work, batch, run.model.vision.patches)
        useful, padded, waits = useful + flops[0], padded + flops[1], waits + waited
        positions, images = positions + batch.positions, images + batch.images_NCHW.shape[0]
    _synchronize(device)
    seconds = time.perf_counter() - start
    sheet = _sheet(device)
    reached = max((float(row["TFLOP/s"]) * 1e12 for row in rows_of(folder, "peak")), default=None)
    return {
        "MFU useful": useful / seconds / sheet,
        "MFU padded": padded / seconds / sheet,
        "of measured peak": useful / seconds / reached if reached else None,
        "positions/s": positions / seconds,
        "images/s": images / seconds,
        "s a step": seconds / sizes.steps,
        "data wait": waits / seconds,
        "memory GB": memory_gigabytes(device),
        "first step s": first,
    }


def parity(sizes: Sizes, folder: Path, emit: Emit) -> None:
    """Loss and gradient in bf16 against fp32, of one sequence through fewer blocks, by each kernel that runs."""
    model = on_device(sizes.short, sizes)
    batch = PackLoader(open_packs(folder), image_size=model.vision.image_size).batch([0]).to(torch.device(sizes.device))
    model.set_attention(isolated=True, implementation="sdpa")
    expected, true = _gradient(model, batch, "fp32")
    for attention in KERNELS:
        row: dict[str, Any] = {"attention": attention, "positions": batch.positions, "fp32 loss": expected}
        try:
            model.set_attention(isolated=True, implementation=attention)
            loss, gradient = _gradient(model, batch, "bf16")
        except Exception as error:  # as in `measured`
            emit(row | {"ok": False, "note": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"})
            continue
        off, cosine = abs(loss / expected - 1), float(F.cosine_similarity(gradient, true, dim=0))
        length = float(gradient.norm() / true.norm())
        emit(
            row | {"bf16 loss": loss, "loss off": off, "gradient cosine": cosine, "gradient length": length,
                   "ok": off < LOSS_OFF and cosine > COSINE}
        )  # fmt: skip


def _gradient(model: VisionLanguageModel, batch: PackedBatch, precision: str) -> tuple[float, torch.Tensor]:
    """The mean loss and the gradient of all that is trained, as one fp32 vector."""
    world = World(rank=0, size=1, device=batch.input_ids_BL.device)
    with world.autocast(precision):
        loss = model(batch).sum() / batch.target_tokens
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.float().flatten() for gradient in gradients])
    model.zero_grad(set_to_none=True)
    return float(loss.detach()), flat


def trace(sizes: Sizes, folder: Path, emit: Emit) -> None:
    """One step of the best way under torch's profiler: the kernels that take most time, and the trace as a file."""
    from torch.profiler import ProfilerActivity, profile

    best = fastest(folder)
    compute = PackCompute(precision="bf16", attention=best["attention"], compile=best["compile"])
    run = Run.of(sizes, open_packs(folder), compute, sizes.micro)
    for _ in range(sizes.warm):
        run.step()
    device = run.world.device
    _synchronize(device)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as profiler:
        run.step()
        _synchronize(device)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"gpu{'-tiny' if device.type == 'cpu' else ''}-trace.json.gz"
    profiler.export_chrome_trace(str(path))
    own = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    events: list[Any] = sorted(profiler.key_averages(), key=lambda event: -getattr(event, own))
    total = sum(getattr(event, own) for event in events) or 1.0
    for event in events[:KERNELS_SHOWN]:
        took = getattr(event, own)
        emit({"kernel": event.key[:80], "ms": took / 1e3, "share": took / total, "calls": event.count})
    emit({"kernel": f"(trace: {path.relative_to(RESULTS.parent.parent)})"})


@functools.cache
def _sheet(device: torch.device) -> float:
    """The data sheet's FLOP/s, which for devices without one are timed: once."""
    return peak_flops(device, "bf16")


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
