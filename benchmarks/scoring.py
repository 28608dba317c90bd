"""Scoring rate on Ray with 1 and 2 workers against a plain loop over the same shards.

    python -m benchmarks.scoring --images 8000

The loop is one process that reads each shard's tar, decodes each image once, calls the same scorers on it, a batch at
a time, and writes the same tables. `a pass a scorer` is the loop as it is often written: each scorer goes through the
tars and decodes for itself. efficiency = rate / (workers x the loop's rate); `warm` leaves out what happens before the
first shard can be worked on (actors, imports), measured as a run over a shard of one sample. Rounds alternate, so that
drift hits all alike; medians are shown.
"""

import argparse
import io
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import show, timed, write_result
from mmcorpus.curation.scoring.batches import assemble, decode_batches, read_encoded, read_shard_rows, slices
from mmcorpus.curation.scoring.run import score
from mmcorpus.curation.scoring.shard import Outputs, ScoreShard, ShardWork
from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter, list_shards
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.filters import MAX_PIXELS, RULES, SCORERS, Scorer, judge_batch

REQUIRED_EFFICIENCY = 0.85
ADJECTIVES = ("red", "small", "wooden", "old", "quiet", "bright", "narrow", "round")
NOUNS = ("clock", "harbour", "bicycle", "garden", "kitchen", "mountain", "portrait", "street")


def picture(rng: np.random.Generator) -> bytes:
    """A JPEG of a web photograph's size and weight: soft shapes, edges and some grain, 384-512 px a side."""
    width, height = int(rng.integers(384, 513)), int(rng.integers(384, 513))
    coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    blocks = rng.integers(-30, 31, (height // 24 + 1, width // 24 + 1, 3), dtype=np.int16)
    edges = blocks.repeat(24, axis=0).repeat(24, axis=1)[:height, :width]
    grain = rng.integers(-9, 10, (height, width, 1), dtype=np.int16)
    file = io.BytesIO()
    Image.fromarray((soft + edges + grain).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def make_shards(root: Path, images: int, per_shard: int, distinct: int = 500) -> None:
    """Shards of `images` samples; the pictures repeat after `distinct`, which costs a scorer as much as new ones."""
    rng = np.random.default_rng(0)
    pictures = [picture(rng) for _ in range(min(distinct, images))]
    for number, start in enumerate(range(0, images, per_shard)):
        with ShardWriter(Shard(root=str(root), name=f"{number:05d}")) as writer:
            for index in range(start, min(start + per_shard, images)):
                url = f"http://example.com/photos/{index}.jpg"
                words = (
                    ADJECTIVES[index % 8],
                    NOUNS[index // 8 % 8],
                    ADJECTIVES[index // 64 % 8],
                    NOUNS[index // 512 % 8],
                )
                caption = "A {} {} beside a {} {}, photographed on a Sunday morning".format(*words)
                writer.write(
                    Sample(
                        key=f"{number:05d}{index - start:04d}",
                        uid=pair_uid(url, caption),
                        caption=caption,
                        images=(EncodedImage(extension="jpg", data=pictures[index % len(pictures)]),),
                        meta={"url": url},
                    )
                )


def loop(shards: list[Shard], out: str, scorers: list[Scorer]) -> None:
    """The plain loop: one process, no Ray, everything else the same."""
    work = ScoreShard(Outputs.of(scorers, scores=out), scorers, max_pixels=MAX_PIXELS, rows_per_batch=256)
    for shard in shards:
        samples = len(read_shard_rows(shard, set()).keys)
        result = work(ShardWork(shard=shard, samples=samples, scorers=tuple(scorer.name for scorer in scorers)))
        assert result["error"] is None, result["error"]


def naive(shards: list[Shard], out: str, scorers: list[Scorer]) -> None:
    """As often written: a pass over the shards for each scorer, and a decode in each that looks at pixels."""
    for scorer in scorers:
        judge = scorer.load()
        for shard in shards:
            rows = read_shard_rows(shard, set(scorer.inputs))
            batches = slices(rows, 256)
            if "image" in scorer.inputs:
                batches = decode_batches(read_encoded(shard, rows), rows, max_pixels=MAX_PIXELS, size=256)
            parts = [(batched.positions, judge_batch(scorer, judge, batched.batch)) for batched in batches]
            write_scores(out, shard.name, assemble(scorer, parts, rows.columns["uid"]), Origin.of(scorer))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--per-shard", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mmcorpus-bench-"))
    try:
        result = measure(folder, arguments.images, arguments.per_shard, arguments.rounds, arguments.workers)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show(f"Scoring {arguments.images:,} images, {', '.join(RULES)}", result["rows"])
    print(f"worst warm efficiency {result['worst_efficiency'] or float('nan'):.3f}, required {REQUIRED_EFFICIENCY}")
    print(f"results in {write_result('scoring', result)}")


def measure(folder: Path, images: int, per_shard: int, rounds: int, workers: list[int]) -> dict[str, Any]:
    """Seconds of every way of scoring the same shards, medians over rounds, and what they make of rates."""
    import ray

    root, one = folder / "shards", folder / "one"
    make_shards(root, images, per_shard)
    make_shards(one, 1, 1)
    shards, scorers = list_shards(str(root)), [SCORERS[name]() for name in RULES]
    ray.init(num_cpus=max(workers), include_dashboard=False, log_to_driver=False, configure_logging=False)
    seconds: dict[str, list[float]] = {}

    def record(name: str, function: Any) -> None:
        out = str(folder / "out")
        seconds.setdefault(name, []).append(timed(lambda: function(out))[1])
        shutil.rmtree(out, ignore_errors=True)

    loop(list_shards(str(one)), str(folder / "warm-up"), scorers)
    for _ in range(rounds):
        record("loop", lambda out: loop(shards, out, scorers))
        for count in workers:
            record(f"start {count}", lambda out, count=count: score(str(one), out, scorers, workers=count))
            record(f"ray {count}", lambda out, count=count: score(str(root), out, scorers, workers=count))
        record("naive", lambda out: naive(shards, out, scorers))
    ray.shutdown()
    median = {name: statistics.median(values) for name, values in seconds.items()}
    base = images / median["loop"]
    rows: list[dict[str, Any]] = [{"way": "plain loop", "seconds": median["loop"], "images/s": base}]
    rows.append({"way": "a pass a scorer", "seconds": median["naive"], "images/s": images / median["naive"]})
    for count in workers:
        total, start = median[f"ray {count}"], median[f"start {count}"]
        rows.append(
            {
                "way": f"Ray, {count} worker{'s' * (count > 1)}",
                "seconds": total,
                "start": start,
                "images/s": images / total,
                "efficiency": images / total / (count * base),
                # None where the machine was too busy for the start to be told from the run.
                "efficiency warm": images / (total - start) / (count * base) if total > 2 * start else None,
            }
        )
    return {
        "images": images,
        "per_shard": per_shard,
        "rounds": rounds,
        "rows": rows,
        "seconds": seconds,
        "worst_efficiency": min((row["efficiency warm"] for row in rows if row.get("efficiency warm")), default=None),
    }


if __name__ == "__main__":
    main()
