"""What is damaged of finished stages is set aside with what commits it, and made again; nothing else is touched."""

import dataclasses
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.engine.committed import amend
from mmcorpus.curation.engine.manifest import Entry, Finding, manifest_path, read_manifest, write_manifest
from mmcorpus.curation.engine.mend import ASIDE, choose, mend, set_aside
from mmcorpus.curation.engine.output import RECORD
from mmcorpus.curation.engine.records import StageRecord
from mmcorpus.curation.engine.stage import Result, Stage, decide, perform
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import add_member


class Records:
    """Records in memory."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.stages: dict[str, StageRecord] = {}

    def put(self, stage: str, record: StageRecord) -> None:
        self.stages[stage] = record


def content(number: int, ending: str) -> bytes:
    """A file of a shard as it is really."""
    if ending == "_stats.json":
        return b'{"successes": 1}'
    buffer = io.BytesIO()
    if ending == ".parquet":
        rows = pa.table({"uid": [f"row{row:05d}" for row in range(1_000)]})
        pq.write_table(rows, buffer, compression="none", use_dictionary=False, write_page_checksum=True)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in "ab":
            add_member(tar, f"{number}{name}.txt", b"text" * 1_000)
    return buffer.getvalue()


class Shards:
    """A stage of three shards that keeps what is committed, as a download does, and one that reads them."""

    def __init__(self, root: Path) -> None:
        self.root, self.records = root, Records(root)
        self.wrote: list[str] = []
        self.said: list[tuple[str, str, str]] = []
        self.config: Mapping[str, object] = {"size": 1}

    def make(self) -> Result:
        folder = self.root / "shards/pairs"
        storage.write_json(str(folder / RECORD), {"made": "from"})
        if not (self.root / "lists/pairs/list.json").exists():
            for number in range(3):
                storage.write_bytes(str(self.root / f"lists/pairs/0000{number}.parquet"), content(number, ".parquet"))
            storage.write_json(str(self.root / "lists/pairs/list.json"), {"shards": 3})
        for number in range(3):
            if not (folder / f"0000{number}_stats.json").exists():
                self.wrote.append(f"0000{number}")
                for ending in (".tar", ".parquet", "_stats.json"):
                    storage.write_bytes(str(folder / f"0000{number}{ending}"), content(number, ending))
        return Result(content="the same")

    @property
    def stages(self) -> list[Stage]:
        outputs = ("lists/pairs", "shards/pairs")
        return [
            Stage(name="pairs/make", config=self.config, outputs=outputs, run=self.make, seals=("list.json",)),
            Stage(name="read", config={}, needs=("pairs/make",), outputs=("out.txt",), run=self.read_bytes),
        ]

    def read_bytes(self) -> Result:
        storage.write_bytes(str(self.root / "out.txt"), b"read")
        return Result()

    def go(self) -> list[str]:
        """Mend, then run what is to be run; returns the stages that ran."""
        self.wrote.clear()
        self.said.clear()
        mend(self.stages, self.records, say=lambda *event: self.said.append(event))
        ran = []
        for stage in self.stages:
            decision = decide(stage, self.records)
            if decision.action == "run":
                ran.append(stage.name)
                perform(decision, self.records, debug=True)
        return ran

    def file(self, name: str) -> Path:
        return self.root / name


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    made = Shards(tmp_path)
    assert made.go() == ["pairs/make", "read"]
    assert made.go() == []
    return made


def flip(path: Path) -> None:
    there, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 4
    path.write_bytes(data)
    os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns))


def contents(shards: Shards) -> dict[str, bytes]:
    paths = [path for part in ("lists", "shards") for path in sorted((shards.root / part).rglob("*"))]
    return {str(path.relative_to(shards.root)): path.read_bytes() for path in paths if path.is_file()}


@pytest.mark.parametrize("name", ["00001.tar", "00001.parquet", "00001_stats.json"])
@pytest.mark.parametrize("damage", [flip, os.remove, lambda path: os.truncate(path, 1)])
def test_a_shard_is_made_again_and_what_read_it_is_kept(shards: Shards, name: str, damage: object) -> None:
    before = contents(shards)
    damage(shards.file(f"shards/pairs/{name}"))  # type: ignore[operator]
    assert shards.go() == ["pairs/make"]
    assert shards.wrote == ["00001"]
    assert contents(shards) == before
    assert [(kind, stage) for kind, stage, _ in shards.said] == [("damaged", "pairs/make")]
    assert f"shards/pairs/{name}" in shards.said[0][2]
    aside = sorted(path.name for path in shards.file(f"{ASIDE}/shards/pairs").iterdir())
    assert aside == sorted(
        {"00001.tar", "00001.parquet", "00001_stats.json"} - ({name} if damage is os.remove else set())
    )
    assert shards.go() == []


def test_what_says_that_a_folder_is_complete_goes_with_its_part(shards: Shards) -> None:
    before = contents(shards)
    flip(shards.file("lists/pairs/00002.parquet"))
    assert shards.go() == ["pairs/make"]
    assert (shards.wrote, contents(shards)) == ([], before)


def test_a_record_is_written_again_from_the_manifest(shards: Shards) -> None:
    path = shards.file(f"shards/pairs/{RECORD}")
    whole = path.read_bytes()
    for damage in (flip, os.remove):
        damage(path)
        mend(shards.stages, shards.records, say=lambda *event: shards.said.append(event))
        assert path.read_bytes() == whole
    assert "written again" in shards.said[-1][2]


def test_damage_beyond_the_sample_is_found_once_it_is_noted(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmcorpus.curation.engine.mend.SAMPLE_FILES", 0)
    flip(shards.file("shards/pairs/00000.tar"))
    assert shards.go() == []
    record = shards.records.stages["pairs/make"]
    noted = dataclasses.replace(record, status="damaged", damaged=["shards/pairs/00000.tar"])
    shards.records.put("pairs/make", noted)
    assert shards.go() == ["pairs/make"]
    assert shards.wrote == ["00000"]


def test_a_file_that_was_put_back_is_damaged_no_more(shards: Shards) -> None:
    record = shards.records.stages["pairs/make"]
    noted = dataclasses.replace(record, status="damaged", damaged=["shards/pairs/00000.tar"])
    shards.records.put("pairs/make", noted)
    assert shards.go() == []
    assert shards.records.stages["pairs/make"] == record


def test_a_run_of_a_version_without_manifests_is_adopted(shards: Shards) -> None:
    for name, record in shards.records.stages.items():
        shards.records.put(name, dataclasses.replace(record, manifest=""))
        os.remove(manifest_path(str(shards.root), name))
    assert shards.go() == []
    assert [event[:2] for event in shards.said] == [("adopted", "pairs/make"), ("adopted", "read")]
    flip(shards.file("out.txt"))
    assert shards.go() == ["read"]


def test_a_damaged_manifest_is_taken_anew(shards: Shards) -> None:
    flip(Path(manifest_path(str(shards.root), "pairs/make")))
    assert shards.go() == []
    assert [event[:2] for event in shards.said] == [("damaged", "pairs/make"), ("adopted", "pairs/make")]
    assert shards.go() == []
    assert shards.said == []


def test_what_is_known_to_be_damaged_is_not_adopted(shards: Shards) -> None:
    """The hashes of a run without manifests are taken of what is there; damage must not pass for whole by them."""
    record = shards.records.stages["pairs/make"]
    os.remove(manifest_path(str(shards.root), "pairs/make"))
    shards.file("shards/pairs/00001_stats.json").write_text("{cut")
    noted = dataclasses.replace(record, status="damaged", damaged=["shards/pairs/00001_stats.json"])
    shards.records.put("pairs/make", noted)
    assert shards.go() == ["pairs/make"]
    assert shards.wrote == ["00001"]
    assert shards.file(f"{ASIDE}/shards/pairs/00001_stats.json").read_text() == "{cut"


def _cut_between(data: bytes) -> bytes:
    return data[: data.index(b"0b.txt")]  # where its header begins


@pytest.mark.parametrize(
    ("ending", "spoil"),
    [
        ("_stats.json", lambda data: b"{cut"),
        (".tar", lambda data: data[:700]),
        (".tar", _cut_between),
        (".parquet", lambda data: data[:-1]),
        (".parquet", lambda data: data.replace(b"row00500", b"row00501")),
    ],
)
@pytest.mark.parametrize("kept", ["record", "nothing"])
def test_damage_that_a_file_shows_is_not_adopted(
    shards: Shards, ending: str, spoil: Callable[[bytes], bytes], kept: str
) -> None:
    """No later stage reads it, and no hash of it is known: that it was adopted must not bless it."""
    before = contents(shards)
    path = shards.file(f"shards/pairs/00000{ending}")
    spoiled = spoil(path.read_bytes())
    assert spoiled != path.read_bytes()
    path.write_bytes(spoiled)
    os.remove(manifest_path(str(shards.root), "pairs/make"))
    if kept == "record":  # as of an earlier version
        shards.records.put("pairs/make", dataclasses.replace(shards.records.stages["pairs/make"], manifest=""))
    else:
        del shards.records.stages["pairs/make"]
        assert shards.go() == ["pairs/make"]
        assert shards.wrote == []
    assert shards.go() == ["pairs/make"]
    assert shards.wrote == ["00000"]
    assert contents(shards) == before
    assert shards.go() == []


def _shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of files whose format has nothing in itself by which damage shows."""
    monkeypatch.setattr("mmcorpus.curation.engine.manifest.unreadable", lambda path: "")


def test_damage_that_was_adopted_goes_once_it_cannot_be_read(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    _shows_nothing(monkeypatch)
    record = shards.records.stages["pairs/make"]
    os.remove(manifest_path(str(shards.root), "pairs/make"))
    shards.records.put("pairs/make", dataclasses.replace(record, manifest=""))
    shards.file("shards/pairs/00001_stats.json").write_text("{cut")
    assert shards.go() == []
    reads = dataclasses.replace(shards.stages[1], config={"x": 2}, run=lambda: _read_json(shards))
    perform(decide(reads, shards.records), shards.records)
    assert shards.go() == ["pairs/make", "read"]
    assert shards.wrote == ["00001"]
    assert shards.go() == []


def test_a_stage_that_cannot_read_its_own_adopted_damage_makes_it_again(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    _shows_nothing(monkeypatch)
    record = shards.records.stages["pairs/make"]
    os.remove(manifest_path(str(shards.root), "pairs/make"))
    shards.records.put("pairs/make", dataclasses.replace(record, manifest=""))
    shards.file("shards/pairs/00001_stats.json").write_text("{cut")
    assert shards.go() == []

    def read_own() -> Result:
        storage.read_json(str(shards.file("shards/pairs/00001_stats.json")))
        return Result()

    own = dataclasses.replace(shards.stages[0], config={"size": 2}, invalidated_by=(), run=read_own)
    assert perform(decide(own, shards.records), shards.records).status == "failed"
    shards.config = {"size": 2}
    assert "pairs/make" in shards.go()
    assert shards.wrote == ["00001"]


def test_a_stage_that_cannot_read_what_another_made_has_it_made_again(tmp_path: Path) -> None:
    """It is not done, whatever it made of the rest."""
    shards = Shards(tmp_path)
    reads = dataclasses.replace(shards.stages[1], run=lambda: _read_json(shards))
    perform(decide(shards.stages[0], shards.records), shards.records)
    shards.file("shards/pairs/00001_stats.json").write_text("{cut")
    record = perform(decide(reads, shards.records), shards.records)
    assert record.status == "partial"
    assert "shards/pairs/00001_stats.json is damaged" in record.failures[0]
    assert shards.records.stages["pairs/make"].status == "damaged"
    assert shards.go() == ["pairs/make", "read"]
    assert shards.wrote == ["00001"]


def _read_json(shards: Shards) -> Result:
    try:
        storage.read_json(str(shards.file("shards/pairs/00001_stats.json")))
    except storage.Damaged:
        storage.write_bytes(str(shards.file("out.txt")), b"without it")
    return Result()


def test_another_stage_may_write_into_an_output_or_remove_from_it(shards: Shards) -> None:
    def write() -> Result:
        storage.write_bytes(str(shards.file("lists/pairs/00000.parquet")), b"amended")
        return Result()

    perform(decide(Stage(name="amends", config={}, run=write), shards.records), shards.records, debug=True)
    assert shards.go() == []
    os.remove(shards.file("lists/pairs/00001.parquet"))
    amend(shards.records, {"lists/pairs/00001.parquet": None})
    assert shards.go() == []


def test_what_is_not_the_stages_stays_when_it_is_cleared(shards: Shards) -> None:
    mine = shards.file("shards/pairs/mine.txt")
    mine.write_text("kept")
    os.utime(mine, (1, 1))
    shards.config = {"size": 2}
    assert shards.go() == ["pairs/make"]
    assert mine.read_text() == "kept"
    assert len(shards.wrote) == 3


@pytest.mark.parametrize("status", ["done", "failed", "interrupted", "clearing"])
def test_what_cannot_be_proven_stale_is_not_cleared(shards: Shards, status: str) -> None:
    """Its manifest is damaged: nobody can tell the stage's files from those of others."""
    mine = shards.file("shards/pairs/mine.txt")
    mine.write_text("kept")
    os.utime(mine, (1, 1))
    before = contents(shards)
    flip(Path(manifest_path(str(shards.root), "pairs/make")))
    record = shards.records.stages["pairs/make"]
    shards.records.put("pairs/make", dataclasses.replace(record, status=status))  # type: ignore[arg-type]
    shards.config = {"size": 2}
    for _ in range(2):
        mend(shards.stages, shards.records, say=lambda *event: None)
        refused = perform(decide(shards.stages[0], shards.records), shards.records)
        assert refused.status == "failed"
        assert "nothing is removed" in refused.failures[0]
        assert "shards/pairs" in refused.failures[0]
        assert contents(shards) == before
        assert decide(shards.stages[1], shards.records).action == "blocked"
    for folder in ("shards", "lists"):
        storage.remove(str(shards.root / folder))
    assert "pairs/make" in shards.go()
    assert len(shards.wrote) == 3
    shards.config = {"size": 3}
    assert "pairs/make" in shards.go(), "it is known again what is the stage's"


def test_items_in_folders_go_whole(tmp_path: Path) -> None:
    names = ["p/00000/00000001.pkl", "p/00000/00000002.pkl", "p/00000_stats.json", "p/00001/00000003.pkl"]
    names += ["t/step-00000002/model.safetensors", "t/step-00000002/state.json", "t/step-00000001/state.json"]
    entries = {name: Entry(size=1, sha256="0") for name in names}
    for name in names:
        storage.write_bytes(str(tmp_path / name), b"1")
    found = [Finding(path=names[index], problem="changed", detail="") for index in (0, 4)]
    assert len(list(set_aside(str(tmp_path), entries, found, Stage(name="x", config={}, run=Result)))) == 2
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    aside = [*names[:3], *names[4:6]]
    assert left == sorted([*(f"{ASIDE}/{name}" for name in aside), names[3], names[6]])


def test_the_sample_is_bounded() -> None:
    small = {str(number): Entry(size=10, sha256="0") for number in range(1000)}
    assert len(choose(small)) == 16
    large = {str(number): Entry(size=2**30, sha256="0") for number in range(1000)}
    assert len(choose(large)) == 1
    assert choose({}) == []


def test_a_manifest_tells_nothing_of_the_time_or_the_order(shards: Shards, tmp_path: Path) -> None:
    record = shards.records.stages["pairs/make"]
    entries = read_manifest(str(shards.root), "pairs/make", record.manifest)
    assert write_manifest(str(tmp_path / "again"), "pairs/make", entries) == record.manifest
    lines = Path(manifest_path(str(shards.root), "pairs/make")).read_text().splitlines()
    assert [json.loads(line)["path"] for line in lines] == sorted(entries)
