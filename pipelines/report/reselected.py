"""The report's view of sources that are selected from once more: what the second selection changed, and what the models
trained on either came to at equal positions."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pyarrow.compute as pc

from mmcorpus.curation.store import ledger, storage
from mmcorpus.pipelines.recipe.populations import first_of
from mmcorpus.pipelines.recipe.yaml_source import read_stored
from mmcorpus.pipelines.report import svg
from mmcorpus.pipelines.report.gallery import cards, load_samples, uids_at_hand
from mmcorpus.pipelines.report.samples import short
from mmcorpus.pipelines.truth.run_verdict import read_truth
from mmcorpus.pipelines.truth.verdict import CLEAN
from mmcorpus.training.metrics import read_metrics

CARDS: Final = 14
RESELECTED: Final = "reselected"
"""In place of a population of documents: rows that another source has, counted and shown there."""


def sources(run: str) -> dict[str, str]:
    """By source that selects from another once more, that other; as the run's recipe has it."""
    given = read_stored(storage.join(run, "recipe.yaml")).get("sources") or {}
    return {name: one["reselect"] for name, one in given.items() if isinstance(one, dict) and one.get("reselect")}


def section(run: str, evaluations: Sequence[Mapping[str, Any]], max_shards: int) -> list[dict[str, Any]]:
    """One entry for each source that was selected from once more.

    Args:
        evaluations: the rows of the report's section on evaluation, of which each model gets its own.
    """
    found, of = list[dict[str, Any]](), sources(run)
    truth = read_truth(run) if of else {}
    for again, before in of.items():
        first, second = (_verdicts(run, name) for name in (before, again))
        if not first or not second:
            continue
        kept = [{uid for uid, row in one.items() if row["verdict"] == ledger.KEPT} for one in (first, second)]
        only_first, only_second = sorted(kept[0] - kept[1]), sorted(kept[1] - kept[0])
        root = storage.join(run, "shards", first_of(again, of) or again)
        galleries = list[dict[str, Any]]()
        for title, uids, why in (
            (f"kept by {before} alone", only_first, second),
            (f"kept by {again} alone", only_second, first),
            ("kept by both", sorted(kept[0] & kept[1]), None),
        ):
            at_hand = set(uids_at_hand(root, max_shards))
            shown = [uid for uid in uids if uid in at_hand][:CARDS]
            notes = {uid: _why(why[uid]) if why else "" for uid in shown}
            drawn = cards(load_samples(root, notes, max_shards), notes)
            if drawn:
                galleries.append({"title": title, "text": f"{len(uids):,} samples", "cards": drawn})
        found.append(
            {
                "source": again,
                "first": before,
                "counts": [("both", len(kept[0] & kept[1])), (before, len(only_first)), (again, len(only_second))],
                "kept": [len(one) for one in kept],
                "truth": _truth(truth, first.keys(), kept),
                "galleries": galleries,
                **_models(run, (before, again), evaluations),
            }
        )
    return found


def _verdicts(run: str, source: str) -> dict[str, dict[str, Any]]:
    """By uid, a source's rows of the ledger of selection."""
    path = storage.join(run, "ledger", source, "select.parquet")
    if not storage.exists(path):
        return {}
    return {row["uid"]: row for row in storage.read_table(path, ["uid", "verdict", "rule", "value"]).to_pylist()}


def _why(row: Mapping[str, Any]) -> str:
    """The rule by which the other selection dropped a sample, and what decided."""
    return f"{row['rule']}: {short(row['value'] or '')}"


def _truth(
    truth: Mapping[str, Mapping[str, Any]], judged: Iterable[str], kept: Sequence[set[str]]
) -> list[tuple[str, int, list[int]]]:
    """(What was done to samples, how many they are, how many of them each selection kept): clean ones first, then those
    of which the selections keep different numbers."""
    of = {uid: str(truth[uid]["spoil"]) for uid in judged if uid in truth}
    there = Counter(of.values())
    each = [Counter(of[uid] for uid in one if uid in of) for one in kept]
    order = sorted(there, key=lambda spoil: (spoil != CLEAN, -there[spoil], spoil))
    differ = (spoil for spoil in order if spoil == CLEAN or each[0][spoil] != each[1][spoil])
    return [(spoil, there[spoil], [one[spoil] for one in each]) for spoil in differ]


def _models(run: str, of: Sequence[str], evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The stages that learn from the packs of these sources: each by itself, and their losses at equal positions. None
    where nothing learns from the second: there is nothing to compare."""
    recipe = read_stored(storage.join(run, "recipe.yaml"))
    packs = {name: one.get("sources") or [] for name, one in (recipe.get("pack") or {}).items()}
    stages = ((recipe.get("train") or {}).get("stages") or {}).items()
    learned = {name: one["pack"] for name, one in stages if set(of) & set(packs.get(one.get("pack"), ()))}
    if not any(of[1] in packs[pack] for pack in learned.values()):
        return {"models": [], "charts": []}
    lines = {name: found for name in learned if (found := read_metrics(_metrics(run, name)))}
    held = {name: _heldout(found) for name, found in lines.items()}
    most = min((points[-1]["positions"] for points in held.values() if points), default=0)
    rows = []
    for name, found in lines.items():
        last: Mapping[str, Any] = next((line for line in reversed(found) if "loss" in line), {})
        # Of each model the loss that was measured nearest to where the one that saw least has ended.
        at = min(held[name], key=lambda point: abs(point["positions"] - most), default={})
        asked = {one for one, entry in (recipe.get("evaluate") or {}).items() if entry.get("stage") == name}
        rows.append(
            {
                "name": name,
                "pack": learned[name],
                "samples": sum(_packed(run, learned[name], source) for source in packs[learned[name]]),
                "steps": last.get("step"),
                "tokens": last.get("tokens"),
                **{key: at.get(key) for key in ("positions", "loss", "blank")},
                "answers": [
                    f"{one['name']}: {one['metric']} {one['value']}"
                    for one in evaluations
                    if one["name"] in asked and one["category"] == "all" and one["value"]
                ],
            }
        )
    curves = [
        svg.Line(label=name, xs=[p["positions"] for p in points], ys=[p["loss"] for p in points], dots=True)
        for name, points in held.items()
        if points
    ]
    title, text = "held-out loss", "nats per target token, of the same samples, by positions seen"
    charts = [{"title": title, "text": text, "labels": [one.label for one in curves],
               "svg": svg.line_chart(curves, title, "positions")}] if curves else []  # fmt: skip
    return {"models": rows, "charts": charts}


def _metrics(run: str, stage: str) -> str:
    return storage.join(run, "training", stage, "metrics.jsonl")


def _heldout(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Held-out losses with the positions that had been learned from by then."""
    seen, found = 0, list[dict[str, Any]]()
    for line in lines:
        seen = line.get("positions", seen)
        if line.get("heldout_loss") is not None:
            found.append({"positions": seen, "loss": line["heldout_loss"], "blank": line.get("heldout_loss_blank")})
    return found


def _packed(run: str, pack: str, source: str) -> int:
    """How many of a source's samples a pack holds."""
    path = storage.join(run, "plans", f"{pack}.parquet")
    if not storage.exists(path):
        return 0
    table = storage.read_table(path, ["uid", "source"])
    return int(pc.count_distinct(table.filter(pc.equal(table["source"], source))["uid"]).as_py())
