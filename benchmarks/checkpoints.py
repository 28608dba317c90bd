"""The host's memory that writing a checkpoint of a sharded model takes, beyond what training itself holds.

    python -m benchmarks.checkpoints
    python -m benchmarks.checkpoints --hidden 1024 --layers 16 --processes 2

Processes over gloo hold a random model by FSDP2 and AdamW's moments of it, write one checkpoint to wait for and one in
the background, and read the last one back. Memory is each process's peak of resident anonymous memory while it writes,
less what it had before: on a CPU all of training's tensors are in it already, so that `one copy` in the table, of
weights and moments, is what a copy of all of them takes.
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.common import show, write_result
from mmcorpus.curation.store import storage
from mmcorpus.training import checkpoint
from mmcorpus.training.config import ModelConfig, PackCompute, RandomLanguage, RandomVision
from mmcorpus.training.model import build_model
from mmcorpus.training.optim import OptimizerConfig
from mmcorpus.training.parallel import World, parallelize
from mmcorpus.training.tensors import Loaded


def anonymous() -> int:
    """This process's resident memory that is no file's, in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon:")) << 10


def peak_of(work: Callable[[], object]) -> tuple[float, float]:
    """The most memory beyond that of before while `work` runs, in GB, and its seconds."""
    before, most, done = anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.005):
            most = max(most, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    return max(0, most - before) / 1e9, seconds


def worker(rank: int, arguments: argparse.Namespace, folder: str) -> None:
    """One process of the training."""
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=arguments.processes)
    world = World(rank=rank, size=arguments.processes, device=torch.device("cpu"))
    config = ModelConfig(
        vision=RandomVision(image_size=64, patch_size=8, hidden_size=128, layers=2, heads=4),
        language=RandomLanguage(
            hidden_size=arguments.hidden, layers=arguments.layers, heads=8, key_value_heads=2,
            intermediate_size=4 * arguments.hidden,
        ),
        tokens_per_image=16,
    )  # fmt: skip
    model = build_model(config, arguments.vocabulary)
    count = sum(parameter.numel() for parameter in model.parameters())
    parallelize(model, PackCompute(parallel="shard", precision="fp32"), world)
    optimizer = OptimizerConfig().build(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

    def save_model(folder: str, weights: Mapping[str, torch.Tensor] | None) -> None:
        if weights is not None:
            checkpoint.write_tensors(folder, "model", weights)

    def save(step: int, background: bool) -> None:
        saving = checkpoint.begin_checkpoint(
            f"{folder}/checkpoints", {"step": step}, model, optimizer, dict(model.named_parameters()), save_model,
            keep_last=1, write=world.is_main, device=world.device, background=background,
        )  # fmt: skip
        begun.append(time.perf_counter())
        saving.wait()
        dist.barrier()

    begun: list[float] = []
    rows: list[dict[str, Any]] = []
    for step, background in enumerate((False, True), start=1):
        start = time.perf_counter()
        memory, seconds = peak_of(lambda step=step, background=background: save(step, background))  # type: ignore[misc]
        rows.append({"write": "in the background" if background else "and wait", "peak_gb": memory, "seconds": seconds,
                     "stops_training": begun[-1] - start})  # fmt: skip
    moments = Loaded(checkpoint.open_tensors(f"{folder}/checkpoints/step-00000002", "optimizer"))
    memory, seconds = peak_of(lambda: checkpoint.load_optimizer(model, optimizer, moments))
    rows.append({"write": "(read the moments)", "peak_gb": memory, "seconds": seconds, "stops_training": seconds})
    storage.write_json(f"{folder}/rank-{rank}.json", {"rows": rows, "parameters": count})
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    """Measure and write benchmarks/results/checkpoints.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=16_384)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(worker, (arguments, folder), arguments.processes)  # type: ignore[no-untyped-call]
        found = [storage.read_json(f"{folder}/rank-{rank}.json") for rank in range(arguments.processes)]
    parameters = found[0]["parameters"]
    table = []
    for rows in zip(*(one["rows"] for one in found), strict=True):
        each = {f"peak of {rank}, GB": row["peak_gb"] for rank, row in enumerate(rows)}
        table.append(
            {**{key: rows[0][key] for key in ("write", "seconds", "stops_training")}, **each,
             "all, GB": sum(row["peak_gb"] for row in rows), "one copy, GB": 12 * parameters / 1e9}
        )  # fmt: skip
    show(f"checkpoints of {parameters / 1e6:.0f} M parameters over {arguments.processes} processes", table)
    print(write_result("checkpoints", {"arguments": vars(arguments), "parameters": parameters, "rows": table}))


if __name__ == "__main__":
    main()
