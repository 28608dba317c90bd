"""Rendered pictures: how fast a core draws each kind, and how many are near-duplicates of one drawn before.

    python -m benchmarks.renders --count 2000 --kinds document objects

A near-duplicate is what our own deduplication takes for the same picture as another (`curation/dedup/image.py`), by the
hash and the fingerprint alone. All pairs of a kind are compared. Of those pairs the pictures are compared as well.
"""

import argparse
import resource
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.common import show, write_result
from mmcorpus.curation.dedup.image import NearImages
from mmcorpus.curation.synthetic.common import saved
from mmcorpus.curation.synthetic.render import KINDS, render
from mmcorpus.filters.decode import DecodedImage, decode_image
from mmcorpus.filters.fingerprint import FingerprintScorer
from mmcorpus.filters.image import ImageScorer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="pictures of each kind")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    arguments = parser.parse_args()
    rows = [measure(kind, arguments.count) for kind in arguments.kinds]
    show("Rendered pictures", rows)
    write_result("renders", {"rows": rows})


def measure(kind: str, count: int) -> dict[str, Any]:
    """Draws `count` pictures of a kind in this process, and compares each with those before it."""
    render(kind, 0)  # an engine's start is no picture's
    start, processor = time.perf_counter(), _processor_seconds()
    drawn = [_encoded(kind, seed) for seed in range(count)]
    elapsed, processor = time.perf_counter() - start, _processor_seconds() - processor
    table = _scored(drawn)
    by_fingerprint, by_picture = set(), set()
    alone, compared = NearImages(pictures=False), NearImages()
    for first, second in _pairs(count):
        near = alone.same(table, first, second)
        first, second = first[near], second[near]
        by_fingerprint.update(second.tolist())
        by_picture.update(second[compared.same_images(table, first, second)].tolist() if len(first) else ())
    return {
        "kind": kind, "pictures": count, "ms": round(1000 * elapsed / count, 1),
        "CPU ms": round(1000 * processor / count, 1), "kB": round(sum(map(len, drawn)) / count / 1000, 1),
        "near by fingerprint (%)": round(100 * len(by_fingerprint) / count, 3),
        "near by picture (%)": round(100 * len(by_picture) / count, 3),
    }  # fmt: skip


def _processor_seconds() -> float:
    """Of this process; a browser beside it is not counted."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _encoded(kind: str, seed: int) -> bytes:
    return saved(render(kind, seed).image, "JPEG", quality=92)


def _scored(drawn: Sequence[bytes]) -> pa.Table:
    """What the pass of deduplication reads of each picture."""
    scorers = {"image": ImageScorer().load(), "fingerprint": FingerprintScorer().load()}
    columns: dict[str, list[Any]] = {}
    for start in range(0, len(drawn), 256):
        images = [image for data in drawn[start : start + 256] if isinstance(image := decode_image(data), DecodedImage)]
        for name, judge in scorers.items():
            for column, values in judge({"image": images, "meta": [None] * len(images)}).items():
                columns.setdefault(f"{name}.{column}", []).extend(values)
    return pa.table({**columns, "image": pa.array(drawn, pa.large_binary())})


def _pairs(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every pair once, a few thousand rows' at a time."""
    for start in range(0, count, 500):
        first, second = np.meshgrid(np.arange(count), np.arange(start, min(start + 500, count)), indexing="ij")
        earlier = first < second
        yield first[earlier], second[earlier]


if __name__ == "__main__":
    main()
