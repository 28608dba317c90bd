"""Model FLOPs utilisation (MFU): FLOPs of a batch, useful and padded, against the device's peak.

Useful work is that of positions that are not padding, of attention within samples, of the LM head at target tokens, and
of encoding every crop (twice forward where the encoder is frozen, three times as much where it is trained). Padded work
is what a kernel without holes in its mask computes for the same batch.
"""

import time
from typing import Final

import torch

from mmcorpus.training.balance import Work
from mmcorpus.training.batch import PackedBatch

PEAKS: Final = {
    "GB200": 2.5e15, "B200": 2.25e15, "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "GH200": 989e12,
    "A100": 312e12, "L40S": 362e12, "L40": 181e12, "RTX 4090": 165e12, "RTX 5090": 210e12, "A10G": 70e12,
}  # fmt: skip
"""FLOP/s of dense bf16 products with fp32 sums, by what the device's name contains (NVIDIA's data sheets), the first
that fits; of others one large product is timed."""


def batch_flops(work: Work, batch: PackedBatch, patches: int) -> tuple[float, float]:
    """FLOPs of a training step on a batch, useful and padded; `patches` are those of a crop of squares."""
    b, length = batch.input_ids_BL.shape
    seen = batch.padding_Q.numel() if batch.padding_Q is not None else patches * batch.images_NCHW.shape[0]
    shared = work.target * batch.target_tokens + work.crop * seen / patches
    useful = work.position * batch.positions + work.attention * batch.squares
    padded = work.position * b * length + work.attention * b * length**2
    return useful + shared, padded + shared


def peak_flops(device: torch.device, precision: str) -> float:
    """FLOP/s of a device at best, in bf16 or fp32: from its data sheet, or one large matrix product timed."""
    if device.type == "cuda" and precision == "bf16":
        name = torch.cuda.get_device_name(device)
        known = next((peak for part, peak in PEAKS.items() if part in name), None)
        if known is not None:
            return known
    size = 8192 if device.type == "cuda" else 1024
    matrix = torch.randn(size, size, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        float((matrix @ matrix)[0, 0])
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best


def memory_gigabytes(device: torch.device) -> float:
    """The most memory used so far, in GB (10⁹ bytes): of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
