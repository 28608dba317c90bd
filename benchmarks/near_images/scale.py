"""Time, memory and disk that one process takes to find the near duplicates among made-up hashes."""

import multiprocessing
import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.common import show, timed
from mmcorpus.curation.dedup import Source, deduplicate
from mmcorpus.curation.dedup.image import NearImages
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.curation.store.shards import Shard


def make_hashes(rows: int, root: Path, per_shard: int = 10_000) -> Source:
    """Score tables of made-up pictures: of every five the last is the first but for some bits."""
    source = Source(name="hashes", shards=str(root / "shards"), scores=str(root / "scores"))
    for first in range(0, rows, per_shard):
        rng, count = np.random.default_rng(first), min(per_shard, rows - first)
        phash, dct = (rng.integers(0, 256, (count, size), np.uint8) for size in (8, 32))
        color = rng.integers(0, 256, (count, 48), np.uint8)
        for values, flips in ((phash, 5), (dct, 25)):
            copies, place = values[0 : count - 4 : 5].copy(), np.arange(0, count - 4, 5)
            for _ in range(flips):
                at = rng.integers(0, 8 * values.shape[1], len(copies))
                copies[np.arange(len(copies)), at // 8] ^= (1 << (at % 8)).astype(np.uint8)
            values[place + 4] = copies
        color[place + 4] = color[place]
        uids = [f"{number:032x}" for number in range(first, first + count)]
        shard = Shard(root=source.shards, name=f"{first // per_shard:05d}")
        keys = [f"{number:09d}" for number in range(count)]
        storage.write_table(shard.parquet, pa.table({"key": keys, "uid": uids, "status": ["success"] * count}))
        storage.write_json(shard.stats, {"count": count, "successes": count})
        sides = {
            name: pa.array(np.full(count, 256, np.int32)) for name in ("stored_width", "stored_height", "min_side")
        }
        image = {"uid": uids, "phash": [value.hex() for value in map(bytes, phash)], **sides, "pixel_hash": uids}
        fine = {
            name: [value.hex() for value in map(bytes, values)] for name, values in (("dct", dct), ("color", color))
        }
        for scorer, table in (("image", image), ("fingerprint", {"uid": uids, **fine})):
            write_scores(
                source.scores, shard.name, pa.table(table), Origin(scorer=scorer, version="0", fingerprint="0")
            )
    return source


def scale(rows: int, results: Any) -> None:
    """Find the near duplicates among so many hashes in this process; puts a line."""
    with tempfile.TemporaryDirectory() as folder:
        source = make_hashes(rows, Path(folder))
        work = Path(folder) / "dedup"
        method = NearImages()
        report, seconds = timed(lambda: deduplicate("same", method, [source], str(work), workers=0))
        disk = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
    results.put(
        {
            "images": rows,
            "seconds": round(seconds, 1),
            "images a second": round(rows / seconds),
            "peak MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
            "disk MB": round(disk / 2**20),
            "candidates": report.candidates,
            "recall": report.duplicates / (rows // 5),
        }
    )


def measure_scale(sizes: Sequence[int]) -> list[dict[str, Any]]:
    """`scale`, each in a process of its own."""
    context, lines = multiprocessing.get_context("spawn"), []
    for rows in sizes:
        results: Any = context.Queue()
        process = context.Process(target=scale, args=(rows, results))
        process.start()
        lines.append(results.get())
        process.join()
        show("Near duplicates among made-up hashes, one process", lines)
    return lines
