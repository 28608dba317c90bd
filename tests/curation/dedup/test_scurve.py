"""Recall and precision on 20,000 real and planted documents, against the Jaccard similarity of all pairs."""

import itertools
import pydoc_data.topics
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from benchmarks.handbook import read_pages
from mmcorpus.curation.dedup.forest import spanning_forest
from mmcorpus.curation.dedup.lsh import match_probability
from mmcorpus.curation.dedup.minhash import PRESETS, MinHash
from mmcorpus.curation.dedup.run import deduplicate
from mmcorpus.curation.dedup.text import hash_shingles
from mmcorpus.curation.store.scores import load_scores
from tests.curation.dedup.conftest import Write

DOCUMENTS = 20_000
THRESHOLD = 0.8
BINS = np.linspace(0.4, 1.0, 13)


@pytest.fixture(scope="module")
def documents() -> list[str]:
    """Paragraphs as they are, those that translators left in English many times, and as many with a planted twin that
    shares its beginning, so that similarities of 0.3 to 1 are there in equal measure."""
    random = np.random.default_rng(5)
    real = list(_real())
    chosen = [real[place] for place in random.permutation(len(real))[: DOCUMENTS // 2]]
    planted = []
    for number in range(DOCUMENTS - len(chosen)):
        text, other = chosen[number % len(chosen)].split(), chosen[random.integers(len(chosen))].split()
        similarity = random.uniform(0.3, 1.0)
        shared = round(len(text) * 2 * similarity / (1 + similarity))
        planted.append(" ".join(text[:shared] + other[: len(text) - shared]))
    return [(chosen + planted)[place] for place in random.permutation(DOCUMENTS)]


def _real() -> Iterator[str]:
    try:
        texts = [text for page in read_pages() for text in page.paragraphs]
    except RuntimeError:  # no apt here: the English of Python's own help
        texts = [text for topic in pydoc_data.topics.topics.values() for text in topic.split("\n\n")]
    yield from (" ".join(text.split()) for text in texts if len(text.split()) >= 30)


def similar_pairs(offsets: np.ndarray, hashes: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of documents and their similarity, from `least` on: the product of the incidence matrix with itself."""
    _, shingle = np.unique(hashes, return_inverse=True)
    incidence = csr_array((np.ones(len(shingle), np.int32), shingle, offsets))
    incidence.sum_duplicates()
    incidence.data[:] = 1
    sizes = np.diff(incidence.indptr)
    found = []
    for start in range(0, DOCUMENTS, 1000):
        shared = (incidence[start : start + 1000] @ incidence.T).tocoo()
        first, second = shared.row + start, shared.col
        jaccard = shared.data / (sizes[first] + sizes[second] - shared.data)
        kept = (first < second) & (jaccard >= least)
        found.append((first[kept], second[kept], jaccard[kept]))
    first, second, jaccard = (np.concatenate(part) for part in zip(*found, strict=True))
    return first, second, jaccard


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset", [pytest.param(name, marks=[] if name == "fineweb" else pytest.mark.soak) for name in PRESETS]
)
def test_recall_is_on_the_curve_and_precision_is_one(
    preset: str, documents: list[str], write_source: Write, tmp_path: Path
) -> None:
    method = MinHash(preset=preset, verify=THRESHOLD)  # type: ignore[arg-type]
    source = write_source("web", documents, per_shard=5000)
    report = deduplicate("near", method, [source], f"{tmp_path}/work", workers=0)
    table = load_scores(source.scores, ["near"])
    first, second, jaccard = similar_pairs(*hash_shingles(documents, method.shingles_used), BINS[0])

    keys = method.keys(pa.table({"caption": documents}), {}).keys
    met = np.zeros(len(first), bool)
    for start in range(0, len(first), 1 << 20):
        part = slice(start, start + (1 << 20))
        met[part] = (keys[first[part]] == keys[second[part]]).any(axis=1)
    bands = method.bands_used
    expected = match_probability(jaccard, bands.bands, bands.rows)
    place = np.digitize(jaccard, BINS[:-1]) - 1
    rows = []
    for number, (low, high) in enumerate(itertools.pairwise(BINS)):
        own = place == number
        count, measured, promised = int(own.sum()), float(met[own].mean()), float(expected[own].mean())
        rows.append(f"{low:.2f}-{high:.2f} {count:8,} pairs, found {measured:.3f}, curve {promised:.3f}")
        assert count > 300, f"too few pairs to measure:\n{rows[-1]}"
        # Pairs of one document share its signature, so the error is wider than that of as many throws of a coin.
        assert abs(measured - promised) < 0.06, "\n".join(rows)
    print(preset, *rows, sep="\n")

    alike = jaccard >= THRESHOLD
    uids = table["uid"].to_pylist()
    cluster = np.unique(table["near.cluster"].to_pylist(), return_inverse=True)[1]
    joined = cluster[first[alike]] == cluster[second[alike]]
    recall = float(joined.mean())
    assert recall >= float(expected[alike].mean()) - 0.01
    # Precision: what is one cluster is one component of the pairs at the threshold, though those be found by all.
    component = np.arange(DOCUMENTS)
    forest = spanning_forest(first[alike].astype(np.int64), second[alike].astype(np.int64))
    component[forest["row"]] = forest["root"]
    order = np.lexsort((component, cluster))
    apart = (cluster[order][1:] == cluster[order][:-1]) & (component[order][1:] != component[order][:-1])
    assert not apart.any(), f"{apart.sum()} false joins; the first near {uids[order[int(apart.argmax())]]}"
    assert report.duplicates > 1000
    print(f"recall of pairs at {THRESHOLD}: {recall:.4f}; false joins: 0; {report}")
