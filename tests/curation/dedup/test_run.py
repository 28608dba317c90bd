"""The driver: clusters, survivors and tables, and that nothing but the samples and the parameters decides them."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from mmcorpus.curation.dedup import verify
from mmcorpus.curation.dedup.exact import SameUrl
from mmcorpus.curation.dedup.method import Bools, Indices, Keys, Learned, Method
from mmcorpus.curation.dedup.minhash import Bands, MinHash
from mmcorpus.curation.dedup.run import deduplicate
from mmcorpus.curation.dedup.sources import Source
from mmcorpus.curation.dedup.text import Shingles
from mmcorpus.curation.engine import items
from mmcorpus.curation.engine.tasks import Outcome
from mmcorpus.curation.selection.expression import ExpressionError
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import load_scores, read_origin
from mmcorpus.curation.store.uid import pair_uid
from tests.curation.dedup.conftest import Write

CHECKED = MinHash(shingles=Shingles(size=2), bands=Bands(bands=20, rows=3), verify=0.6)
LOOSE = MinHash(shingles=Shingles(size=2), bands=Bands(bands=20, rows=3))


def captions(count: int, seed: int = 0) -> list[str | None]:
    """Texts of which many are nearly another; some equal, some empty, some missing."""
    draw = random.Random(seed)
    words = [f"{a}{b}{c}" for a in "bcdfgklmnprst" for b in "aeiou" for c in "lmnrst"]
    made: list[str | None] = []
    for _ in range(count):
        kept = [text for text in made[-60:] if text]
        if kept and draw.random() < 0.5:
            text = draw.choice(kept).split()
            for _ in range(draw.randint(0, 2)):
                text[draw.randrange(len(text))] = draw.choice(words)
        else:
            text = draw.choices(words, k=draw.randint(1, 25))
        made.append(draw.choice(["", None]) if draw.random() < 0.02 else " ".join(text))
    return made


def tables(*sources: Source) -> dict[str, bytes]:
    """All score tables, by path."""
    paths = [path for source in sources for path in sorted(Path(source.scores).rglob("*.parquet"))]
    return {str(path): path.read_bytes() for path in paths}


def column(source: Source, name: str) -> list[Any]:
    values: list[Any] = load_scores(source.scores, columns=[name])[name].to_pylist()
    return values


@dataclass(frozen=True, kw_only=True)
class NearNumbers(Method):
    """Texts that are numbers and differ by one at most; all have the same key."""

    chains: ClassVar[bool] = False

    @property
    def verifies(self) -> bool:
        return True

    def columns(self) -> tuple[str, ...]:
        return ("caption",)

    def keys(self, table: pa.Table, learned: Learned) -> Keys:
        known = ~table["caption"].is_null().to_numpy()
        identity = np.array([int(text or 0) for text in table["caption"].to_pylist()], np.uint64)
        return Keys(keys=np.ones((table.num_rows, 1), np.uint64), known=known, identity=identity)

    def same(self, rows: pa.Table, first: Indices, second: Indices) -> Bools:
        numbers = np.array([int(text) for text in rows["caption"].to_pylist()])
        return np.abs(numbers[first] - numbers[second]) <= 1


@dataclass(frozen=True, kw_only=True)
class LearnedBuckets(Method):
    """Numbers by what was learned to be the largest, compared in whole buckets."""

    chains: ClassVar[bool] = True
    bucketwise: ClassVar[bool] = True

    @property
    def learns_from(self) -> int:
        return 1000

    def columns(self) -> tuple[str, ...]:
        return ("caption",)

    def learn(self, sample: pa.Table) -> Learned:
        return {"half": np.array([max(int(text) for text in sample["caption"].to_pylist()) // 2])}

    def keys(self, table: pa.Table, learned: Learned) -> Keys:
        numbers = np.array([int(text) for text in table["caption"].to_pylist()])
        buckets = (numbers > learned["half"]).astype(np.uint64)[:, None]
        return Keys(keys=buckets, known=np.ones(table.num_rows, bool))

    def near(self, rows: pa.Table) -> tuple[Indices, Indices]:
        numbers = np.array([int(text) for text in rows["caption"].to_pylist()])
        first, second = np.nonzero(np.triu(np.abs(numbers[:, None] - numbers) <= 1, 1))
        return first, second


def test_copies_over_sources_and_the_survivor_by_rule(write_source: Write, tmp_path: Path) -> None:
    one = write_source("one", ["Red bike", "a boat", None, "x"], url=["u", "v", "w", "same"], size=[5, 1, 9, 1])
    two = write_source(
        "two", ["red  bike", "blue boat", "RED BIKE!", "y"], url=["a", "b", "c", "same"], size=[7, 1, 7, 0]
    )
    method = MinHash()
    report = deduplicate("near", method, [one, two], f"{tmp_path}/work", survivor="size", among="size < 7", workers=0)
    assert (report.samples, report.unknown, report.clusters, report.duplicates, report.largest) == (8, 1, 1, 2, 3)
    first = load_scores(one.scores, ["near"])
    best = first["uid"].to_pylist()[0]
    assert column(one, "near.copies") == [3, 1, None, 1]
    assert column(one, "near.rank") == [0, 0, None, 0]
    assert column(one, "near.reason") == [None, None, "nothing_to_compare", None]
    assert column(two, "near.cluster")[0] == column(two, "near.cluster")[2] == column(one, "near.cluster")[0] == best
    equals = load_scores(two.scores, ["near"])["uid"].to_pylist()
    assert sorted([0, 2], key=lambda row: equals[row]) == sorted([0, 2], key=lambda row: column(two, "near.rank")[row])

    deduplicate("near", method, [one, two], f"{tmp_path}/work", survivor="size", workers=0)
    assert column(one, "near.rank")[0] == 2, "without `among` the largest wins"
    deduplicate("url", SameUrl(), [one, two], f"{tmp_path}/work-url", workers=0)
    assert column(one, "url.copies") == [1, 1, 1, 2]
    assert sorted([column(one, "url.rank")[3], column(two, "url.rank")[3]]) == [0, 1]


@pytest.mark.parametrize("method", [CHECKED, LOOSE], ids=["checked", "loose"])
def test_a_pair_below_the_threshold_is_never_linked(method: MinHash, write_source: Write, tmp_path: Path) -> None:
    """Of the checked clusters every sample has a neighbour at the threshold; the loose ones have others."""
    texts = captions(400)
    source = write_source("web", texts)
    deduplicate("near", method, [source], f"{tmp_path}/work", workers=0)
    clusters: dict[str, list[set[str]]] = {}
    for text, cluster in zip(texts, column(source, "near.cluster"), strict=True):
        words = (text or "").split()
        shingles = {" ".join(words[i : i + 2]) for i in range(len(words) - 1)} or {" ".join(words)}
        clusters.setdefault(cluster, []).append(shingles)
    clusters.pop(None, None)  # type: ignore[call-overload]

    def linked(members: list[set[str]]) -> int:
        reached, todo = {0}, [0]
        while todo:
            own = members[todo.pop()]
            for other in range(len(members)):
                if other not in reached and len(own & members[other]) >= 0.6 * len(own | members[other]) - 1e-9:
                    reached.add(other)
                    todo.append(other)
        return len(reached)

    assert max(map(len, clusters.values())) > 3
    whole = all(linked(members) == len(members) for members in clusters.values())
    assert whole == (method is CHECKED)


def test_a_cluster_that_must_not_chain_is_cut_into_stars(write_source: Write, tmp_path: Path) -> None:
    numbers = [str(n) for n in (1, 2, 3, 4, 9, 3, 3)]
    source = write_source("web", [*numbers, None], size=[1, 1, 1, 5, 1, 9, 1, 1])
    report = deduplicate("near", NearNumbers(), [source], f"{tmp_path}/work", survivor="size", workers=0)
    uids = load_scores(source.scores, ["near"])["uid"].to_pylist()
    row_of = [None if cluster is None else uids.index(cluster) for cluster in column(source, "near.cluster")]
    assert row_of[1:4] == [5, 5, 5], "the largest three (row 5) takes two and four"
    assert row_of[5:] == [5, 5, None]
    assert row_of[0] == 0, "one is near two, but not near the survivor"
    assert (report.clusters, report.duplicates, report.largest) == (1, 4, 5)


def test_a_method_that_learns_and_compares_buckets(write_source: Write, tmp_path: Path) -> None:
    source = write_source("web", [str(n) for n in (1, 2, 20, 21, 22, 40, 10, 11)], per_shard=3)
    deduplicate("near", LearnedBuckets(), [source], f"{tmp_path}/work", workers=0)
    assert column(source, "near.copies") == [2, 2, 1, 2, 2, 1, 2, 2], "20 and 21 fall into different buckets"


def test_many_thousand_copies_cost_a_step_each(
    write_source: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_source("web", ["the same words in every caption"] * 30_000 + ["the same words in each caption"],
                          per_shard=15_000)  # fmt: skip
    compared = []
    plain = MinHash.same
    monkeypatch.setattr(MinHash, "same", lambda self, *rows: compared.append(len(rows[1])) or plain(self, *rows))
    method = MinHash(shingles=Shingles(size=1), verify=0.6)
    report = deduplicate("near", method, [source], f"{tmp_path}/work", workers=0)
    assert report.largest == 30_001
    assert sum(compared) == report.candidates == 1


def test_the_tables_depend_on_the_samples_alone(
    write_source: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small parts, spans and chunks, so that every stage has many tasks, give the tables of one task a stage."""
    sources = [write_source("one", captions(300)), write_source("two", captions(200, seed=0), per_shard=20)]
    deduplicate("near", CHECKED, sources, f"{tmp_path}/work", survivor="length(caption)", workers=0)
    before = tables(*sources)
    for source in sources:
        storage.remove(source.scores)
    _many_tasks(monkeypatch)
    deduplicate("near", CHECKED, sources, f"{tmp_path}/other", survivor="length(caption)", workers=0)
    assert {path: _plain(data) for path, data in before.items()} == {
        path: _plain(data) for path, data in tables(*sources).items()
    }


def _many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmcorpus.curation.dedup.pairs.RECORDS", 700)
    monkeypatch.setattr("mmcorpus.curation.dedup.verify.BYTES", 10_000)
    monkeypatch.setattr(verify, "CHUNK_BYTES", 1)
    monkeypatch.setattr("mmcorpus.curation.dedup.survivors.MEMBERS", 50)
    monkeypatch.setattr("mmcorpus.curation.dedup.forest.FAN_IN", 3)


def _plain(data: bytes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pa.parquet.read_table(pa.BufferReader(data)).to_pylist()
    return rows


def chaos(seed: int) -> Callable[..., list[Outcome]]:
    """An engine that works in any order, does items twice, and loses workers while and after they write."""
    draw = random.Random(seed)

    def run(make_work: Any, items: Sequence[Any], *, name: Any, **_: Any) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        for number in draw.sample(range(len(items)), len(items)):
            for attempt in range(4):
                fate = draw.choice(["fine", "twice", "dies after", "dies while"]) if attempt < 3 else "fine"
                with pytest.MonkeyPatch.context() as patch:
                    if fate == "dies while":
                        patch.setattr(os, "replace", _die)
                    try:
                        result = dict(make_work()(items[number]))
                    except ConnectionAbortedError:
                        continue
                if fate == "dies after":
                    continue
                if fate == "twice":
                    make_work()(items[number])
                outcomes[number] = Outcome(name=name(items[number]), result=result, error=None, seconds=0)
                break
        return [outcomes[number] for number in range(len(items))]

    return run


def _die(*_: Any) -> None:
    raise ConnectionAbortedError("the worker died")


def everything(root: Path, *sources: Source) -> dict[str, bytes]:
    """The score tables and all work files but those that say when their shard was written."""
    files = {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.arrow"))}
    return {path: data for path, data in files.items() if not path.endswith(".keys.arrow")} | tables(*sources)


@pytest.mark.parametrize("seed", [1, 2])
def test_retries_in_every_stage_change_no_byte(
    seed: int, write_source: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _many_tasks(monkeypatch)
    sources = [write_source("one", captions(200)), write_source("two", captions(80, seed=5), per_shard=20)]
    args: dict[str, Any] = {"survivor": "length(caption)", "index": f"{tmp_path}/index", "extend": True}
    deduplicate("near", CHECKED, sources, f"{tmp_path}/work", workers=0, **args)
    expected = everything(tmp_path, *sources)
    for folder in ("work", "index", "scores"):
        storage.remove(f"{tmp_path}/{folder}")
    monkeypatch.setattr(items, "run_shards", chaos(seed))
    deduplicate("near", CHECKED, sources, f"{tmp_path}/work", workers=1, **args)
    assert everything(tmp_path, *sources) == expected
    assert sum(path.startswith("work/") for path in expected) > 60


def test_a_driver_that_dies_after_every_single_task_ends_with_the_same_bytes(
    write_source: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmcorpus.curation.dedup.pairs.RECORDS", 3000)
    monkeypatch.setattr("mmcorpus.curation.dedup.survivors.MEMBERS", 100)
    source = write_source("web", captions(300))
    whole = deduplicate("near", CHECKED, [source], f"{tmp_path}/work", workers=0)
    expected = everything(tmp_path, source)
    for folder in ("work", "scores"):
        storage.remove(f"{tmp_path}/{folder}")

    def one_task(make_work: Any, items: Sequence[Any], *, name: Any, **_: Any) -> list[Outcome]:
        make_work()(items[-1])
        raise KeyboardInterrupt

    monkeypatch.setattr(items, "run_shards", one_task)
    deaths = 0
    while True:
        try:
            resumed = deduplicate("near", CHECKED, [source], f"{tmp_path}/work", workers=1)
            break
        except KeyboardInterrupt:
            deaths += 1
    assert deaths > 25
    assert everything(tmp_path, source) == expected
    assert replace(resumed, seconds=0) == replace(whole, seconds=0)


def test_a_rerun_does_nothing_and_a_changed_shard_is_seen(
    write_source: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = captions(120)
    source = write_source("web", texts)
    report = deduplicate("near", CHECKED, [source], f"{tmp_path}/work", workers=0)
    before = {path: os.stat(path).st_mtime_ns for path in tables(source)}
    ran: list[str] = []
    plain = items.run_pending
    for module in ("engine.items", "dedup.keys", "dedup.tables", "dedup.index"):
        spy = lambda *a, **k: (done := plain(*a, **k), ran.extend([k["title"]] * len(done.outcomes)))[0]  # noqa: E731
        monkeypatch.setattr(f"mmcorpus.curation.{module}.run_pending", spy)
    again = deduplicate("near", CHECKED, [source], f"{tmp_path}/work", workers=0)
    assert not ran
    assert {path: os.stat(path).st_mtime_ns for path in tables(source)} == before
    assert again.duplicates == report.duplicates

    storage.remove(next(iter(before)))
    deduplicate("near", CHECKED, [source], f"{tmp_path}/work", workers=0)
    assert ran == ["tables"], "a table that is gone is made from what is settled"

    ran.clear()
    texts[0] = texts[119] = "quite another text than all the others here"
    write_source("web", texts)
    old = read_origin(storage.read_schema(next(iter(before))))["fingerprint"]
    deduplicate("near", CHECKED, [source], f"{tmp_path}/work", workers=0)
    assert column(source, "near.cluster")[0] == column(source, "near.cluster")[119]
    assert read_origin(storage.read_schema(next(iter(before))))["fingerprint"] != old
    folders = [name for name in storage.list_names(f"{tmp_path}/work") if name.startswith("plan-")]
    assert len(folders) == 1, "what was made of other samples is removed"

    ran.clear()
    deduplicate("near", CHECKED, [source], f"{tmp_path}/work", survivor="length(caption)", workers=0)
    assert set(ran) == {"order", "survivors", "tables"}, "another rule finds nothing anew"


def test_a_bad_shard_costs_itself(write_source: Write, tmp_path: Path) -> None:
    source = write_source("web", captions(150))
    good = Path(source.shards, "00001.parquet").read_bytes()
    deduplicate("near", CHECKED, [source], f"{tmp_path}/work", workers=0)
    expected = tables(source)
    Path(source.shards, "00001.parquet").write_bytes(b"PAR1 no more")
    report = deduplicate("near", CHECKED, [source], f"{tmp_path}/work", workers=0)
    assert not report.ok
    assert list(report.failed) == ["web/00001"]
    assert report.samples == 100
    assert sorted(Path(source.scores, "near").glob("*")) == [
        Path(source.scores, "near", f"0000{n}.parquet") for n in (0, 2)
    ]
    Path(source.shards, "00001.parquet").write_bytes(good)
    assert deduplicate("near", CHECKED, [source], f"{tmp_path}/work", workers=0).ok
    assert tables(source) == expected
    for number in range(3):
        Path(source.shards, f"0000{number}.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="no shard could be read"):
        deduplicate("near", CHECKED, [source], f"{tmp_path}/work", workers=0)


def test_shards_without_uids_are_compared_under_those_of_url_and_caption(write_source: Write, tmp_path: Path) -> None:
    texts = captions(60)
    source = write_source("web", texts)
    for path in Path(source.shards).glob("*.parquet"):
        storage.write_table(str(path), storage.read_table(str(path)).drop_columns(["uid"]))
    assert deduplicate("near", CHECKED, [source], f"{tmp_path}/work", workers=0).ok
    uids = [pair_uid(f"http://web.test/{row}", text or "") for row, text in enumerate(texts)]
    assert column(source, "uid") == uids
    other = write_source("own", texts)
    deduplicate("near", CHECKED, [other], f"{tmp_path}/other", workers=0)
    assert column(source, "near.copies") == column(other, "near.copies")


def test_what_cannot_end_well_stops_before_any_work(write_source: Write, tmp_path: Path) -> None:
    source = write_source("web", ["a"])
    work = f"{tmp_path}/work"
    with pytest.raises(ExpressionError, match="unknown column"):
        deduplicate("near", CHECKED, [source], work, survivor="sharpness.value", workers=0)
    with pytest.raises(ExpressionError, match="condition"):
        deduplicate("near", CHECKED, [source], work, among="length(caption)", workers=0)
    with pytest.raises(ValueError, match="near-1"):
        deduplicate("near-1", CHECKED, [source], work, workers=0)
    with pytest.raises(ValueError, match="no index"):
        deduplicate("near", CHECKED, [source], work, index=f"{tmp_path}/index", workers=0)
    with pytest.raises(ValueError, match="no complete shards"):
        deduplicate("near", CHECKED, [Source(name="x", shards=work, scores=work)], work, workers=0)
    assert not os.path.exists(work)


def test_tables_on_s3_are_those_on_disk(write_source: Write, tmp_path: Path, s3_root: str) -> None:
    texts = captions(60)
    local = write_source("web", texts, per_shard=30)
    remote = write_source("web", texts, per_shard=30, root=s3_root)
    deduplicate("near", CHECKED, [local], f"{tmp_path}/work", workers=0)
    deduplicate("near", CHECKED, [remote], f"{s3_root}/work", workers=0)
    deduplicate("near", CHECKED, [remote], f"{s3_root}/work", workers=0)
    for number in range(2):
        name = f"near/0000{number}.parquet"
        assert storage.read_bytes(f"{remote.scores}/{name}") == Path(local.scores, name).read_bytes()


@pytest.mark.soak
@pytest.mark.parametrize("workers", [None, 1])
def test_any_number_of_workers_on_ray_writes_the_same(
    ray_local: None, write_source: Write, tmp_path: Path, workers: int | None
) -> None:
    sources = [write_source("one", captions(300)), write_source("two", captions(100, seed=5), per_shard=20)]
    deduplicate("near", CHECKED, sources, f"{tmp_path}/work", workers=0)
    expected = everything(tmp_path, *sources)
    for folder in ("work", "scores"):
        storage.remove(f"{tmp_path}/{folder}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmcorpus.curation.dedup.run.LOCAL_ROWS", 0)
        deduplicate("near", CHECKED, sources, f"{tmp_path}/work", workers=workers)
    assert everything(tmp_path, *sources) == expected


_DRIVER = """
import sys, ray
from mmcorpus.curation.dedup.minhash import Bands, MinHash
from mmcorpus.curation.dedup.run import deduplicate
from mmcorpus.curation.dedup.sources import Source
from mmcorpus.curation.dedup.text import Shingles
root = sys.argv[1]
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
source = Source(name="web", shards=f"{root}/shards/web", scores=f"{root}/scores/web")
method = MinHash(shingles=Shingles(size=2), bands=Bands(bands=20, rows=3), verify=0.6)
deduplicate("near", method, [source], f"{root}/work", workers=2)
"""


@pytest.mark.soak
def test_a_killed_driver_loses_nothing(write_source: Write, tmp_path: Path) -> None:
    """kill -9 of the driver and all its workers while they make keys; then to the end in another process."""
    source = write_source("web", captions(3000), per_shard=20)
    deduplicate("near", CHECKED, [source], f"{tmp_path}/work", workers=0)
    expected = everything(tmp_path, source)
    for folder in ("work", "scores"):
        storage.remove(f"{tmp_path}/{folder}")
    run = subprocess.Popen([sys.executable, "-c", _DRIVER, str(tmp_path)], start_new_session=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        deadline = time.monotonic() + 300
        while run.poll() is None and not list(Path(tmp_path, "work").rglob("*.keys.arrow")):
            assert time.monotonic() < deadline, "no keys came"
            time.sleep(0.05)
    finally:
        for pid in (*_descendants(run.pid), run.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run.wait()
    assert run.returncode == -signal.SIGKILL
    done = {path: path.stat().st_mtime_ns for path in Path(tmp_path, "work").rglob("*.keys.arrow")}
    assert 0 < len(done) <= 150
    assert not os.path.exists(source.scores)
    deduplicate("near", CHECKED, [source], f"{tmp_path}/work", workers=0)
    assert everything(tmp_path, source) == expected
    assert {path: path.stat().st_mtime_ns for path in done} == done, "what was committed was not made again"


def _descendants(pid: int) -> Iterator[int]:
    """All processes under one, deepest first."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from _descendants(int(child))
            yield int(child)
