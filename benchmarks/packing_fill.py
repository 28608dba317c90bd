"""How full and how mixed sequences are: ours beside others' algorithms, on the same lengths.

Each runs in a process of its own, which reads the lengths that another drew, so that its peak of memory is its own.

Fill of the bound is the fewest sequences that any packing could have (`mmcorpus.packing.bounds`, or `columns`, where
that is missed) over those there are. Where a peer leaves samples out, the bound is that of the samples it packs. Mixing
is the share of the variance of lengths that lies within sequences. Seconds are processor time, so that other work on
the machine counts little.
"""

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from benchmarks.packing_peers import LENGTHS_ALONE, PEERS
from mmcorpus.packing.best import pack_items
from mmcorpus.packing.binpack import Limit, first_fit_decreasing
from mmcorpus.packing.bounds import Mixing, beside_bound, lower_bound
from mmcorpus.packing.columns import tighter
from mmcorpus.packing.exact import fill_exactly, kinds_of

Ints = npt.NDArray[np.int64]
T = TypeVar("T")
CAPACITY = 4096


def captions(rng: np.random.Generator, count: int) -> Ints:
    return 145 + rng.gamma(2.0, 14.0, count).astype(np.int64)


def conversations(rng: np.random.Generator, count: int) -> Ints:
    return 729 + rng.gamma(1.5, 110.0, count).astype(np.int64)


def tiles(rng: np.random.Generator, count: int) -> Ints:
    """One to twelve tiles of 256 positions, a thumbnail if there are several, and a conversation."""
    cut = np.minimum(12, rng.geometric(0.25, count))
    return 256 * (cut + (cut > 1)) + rng.gamma(1.5, 110.0, count).astype(np.int64)


def uniform(rng: np.random.Generator, count: int) -> Ints:
    return rng.integers(1, CAPACITY + 1, count)


LENGTHS: dict[str, Callable[[np.random.Generator, int], Ints]] = {
    "captions, 145 + ~28": captions,
    "conversations, 729 + ~165": conversations,
    "tiles of 256": tiles,
    "uniform, 1 to 4096": uniform,
}
MIXTURES = {
    "MM1: 4096, 144 an image, 16 images": (4096, 144, 16, 250, 500),
    "2048, 64 an image, 8 images": (2048, 64, 8, 250, 500),
    "1024, 9 an image, 16 images": (1024, 9, 16, 120, 200),
}
"""Positions, positions an image, images; scale of the text of documents and of texts."""
CROPS = "MM1, and 36 crops"
"""Of one to three crops an image."""


def mixture(items: int, capacity: int, each: int, most: int, document: int, text: int) -> tuple[Ints, Ints]:
    """Lengths and images of some `items` documents, captions and texts with 45, 45 and 10 % of the positions."""
    rng = np.random.default_rng(0)
    images = [rng.geometric(0.4, items), np.ones(items, dtype=np.int64), np.zeros(items, dtype=np.int64)]
    words = [rng.gamma(1.5, document, items) + 5, rng.gamma(2.0, 14.0, items) + 4, rng.gamma(1.2, text, items) + 10]
    parts = []
    for share, count, own in zip((0.45, 0.45, 0.1), images, words, strict=True):
        length = count * each + own.astype(np.int64)
        fits = (length <= capacity) & (count <= most)
        parts.append((share, length[fits], count[fits]))
    positions = min(length.sum() / share for share, length, _ in parts)
    ends = [int(np.searchsorted(np.cumsum(length), share * positions)) for share, length, _ in parts]
    kept = [
        (length[:end].astype(np.int32), count[:end].astype(np.int32))
        for (_, length, count), end in zip(parts, ends, strict=True)
    ]
    lengths, counts = (np.concatenate(column) for column in zip(*kept, strict=True))
    order = rng.permutation(len(lengths))
    return lengths[order], counts[order]


def problem(name: str, samples: int) -> tuple[Ints, int, list[Limit]]:
    """Lengths, capacity and other limits of some `samples`: of a plan if the name is its path, else drawn."""
    if name.endswith(".parquet"):
        return _planned(name)
    if name in LENGTHS:
        return np.clip(LENGTHS[name](np.random.default_rng(0), samples), 1, CAPACITY), CAPACITY, []
    capacity, each, most, *scales = MIXTURES.get(name, MIXTURES["MM1: 4096, 144 an image, 16 images"])
    # Of that many documents, captions and texts, 70 to 80 % are left once their shares are right.
    lengths, images = mixture(round(samples / 0.65), capacity, each, most, *scales)
    lengths, images = lengths[:samples], images[:samples]
    limits = [Limit(name="images", sizes=images, most=most)]
    if name == CROPS:
        crops = images * np.random.default_rng(1).integers(1, 4, len(images))
        limits.append(Limit(name="crops", sizes=np.minimum(crops, 36), most=36))
    return lengths, capacity, limits


def _planned(path: str) -> tuple[Ints, int, list[Limit]]:
    import pyarrow.parquet as pq

    from mmcorpus.packing.plan import read_plan_metadata

    config = read_plan_metadata(path)["config"]
    table = pq.read_table(path, columns=["length", "images"])
    lengths, images = (table[column].to_numpy().astype(np.int64) for column in ("length", "images"))
    most = config["max_images"]
    order = np.random.default_rng(0).permutation(len(lengths))
    limits = [Limit(name="images", sizes=images[order], most=most)] if most else []
    return lengths[order], config["context_length"], limits


OURS = {"plan": pack_items, "pools": fill_exactly, "first-fit-decreasing": first_fit_decreasing}


def draw(name: str, samples: int, folder: str) -> tuple[int, list[tuple[str, int]]]:
    """Write a problem's sizes into a folder, an array each; returns the capacity, and the limits' names and numbers."""
    lengths, capacity, limits = problem(name, samples)
    np.save(f"{folder}/positions.npy", lengths.astype(np.int32))
    for limit in limits:
        np.save(f"{folder}/{limit.name}.npy", limit.sizes.astype(np.int32))
    return capacity, [(limit.name, limit.most) for limit in limits]


def measured(name: str, method: str, folder: str, capacity: int, limited: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """One row: a method on a problem that `draw` wrote, run here."""
    lengths = np.load(f"{folder}/positions.npy")
    limits = [Limit(name=own, sizes=np.load(f"{folder}/{own}.npy"), most=most) for own, most in limited]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    if method in OURS:
        bins = OURS[method](lengths, capacity, limits=limits).bin
    else:
        images = limits[0].sizes if limits else np.zeros_like(lengths)
        bins = PEERS[method](
            lengths.astype(np.int64), images.astype(np.int64), capacity, limits[0].most if limits else None
        )
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    packed = bins >= 0
    sequences = int(bins.max()) + 1
    counted = {"positions": np.bincount(lengths[packed], minlength=capacity + 1)}
    for limit in limits:
        held = np.bincount(bins[packed], weights=limit.sizes[packed])
        if method in OURS and held.max(initial=0) > limit.most:
            raise AssertionError(f"{method}: a sequence of {name} has {held.max():.0f} {limit.name}")
        counted[limit.name] = np.bincount(limit.sizes[packed], minlength=limit.most + 1)
    if np.bincount(bins[packed], weights=lengths[packed]).max(initial=0) > capacity:
        raise AssertionError(f"{method}: a sequence of {name} is longer than {capacity}")
    mixing = Mixing()
    mixing.add(lengths[packed], bins[packed])
    most = {"positions": capacity, **{limit.name: limit.most for limit in limits}}
    sizes = [own[packed].astype(np.int64) for own in (lengths, *(limit.sizes for limit in limits))]
    kinds, _, counts = kinds_of(sizes, [*most.values()])
    simple = max(lower_bound(counted), beside_bound(most, kinds, counts), key=lambda bound: bound.bins)
    bound = tighter(simple, sequences, most, np.stack(kinds), counts)
    return {
        "lengths": name,
        "samples": len(lengths),
        "method": method,
        "sequences": sequences,
        "bound": bound.bins,
        "by": bound.name,
        "of bound (%)": 100 * bound.bins / max(1, sequences),
        "fill (%)": 100 * float(lengths[packed].sum()) / (max(1, sequences) * capacity),
        "left out (%)": 100 * float(1 - packed.mean()),
        "mixing": mixing.share,
        "CPU (s)": seconds,
        "peak (GB)": peak / 1e6,
        "of it before (GB)": before / 1e6,
    }


def compare(names: Sequence[str], samples: int, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Each method on each problem, one after the other, each in a process of its own."""
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            capacity, limited = _alone(draw, name, samples, folder)
            for method in methods:
                # A peer without the limit would need fewer sequences than are allowed.
                if (limited and method in LENGTHS_ALONE) or (name == CROPS and method in PEERS):
                    continue
                rows.append(_alone(measured, name, method, folder, capacity, limited))
    return rows


def _alone(work: Callable[..., T], *arguments: Any) -> T:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments).result()
