"""A site's bytes, lists and truth."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.curation.synthetic.miniweb import CORRUPTIONS, MiniWebConfig, generate_site, read_site
from mmcorpus.curation.synthetic.miniweb.generate import site_fingerprint
from mmcorpus.curation.synthetic.miniweb.plan import corruption_counts, plan_site
from mmcorpus.curation.synthetic.render import render
from tests.processes import kill, wait_until


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def truth(root: Path) -> list[dict]:
    return pq.read_table(root / "truth.parquet").to_pylist()


def test_the_same_configuration_gives_the_same_bytes(small_site: Path, small_config: MiniWebConfig, tmp_path: Path):
    generate_site(small_config, str(tmp_path / "again"), workers=1)
    assert digests(tmp_path / "again") == digests(small_site)


@pytest.mark.slow
def test_the_number_of_processes_changes_no_byte(tmp_path: Path):
    config = MiniWebConfig(pairs=420, instructions=20, sides=(96, 128))
    one = generate_site(config, str(tmp_path / "one"), workers=1)
    two = generate_site(config, str(tmp_path / "two"), workers=2)
    assert one == two
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_a_complete_site_is_left_alone_and_another_replaced(tmp_path: Path):
    config = MiniWebConfig(pairs=20, instructions=2, spoil=0, sides=(64, 80))
    out = tmp_path / "site"
    counts = generate_site(config, str(out))
    (out / "mine.txt").write_text("not the site's")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert generate_site(config, str(out)) == counts
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    generate_site(dataclasses.replace(config, seed=1), str(out))
    files = {path for path in out.glob("files/**/*") if path.is_file()}
    assert len(files) == 22
    assert (out / "mine.txt").exists()
    generate_site(config, str(tmp_path / "fresh"))
    generate_site(config, str(out))
    (out / "mine.txt").unlink()
    assert digests(out) == digests(tmp_path / "fresh")


def test_a_killed_generation_is_finished_without_drawing_again(
    small_site: Path, small_config: MiniWebConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from mmcorpus.curation.synthetic.miniweb import generate

    out, drawn = str(tmp_path / "site"), []
    write_part = generate._write_part

    def killed_at_the_third(out: str, slots: list, path: str) -> int:
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(path)
        return write_part(out, slots, path)

    monkeypatch.setattr(generate, "_write_part", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        generate_site(small_config, out, workers=1)
    assert not os.path.exists(os.path.join(out, "site.json"))
    with pytest.raises(FileNotFoundError, match="generate it"):
        read_site(out)

    def noting(out: str, slots: list, path: str) -> int:
        assert path not in drawn
        return write_part(out, slots, path)

    monkeypatch.setattr(generate, "_write_part", noting)
    generate_site(small_config, out, workers=1)
    assert digests(Path(out)) == digests(small_site)


@pytest.mark.slow
def test_kill_9_leaves_no_process_and_no_half_site(tmp_path: Path):
    out = tmp_path / "killed"
    code = (
        "from mmcorpus.curation.synthetic.miniweb import MiniWebConfig, generate_site\n"
        f"generate_site(MiniWebConfig(pairs=600, instructions=20, sides=(96, 128)), {str(out)!r}, workers=2)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: list(out.glob("parts/*/*.json")), process)
    kill(process)
    deadline = time.monotonic() + 60
    assert not (out / "site.json").exists()
    while group_members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert group_members(process.pid) == []
    config = MiniWebConfig(pairs=600, instructions=20, sides=(96, 128))
    generate_site(config, str(out), workers=1)
    generate_site(config, str(tmp_path / "whole"), workers=1)
    assert digests(out) == digests(tmp_path / "whole")


def group_members(group: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(stat.parent.name))
    return found


def test_the_truth_covers_every_listed_row_once(small_site: Path, small_config: MiniWebConfig):
    rows = truth(small_site)
    for name, total in (("pairs", small_config.pairs), ("instructions", small_config.instructions)):
        listed = pq.read_table(small_site / f"{name}.parquet").to_pylist()
        known = [row for row in rows if row["list"] == name]
        assert len(listed) == total
        assert [row["row"] for row in known] == list(range(total))
        assert [(row["url"], row["caption"]) for row in known] == [(row["url"], row["caption"]) for row in listed]
    assert all(row["uid"] == pair_uid(row["url"], row["caption"]) for row in rows)


def test_only_rows_listed_twice_share_a_uid(small_site: Path):
    rows = truth(small_site)
    counts = Counter(row["uid"] for row in rows)
    repeated = Counter(row["uid"] for row in rows if row["spoil"] == "listed_twice")
    assert {uid: count - 1 for uid, count in counts.items() if count > 1} == dict(repeated)


def test_every_corruption_is_there_as_planned(small_site: Path, small_config: MiniWebConfig):
    found = Counter(row["spoil"] for row in truth(small_site) if row["list"] == "pairs")
    clean = found.pop("clean")
    assert set(found) == set(CORRUPTIONS)
    assert found == corruption_counts(small_config)
    assert clean == small_config.pairs - sum(found.values())
    counts = read_site(str(small_site)).counts
    assert counts["spoiled"] == sum(found.values())
    assert all(counts[f"spoil.{name}"] == count for name, count in found.items())


def test_the_demo_has_three_of_each_and_two_thirds_clean():
    counts = corruption_counts(MiniWebConfig(pairs=1500))
    assert min(counts.values()) >= 3
    assert 0.34 <= sum(counts.values()) / 1500 <= 0.35
    assert max(counts["slow"], counts["drip"]) <= 4
    assert counts["swapped_caption"] % 2 == 0


def test_copies_point_at_clean_rows_that_are_listed(small_site: Path):
    rows = [row for row in truth(small_site) if row["list"] == "pairs"]
    clean = {row["uid"]: row for row in rows if row["spoil"] == "clean"}
    for row in rows:
        copies = row["spoil"] in CORRUPTIONS and CORRUPTIONS[row["spoil"]].partner in ("copy", "repeat")
        assert (row["duplicate_of"] is not None) == copies
        if copies:
            original = clean[row["duplicate_of"]]
            assert row["true_caption"] == original["true_caption"]
            assert (row["url"] == original["url"]) == (row["spoil"] == "listed_twice")
            if row["spoil"] == "listed_twice":
                assert row["row"] > original["row"]


def test_swaps_exchange_the_captions_of_two_rows(small_site: Path):
    rows = [row for row in truth(small_site) if row["spoil"] == "swapped_caption"]
    given = Counter(row["caption"] for row in rows)
    assert rows
    assert given == Counter(row["true_caption"] for row in rows)
    assert any(row["caption"] != row["true_caption"] for row in rows)
    assert {(row["expect"], row["expect_stage"], row["expect_rule"]) for row in rows} == {("dropped", "select", None)}
    assert all(row["note"] for row in rows)


def test_expectations_agree_with_themselves(small_site: Path):
    for row in truth(small_site):
        dropped = row["expect"] == "dropped"
        assert (row["expect_stage"] is not None) == dropped
        assert (row["expect_rule"] is not None) == (dropped and row["spoil"] != "swapped_caption"), "no rule can tell"
        if not dropped or row["expect_stage"] == "select":
            assert row["upright_width"] > 0
            assert row["upright_height"] > 0
        if row["expect_stage"] == "download" and row["expect_rule"] != "opt_out":
            assert row["upright_width"] is None


def test_conversations_are_llavas_turns(small_site: Path):
    for row in pq.read_table(small_site / "instructions.parquet").to_pylist():
        turns = json.loads(row["conversations"])
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
        assert turns[0]["value"].startswith("<image>\n")


def test_seeds_share_nothing():
    first, second = (plan_site(MiniWebConfig(pairs=50, instructions=5, spoil=0, seed=seed)) for seed in (0, 1))
    assert not {slot.seed for slot in first} & {slot.seed for slot in second}


def test_weights_choose_the_corruptions():
    config = MiniWebConfig(pairs=100, spoil=0.2, weights=dict.fromkeys(CORRUPTIONS, 0.0) | {"cmyk": 1.0, "blank": 3.0})
    assert {name: count for name, count in corruption_counts(config).items() if count} == {"cmyk": 5, "blank": 15}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spoil": 1.5}, "spoil is 1.5"),
        ({"pairs": -1}, "pairs is -1"),
        ({"weights": {"blnak": 1.0}}, "no such corruption"),
        ({"weights": {"blank": -1.0}}, "weights.blank"),
        ({"sides": (300, 200)}, "sides"),
    ],
)
def test_impossible_configurations_are_refused(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        MiniWebConfig(**change)


def test_what_changes_the_site_changes_the_fingerprint():
    assert site_fingerprint(MiniWebConfig()) == site_fingerprint(MiniWebConfig())
    assert site_fingerprint(MiniWebConfig()) != site_fingerprint(MiniWebConfig(spoil=0.3))


def test_a_remote_folder_is_refused():
    with pytest.raises(ValueError, match="local folder"):
        generate_site(MiniWebConfig(), "memory://web")


def test_json_and_tables_are_all_that_lies_beside_the_files(small_site: Path):
    assert storage.list_names(str(small_site)) == [
        "files", "instructions.parquet", "pairs.parquet", "site.json", "truth.parquet",
    ]  # fmt: skip


def test_kinds_say_what_is_pictured() -> None:
    slots = plan_site(MiniWebConfig(pairs=400, instructions=0, kinds={"scene": 3.0, "clock": 1.0}))
    shown = Counter(slot.kind for slot in slots)
    assert set(shown) == {"scene", "clock"}
    assert 2 < shown["scene"] / shown["clock"] < 4.5


@pytest.mark.parametrize("kinds", [{"photo": 1.0}, {"scene": -1.0}, {"scene": 0.0}, {}])
def test_kinds_that_make_no_sense_are_refused(kinds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="kinds"):
        MiniWebConfig(kinds=kinds)


def test_instructions_may_show_other_kinds_than_pairs() -> None:
    with pytest.raises(ValueError, match="instruction_kinds"):
        MiniWebConfig(instruction_kinds={"scene": 0.0})
    config = MiniWebConfig(pairs=40, instructions=40, spoil=0.0, kinds={"dial": 1.0}, instruction_kinds={"clock": 1.0})
    shown = {(slot.list, slot.kind) for slot in plan_site(config)}
    assert shown == {("pairs", "dial"), ("instructions", "clock")}
    same = dataclasses.replace(config, instruction_kinds={})
    assert {slot.kind for slot in plan_site(same)} == {"dial"}


def test_pairs_are_listed_by_kind_if_asked(tmp_path: Path) -> None:
    kinds = {"dial": 1.0, "scene": 1.0, "chart": 0.0}
    config = MiniWebConfig(pairs=16, instructions=4, spoil=0.0, kinds=kinds, questions="seen", by_kind=True)
    generate_site(config, str(tmp_path / "web"), workers=1)
    truth = pq.read_table(tmp_path / "web/truth.parquet").to_pylist()
    for kind in ("dial", "scene"):
        listed = pq.read_table(tmp_path / f"web/pairs.{kind}.parquet").column("url").to_pylist()
        assert listed == [row["url"] for row in truth if row["list"] == "pairs" and row["kind"] == kind]
    assert not (tmp_path / "web/pairs.chart.parquet").exists()


def test_short_captions_are_the_shortest_true_ones(tmp_path: Path) -> None:
    config = MiniWebConfig(pairs=12, instructions=0, spoil=0.0, captions="short")
    generate_site(config, str(tmp_path / "web"), workers=1)
    slots = plan_site(config)
    for slot, row in zip(slots, pq.read_table(tmp_path / "web/truth.parquet").to_pylist(), strict=True):
        assert row["caption"] == render(slot.kind, slot.seed, size=slot.size).captions[0]
