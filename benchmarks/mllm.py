"""Ratings a second of MLLM-Filter against a real vLLM server, and against how it is usually asked.

    make venv-vllm && python -m benchmarks.mllm --images 96

Three ways to rate images by the same four metrics, on one server with a small random model of 784 tokens an image (or
a model of yours: `--model`, `--python`): `one at a time` sends a request when the last is answered, metric after
metric; `four visits` goes through the images once for each metric, many at once, as MLM-Filter's `all` does; `one
visit` is ours. Every round makes other pictures, so that caches begin cold. Medians over rounds, which alternate. The
prefix cache's share is of the prompts' tokens, by the server's own count.
"""

import argparse
import io
import os
import re
import shutil
import statistics
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import show, timed, write_result
from mmcorpus.curation.scoring.servers.replica import Replica, ReplicaSpec, free_port
from mmcorpus.curation.synthetic.tiny_model import write_tiny_model
from mmcorpus.filters import MAX_PIXELS, decode_image
from mmcorpus.filters.mllm import METRICS, MllmScorer
from mmcorpus.filters.serving import ClientConfig, ServerConfig

ON_CPU = (
    "--enforce-eager",
    "--dtype",
    "float32",
    "--block-size",
    "32",
    "--max-model-len",
    "2048",
    "--max-num-seqs",
    "32",
)
# As little memory as makes a server forget its first image long before it has seen a shard, as those in use do.
FORGETFUL = ("--num-gpu-blocks-override", "1600", "--mm-processor-cache-gb", "0.02")


def batch(images: int, seed: int, side: int) -> dict[str, list[Any]]:
    """Pictures that no round has seen, with captions."""
    rng = np.random.default_rng(seed)
    encoded = []
    for _ in range(images):
        coarse, file = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), io.BytesIO()
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        encoded.append(file.getvalue())
    return {
        "uid": [f"{position:032x}" for position in range(images)],
        "shard": ["00000"] * images,
        "caption": [f"A picture of thing number {position}, photographed in winter" for position in range(images)],
        "encoded": encoded,
        "image": [decode_image(data, max_pixels=MAX_PIXELS) for data in encoded],
    }


def cached_tokens(url: str) -> tuple[float, float]:
    """Of the prompts' tokens so far, those asked for and those found in the prefix cache."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/metrics") as response:
        text = response.read().decode()
    found = []
    for name in ("queries", "hits"):
        values = re.findall(rf"^vllm:prefix_cache_{name}_total(?:{{.*?}})? ([0-9.e+]+)$", text, re.MULTILINE)
        found.append(sum(float(value) for value in values))
    return found[0], found[1]


def measure(url: str, key: str, model: str, images: int, rounds: int, concurrency: int, side: int) -> dict[str, Any]:
    """Ratings a second of each way, and how much of the prompts the prefix cache gave."""
    from mmcorpus.filters.serving import Connection

    def scorer(metrics: tuple[str, ...], at_once: int) -> MllmScorer:
        client = ClientConfig(concurrency=at_once)
        made = MllmScorer(model_name=model, endpoints=(url,), metrics=metrics, client=client)
        return made.connected(Connection(endpoints=(url,), api_key=key))

    ways: dict[str, list[MllmScorer]] = {
        "one at a time": [scorer((metric,), 1) for metric in METRICS],
        "four visits": [scorer((metric,), concurrency) for metric in METRICS],
        "one visit": [scorer(METRICS, concurrency)],
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    hits: dict[str, list[float]] = {name: [] for name in ways}
    scorer(METRICS, concurrency).load()(batch(8, 999, side))
    for number in range(rounds):
        for place, (name, scorers) in enumerate(ways.items()):
            # One request at a time is slow: half of the images, still more than the server's caches hold.
            count = images // 2 if name == "one at a time" else images
            given = batch(count, 1000 * number + place, side)
            before = cached_tokens(url)
            _, spent = timed(lambda scorers=scorers, given=given: [one.load()(given) for one in scorers])
            after = cached_tokens(url)
            seconds[name].append(spent / count)
            hits[name].append((after[1] - before[1]) / max(1.0, after[0] - before[0]))
    rates = {name: len(METRICS) / statistics.median(values) for name, values in seconds.items()}
    rows = [
        {
            "way": name,
            "ratings/s": rates[name],
            "images/s": rates[name] / len(METRICS),
            "× one at a time": rates[name] / rates["one at a time"],
            "prefix cache": statistics.median(hits[name]),
        }
        for name in ways
    ]
    return {"rows": rows, "seconds_per_image": seconds, "images": images, "rounds": rounds, "concurrency": concurrency}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--side", type=int, default=384, help="of the images, in pixels")
    parser.add_argument("--python", default=".venv-vllm/bin/python", help="an interpreter that has vLLM")
    parser.add_argument("--model", help="a model of yours in place of the tiny one")
    parser.add_argument("--args", nargs=argparse.REMAINDER, help="the server's arguments, in place of those for CPUs")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mmcorpus-bench-"))
    model = arguments.model or write_tiny_model(str(folder / "model"), image_size=224, hidden=256, layers=4)
    args = tuple(ON_CPU + FORGETFUL if arguments.args is None else arguments.args)
    config = ServerConfig(python=os.path.abspath(arguments.python), args=args, env={"VLLM_CPU_KVCACHE_SPACE": "2"})
    replica = Replica(
        ReplicaSpec(
            model_name=model,
            revision=None,
            config=config,
            port=free_port(set()),
            everywhere=False,
            api_key="benchmark",
            log=str(folder / "server.log"),
        )
    )
    try:
        (url, error), start = timed(replica.settled)
        if url is None:
            raise SystemExit(error)
        result = measure(
            url, "benchmark", model, arguments.images, arguments.rounds, arguments.concurrency, arguments.side
        )
    finally:
        replica.stop()
        shutil.rmtree(folder, ignore_errors=True)
    show(f"Ratings of {arguments.images} images, {len(METRICS)} metrics; the server took {start:.0f} s", result["rows"])
    print(f"results in {write_result('mllm', {**result, 'model': arguments.model or 'tiny', 'start': start})}")


if __name__ == "__main__":
    main()
