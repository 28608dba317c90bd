"""The saved index: new samples against old ones, and a run that is repeated after it has extended the index."""

from pathlib import Path
from typing import Any

import pytest

from mmcorpus.curation.dedup.minhash import MinHash
from mmcorpus.curation.dedup.run import DedupReport, deduplicate
from mmcorpus.curation.dedup.sources import Source
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import load_scores
from tests.curation.dedup.conftest import Write

CHECKED = MinHash(verify=0.5)
LOOSE = MinHash(preset="fineweb")
TEXT = "the quick brown fox jumps over the lazy dog and then goes home to sleep for a long while {}"


@pytest.fixture(params=[CHECKED, LOOSE], ids=["checked", "loose"])
def method(request: pytest.FixtureRequest) -> MinHash:
    found: MinHash = request.param
    return found


def run(method: MinHash, source: Source, tmp_path: Path, *, extend: bool = True) -> DedupReport:
    return deduplicate(
        "near", method, [source], f"{tmp_path}/work-{source.name}", index=f"{tmp_path}/index", extend=extend, workers=0
    )


def columns(source: Source) -> list[tuple[str, int, int, str]]:
    table = load_scores(source.scores, ["near"])
    names = ("uid", "near.copies", "near.rank", "near.cluster")
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def test_copies_of_what_is_indexed_are_not_first(method: MinHash, write_source: Write, tmp_path: Path) -> None:
    old = write_source("old", [TEXT.format("now"), "a boat", TEXT.format("then"), "", "short"], per_shard=2)
    first = run(method, old, tmp_path)
    assert (first.clusters, first.duplicates, first.of_index) == (1, 1, 0)
    survivor = columns(old)[0][3]

    new = write_source("new", [TEXT.format("soon"), "a plane", "A  boat", TEXT.format("soon"), "A plane!"], per_shard=2)
    second = run(method, new, tmp_path, extend=False)
    assert (second.samples, second.duplicates, second.of_index) == (5, 4, 3)
    found = columns(new)
    assert found[0][3] == found[3][3] == survivor
    assert found[0][1] == found[3][1] == 4, "two old ones and two new ones"
    assert sorted([found[0][2], found[3][2]]) == [2, 3], "after the old ones"
    assert found[2][1:] == (2, 1, columns(old)[1][0])
    assert {found[1][2], found[4][2]} == {0, 1}, "among themselves new samples are compared too"
    assert len(storage.read_json(f"{tmp_path}/index/index.json")["entries"]) == 3, "it was not to be extended"


def test_a_repeated_run_is_not_a_copy_of_itself(method: MinHash, write_source: Write, tmp_path: Path) -> None:
    """Not even when others have come after it: a run sees what was put in before."""
    sources = [
        write_source("one", [TEXT.format("now"), "a boat"]),
        write_source("two", [TEXT.format("then"), "a car"]),
        write_source("three", ["A car", "a bus"]),
    ]
    reports = [run(method, source, tmp_path) for source in sources]
    assert [report.of_index for report in reports] == [0, 1, 1]
    before = [columns(source) for source in sources]
    index = storage.read_bytes(f"{tmp_path}/index/index.json")
    for source in reversed(sources):
        storage.remove(f"{tmp_path}/work-{source.name}")
        storage.remove(source.scores)
        run(method, source, tmp_path)
    assert [columns(source) for source in sources] == before
    assert storage.read_bytes(f"{tmp_path}/index/index.json") == index


def test_clusters_of_the_index_stay_together(method: MinHash, write_source: Write, tmp_path: Path) -> None:
    """A new sample may be near one that was not the survivor: it belongs to that one's survivor."""
    words = [f"{a}{b}" for a in "bcdfghjklm" for b in ("an", "ol", "im")]
    chain = [" ".join(words[start : start + 22]) for start in (0, 3, 6)]
    one = write_source("one", chain[:2], size=[9, 1])
    deduplicate("near", method, [one], f"{tmp_path}/work", survivor="size", index=f"{tmp_path}/index", extend=True,
                workers=0)  # fmt: skip
    assert columns(one)[0][1] == 2, "the chain's first two are linked"
    two = write_source("two", [chain[2]])
    run(method, two, tmp_path)
    assert columns(two)[0][1:] == (3, 2, columns(one)[0][0])


def test_an_index_of_another_method_is_refused(write_source: Write, tmp_path: Path) -> None:
    source = write_source("one", ["a boat"])
    run(CHECKED, source, tmp_path)
    with pytest.raises(ValueError, match="same parameters"):
        run(LOOSE, source, tmp_path)


def test_samples_that_others_were_compared_with_cannot_change(write_source: Write, tmp_path: Path) -> None:
    one = write_source("one", ["a boat"])
    run(CHECKED, one, tmp_path)
    one = write_source("one", ["a boat", "a car"], per_shard=1)
    run(CHECKED, one, tmp_path)
    assert len(storage.read_json(f"{tmp_path}/index/index.json")["entries"]) == 2, "nobody has come since"
    run(CHECKED, write_source("two", ["a bus"]), tmp_path)
    one = write_source("one", ["a boat", "a car", "a train"], per_shard=1)
    with pytest.raises(ValueError, match="extended by other samples"):
        run(CHECKED, one, tmp_path)


def test_samples_that_were_fetched_later_make_no_copies_of_their_shard(
    method: MinHash, write_source: Write, tmp_path: Path
) -> None:
    """The shard has grown: what it held before is not an earlier corpus. Another one in its place is a new corpus."""
    run(method, write_source("one", ["a boat", "a car", "a car!"]), tmp_path)
    grown = write_source("one", ["a boat", "a car", "a car!", "a bus"])
    assert run(method, grown, tmp_path).of_index == 0
    assert [row[2] for row in columns(grown)].count(0) == 3
    assert [entry["rows"] for entry in storage.read_json(f"{tmp_path}/index/index.json")["entries"]] == [4]
    other = write_source("one", ["a boat!", "a train"])
    assert run(method, other, tmp_path).of_index == 1
    assert len(storage.read_json(f"{tmp_path}/index/index.json")["entries"]) == 2


def test_what_the_index_links_stays_linked_when_shards_have_come_between(
    method: MinHash, write_source: Write, tmp_path: Path
) -> None:
    """The first shard's sample has its survivor in the second, which gets another number when the run is repeated."""
    captions = ["a boat", "a boat!"]
    size = [1, 9]
    settings: dict[str, Any] = {"survivor": "size", "index": f"{tmp_path}/index", "extend": True, "workers": 0}
    work = f"{tmp_path}/work"
    one = write_source("one", captions, size=size, per_shard=1)
    deduplicate("near", method, [one], work, **settings)
    storage.remove(f"{one.shards}/00000_stats.json")
    before = write_source("before", ["a plane", "a bus"], size=[1, 1])
    deduplicate("near", method, [before, one], work, **settings)
    new = write_source("new", ["A plane", "A boat"], size=[1, 1])
    deduplicate("near", method, [new], f"{work}-new", **settings)
    assert [row[1:] for row in columns(new)] == [(2, 1, columns(before)[0][0]), (3, 2, columns(one)[0][0])]
