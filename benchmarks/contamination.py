"""Decontamination: an index of evaluation texts and pictures built, kept and asked, beside Python sets of n-grams.

    python -m benchmarks.contamination --items 10000 100000 1000000 --texts 20000

The peer is what evaluation harnesses do: each text's 13-grams, joined by spaces, looked up in a set; and for pictures
every hash compared with every other. Texts are words drawn by Zipf's law; one sample in a hundred holds an item.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import show, write_result
from mmcorpus.curation.evaluations import EvaluationsConfig, EvaluationSet, build_index
from mmcorpus.filters.contamination import match_texts, read_index
from mmcorpus.filters.hamming import NearHashes
from mmcorpus.filters.ngrams import words

N = 13
WORDS = 50_000


def make_texts(count: int, seed: int, low: int = 8, high: int = 60) -> list[str]:
    """Texts of `low` to `high` words."""
    random = np.random.default_rng(seed)
    vocabulary = np.array([f"w{number:x}" for number in range(WORDS)])
    lengths = random.integers(low, high, count)
    drawn = vocabulary[np.minimum(random.zipf(1.2, int(lengths.sum())), WORDS) - 1]
    ends = np.cumsum(lengths)
    return [" ".join(drawn[end - length : end]) for length, end in zip(lengths, ends, strict=True)]


def grams(text: str) -> list[str]:
    """The peer's n-grams."""
    found = words(text)
    return [" ".join(found[start : start + N]) for start in range(len(found) - N + 1)] or [" ".join(found)]


def texts_row(items: int, texts: list[str]) -> dict[str, Any]:
    """One size of the index."""
    with tempfile.TemporaryDirectory() as folder:
        own = make_texts(items, seed=1)
        pq.write_table(pa.table({"text": own}), f"{folder}/set.parquet")
        planted = [f"{text} {own[row % items]}" if row % 100 == 0 else text for row, text in enumerate(texts)]
        sets = {"set": EvaluationSet(path=f"{folder}/set.parquet")}
        start = time.perf_counter()
        build_index(EvaluationsConfig(sets=sets, n=N, max_items=None), f"{folder}/index")
        built = time.perf_counter() - start
        start = time.perf_counter()
        index = read_index(f"{folder}/index")
        loaded = time.perf_counter() - start
        start = time.perf_counter()
        overlaps: list[Any] = []
        for place in range(0, len(planted), 256):
            overlaps += match_texts(index, [[text] for text in planted[place : place + 256]])["text_overlap"]
        judged = time.perf_counter() - start
        size = sum(path.stat().st_size for path in Path(folder, "index").iterdir() if path.name != "shown.parquet")
    start = time.perf_counter()
    known = {gram for text in own for gram in grams(text)}
    peer_built = time.perf_counter() - start
    start = time.perf_counter()
    shares = []
    for text in planted:
        found = set(grams(text))
        shares.append(sum(gram in known for gram in found) / len(found))
    peer_judged = time.perf_counter() - start
    peer_bytes = sys.getsizeof(known) + sum(map(sys.getsizeof, known))
    assert np.allclose(overlaps, shares), "both must find the same"
    return {
        "items": items,
        "n-grams": len(index.grams),
        "build (s)": built,
        "set: build (s)": peer_built,
        "load (s)": loaded,
        "memory (MB)": (index.grams.nbytes + index.gram_items.nbytes) / 1e6,
        "set: memory (MB)": peer_bytes / 1e6,
        "on disk (MB)": size / 1e6,
        "texts/s": len(planted) / judged,
        "set: texts/s": len(planted) / peer_judged,
    }


def pictures_row(pictures: int, queries: int) -> dict[str, Any]:
    """Perceptual hashes asked for their neighbours within 8 bits."""
    random = np.random.default_rng(2)
    hashes = random.integers(0, 2**64, pictures, np.uint64)
    asked = random.integers(0, 2**64, queries, np.uint64)
    asked[::10] = hashes[: len(asked[::10])] ^ np.uint64(0b10010001)
    start = time.perf_counter()
    near = NearHashes(hashes, 8)
    built = time.perf_counter() - start
    start = time.perf_counter()
    found = [len(near.near(int(value))[0]) for value in asked]
    own = time.perf_counter() - start
    start = time.perf_counter()
    everything = [int((np.bitwise_count(hashes ^ value) <= 8).sum()) for value in asked]
    brute = time.perf_counter() - start
    assert found == everything, "both must find the same"
    return {
        "pictures": pictures,
        "build (s)": built,
        "asked/s": queries / own,
        "comparing with all: asked/s": queries / brute,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--texts", type=int, default=20_000, help="samples that are judged")
    parser.add_argument("--queries", type=int, default=2_000, help="pictures that are judged")
    arguments = parser.parse_args()
    samples = make_texts(arguments.texts, seed=3)
    texts = [texts_row(items, samples) for items in arguments.items]
    show(f"Texts: {arguments.texts:,} judged", texts)
    pictures = [pictures_row(items, arguments.queries) for items in arguments.items]
    show(f"Pictures: {arguments.queries:,} asked for neighbours within 8 bits", pictures)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    write_result(
        "contamination",
        {"arguments": vars(arguments), "texts": texts, "pictures": pictures, "peak_memory_mb": peak},
    )


if __name__ == "__main__":
    main()
