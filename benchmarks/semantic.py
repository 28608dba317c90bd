"""Semantic deduplication (SemDeDup) on a CLIP's embeddings: which planted copies it finds, and what it takes for one.

    mmcorpus run dfn --out runs/dfn
    python -m benchmarks.semantic runs/dfn/dfn --corpus data/tuxpaint

The CLIP is one that `mmcorpus dfn` or a recipe's `dfn:` section trained, or any model's folder. Pictures, copies,
recall and precision are those of `benchmarks.near_images`, here on a mini-web of another seed than the recipes'.
`same caption`: the share of the false pairs whose pictures were published under the same words, for which meaning the
same is no mistake (mini-webs with `captions: short` say all that is to be seen). `one cluster` compares all with all:
what k-means costs. The pictures that are confused are drawn into results/semantic_<corpus>_<method>.png.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.common import RESULTS, show, timed, write_result
from benchmarks.near_images.planted import ORIGINAL, PER_SHARD, Planted, draw_pairs, judge, plant, write_corpus
from mmcorpus.curation.dedup import Method, Source, deduplicate
from mmcorpus.curation.dedup.image import NearImages
from mmcorpus.curation.dedup.semantic import Semantic
from mmcorpus.curation.scoring.shard import Outputs
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import load_scores
from mmcorpus.curation.synthetic.miniweb import MiniWebConfig, generate_site
from mmcorpus.filters import decode_image, judge_batch
from mmcorpus.filters.clip import ClipScorer
from mmcorpus.training.clip import last_model

COMPARED: Final[dict[str, Method]] = {
    **{f"cosine {cosine}": Semantic(cosine=cosine) for cosine in (0.8, 0.9, 0.95, 0.98, 0.99)},
    "cosine 0.95, one cluster": Semantic(cosine=0.95, clusters=1),
    "image": NearImages(),
}
"""`image` is the pass of perceptual hashes, for comparison."""


def embed(planted: Sequence[Planted], uids: Sequence[str], source: Source, scorer: ClipScorer) -> None:
    """Score and embed the files that `write_corpus` wrote, in this process."""
    settled = scorer.settled()
    outputs = Outputs.of([settled], scores=source.scores, embeddings=source.embeddings)
    judged = settled.load()
    for first in range(0, len(planted), PER_SHARD):
        own = planted[first : first + PER_SHARD]
        batch: dict[str, Sequence[Any]] = {
            "image": [decode_image(each.data) for each in own],
            "caption": [each.caption for each in own],
        }
        table = judge_batch(settled, judged, batch).add_column(0, "uid", [uids[first : first + PER_SHARD]])
        outputs.commit(settled, f"{first // PER_SHARD:05d}", table)


def measure(name: str, site: str, model: str, pictures: int, seed: int) -> dict[str, Any]:
    """Plant, embed, find by each method, judge; draws what each confuses."""
    planted = plant(site, pictures, seed)
    captions = {each.picture: each.caption for each in planted if each.made == ORIGINAL}
    results: dict[str, Any] = {"files": len(planted), "pictures": len(captions)}
    with tempfile.TemporaryDirectory() as folder:
        source, uids = write_corpus(planted, Path(folder))
        source = dataclasses.replace(source, embeddings=str(Path(folder) / "embeddings"))
        _, seconds = timed(lambda: embed(planted, uids, source, ClipScorer(model_name=model, save_embeddings=True)))
        results["seconds to embed"] = round(seconds, 1)
        for title, method in COMPARED.items():
            table = title.replace(" ", "_").replace(",", "").replace(".", "")
            work = str(Path(folder) / "dedup" / table)
            _, seconds = timed(partial(deduplicate, table, method, [source], work, workers=0))
            found = load_scores(source.scores, columns=[f"{table}.cluster"])
            by_uid = dict(zip(found["uid"].to_pylist(), found[f"{table}.cluster"].to_pylist(), strict=True))
            results[title], mixed = judge(planted, [by_uid[uid] or uid for uid in uids])
            alike = sum(count for (one, other), count in mixed.items() if captions[one] == captions[other])
            results[title] |= {"seconds": round(seconds, 2), "same caption": alike / max(1, sum(mixed.values()))}
            if mixed:
                RESULTS.mkdir(exist_ok=True)
                draw_pairs(planted, mixed, RESULTS / f"semantic_{name}_{table}.png")
    return results


def tell(name: str, results: Mapping[str, Any]) -> None:
    """The tables of one corpus."""
    kinds = ("precision", "recall", "false pairs", "same caption", "pictures confused", "seconds")
    title = f"{name}: {results['pictures']:,} pictures, {results['files']:,} files"
    show(title, [{"method": method, **{kind: results[method][kind] for kind in kinds}} for method in COMPARED])
    made = list(results["image"]["recall by copy"])
    rows = [{"copy": kind, **{method: results[method]["recall by copy"][kind] for method in COMPARED}} for kind in made]
    show(f"{name}: recall by kind of copy", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder of `mmcorpus dfn`, or any folder that open_clip loads")
    parser.add_argument("--corpus", help="a site's folder; without, the mini-web alone")
    parser.add_argument("--pictures", type=int, default=800, help="of each corpus, at most")
    parser.add_argument("--seed", type=int, default=1, help="of the mini-web and of the copies")
    options = parser.parse_args()
    trained = storage.exists(storage.join(options.model, "checkpoints"))
    model = last_model(options.model) if trained else options.model
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        web = MiniWebConfig(
            pairs=options.pictures, instructions=0, spoil=0.0, seed=options.seed, captions="short",
            kinds={"scene": 7, "clock": 1, "chart": 1, "table": 1},
        )  # fmt: skip
        generate_site(web, folder)
        sites = {"miniweb": folder} | ({Path(options.corpus).name: options.corpus} if options.corpus else {})
        for name, site in sites.items():
            found[name] = measure(name, site, model, options.pictures, options.seed)
            tell(name, found[name])
    print(write_result("semantic", {"corpora": found, "seed": options.seed, "model": model}))


if __name__ == "__main__":
    main()
