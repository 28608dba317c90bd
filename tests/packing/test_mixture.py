"""Mixtures: shares by positions, samples or sequences, by roots, within caps, and in every window."""

import dataclasses
import logging
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import Shard, commit_shard
from mmcorpus.packing import PlanConfig, PlanSource, make_plan
from mmcorpus.packing.mixture import Amount, MixGroup, factors, over_cap
from tests.packing.conftest import caption

CONFIG = PlanConfig(context_length=128, tokens_per_image=16, window_shards=3, max_images=4)
SHARDS = {"short": (6, 60), "long": (1, 120), "few": (2, 10)}
WORDS = {"short": (1, 3), "long": (30, 60), "few": (5, 20)}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PlanSource]:
    """Pairs in shards without tars, which plans do not read; by source so many shards of so many."""
    root, rng, made = tmp_path_factory.mktemp("mixed"), random.Random(1), {}
    for name, (shards, each) in SHARDS.items():
        uids = []
        for number in range(shards):
            own = [f"{rng.getrandbits(128):032x}" for _ in range(each)]
            uids += own
            rows = {
                "uid": own, "key": own, "caption": [caption(rng, rng.randint(*WORDS[name])) for _ in own],
                "status": ["success"] * each, "error_message": pa.nulls(each, pa.string()),
            }  # fmt: skip
            commit_shard(Shard(root=f"{root}/{name}", name=f"{number:05d}"), pa.table(rows))
        selection = pa.table({"uid": sorted(uids), "count": pa.array([1] * len(uids), pa.int32())})
        made[name] = PlanSource(shards=f"{root}/{name}", selection=selection, kind="pair")
    return made


def plan(
    sources: dict[str, PlanSource], tokenizer: str, out: Path, **settings: Any
) -> tuple[Any, list[dict[str, Any]]]:
    config = dataclasses.replace(CONFIG, **settings)
    report = make_plan(config, tokenizer=tokenizer, sources=sources, out=f"{out}/plan.parquet")
    return report, storage.read_table(f"{out}/plan.parquet").to_pylist()


@pytest.mark.parametrize("by", ["positions", "samples", "sequences"])
def test_shares_are_of_positions_of_samples_or_of_sequences(
    sources: dict[str, PlanSource], tmp_path: Path, tokenizer_folder: str, by: Any
) -> None:
    shares = {"short": 0.5, "long": 0.3, "few": 0.2}
    report, rows = plan(sources, tokenizer_folder, tmp_path, mix=shares, mix_by=by)
    amounts = {name: Amount() for name in sources}
    for row in rows:
        own = amounts[row["source"]]
        own.samples += 1
        own.positions += row["length"]
        own.images += row["images"]
    there = {name: own.by(by, CONFIG.limits) for name, own in amounts.items()}
    for name, share in shares.items():
        assert there[name] / sum(there.values()) == pytest.approx(share, abs=0.05)
        assert report.shares[name] == pytest.approx(amounts[name].positions / report.positions)
        uids = Counter(row["uid"] for row in rows if row["source"] == name)
        assert report.seen[name] == pytest.approx(uids.total() / (SHARDS[name][0] * SHARDS[name][1]))
        assert report.most_seen[name] == max(uids.values())
    if by == "sequences":  # captions are limited by their images: a quarter of a sequence each, whatever their length
        assert there["short"] == pytest.approx(amounts["short"].samples / 4)


def test_a_mixture_holds_in_every_window_whatever_the_shards(
    sources: dict[str, PlanSource], tmp_path: Path, tokenizer_folder: str
) -> None:
    shares = {"short": 0.5, "long": 0.3, "few": 0.2}
    _, rows = plan(sources, tokenizer_folder, tmp_path, mix=shares)
    table, at = storage.read_table(f"{tmp_path}/plan.parquet"), 0
    with storage.open_parquet(f"{tmp_path}/plan.parquet") as parquet:
        windows = [parquet.metadata.row_group(n).num_rows for n in range(parquet.num_row_groups)]
    assert len(windows) == 3, "the one shard of long samples is in all of them"
    for size in windows:
        positions = Counter[str]()
        for row in table.slice(at, size).to_pylist():
            positions[row["source"]] += row["length"]
        at += size
        for name, share in shares.items():
            assert positions[name] / positions.total() == pytest.approx(share, abs=0.12), positions
    assert len({(row["uid"], row["copy"]) for row in rows}) == len(rows)
    everywhere = Counter((row["source"], row["copy"]) for row in rows)
    assert everywhere["few", 0] == 20, "of a source that is repeated nothing is lost between windows"


def test_roots_of_sizes_share_a_groups_rate(
    sources: dict[str, PlanSource], tmp_path: Path, tokenizer_folder: str
) -> None:
    groups = {
        "a": MixGroup(rate=1, sources=("short", "few"), sizes={"few": 90}),
        "b": MixGroup(rate=1, sources=("long",)),
    }
    _, rows = plan(sources, tokenizer_folder, tmp_path, mix_groups=groups, mix_by="samples")
    counts = Counter(row["source"] for row in rows)
    assert counts["long"] / counts.total() == pytest.approx(0.5, abs=0.02)
    assert counts["short"] / counts["few"] == pytest.approx((360 / 90) ** 0.5, rel=0.1)
    config = dataclasses.replace(CONFIG, mix_groups=groups, epochs=2.0)
    assert PlanConfig.read(config.settings()) == config


def test_a_weight_that_uses_samples_too_often_is_refused_warned_of_or_capped(
    sources: dict[str, PlanSource], tmp_path: Path, tokenizer_folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    given: dict[str, Any] = {"mix": {"short": 1, "long": 1, "few": 8}, "mix_most_seen": 4}
    with pytest.raises(ValueError, match=r"pack.mix_most_seen is 4, .* of each sample of few \d+(\.\d)?; give these"):
        plan(sources, tokenizer_folder, tmp_path, **given)
    with caplog.at_level(logging.WARNING):
        report, _ = plan(sources, tokenizer_folder, tmp_path, mix_over="warn", **given)
    assert report.seen["few"] > 4
    assert "mix_most_seen" in caplog.text
    report, rows = plan(sources, tokenizer_folder, tmp_path, mix_over="cap", **given)
    assert (report.seen["few"], report.most_seen["few"]) == (4.0, 4)
    assert sum(row["source"] == "few" for row in rows) == 80


def test_epochs_repeat_everything_beside_other_samples(
    sources: dict[str, PlanSource], tmp_path: Path, tokenizer_folder: str
) -> None:
    once, _ = plan(sources, tokenizer_folder, tmp_path)
    twice, rows = plan(sources, tokenizer_folder, tmp_path, epochs=2.0)
    assert twice.positions == 2 * once.positions
    assert set(twice.seen.values()) == {2.0}
    neighbours: dict[tuple[str, int], set[str]] = {}
    for row in rows:
        beside = {own["uid"] for own in rows if own["sequence"] == row["sequence"]} - {row["uid"]}
        neighbours[row["uid"], row["copy"]] = beside
    changed = sum(neighbours[uid, 0] != neighbours[uid, 1] for uid, copy in neighbours if copy == 0)
    assert changed > 0.9 * len(neighbours) / 2
    half, _ = plan(sources, tokenizer_folder, tmp_path, epochs=0.5)
    assert half.positions == pytest.approx(once.positions / 2, rel=0.1)
    assert all(verdicts["mix"] for verdicts in half.verdicts.values())


def test_factors_and_caps_by_hand() -> None:
    amounts = {"a": Amount(samples=10, positions=100), "b": Amount(samples=10, positions=300)}
    found = factors({"a": 1, "b": 1}, amounts, unit="positions", limits={}, epochs=1)
    assert found == {"a": 2.0, "b": pytest.approx(2 / 3)}
    assert over_cap(found, 2) == ""
    assert "a 2;" in over_cap(found, 1.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mix_by": "tokens"}, "mix_by is 'tokens'"),
        ({"mix_over": "fail"}, "mix_over is 'fail'"),
        ({"mix_most_seen": 0}, "mix_most_seen is 0"),
        ({"epochs": float("nan")}, "epochs is nan"),
        ({"mix": {"a": 1}, "mix_groups": {"g": MixGroup(rate=1, sources=("a",))}}, "are both given"),
        ({"mix_groups": {"g": MixGroup(rate=1, sources=("a", "a"))}}, "names a source twice"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlanConfig(**settings)
    for wrong in ({"rate": 0}, {"sources": ()}, {"sizes": {"b": 3}}, {"sizes": {"a": 0}}):
        with pytest.raises(ValueError, match="mix_groups"):
            MixGroup(**{"rate": 1.0, "sources": ("a",), **wrong})
