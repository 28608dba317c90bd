"""Lengths measured into tables, and plans from them, beside a plain loop with the same tokenizer over the captions.

    python -m benchmarks.lengths                                # 100,000 captions of the demo's words, one process
    python -m benchmarks.lengths --rows 1000000 --tokenizer Qwen/Qwen2.5-1.5B

Captions are drawn of two thousand made-up words, 4 to 40 each; without `--tokenizer` one of 8,000 entries is trained on
them. All times are processor seconds of one process. "Plan again" is with another length of sequences, from the same
tables.
"""

import argparse
import dataclasses
import json
import random
import resource
import tempfile
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from benchmarks.common import show, write_result
from mmcorpus.curation.store.shards import Shard, commit_shard, list_shards, open_tar, read_rows
from mmcorpus.packing import PlanConfig, PlanSource, load_tokenizer, make_plan, measure_lengths, train_tokenizer
from mmcorpus.packing.tokens import encode_captions

A_SHARD = 10_000


def write_captions(root: str, rows: int) -> None:
    """Shards of captions without images, which nothing here reads."""
    rng = random.Random(0)
    syllables = [a + b for a in "bcdfgklmnprstv" for b in "aeiou"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(2000)]
    for number in range(-(-rows // A_SHARD)):
        shard, count = Shard(root=root, name=f"{number:05d}"), min(A_SHARD, rows - number * A_SHARD)
        with open_tar(shard.tar):
            pass
        told = {
            "uid": [f"{rng.getrandbits(128):032x}" for _ in range(count)],
            "key": [f"{number:05d}{place:04d}" for place in range(count)],
            "caption": [" ".join(rng.choices(words, k=rng.randint(4, 40))) for _ in range(count)],
            "status": ["success"] * count,
            "error_message": pa.nulls(count, pa.string()),
        }
        commit_shard(shard, pa.table(told))


def processor_seconds(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def measure(rows: int, tokenizer: str | None) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as root:
        shards = f"{root}/shards"
        write_captions(shards, rows)
        first = read_rows(list_shards(shards)[0], ["uid", "caption"])
        name = tokenizer or train_tokenizer(first["caption"].to_pylist(), 8000, f"{root}/tokenizer")
        loaded = load_tokenizer(name)
        uids = pa.concat_tables([read_rows(shard, ["uid"]) for shard in list_shards(shards)])["uid"]
        selection = pa.table({"uid": uids, "count": pa.repeat(pa.scalar(1, pa.int32()), len(uids))})
        source = PlanSource(shards=shards, selection=selection, kind="pair", lengths=f"{root}/lengths")
        config = PlanConfig()

        def loop() -> int:
            captions = (read_rows(shard, ["caption"])["caption"].to_pylist() for shard in list_shards(shards))
            return sum(len(sample.input_ids) for own in captions for sample in encode_captions(loaded, own))

        def lengths() -> Any:
            return measure_lengths(shards, "pair", tokenizer=name, config=config, out=f"{root}/lengths")

        def plan(config: PlanConfig) -> Any:
            return make_plan(config, tokenizer=name, sources={"web": source}, out=f"{root}/plan.parquet")

        tokens, in_loop = processor_seconds(loop)
        _, measured = processor_seconds(lengths)
        report, planned = processor_seconds(lambda: plan(config))
        _, again = processor_seconds(lambda: plan(dataclasses.replace(config, context_length=2048)))
    steps = {"plain loop": in_loop, "lengths": measured, "plan": planned, "plan again": again}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return [
        {
            "step": step,
            "rows": rows,
            "tokens a row": tokens / rows,
            "cpu_us": 1e6 * seconds / rows,
            "rows/s": rows / seconds,
            "of the loop": in_loop / seconds if step == "lengths" else None,
            "of bound": report.of_bound if step == "plan" else None,
            "peak (GB)": peak,
        }
        for step, seconds in steps.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--tokenizer", help="a Hugging Face name or a folder")
    arguments = parser.parse_args()
    rows = measure(arguments.rows, arguments.tokenizer)
    show("Lengths and plans", rows)
    path = write_result("lengths", {"rows": rows, "arguments": vars(arguments)})
    print(json.dumps({"written": str(path)}))


if __name__ == "__main__":
    main()
