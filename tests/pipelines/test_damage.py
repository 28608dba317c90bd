"""Bit flips, cuts and losses of every kind of file that a run commits: seen, named, and mended by its command."""

import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmcorpus.curation.engine.mend import ASIDE
from mmcorpus.curation.synthetic.miniweb import MiniWebConfig
from mmcorpus.pipelines.cli import app
from mmcorpus.pipelines.run.verify import verify_run
from tests.pipelines.whole_runs import QUICK, hashes, run_here, write_recipe

pytestmark = [pytest.mark.soak, pytest.mark.usefixtures("ray_local")]

SECTIONS = """\
sources:
  pairs: {urls: "${web}/pairs.parquet"}
  instructions: {urls: "${web}/instructions.parquet", kind: conversation}
  pages: {kind: document, pages: "${web}/pages/*.warc.gz"}
score:
  scorers:
    image: {on: [pairs, pages.images]}
    caption: {on: [pairs, pages.paragraphs]}
    fingerprint: {on: [pairs]}
    document: {on: [pages]}
dedup:
  same_image: {by: image, sources: [pairs]}
  repeated: {by: columns, on: [domain, caption], sources: [pages.paragraphs]}
select:
  pairs: {keep: image.min_side >= 60 and same_image.rank == 0, heldout_fraction: 0.2}
  pages.images: {keep: image.min_side >= 60}
  pages.paragraphs: {keep: repeated.copies <= 3}
pack:
  pretrain: {sources: [pairs], context_length: 128, tokens_per_image: 4, sequences_per_shard: 5, format: both}
  rest: {sources: [instructions, pages], context_length: 256, tokens_per_image: 4, too_long: split}
"""
STAGES = """\
    pretrain:
      {pack: pretrain, schedule: {steps: 2}, data: {batch_sequences: 2, micro_batch_sequences: 2},
       freeze: {vision: false}, compute: {precision: fp32}, checkpoints: {every: 1}}
"""
TELLS_TIME = re.compile(
    r".*(_stats|list|state|made_from)\.json|run\.json|summary\.json|report\.html|truth\.json|.*metrics\.jsonl|manifests/.*"
)
"""What holds durations, and is not the same twice."""
NOT_AGAIN = re.compile(
    r"dedup/[^/]+/[^/]+/.+|.*step-00000001/.*|documents/pages.urls/(uses|decided-.*)/.*|training/.*/certificate\.json"
)
"""What is not needed any more, and not made again: work files, the checkpoint before the last, and the certificate,
which tells of weights that nothing has trained yet."""
PARTS = 2
"""Runs over which damage of all kinds is spread, so that what one loses is there for another to be made from."""
UNSEEN = re.compile(rf"\.lock|(errors|logs|answers|{ASIDE})/.*")
"""What is no result."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = MiniWebConfig(pairs=60, pages=14, instructions=12, spoil=0.2, weights=QUICK, sides=(64, 128))
    return write_recipe(tmp_path_factory.mktemp("recipe"), SECTIONS, STAGES, site, name="damaged", per_shard=25)


@pytest.fixture(scope="module")
def finished(recipe: Path, tmp_path_factory: pytest.TempPathFactory, ray_local: None) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    run_here(recipe, out)
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """The run, to be damaged; where it was made, since some of its files name their places."""
    kept = tmp_path / "kept"
    shutil.copytree(finished, kept, copy_function=shutil.copy2)
    yield finished
    shutil.rmtree(finished)
    shutil.copytree(kept, finished, copy_function=shutil.copy2)


def files(out: Path) -> list[str]:
    paths = (str(path.relative_to(out)) for path in sorted(out.rglob("*")) if path.is_file())
    return [path for path in paths if not UNSEEN.fullmatch(path)]


def by_kind(out: Path, seed: int) -> dict[str, str]:
    """One file of each kind: those whose paths differ in numbers and hashes alone are of one."""
    found: dict[str, list[str]] = {}
    for path in files(out):
        found.setdefault(re.sub(r"[0-9a-f]{16,}|\d{5,}", "N", path), []).append(path)
    chance = random.Random(seed)
    return {kind: chance.choice(paths) for kind, paths in found.items()}


def flip(path: Path, chance: random.Random) -> None:
    """Turn one bit round, and leave the time as it was, as a disk would."""
    data, there = bytearray(path.read_bytes()), path.stat()
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns))


def results(out: Path) -> dict[str, str]:
    names = (name for name in files(out) if not TELLS_TIME.fullmatch(name) and not NOT_AGAIN.fullmatch(name))
    return hashes(out, (out / name for name in names))


def verify(out: Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["verify", str(out)], env={"COLUMNS": "300"})
    return done.exit_code, done.output


def test_a_flipped_bit_is_seen_in_every_kind_of_file(out: Path) -> None:
    assert verify(out)[0] == 0, verify(out)[1]
    kinds = by_kind(out, 1)
    assert len(kinds) > 60
    chance = random.Random(2)
    paths = [path for path in kinds.values() if (out / path).stat().st_size]
    records = [path for path in paths if path.startswith("manifests/") or path == "run.json"]
    # What the records tell of is damaged all at once; a record alone, since its loss is that of what it tells.
    for flipped in [[path for path in paths if path not in records]] * 2 + [[path] for path in records]:
        whole = {path: (out / path).read_bytes() for path in {*flipped, "run.json"}}
        for path in flipped:
            flip(out / path, chance)
        found = {fault.path for fault in verify_run(str(out)).faults}
        assert found >= set(flipped)
        for path, data in whole.items():
            (out / path).write_bytes(data)
    assert verify(out)[0] == 0


@pytest.mark.parametrize("part", range(PARTS))
def test_what_is_damaged_is_made_again(recipe: Path, out: Path, part: int) -> None:
    expected, chance = results(out), random.Random(part)
    chosen = [path for path in list(by_kind(out, part).values())[part::PARTS] if (out / path).stat().st_size]
    chosen = [path for path in chosen if not path.startswith("manifests/") and path != "run.json"]
    for number, path in enumerate(chosen):
        if number % 3 == 0 or path.startswith("dedup/"):  # whose work files may be removed
            flip(out / path, chance)
        elif number % 3 == 1:
            (out / path).write_bytes((out / path).read_bytes()[:-7])
        else:
            (out / path).unlink()
    code, told = verify(out)
    assert code == 1
    for path in chosen:
        assert f"{path} (" in told
    run_here(recipe, out)
    code, told = verify(out)
    assert code == 0, told
    found = results(out)
    assert {path: found.get(path) for path in expected} == expected


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("path", ["run.json", "manifests/pairs-score.jsonl", "manifests/run.jsonl"])
def test_damaged_records_are_made_again_and_nothing_else(recipe: Path, out: Path, path: str, lost: bool) -> None:
    expected = results(out)
    times = {name: (out / name).stat().st_mtime_ns for name in expected if name.endswith((".tar", ".safetensors"))}
    if lost:
        (out / path).unlink()
    else:
        flip(out / path, random.Random(3))
    code, told = verify(out)
    assert code == 1
    assert path in told
    run_here(recipe, out)
    assert verify(out)[0] == 0, verify(out)[1]
    assert results(out) == expected
    assert times == {name: (out / name).stat().st_mtime_ns for name in times}, "neither downloaded nor trained again"


@pytest.mark.parametrize(
    ("path", "setting"),
    [
        ("scores/pairs/image/00001.parquet", "select.pairs.heldout_fraction=0.3"),
        ("shards/pairs/00001.parquet", "pack.pretrain.context_length=120"),
        ("shards/pairs/00001.tar", "pack.pretrain.context_length=120"),
        ("selections/pairs.parquet", "pack.pretrain.context_length=120"),
        ("plans/pretrain.parquet", "pack.pretrain.sequences_per_shard=4"),
        ("packs/pretrain/00000.tar", "train.stages.pretrain.schedule.steps=3"),
    ],
)
def test_damage_that_a_stage_meets_is_mended_by_the_same_command(
    recipe: Path, out: Path, tmp_path: Path, path: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has verified, and the sample has missed it."""
    monkeypatch.setattr("mmcorpus.curation.engine.mend.SAMPLE_FILES", 0)
    data = bytearray((out / path).read_bytes())
    for place in range(0, len(data), 97):
        data[place] ^= 0xFF
    (out / path).write_bytes(data)
    told = run_here(recipe, out, "--set", setting)
    assert path in told
    assert (out / ASIDE / path).exists()
    assert verify(out)[0] == 0, verify(out)[1]
    assert json.loads((out / "summary.json").read_text())["balance"] == []
