"""The report's view of the data filtering network: what it learned, and the pairs that it judges most wrongly."""

from collections.abc import Sequence
from typing import Any, Final

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import load_scores
from mmcorpus.pipelines.report.gallery import cards, load_samples, uids_at_hand
from mmcorpus.pipelines.report.training import curve, curve_chart
from mmcorpus.pipelines.stages.dfn import DFN, TRUSTED
from mmcorpus.pipelines.truth.run_verdict import read_truth
from mmcorpus.pipelines.truth.verdict import SWAPPED
from mmcorpus.training.clip.separation import auc
from mmcorpus.training.metrics import read_metrics

CARDS: Final = 10
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
    lines = read_metrics(path)
    truth = read_truth(run)
    texts, galleries = list[str](), list[dict[str, Any]]()
    for source in sources:
        if DFN not in storage.list_names(storage.join(run, "scores", source)):
            continue
        unseen = _unseen(run, source)
        if truth:
            texts.append(_separation(source, unseen, truth))
        galleries += _mistakes(run, source, unseen, truth, max_shards)
    retrieval = [curve(_FIGURES[name], lines, name, dots=True) for name in ("image_to_text_r1", "text_to_image_r1")]
    return {
        "charts": [
            *curve_chart("training loss", "InfoNCE, nats per pair", [curve("", lines, "loss")]),
            *curve_chart("held-out retrieval", "share of pairs", retrieval),
        ],
        "figures": _figures(lines),
        "texts": texts,
        "galleries": [gallery for gallery in galleries if gallery["cards"]],
    }


def _figures(lines: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Names and values of the last retrieval test."""
    tests = [line for line in lines if "heldout_loss" in line]
    if not tests:
        return []
    last = tests[-1]
    forms = {name: "{:.3f} nats" if name == "heldout_loss" else "{:.1%}" for name in _FIGURES}
    return [(text, forms[name].format(last[name])) for name, text in _FIGURES.items()]


def _unseen(run: str, source: str) -> dict[str, float]:
    """By uid, the scores of the pairs that the network did not learn from."""
    column, path = f"{DFN}.similarity", storage.join(run, "selections", f"{source}.{TRUSTED}.parquet")
    learned = set(storage.read_table(path, ["uid"])["uid"].to_pylist()) if storage.exists(path) else set()
    table = load_scores(storage.join(run, "scores", source), columns=[column]).drop_null()
    scores = zip(table["uid"].to_pylist(), table[column].to_pylist(), strict=True)
    return {uid: score for uid, score in scores if uid not in learned}


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
    loaded = load_samples(
        storage.join(run, "shards", source), {uid for _, uids in groups for uid in uids[:CARDS]}, max_shards
    )
    galleries = []
    for title, uids in groups:
        notes = {uid: f"{scores[uid]:.3f}, above {share[uid]:.0%}" for uid in uids[:CARDS]}
        if title.startswith("swapped"):
            notes = {uid: f"{note} – in truth: {truth[uid]['true_caption']}" for uid, note in notes.items()}
        galleries.append({"title": f"{source}: {title}", "cards": cards(loaded, notes)})
    return galleries
