"""How well a data filtering network that a run trained tells true captions from swapped ones, on pairs held out.

    mmcorpus run dfn --out runs/dfn
    python -m mmcorpus.curation.synthetic.corpora.tuxpaint --out data/tuxpaint
    mmcorpus run dfn_real_pairs --out runs/dfn_real
    python -m benchmarks.dfn runs/dfn runs/dfn_real

For each run: the held-out pairs with their own captions against the same pictures with another held-out pair's; the
same for a network of the same size that has learned nothing; and, where the site keeps the truth, the captions that it
had swapped itself, held out and learned from. An interval that holds 0.5 shows nothing. Held-out pairs share no picture
with those learned from, but may share a caption; the row "new captions" has those alone that do not.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.bootstrap import paired_auc
from benchmarks.common import show, write_result
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import load_scores
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.recipe.populations import trusted
from mmcorpus.pipelines.recipe.schema import Recipe
from mmcorpus.pipelines.stages import dfn
from mmcorpus.pipelines.truth.run_verdict import read_truth
from mmcorpus.training.clip.checkpoint import load_clip
from mmcorpus.training.clip.model import Clip, begin
from mmcorpus.training.clip.pairs import Pairs, PairSource, find_pairs
from mmcorpus.training.clip.retrieval import drawn, embed, retrieval
from mmcorpus.training.clip.separation import Auc, auc

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="folders of runs with a `dfn:` section")
    parser.add_argument("--out", default="dfn", help="name of the result in benchmarks/results/")
    given = parser.parse_args(arguments)
    rows = [row for run in given.runs for row in measure(run)]
    told = [
        {
            "run": row["name"],
            "pairs": row["what"],
            "AUC [95 %]": f"{row['auc']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
            "true": row["true"],
            "swapped": row["swapped"],
            "R@1 →text": row.get("image_to_text_r1"),
            "→image": row.get("text_to_image_r1"),
        }
        for row in rows
        if "auc" in row
    ]
    show("True captions against swapped ones", told)
    shares = [
        {"run": row["name"], **{k: row[k] for k in ("what", "swapped", "of", "share")}} for row in rows if "of" in row
    ]
    if shares:
        show("Swapped captions, as the site knows", shares)
    print(write_result(given.out, {"rows": rows}))


def measure(run: str) -> list[Row]:
    """The rows of one run."""
    recipe = load_recipe(storage.join(run, "recipe.yaml"))
    entry = recipe.file.dfn
    if entry is None:
        raise SystemExit(f"{run} trained no data filtering network (its recipe has no `dfn:`)")
    truth = read_truth(run)
    heldout = find_pairs(
        {
            source: PairSource(
                shards=storage.join(run, "shards", source),
                selection=storage.join(run, dfn.selection_names(source, entry.trust)["heldout"]),
            )
            for source in trusted(recipe)
        }
    )
    # Pairs whose own caption is known to be false show nothing.
    told = [row for row in drawn(heldout, len(heldout)) if _is_true(truth, heldout.table["uid"][row].as_py())]
    learned_from = storage.read_table(storage.join(run, dfn.DFN, "pairs.parquet"), ["caption"])["caption"].to_pylist()
    learned = {_words(caption) for caption in learned_from}
    new = [row for row in told if _words(heldout.caption(row)) not in learned]
    trained, untrained = load_clip(storage.join(run, dfn.DFN)), begin(entry)
    rows = []
    for label, clip, chosen in (
        ("trained", trained, told),
        ("trained, new captions", trained, new),
        ("untrained", untrained, told),
    ):
        if len({heldout.caption(row) for row in chosen}) < 2:
            continue
        above, below, figures = _swap(clip, heldout, chosen)
        rows.append(_row(recipe, run, f"held out, swapped here, {label}", paired_auc(above, below), figures))
    return rows + (_planted(recipe, run, heldout, truth) if truth else [])


def _words(caption: str) -> str:
    """A caption without case and spacing."""
    return " ".join(caption.casefold().split())


def _swap(clip: Clip, heldout: Pairs, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray, Row]:
    """Cosines of each picture with its own caption and with that of another of the pairs whose words differ."""
    found = embed(clip, heldout, rows, device=torch.device("cpu"), precision="fp32", batch=256, threads=0)
    captions = [heldout.caption(row) for row in found.rows]
    order = np.random.default_rng(0).permutation(len(captions))
    other = np.zeros(len(captions), np.int64)
    for place, row in enumerate(order):
        steps = (order[(place + step) % len(order)] for step in range(1, len(order)))
        other[row] = next(candidate for candidate in steps if captions[candidate] != captions[row])
    own = (found.images_NE * found.texts_NE).sum(1).numpy()
    swapped = (found.images_NE * found.texts_NE[torch.from_numpy(other)]).sum(1).numpy()
    scale = float(clip.model.logit_scale.detach().exp())
    return own, swapped, retrieval(found.images_NE, found.texts_NE, captions, scale)


def _planted(recipe: Recipe, run: str, heldout: Pairs, truth: dict[str, Row]) -> list[Row]:
    """The run's own scores of captions that the site had swapped, against those of clean pairs."""
    rows = []
    apart = set(heldout.table["uid"].to_pylist())
    for source in trusted(recipe):
        table = load_scores(storage.join(run, "scores", source), columns=[f"{dfn.DFN}.similarity"])
        scores = dict(zip(table["uid"].to_pylist(), table[f"{dfn.DFN}.similarity"].to_pylist(), strict=True))
        learned, kept = (
            set(storage.read_table(storage.join(run, "selections", name), ["uid"])["uid"].to_pylist())
            for name in (f"{source}.{dfn.TRUSTED}.parquet", f"{source}.parquet")
        )
        for label, among in (("held out", apart), ("learned from", learned)):
            groups: dict[str, list[float]] = {"clean": [], "swapped_caption": []}
            for uid, score in scores.items():
                spoil = truth[uid]["spoil"] if uid in truth and uid in among else None
                if spoil in groups and score is not None:
                    groups[spoil].append(score)
            found = auc(groups["clean"], groups["swapped_caption"])
            rows.append(_row(recipe, run, f"{label}, swapped by the site", found, {}))
        for label, among in (("all pairs", set(scores)), ("pairs kept", kept & set(scores))):
            swapped = sum(uid in truth and truth[uid]["spoil"] == "swapped_caption" for uid in among)
            rows.append({"run": run, "name": recipe.file.name, "what": label, "swapped": swapped,
                         "of": len(among), "share": swapped / max(1, len(among))})  # fmt: skip
    return rows


def _is_true(truth: dict[str, Row], uid: str) -> bool:
    return not truth or (uid in truth and truth[uid]["caption"] == truth[uid]["true_caption"])


def _row(recipe: Recipe, run: str, what: str, found: Auc, figures: Row) -> Row:
    values = {name: value for name, value in dataclasses.asdict(found).items() if name not in ("higher", "lower")}
    shown = {"auc": values["value"], "low": values["low"], "high": values["high"]}
    recall = {name: figures[name] for name in ("image_to_text_r1", "text_to_image_r1") if name in figures}
    counts = {"true": found.higher, "swapped": found.lower}
    return {"run": run, "name": recipe.file.name, "what": what, **shown, **counts, **recall}


if __name__ == "__main__":
    main()
