"""Pairs of pictures, one by one: at which step a copy is lost, and how near the limits a look-alike comes.

A pass hides both: its clusters have few pairs of each kind, and a copy that is lost says not where. Here each copy is
compared with its original, and pictures of one group with each other, through the two steps of `NearImages`.
"""

import itertools
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import pyarrow as pa

from benchmarks.near_images.planted import ORIGINAL, SCORED, Planted
from mmcorpus.curation.dedup.image import NearImages
from mmcorpus.curation.dedup.same_picture import Picture, difference
from mmcorpus.filters import SCORERS, DecodedImage, decode_image, judge_batch

OTHERS: Final = 12
"""Pairs of different pictures of a group, by chance."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A pair and what became of it."""

    kind: str
    made: str
    """How the copy was made; ORIGINAL for two pictures that differ."""
    candidate: bool
    """Whether their hashes are so near that the pictures are compared."""
    difference: float
    """Of the pictures, 1 being the limit; whether they are candidates or not."""
    seconds: float
    """Of processor time, for comparing the pictures."""
    numbers: tuple[int, int]
    """Places in the planted files."""

    @property
    def copies(self) -> bool:
        return self.made != ORIGINAL

    @property
    def merged(self) -> bool:
        return self.candidate and self.difference <= 1


def compare_pairs(planted: Sequence[Planted], workers: int = 2) -> list[Compared]:
    """Each copy with its original, and of each kind pairs of neighbouring pictures (for lookalikes: of one group)."""
    groups = [list(own) for _, own in itertools.groupby(range(len(planted)), lambda number: planted[number].group)]
    parts = [([planted[number] for number in own], own[0]) for own in groups]
    with ProcessPoolExecutor(workers) as pool:
        return [pair for pairs in pool.map(_compare, *zip(*parts, strict=True)) for pair in pairs]


def _compare(files: Sequence[Planted], first: int) -> list[Compared]:
    cv2.setNumThreads(1)
    images = [decode_image(each.data) for each in files]
    batch: dict[str, list[Any]] = {"image": images, "meta": [{} for _ in images]}
    tables = {name: judge_batch(SCORERS[name](), SCORERS[name]().load(), batch) for name in SCORED}
    rows = pa.table(
        {f"{name}.{column}": table[column] for name, table in tables.items() for column in table.column_names}
    )
    originals = {each.picture: place for place, each in enumerate(files) if each.made == ORIGINAL}
    pairs = [(originals[each.picture], place) for place, each in enumerate(files) if each.made != ORIGINAL]
    apart = [
        pair
        for pair in itertools.combinations(range(len(files)), 2)
        if files[pair[0]].picture != files[pair[1]].picture
    ]
    pairs += random.Random(first).sample(apart, min(OTHERS, len(apart)))
    near = NearImages().same(rows, *np.array(pairs).reshape(-1, 2).T)
    pictures = [Picture.of(image.pixels) if isinstance(image, DecodedImage) else None for image in images]
    found = []
    for (one, other), candidate in zip(pairs, near.tolist(), strict=True):
        a, b = pictures[one], pictures[other]
        if a is not None and b is not None:
            made = files[other].made if files[one].picture == files[other].picture else ORIGINAL
            start = time.process_time()
            differs = difference(a, b)
            seconds = time.process_time() - start
            found.append(
                Compared(kind=files[one].kind, made=made, candidate=candidate, difference=differs, seconds=seconds,
                         numbers=(first + one, first + other))
            )  # fmt: skip
    return found


def pace(pairs: Iterable[Compared]) -> list[dict[str, Any]]:
    """Processor time a pair of candidates, in milliseconds: of copies, and of pictures that differ."""
    times: dict[str, list[float]] = {}
    for pair in pairs:
        if pair.candidate:
            times.setdefault("copies" if pair.copies else "different", []).append(1e3 * pair.seconds)
    return [
        {"pairs of": name, "count": len(own), "median ms": float(np.median(own)), "mean ms": float(np.mean(own))}
        for name, own in times.items()
    ]


def by(pairs: Iterable[Compared], name: str) -> list[dict[str, Any]]:
    """Of each kind, or way of copying: the share of the copies that are found, that are no candidates, that could not
    be aligned, whose blocks differ; and of the pictures that differ, the share that passes for copies."""
    counts: dict[str, Counter[str]] = {}
    for pair in pairs:
        own = counts.setdefault(getattr(pair, name), Counter())
        if not pair.copies:
            own.update(apart=1, merged=int(pair.difference <= 1))
            continue
        lost = "no candidate" if not pair.candidate else "not aligned" if np.isinf(pair.difference) else "blocks"
        own.update(copies=1, **{"found" if pair.merged else lost: 1})
    return [
        {
            name: value,
            "copies": own["copies"],
            **{step: own[step] / max(1, own["copies"]) for step in ("found", "no candidate", "not aligned", "blocks")},
            "different": own["apart"],
            "merged": own["merged"],
        }
        for value, own in counts.items()
    ]
