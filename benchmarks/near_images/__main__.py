"""Near-duplicate images: how many planted copies are found, and what is taken for a copy and is none.

    python -m benchmarks.near_images --corpus data/tuxpaint --pictures 800

Every picture of a real corpus (a site's folder, e.g. that of `corpora.tuxpaint`), of a mini-web and of `lookalikes`
(pictures that differ in a part: clocks, forms, cards) gets copies as the web makes them: encoded anew, resized,
cropped, of other tones, under an edited caption, all at once. One pass of deduplication runs over originals and copies.
Recall: the share of copies that are in the cluster of their original. Precision: of all pairs in one cluster, the share
that are copies of one picture. Each two pictures of which copies are in one cluster are drawn into
results/near_images_<corpus>.png, beside each other, for eyes to judge: a real corpus holds near duplicates of its own.

Beside ours: files' and pixels' hashes, and the 64-bit hash alone, equal (as Data-Juicer's image_deduplicator compares
it) or within 10 bits (as imagededup does by default).

    python -m benchmarks.near_images --scale 100000 1000000

Instead: the time, memory and disk that one process takes to find the near duplicates among so many made-up hashes, a
fifth of them copies.
"""

import argparse
import hashlib
import io
import itertools
import multiprocessing
import random
import resource
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from benchmarks.common import RESULTS, show, timed, write_result
from benchmarks.lookalikes import HELD_OUT, TUNED, lookalikes
from mmcorpus.curation.dedup import METHODS, Method, Source, deduplicate
from mmcorpus.curation.dedup.image import NearImages
from mmcorpus.curation.dedup.same_picture import Picture, same_picture
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import Origin, load_scores, write_scores
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.curation.synthetic.miniweb import MiniWebConfig, generate_site
from mmcorpus.curation.synthetic.miniweb.captions import small_edit
from mmcorpus.filters import SCORERS, DecodedImage, decode_image, judge_batch

SHIPPED: Final = ("image, fingerprints", "image")
ORIGINAL: Final = "original"
SCORED: Final = ("image", "fingerprint")
PER_SHARD: Final = 500
SMALLEST: Final = 48
"""Pixels of a picture's shorter side; copies of smaller ones are icons."""
DRAWN: Final = 24
COMPARED: Final[dict[str, Method]] = {
    "bytes": METHODS["bytes"](),
    "pixels": METHODS["pixels"](),
    "phash equal": NearImages(verify=False, max_distance=0, aspect_tolerance=9.0),
    "phash within 4": NearImages(verify=False, max_distance=4),
    "phash within 10": NearImages(verify=False, max_distance=10, aspect_tolerance=9.0),
    "image, fingerprints": NearImages(pictures=False),
    "image": NearImages(),
}
"""`image` is what ships, with its defaults; `image, fingerprints` what it does where there are score tables only."""


def measure(name: str, planted: Sequence[Planted]) -> dict[str, Any]:
    """Find the copies by each method, judge; draws what the shipped method confuses."""
    results: dict[str, Any] = {"files": len(planted), "pictures": len({each.picture for each in planted})}
    with tempfile.TemporaryDirectory() as folder:
        (source, uids), seconds = timed(lambda: write_corpus(planted, Path(folder)))
        results["seconds to score"] = round(seconds, 1)
        for title, method in COMPARED.items():
            table = f"by_{title.replace(' ', '_').replace(',', '')}"
            survivor = "image.min_side"
            work = str(Path(folder) / "dedup" / table)
            report, seconds = timed(
                lambda: deduplicate(table, method, [source], work, survivor=survivor, workers=0)  # noqa: B023
            )
            found = load_scores(source.scores, columns=[f"{table}.cluster"])
            by_uid = dict(zip(found["uid"].to_pylist(), found[f"{table}.cluster"].to_pylist(), strict=True))
            results[title], mixed = judge(planted, [by_uid[uid] or uid for uid in uids])
            results[title] |= {"seconds": round(seconds, 2), "candidates": report.candidates}
            if title == "image" and mixed:
                RESULTS.mkdir(exist_ok=True)
                draw_pairs(planted, mixed, RESULTS / f"near_images_{name}.png")
    return results


def measure_verification(planted: Sequence[Planted], pairs: int = 500) -> dict[str, float]:
    """How fast pictures are decoded and pairs compared, copies and neighbours, in one process."""
    images = [decode_image(each.data) for each in planted[:pairs]]
    pictures, seconds = timed(lambda: [Picture.of(image.pixels) for image in images if isinstance(image, DecodedImage)])
    same = [
        (one, other)
        for one, other in zip(range(len(pictures)), range(1, len(pictures)), strict=False)
        if planted[one].picture == planted[other].picture
    ]
    _, copies = timed(lambda: [same_picture(pictures[one], pictures[other]) for one, other in same])
    return {
        "pictures prepared a second": round(len(pictures) / seconds),
        "copies compared a second": round(len(same) / copies),
    }


def tell(name: str, results: Mapping[str, Any]) -> None:
    """The tables of one corpus."""
    title = f"{name}: {results['pictures']:,} pictures, {results['files']:,} files"
    kinds = ("precision", "recall", "false pairs", "pictures confused", "candidates", "seconds")
    show(title, [{"method": method, **{kind: results[method][kind] for kind in kinds}} for method in COMPARED])
    made = list(results["image"]["recall by copy"])
    rows = [{"copy": kind, **{method: results[method]["recall by copy"][kind] for method in COMPARED}} for kind in made]
    show(f"{name}: recall by kind of copy", rows)
    if len(results["image"]["by kind"]) > 1:
        rows = [
            {
                "kind": kind,
                **{
                    f"{method} {what}": results[method]["by kind"][kind][what]
                    for method in SHIPPED
                    for what in ("precision", "recall")
                },
            }
            for kind in results["image"]["by kind"]
        ]
        show(f"{name}: by kind of picture", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpus", help="a site's folder; without, the mini-web and the lookalikes alone")
    parser.add_argument("--pictures", type=int, default=800, help="of each corpus, at most")
    parser.add_argument("--groups", type=int, default=6, help="of lookalikes of each kind")
    parser.add_argument("--members", type=int, default=12, help="of each group")
    parser.add_argument("--copies", type=int, default=99, help="of each picture of a corpus, by chance, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=int, nargs="+", metavar="IMAGES", help="time, memory and disk for so many")
    options = parser.parse_args()
    if options.scale:
        print(write_result("near_images_scale", {"scale": measure_scale(options.scale)}))
        return
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        generate_site(MiniWebConfig(pairs=options.pictures, instructions=0, spoil=0.0, seed=options.seed), folder)
        sites = {"miniweb": folder} | ({Path(options.corpus).name: options.corpus} if options.corpus else {})
        corpora = {
            "lookalikes": partial(plant_lookalikes, TUNED, options.groups, options.members, options.seed),
            "lookalikes held out": partial(plant_lookalikes, HELD_OUT, options.groups, options.members, options.seed),
            **{
                name: partial(plant, site, options.pictures, options.seed, options.copies)
                for name, site in sites.items()
            },
        }
        for name, make in corpora.items():
            planted = make()
            found[name] = measure(name.replace(" ", "_"), planted) | {"verification": measure_verification(planted)}
            tell(name, found[name])
            show(f"{name}: verification, one process", [found[name]["verification"]])
    print(write_result("near_images", {"corpora": found, "seed": options.seed}))


if __name__ == "__main__":
    main()
