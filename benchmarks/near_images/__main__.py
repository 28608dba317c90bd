"""Near-duplicate images: how many planted copies are found, and what is taken for a copy and is none.

    python -m benchmarks.near_images [--corpus data/tuxpaint]

Every picture of a real corpus (a site's folder, e.g. that of `corpora.tuxpaint`), of a mini-web and of `lookalikes`
(pictures that differ in a part: clocks, forms, cards) gets copies as the web makes them: encoded anew, resized,
cropped, of other tones, under an edited caption, some of them by chance. One pass of deduplication runs over originals
and copies of a corpus, two corpora at a time, each in one process; 3 to 6 minutes on two cores. Recall: the share of
copies that are in the cluster of their original. Precision: of all pairs in one cluster, the share that are copies of
one picture. Each two pictures of which copies are in one cluster are drawn into results/near_images_<corpus>.png,
beside each other, for eyes to judge: a real corpus holds near duplicates of its own.

Beside ours: files' and pixels' hashes, and the 64-bit hash alone, equal (as Data-Juicer's image_deduplicator compares
it) or within 10 bits (as imagededup does by default).

    python -m benchmarks.near_images --pairs

Instead: copies with their originals and look-alikes with each other, pair by pair: which step loses a copy, and what a
pair costs. Some minutes.

    python -m benchmarks.near_images --scale 100000 1000000

Instead: the time, memory and disk that one process takes to find the near duplicates among so many made-up hashes, a
fifth of them copies.
"""

import argparse
import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import cv2

from benchmarks.common import RESULTS, show, timed, write_result
from benchmarks.lookalikes import HELD_OUT, TUNED
from benchmarks.near_images.pairs import by, compare_pairs, pace
from benchmarks.near_images.planted import Planted, draw_pairs, judge, plant, plant_lookalikes, write_corpus
from benchmarks.near_images.scale import measure_scale
from mmcorpus.curation.dedup import METHODS, Method, deduplicate
from mmcorpus.curation.dedup.image import NearImages
from mmcorpus.curation.store.scores import load_scores
from mmcorpus.curation.synthetic.miniweb import MiniWebConfig, generate_site

SHIPPED: Final = ("image, fingerprints", "image")
PROCESSES: Final = 2
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
    cv2.setNumThreads(1)
    results: dict[str, Any] = {"files": len(planted), "pictures": len({each.picture for each in planted})}
    with tempfile.TemporaryDirectory() as folder:
        (source, uids), seconds = timed(lambda: write_corpus(planted, Path(folder)))
        results["seconds to score"] = round(seconds, 1)
        for title, method in COMPARED.items():
            table = f"by_{title.replace(' ', '_').replace(',', '')}"
            survivor = "image.min_side"
            work = str(Path(folder) / "dedup" / table)
            merge = functools.partial(deduplicate, table, method, [source], work, survivor=survivor, workers=0)
            report, seconds = timed(merge)
            found = load_scores(source.scores, columns=[f"{table}.cluster"])
            by_uid = dict(zip(found["uid"].to_pylist(), found[f"{table}.cluster"].to_pylist(), strict=True))
            results[title], mixed = judge(planted, [by_uid[uid] or uid for uid in uids])
            results[title] |= {"seconds": round(seconds, 2), "candidates": report.candidates}
            if title == "image" and mixed:
                RESULTS.mkdir(exist_ok=True)
                draw_pairs(planted, mixed, RESULTS / f"near_images_{name}.png")
    return results


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


def corpora(options: argparse.Namespace, folder: str) -> dict[str, Callable[[], list[Planted]]]:
    """By name, what makes the files of each."""
    generate_site(MiniWebConfig(pairs=options.pictures, instructions=0, spoil=0.0, seed=options.seed), folder)
    sites = {"miniweb": folder} | ({Path(options.corpus).name: options.corpus} if options.corpus else {})
    kinds = {"lookalikes": TUNED, "lookalikes held out": HELD_OUT}
    alike = {
        name: partial(plant_lookalikes, list(own), options.groups, options.members, options.seed, options.member_copies)
        for name, own in kinds.items()
    }
    real = {name: partial(plant, site, options.pictures, options.seed, options.copies) for name, site in sites.items()}
    return alike | real


def measured(name: str, make: Callable[[], list[Planted]]) -> dict[str, Any]:
    return measure(name.replace(" ", "_"), make())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpus", help="a site's folder; without, the mini-web and the lookalikes alone")
    parser.add_argument("--pictures", type=int, default=60, help="of each corpus, at most")
    parser.add_argument("--copies", type=int, default=6, help="of each picture of a corpus, by chance, at most")
    parser.add_argument("--groups", type=int, default=2, help="of lookalikes of each kind")
    parser.add_argument("--members", type=int, default=4, help="of each group")
    parser.add_argument("--member-copies", type=int, default=2, help="of each lookalike, by chance")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", action="store_true", help="compare pair by pair: which step loses a copy")
    parser.add_argument("--scale", type=int, nargs="+", metavar="IMAGES", help="time, memory and disk for so many")
    options = parser.parse_args()
    if options.scale:
        print(write_result("near_images_scale", {"scale": measure_scale(options.scale)}))
        return
    with tempfile.TemporaryDirectory() as folder:
        made = corpora(options, folder)
        if options.pairs:
            found: dict[str, Any] = {}
            for name, make in made.items():
                pairs, seconds = timed(functools.partial(compare_pairs, make(), PROCESSES))
                found[name] = {"seconds": round(seconds, 1), **{what: by(pairs, what) for what in ("made", "kind")}}
                found[name]["pace"] = pace(pairs)
                for what in ("made", "kind", "pace"):
                    show(f"{name}: {len(pairs):,} pairs, {seconds:.0f} s", found[name][what])
            print(write_result("near_images_pairs", {"corpora": found, "seed": options.seed}))
            return
        with ProcessPoolExecutor(PROCESSES) as pool:
            results = dict(zip(made, pool.map(measured, made, made.values()), strict=True))
    for name, result in results.items():
        tell(name, result)
    print(write_result("near_images", {"corpora": results, "seed": options.seed}))


if __name__ == "__main__":
    main()
