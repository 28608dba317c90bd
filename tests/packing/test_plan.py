"""The plan: every selected uid gets a verdict, every sequence keeps its limits."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import Sample, Shard, list_shards
from mmcorpus.packing import PlanConfig, PlanReport, PlanSource, make_plan
from mmcorpus.packing.draws import sample_words
from mmcorpus.packing.plan import read_plan_metadata

Make = Callable[..., list[Sample]]
Select = Callable[..., pa.Table]
CONFIG = PlanConfig(context_length=128, tokens_per_image=16, window_shards=2)


def change_rows(root: str, change: Callable[[dict[str, Any]], None]) -> None:
    for shard in list_shards(root):
        rows = storage.read_table(shard.parquet).to_pylist()
        for row in rows:
            change(row)
        storage.write_table(shard.parquet, pa.Table.from_pylist(rows))


@pytest.fixture
def plan(tmp_path: Path, tokenizer_folder: str) -> Callable[..., tuple[PlanReport, list[dict[str, Any]]]]:
    def run(config: PlanConfig, **sources: PlanSource) -> tuple[PlanReport, list[dict[str, Any]]]:
        report = make_plan(
            config,
            tokenizer=tokenizer_folder,
            sources=sources,
            out=str(tmp_path / "plan.parquet"),
            ledger_root=str(tmp_path / "ledger"),
        )
        return report, storage.read_table(str(tmp_path / "plan.parquet")).to_pylist()

    return run


@pytest.mark.parametrize("bare", ["no uid", "no parquet"])
def test_shards_that_others_wrote_are_planned_under_the_same_uids(
    tmp_path: Path, make_shards: Make, select: Select, plan: Any, bare: str
) -> None:
    root = str(tmp_path / "web")
    samples = make_shards(root, 2, 12)
    source = PlanSource(shards=root, selection=select(samples), kind="pair")
    _, before = plan(CONFIG, web=source)
    for shard in list_shards(root):
        table = storage.read_table(shard.parquet)
        storage.remove(shard.parquet)
        if bare == "no uid":
            storage.write_table(shard.parquet, table.drop_columns(["uid"]))
    assert plan(CONFIG, web=source)[1] == before


def test_every_selected_uid_has_one_verdict(tmp_path: Path, make_shards: Make, select: Select, plan: Any) -> None:
    root = str(tmp_path / "web")
    samples = make_shards(root, 2, 12)
    uids = [sample.uid for sample in samples]
    long = "red square " * 100

    def spoil(row: dict[str, Any]) -> None:
        change = {
            uids[0]: {"caption": None},
            uids[1]: {"caption": " \n"},
            uids[2]: {"caption": long},
            uids[3]: {"status": "failed_to_download", "uid": None},
            uids[4]: {"uid": uids[5]},
        }.get(row["uid"], {})
        row |= change

    change_rows(root, spoil)
    table = pa.concat_tables([select(samples), pa.table({"uid": ["f" * 32], "count": pa.array([1], pa.int32())})])
    source = PlanSource(shards=root, selection=table, kind="pair")
    report, rows = plan(CONFIG, web=source)
    assert report.verdicts == {"web": {"kept": 19, "missing_sample": 3, "missing_text": 2, "too_long": 1}}
    assert sorted(row["uid"] for row in rows) == sorted(uids[5:])
    verdicts = {row["uid"]: row for row in ledger.read_stages(str(tmp_path / "ledger/web"))["pack"].to_pylist()}
    assert set(verdicts) == {*uids, "f" * 32}
    assert {uid: (row["rule"], row["value"]) for uid, row in verdicts.items() if row["verdict"] == "dropped"} == {
        uids[0]: ("missing_text", "missing_text: null"),
        uids[1]: ("missing_text", "missing_text: blank"),
        uids[2]: ("too_long", verdicts[uids[2]]["value"]),
        uids[3]: ("missing_sample", "missing_sample"),
        uids[4]: ("missing_sample", "missing_sample"),
        "f" * 32: ("missing_sample", "missing_sample"),
    }
    length = int(verdicts[uids[2]]["value"].removeprefix("length="))
    assert length > 128

    cut, rows = plan(dataclasses.replace(CONFIG, too_long="truncate"), web=source)
    (row,) = [row for row in rows if row["uid"] == uids[2]]
    assert (row["length"], row["tokens"], cut.truncated) == (128, 128 - 15, 1)
    verdicts = {row["uid"]: row for row in ledger.read_stages(str(tmp_path / "ledger/web"))["pack"].to_pylist()}
    assert verdicts[uids[2]]["verdict"] == "kept"
    assert verdicts[uids[2]]["value"] == f"truncated: length={length}"


def test_limits_hold_and_positions_are_in_order(tmp_path: Path, make_shards: Make, select: Select, plan: Any) -> None:
    root = str(tmp_path / "web")
    samples = make_shards(root, 3, 30)
    counts = {sample.uid: 4 for sample in samples[:5]}
    source = PlanSource(shards=root, selection=select(samples, counts), kind="pair")
    report, rows = plan(dataclasses.replace(CONFIG, max_images=2), web=source)
    assert [(row["sequence"], row["position"]) for row in rows] == sorted((r["sequence"], r["position"]) for r in rows)
    sequences = sorted({row["sequence"] for row in rows})
    assert sequences == list(range(report.sequences))
    for number in sequences:
        mine = [row for row in rows if row["sequence"] == number]
        assert sum(row["length"] for row in mine) <= 128
        assert sum(row["images"] for row in mine) <= 2
        assert [row["position"] for row in mine] == list(range(len(mine)))
    copies = Counter((row["uid"], row["copy"]) for row in rows)
    assert copies == {(s.uid, copy): 1 for s in samples for copy in range(counts.get(s.uid, 1))}
    assert report.lower_bound == max(-(-report.positions // 128), -(-report.images // 2))


def test_the_bound_is_of_all_limits_together_over_all_windows(
    tmp_path: Path, make_shards: Make, select: Select, plan: Any
) -> None:
    """Long pairs leave no room for short ones, which run out of images: no limit by itself tells."""
    root, words = str(tmp_path / "web"), {True: "red " * 70, False: "red " * 2}
    samples = make_shards(root, 4, 12)
    places = {sample.uid: number for number, sample in enumerate(samples)}
    change_rows(root, lambda row: row.update(caption=words[places[row["uid"]] % 3 == 0]))
    source = PlanSource(shards=root, selection=select(samples), kind="pair")
    config = dataclasses.replace(CONFIG, context_length=96, max_images=3)
    report, rows = plan(config, web=source)
    alone = max(-(-report.positions // 96), -(-report.images // 3))
    assert report.bound == "images beside positions"
    assert alone < report.lower_bound == 27 <= report.sequences == 1 + max(row["sequence"] for row in rows)


def test_windows_hold_a_share_of_every_source(tmp_path: Path, make_shards: Make, select: Select, plan: Any) -> None:
    web, talk = make_shards(tmp_path / "web", 4, 10), make_shards(tmp_path / "talk", 2, 10, conversations=True, seed=1)
    report, rows = plan(
        CONFIG,
        web=PlanSource(shards=str(tmp_path / "web"), selection=select(web), kind="pair"),
        talk=PlanSource(shards=str(tmp_path / "talk"), selection=select(talk), kind="conversation"),
    )
    parquet = pq.ParquetFile(tmp_path / "plan.parquet")
    assert parquet.num_row_groups == 3
    windows = [{(r["source"], r["shard"]) for r in parquet.read_row_group(n).to_pylist()} for n in range(3)]
    assert windows == [
        {("web", "00000")},
        {("web", "00001"), ("talk", "00000")},
        {("web", "00002"), ("web", "00003"), ("talk", "00001")},
    ]
    mixed = [len({row["source"] for row in rows if row["sequence"] == n}) for n in range(report.sequences)]
    assert 2 in mixed, "sources share sequences"
    assert read_plan_metadata(str(tmp_path / "plan.parquet"))["sources"] == {"talk": "conversation", "web": "pair"}


def test_a_shard_of_failures_alone_is_no_obstacle(tmp_path: Path, make_shards: Make, select: Select, plan: Any) -> None:
    root = str(tmp_path / "web")
    samples = make_shards(root, 2, 6)

    def fail(row: dict[str, Any]) -> None:
        if row["key"].startswith("00001"):
            row |= {"uid": None, "caption": None, "status": "failed_to_download"}

    change_rows(root, fail)
    report, _ = plan(CONFIG, web=PlanSource(shards=root, selection=select(samples), kind="pair"))
    assert report.verdicts == {"web": {"kept": 6, "missing_sample": 6}}


def test_bad_conversations_cost_themselves(tmp_path: Path, make_shards: Make, select: Select, plan: Any) -> None:
    root = str(tmp_path / "talk")
    samples = make_shards(root, 1, 8, conversations=True)

    def spoil(row: dict[str, Any]) -> None:
        if row["uid"] == samples[0].uid:
            row["conversations"] = "[{]"
        if row["uid"] == samples[1].uid:
            row["conversations"] = json.dumps([{"from": "human", "value": "hello?"}])
        if row["uid"] == samples[2].uid:
            row["conversations"] = None

    change_rows(root, spoil)
    report, _ = plan(CONFIG, talk=PlanSource(shards=root, selection=select(samples), kind="conversation"))
    assert report.verdicts == {"talk": {"bad_conversation": 2, "kept": 5, "missing_text": 1}}


def test_what_cannot_be_planned_says_why(tmp_path: Path, make_shards: Make, select: Select, plan: Any) -> None:
    root = str(tmp_path / "web")
    samples = make_shards(root, 1, 5)
    good = PlanSource(shards=root, selection=select(samples), kind="pair")
    with pytest.raises(ValueError, match="no column conversations"):
        plan(CONFIG, web=dataclasses.replace(good, kind="conversation"))
    with pytest.raises(ValueError, match="no finished shards"):
        plan(CONFIG, web=dataclasses.replace(good, shards=str(tmp_path / "nowhere")))
    with pytest.raises(ValueError, match=r"nothing can be packed.*missing_sample"):
        plan(CONFIG, web=dataclasses.replace(good, selection=pa.table({"uid": ["0" * 32], "count": [1]})))
    with pytest.raises(ValueError, match=r"nothing can be packed.*empty selection"):
        plan(CONFIG, web=dataclasses.replace(good, selection=good.selection.slice(0, 0)))  # type: ignore[union-attr]
    for table, problem in (
        (pa.table({"uid": ["0" * 32, "0" * 32], "count": [1, 1]}), "a uid twice"),
        (pa.table({"uid": ["0" * 32], "count": [2**31 - 1]}), "a count of 2147483647; a sample may be used 1048576"),
        (pa.table({"uid": ["0" * 32], "count": [0]}), "count below 1"),
        (pa.table({"uid": ["0" * 32], "count": [1.5]}), "counts of type double, or none; give whole numbers"),
        (pa.table({"uid": ["0" * 32], "count": pa.array([None], pa.int32())}), "or none; give whole numbers"),
        (str(tmp_path / "none.parquet"), "is missing: there is nothing at .*none.parquet; select first"),
        (pa.table({"uid": ["00000"], "count": [1]}), "32 lower-case hex"),
        (pa.table({"uid": ["0" * 32]}), "columns uid and count"),
    ):
        with pytest.raises(ValueError, match=problem):
            plan(CONFIG, web=dataclasses.replace(good, selection=table))
    with pytest.raises(ValueError, match="there are no sources"):
        plan(CONFIG)
    assert not (tmp_path / "plan.parquet").exists()
    with pytest.raises(ValueError, match="make the plan first"):
        read_plan_metadata(str(tmp_path / "plan.parquet"))
    with pytest.raises(ValueError, match="is not a plan"):
        read_plan_metadata(Shard(root=root, name="00000").parquet)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"context_length": 0}, "pack.context_length is 0"),
        ({"context_length": 100, "tokens_per_image": 100}, "no more than one image"),
        ({"tokens_per_image": 0}, "pack.tokens_per_image is 0"),
        ({"max_images": 0}, "pack.max_images is 0"),
        ({"too_long": "cut"}, "pack.too_long is 'cut'"),
        ({"window_shards": 0}, "pack.window_shards is 0"),
        ({"seed": -1}, "pack.seed is -1; give a whole number from 0"),
        ({"context_length": 2**31}, "pack.context_length is 2147483648; give a whole number from 2 to 4194304"),
        ({"context_length": "4096"}, "pack.context_length is '4096'; give a whole number"),
        ({"context_length": True}, "pack.context_length is True"),
        ({"max_images": 2**40}, "pack.max_images is 1099511627776; give a whole number from 1 to 65536"),
        ({"max_crops": 1.5}, r"pack.max_crops is 1\.5; give a whole number"),
        ({"window_shards": 2**70}, "pack.window_shards is 1180591620717411303424"),
        ({"epochs": 1e300}, r"pack.epochs is 1e\+300; give a number from 1e-06 to"),
        ({"mix": {"web": float("nan")}}, "pack.mix.web is nan"),
        ({"mix": {"web": 1e308, "own": 1e308}}, r"pack.mix.web is 1e\+308; give a number from 1e-09 to 1e\+09"),
        ({"mix": {"web": True}}, "pack.mix.web is True"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        PlanConfig(**wrong)


@given(
    st.lists(st.text("0123456789abcdef", min_size=32, max_size=32), min_size=1, max_size=20), st.integers(0, 2**63 - 1)
)
def test_a_samples_hash_depends_on_uid_copy_and_seed_alone(uids: list[str], seed: int) -> None:
    array = np.array(uids, dtype="S32")
    copies = np.arange(len(uids))
    words = sample_words(array, copies, seed)
    alone = [int(sample_words(array[n : n + 1], copies[n : n + 1], seed)[0]) for n in range(len(uids))]
    assert words.tolist() == alone
    assert len(set(words.tolist())) == len(uids), "copies differ"


def test_the_hash_is_the_same_on_every_machine() -> None:
    words = sample_words(np.array(["0123456789abcdef" * 2], dtype="S32"), np.array([0]), 0)
    assert words.tolist() == [8076385131165071384]


def test_a_mixture_by_positions(tmp_path: Path, make_shards: Make, select: Select, plan: Any) -> None:
    sources = {}
    for name, count, seed in (("many", 120, 1), ("few", 20, 2)):
        samples = make_shards(tmp_path / name, 2, count // 2, seed=seed)
        sources[name] = PlanSource(shards=str(tmp_path / name), selection=select(samples), kind="pair")
    alone, _ = plan(CONFIG, **sources)
    config = dataclasses.replace(CONFIG, mix={"many": 30, "few": 70})
    report, rows = plan(config, **sources)
    positions = Counter[str]()
    for row in rows:
        positions[row["source"]] += row["length"]
    assert report.positions == positions.total()
    assert abs(report.positions / alone.positions - 1) < 0.1
    assert abs(positions["few"] / report.positions - 0.7) < 0.05
    copies = Counter(row["uid"] for row in rows if row["source"] == "few")
    assert len(copies) == 20, "of a source that is multiplied nothing is left out"
    assert max(copies.values()) - min(copies.values()) <= 1
    left_out = report.verdicts["many"]["mix"]
    assert report.verdicts["many"]["kept"] == 120 - left_out
    rules = ledger.read_stages(str(tmp_path / "ledger/many"))["pack"]["rule"].to_pylist()
    assert rules.count("mix") == left_out
    _, again = plan(config, **sources)
    assert again == rows
    _, other = plan(dataclasses.replace(config, seed=1), **sources)
    assert {row["uid"] for row in other} != {row["uid"] for row in rows}
    with pytest.raises(ValueError, match=r"pack\.mix names few; it must name the sources"):
        plan(dataclasses.replace(CONFIG, mix={"few": 1.0}), **sources)
    with pytest.raises(ValueError, match=r"pack\.mix\.few is 0; give a number"):
        dataclasses.replace(CONFIG, mix={"few": 0})
