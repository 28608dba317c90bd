"""Whether a model that we have trained tells true captions from swapped ones by their perplexity.

    mmcorpus run demo --out runs/demo
    python -m benchmarks.image_perplexity runs/demo

The pairs are those that the run kept aside from training. Each caption is scored with its own image and with another
pair's image; pairs whose captions are equal are not swapped with each other. `AUC` is over all true and all swapped
pairs, captions that are likely anyway among them; `same caption` is how often a caption is likelier with its own image
than with the other's, `same image` how often an image's own caption has the lower perplexity. Intervals: 95 %,
by bootstrap over pairs. The baseline, trained on grey images, shows what the captions alone give.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common import show, write_result
from mmcorpus.curation.scoring.batches import read_encoded, read_shard_rows
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import list_shards
from mmcorpus.filters import DecodedImage, decode_image
from mmcorpus.training.caption_perplexity import CheckpointPerplexityScorer

RESAMPLES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run's folder")
    parser.add_argument("--source", default="pairs")
    parser.add_argument("--stages", nargs="+", default=["pretrain", "baseline"])
    options = parser.parse_args()
    captions, images = heldout(options.run, options.source)
    other = swapped(captions)
    rows = []
    for stage in options.stages:
        judge = CheckpointPerplexityScorer(checkpoint=storage.join(options.run, "training", stage), device="cpu").load()
        true = ppl(judge, captions, images)
        with_other_image = ppl(judge, captions, [images[place] for place in other])
        with_other_caption = ppl(judge, [captions[place] for place in other], images)
        rows.append({"stage": stage, **measures(true, with_other_image, with_other_caption)})
    show(f"{len(captions)} held-out pairs", rows)
    print(write_result("image_perplexity", {"pairs": len(captions), "rows": rows}))


def heldout(run: str, source: str) -> tuple[list[str], list[DecodedImage]]:
    """The captions and images that the run kept aside."""
    table = storage.read_table(storage.join(run, "selections", f"{source}.heldout.parquet"), columns=["uid"])
    wanted = set(table["uid"].to_pylist())
    captions, images = [], []
    for shard in list_shards(storage.join(run, "shards", source)):
        rows = read_shard_rows(shard, {"caption"})
        for position, data in read_encoded(shard, rows):
            if rows.columns["uid"][position] in wanted:
                image = decode_image(data)
                assert isinstance(image, DecodedImage)
                captions.append(rows.columns["caption"][position])
                images.append(image)
    return captions, images


def swapped(captions: Sequence[str]) -> list[int]:
    """For each pair another whose caption differs: the next one, in an order drawn once."""
    order = np.random.default_rng(0).permutation(len(captions)).tolist()
    found = [0] * len(captions)
    for place, pair in enumerate(order):
        rest = (order[(place + step) % len(order)] for step in range(1, len(order)))
        found[pair] = next(one for one in rest if captions[one] != captions[pair])
    return found


def ppl(judge: Any, captions: Sequence[str], images: Sequence[DecodedImage]) -> npt.NDArray[np.float64]:
    """The perplexity of each caption given its image."""
    return np.array(judge({"caption": captions, "image": images})["ppl"], np.float64)


def measures(
    true: npt.NDArray[np.float64], other_image: npt.NDArray[np.float64], other_caption: npt.NDArray[np.float64]
) -> dict[str, Any]:
    """The figures of the table."""
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(true), (RESAMPLES, len(true)))
    figures = {
        "AUC": lambda at: auc(true[at], other_caption[at]),
        "same caption": lambda at: float((true[at] < other_image[at]).mean()),
        "same image": lambda at: float((true[at] < other_caption[at]).mean()),
    }
    found: dict[str, Any] = {}
    for name, figure in figures.items():
        low, high = np.quantile([figure(at) for at in draws], [0.025, 0.975])
        found[name] = figure(np.arange(len(true)))
        found[f"{name}, 95 %"] = f"{low:.3f}-{high:.3f}"
    return {**found, "median ppl": float(np.median(true)), "swapped": float(np.median(other_caption))}


def auc(true: npt.NDArray[np.float64], swapped_pairs: npt.NDArray[np.float64]) -> float:
    """The probability that a true pair has the lower perplexity than a swapped one, ties counting half."""
    both = np.concatenate([true, swapped_pairs])
    order = both.argsort(kind="stable")
    ranks = np.empty(len(both))
    ranks[order] = np.arange(len(both))
    _, inverse, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.bincount(inverse, weights=ranks) / counts)[inverse]
    below = ranks[len(true) :].sum() - len(true) * (len(true) - 1) / 2
    return float(below / len(true) ** 2)


if __name__ == "__main__":
    main()
