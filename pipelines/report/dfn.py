"""The report's view of the data filtering network: what it learned, and the pairs that it judges most wrongly."""

import json
from collections.abc import Sequence
from typing import Any, Final

from mmcorpus.curation.store import storage
from mmcorpus.pipelines.report.gallery import Card, load_samples, uids_at_hand
from mmcorpus.pipelines.report.training import curve, curve_chart
from mmcorpus.pipelines.stages.dfn import DFN, TRUSTED
from mmcorpus.pipelines.truth.run_verdict import read_truth
from mmcorpus.training.clip.separation import auc

CARDS: Final = 10
SWAPPED: Final = "swapped_caption"
_FIGURES: Final = {
    "heldout_loss": "held-out loss",
    "image_to_text_r1": "image → text R@1",
    "image_to_text_r5": "image → text R@5",
    "text_to_image_r1": "text → image R@1",
    "text_to_image_r5": "text → image R@5",
}


def section(run: str, sources: Sequence[str], max_shards: int) -> dict[str, Any] | None:
    """Curves, held-out retrieval and the worst mistakes; None where no network was trained."""
    path = storage.join(run, DFN, "metrics.jsonl")
    if not storage.exists(path):
        return None
    lines = [json.loads(line) for line in storage.read_bytes(path).splitlines() if line.strip()]
    truth = read_truth(run)
    scored = [source for source in sources if DFN in storage.list_names(storage.join(run, "scores", source))]
    texts, galleries = list[str](), list[dict[str, Any]]()
    for source in scored:
        learned = _learned_from(run, source)
        unseen = {uid: score for uid, score in _scores(run, source).items() if uid not in learned}
        if truth:
            texts.append(_separation(source, unseen, truth))
        galleries += _mistakes(run, source, unseen, truth, max_shards)
    return {
        "charts": _charts(lines),
        "figures": _figures(lines),
        "texts": texts,
        "galleries": [gallery for gallery in galleries if gallery["cards"]],
    }


def _charts(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    loss = curve("", lines, "loss")
    names = ("image_to_text_r1", "text_to_image_r1")
    return [
        *curve_chart("training loss", "InfoNCE, nats per pair", [loss]),
        *curve_chart(
            "held-out retrieval", "share of pairs", [curve(_FIGURES[name], lines, name, dots=True) for name in names]
        ),
    ]


def _figures(lines: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """The last retrieval test."""
    tests = [line for line in lines if "heldout_loss" in line]
    if not tests:
        return []
    last = tests[-1]
    return [
        {"name": text, "value": f"{last[name]:.3f} nats" if name == "heldout_loss" else f"{last[name]:.1%}"}
        for name, text in _FIGURES.items()
    ]


def _scores(run: str, source: str) -> dict[str, float]:
    from mmcorpus.curation.store.scores import load_scores

    table = load_scores(storage.join(run, "scores", source), columns=[f"{DFN}.similarity"]).drop_null()
    return dict(zip(table["uid"].to_pylist(), table[f"{DFN}.similarity"].to_pylist(), strict=True))


def _learned_from(run: str, source: str) -> set[str]:
    path = storage.join(run, "selections", f"{source}.{TRUSTED}.parquet")
    return set(storage.read_table(path, ["uid"])["uid"].to_pylist()) if storage.exists(path) else set()


def _separation(source: str, scores: dict[str, float], truth: dict[str, dict[str, Any]]) -> str:
    groups: dict[str, list[float]] = {"clean": [], SWAPPED: []}
    for uid, score in scores.items():
        if uid in truth and truth[uid]["spoil"] in groups:
            groups[truth[uid]["spoil"]].append(score)
    found = auc(groups["clean"], groups[SWAPPED])
    return (
        f"{source}: of pairs that it was not trained on, a true caption scores above a swapped one with probability "
        f"{found} (AUC with its 95 % interval; {found.higher:,} true, {found.lower:,} swapped)."
    )


def _mistakes(
    run: str, source: str, scores: dict[str, float], truth: dict[str, dict[str, Any]], max_shards: int
) -> list[dict[str, Any]]:
    """With the truth: right captions that score lowest, swapped ones that score highest. Without: both ends."""
    at_hand = uids_at_hand(storage.join(run, "shards", source), max_shards)
    ranked = sorted((uid for uid in at_hand if uid in scores), key=lambda uid: (scores[uid], uid))
    share = {uid: place / max(1, len(ranked) - 1) for place, uid in enumerate(ranked)}
    if truth:
        right = [uid for uid in ranked if uid in truth and truth[uid]["spoil"] == "clean"]
        wrong = [uid for uid in reversed(ranked) if uid in truth and truth[uid]["spoil"] == SWAPPED]
        groups = (("true captions that score lowest", right), ("swapped captions that score highest", wrong))
    else:
        groups = (("lowest scores", ranked), ("highest scores", ranked[::-1]))
    shown = {uid for _, uids in groups for uid in uids[:CARDS]}
    loaded = load_samples(storage.join(run, "shards", source), shown, max_shards)
    galleries = []
    for title, uids in groups:
        cards = [
            Card(
                uid=uid,
                picture=loaded[uid][0],
                caption=loaded[uid][1],
                note=f"{scores[uid]:.3f}, above {share[uid]:.0%}"
                + (f" – in truth: {truth[uid]['true_caption']}" if title.startswith("swapped") else ""),
            )
            for uid in uids[:CARDS]
            if uid in loaded
        ]
        galleries.append({"title": f"{source}: {title}", "cards": cards})
    return galleries
