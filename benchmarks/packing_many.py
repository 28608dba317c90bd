"""Millions of conversations, from their measured lengths to a trainer's order: seconds and peak memory of each step.

Lengths are drawn and written as the tables that `measure_lengths` makes, since a plan reads numbers alone; 10,000 a
shard, every one selected. The plan is made of them with its ledger, in one process and, from 524,288 samples on, by two
workers on Ray, to the same bytes. Of the plan a pack's index and manifest are
written, its tars being files of the right size without content; a trainer opens it and goes through an epoch's steps,
each shared out among eight devices. Every step is a process of its own.
"""

import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.packing_fill import conversations
from benchmarks.packing_whole import drawn_captions
from mmcorpus.curation.engine.in_order import in_order
from mmcorpus.curation.store import scores, storage
from mmcorpus.curation.store.shards import Shard, commit_shard
from mmcorpus.packing import PackReader, PlanConfig, PlanSource, load_tokenizer, make_plan, train_tokenizer
from mmcorpus.packing.index import INDEX_SCHEMA, write_index
from mmcorpus.packing.manifest import describe_tokenizer, write_manifest
from mmcorpus.packing.measure import SCHEMA, origin, table_origin
from mmcorpus.training.balance import Work, assign
from mmcorpus.training.data import Order

PER_SHARD: Final = 10_000
A_PACK: Final = 1000
DEVICES: Final = 8
A_STEP: Final = 64
IMAGE: Final = 729
WORKERS: Final = 2
CONFIG: Final = PlanConfig(tokens_per_image=IMAGE)


def write_lengths(root: str, count: int) -> None:
    """Shards of `count` conversations of an image each, their lengths, and the selection of all."""
    folder = train_tokenizer(drawn_captions(1000), 2000, f"{root}/tokenizer")
    made_by, rng = origin("conversation", load_tokenizer(folder), CONFIG), np.random.default_rng(0)
    selected = []
    for number in range(-(-count // PER_SHARD)):
        rows = min(PER_SHARD, count - number * PER_SHARD)
        texts = np.minimum(conversations(rng, rows), CONFIG.context_length) - IMAGE
        uids = [word.hex() for word in np.frombuffer(rng.bytes(16 * rows), "V16").tolist()]
        shard = Shard(root=f"{root}/shards", name=f"{number:05d}")
        told = {"uid": uids, "status": ["success"] * rows, "error_message": pa.nulls(rows, pa.string())}
        commit_shard(shard, pa.table(told))
        once = np.ones(rows, dtype=np.int32)
        runs = np.stack([np.zeros_like(texts), -8 * np.ones_like(texts), texts - 8], axis=1)
        columns: dict[str, Any] = {
            "uid": uids,
            "rendering": 0 * once,
            "renderings": once,
            "tokens": texts + 1,
            "images": once,
            "positions": texts + IMAGE,
            "crops": once,
            "runs": pa.ListArray.from_arrays(np.arange(0, 3 * rows + 1, 3, dtype=np.int32), runs.ravel().astype("i4")),
        }
        table = pa.table(
            [
                pa.array(columns[own.name], own.type) if own.name in columns else pa.nulls(rows, own.type)
                for own in SCHEMA
            ],
            schema=SCHEMA,
        )
        scores.write_scores(f"{root}/lengths", shard.name, table, table_origin(made_by, shard))
        selected.append(pa.table({"uid": uids, "count": pa.array(once)}))
    storage.write_table(f"{root}/selection.parquet", pa.concat_tables(selected).sort_by("uid"))


def plan(root: str) -> dict[str, Any]:
    return _plan(root, "plan", None)


def plan_on_ray(root: str) -> dict[str, Any]:
    """The same by two workers; raises AssertionError if it has other bytes."""
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, configure_logging=False)
    found = _plan(root, "plan-on-ray", in_order)
    ray.shutdown()
    for path in ("{}.parquet", "{}-ledger/sft/pack.parquet"):
        ours, theirs = (storage.sha256(f"{root}/{path.format(name)}") for name in ("plan", "plan-on-ray"))
        assert ours == theirs, f"{path.format('plan-on-ray')} has other bytes"
    return {**found, "workers": WORKERS}


def _plan(root: str, name: str, map_fn: Any) -> dict[str, Any]:
    source = PlanSource(
        shards=f"{root}/shards",
        selection=f"{root}/selection.parquet",
        kind="conversation",
        lengths=f"{root}/lengths",
    )
    report = make_plan(
        CONFIG,
        tokenizer=f"{root}/tokenizer",
        sources={"sft": source},
        out=f"{root}/{name}.parquet",
        ledger_root=f"{root}/{name}-ledger",
        map_fn=map_fn,
    )
    return {"samples": report.samples, "sequences": report.sequences, "of bound (%)": 100 * report.of_bound}


def write_packs_index(root: str) -> dict[str, Any]:
    """A pack's index and manifest as the plan's packs would have them, images of 60 kB."""
    records: list[dict[str, Any]] = []
    with pq.ParquetFile(f"{root}/plan.parquet") as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=["sequence", "tokens", "images", "length"])
            sequence, tokens, images, length = (table[name].to_numpy().astype(np.int64) for name in table.column_names)
            first = int(sequence[0])
            summed = {
                "samples": np.bincount(sequence - first),
                **{
                    name: np.bincount(sequence - first, weights=own).astype(np.int64)
                    for name, own in (
                        *(("tokens", tokens), ("images", images), ("length", length)),
                        ("attention", length * length),
                    )
                },
            }
            for start in range(0, len(summed["samples"]), A_PACK):
                own = {name: values[start : start + A_PACK] for name, values in summed.items()}
                records.append(_write_pack(f"{root}/packs", f"{len(records):05d}", first + start, own))
    manifest_of = describe_tokenizer(load_tokenizer(f"{root}/tokenizer"), "made")
    names = [record["name"] for record in records]
    write_manifest(
        f"{root}/packs",
        tokenizer=manifest_of,
        tokens_per_image=IMAGE,
        context_length=CONFIG.context_length,
        shards=records,
        parameters={"sources": {"sft": "conversation"}},
        index=write_index(f"{root}/packs", names),
    )
    return {"sequences": sum(record["sequences"] for record in records)}


def _write_pack(root: str, name: str, first: int, sums: dict[str, npt.NDArray[np.int64]]) -> dict[str, Any]:
    sizes = 20_480 + 61_440 * sums["images"]
    ends = np.cumsum(sizes)
    columns = {
        **sums,
        "sequence": first + np.arange(len(sizes)),
        "offset": ends - sizes,
        "size": sizes,
        "crc32": np.zeros_like(sizes),
        "targets": sums["tokens"] // 2,
        "crops": sums["images"],
    }
    table = pa.table([pa.array(columns[own.name]).cast(own.type) for own in INDEX_SCHEMA], schema=INDEX_SCHEMA)
    storage.write_table(f"{root}/{name}.index.parquet", table)
    with open(f"{root}/{name}.tar", "wb") as file:
        os.truncate(file.fileno(), int(ends[-1]))
    told = {column: int(sums[column].sum()) for column in ("samples", "images", "tokens")}
    positions = int(sums["length"].sum())
    return {
        "name": name,
        "bytes": int(ends[-1]),
        "sha256": "",
        "sequences": len(sizes),
        **told,
        "positions": positions,
    }


def load(root: str) -> dict[str, Any]:
    """Open the pack as a trainer does, and share out an epoch's steps; the first sequences are asked where they lie."""
    reader = PackReader(f"{root}/packs")
    reader.check_files()
    # Qwen2.5-1.5B with a trained SigLIP-SO400M: see `benchmarks/packing_loader.py`.
    work = Work(position=6 * 1.31e9, target=6 * 0.233e9, attention=6 * 28 * 1536, crop=6 * 729 * 0.41e9)
    costs, order = work.costs(reader.index), Order(len(reader), A_STEP, 0)
    opened = time.process_time()
    steps = len(reader) // A_STEP
    for step in range(steps):
        numbers = [number for _, number in order.step(step)]
        assign(numbers, costs[numbers], DEVICES)
    return {"sequences": len(reader), "ms a step": 1000 * (time.process_time() - opened) / max(1, steps)}


def _measured(step: Callable[[str], dict[str, Any] | None], root: str) -> dict[str, Any]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, wall = time.process_time(), time.perf_counter()
    found = step(root) or {}
    seconds, wall = time.process_time() - start, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "step": step.__name__,
        **found,
        "CPU (s)": seconds,
        "wall (s)": wall,
        "peak (GB)": peak / 1e6,
        "of it before (GB)": before / 1e6,
    }


def measure_many(root: str, samples: int) -> list[dict[str, Any]]:
    """A row of each step."""
    rows = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        process.submit(write_lengths, root, samples).result()
    for step in (plan, plan_on_ray, write_packs_index, load):
        with ProcessPoolExecutor(1, mp_context=context) as process:
            rows.append(process.submit(_measured, step, root).result())
    return rows
