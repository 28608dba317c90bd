"""Connected components against scipy, however the links are cut and ordered."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mmcorpus.curation.dedup.forest import merge_forests, spanning_forest
from mmcorpus.curation.dedup.minhash import MinHash
from mmcorpus.curation.dedup.plan import Plan, Unit
from mmcorpus.curation.engine.partitions import numpy_of, read_parts, write_whole

LINKS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=80)


def lowest_of(links: list[tuple[int, int]], count: int) -> np.ndarray:
    """For each node the lowest of its component, by scipy."""
    first, second = np.array(links, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(count, count))
    _, label = connected_components(graph, directed=False)
    lowest = np.full(count, count)
    np.minimum.at(lowest, label, np.arange(count))
    return lowest[label]


@settings(max_examples=200, deadline=None)
@given(links=LINKS)
def test_components_are_scipys(links: list[tuple[int, int]]) -> None:
    first, second = np.array(links, np.int64).reshape(-1, 2).T
    forest = spanning_forest(first, second)
    found = np.arange(61)
    found[forest["row"]] = forest["root"]
    assert np.array_equal(found, lowest_of(links, 61))
    assert (forest["row"] > forest["root"]).all()
    assert (np.diff(forest["row"].astype(np.int64)) > 0).all()


@settings(max_examples=100, deadline=None)
@given(links=LINKS, seed=st.integers(0, 1000), pieces=st.integers(1, 5))
def test_the_forest_does_not_depend_on_order_or_cuts(links: list[tuple[int, int]], seed: int, pieces: int) -> None:
    array = np.array(links, np.int64).reshape(-1, 2)
    whole = spanning_forest(array[:, 0], array[:, 1])
    random = np.random.default_rng(seed)
    shuffled = random.permuted(array[random.permutation(len(array))], axis=1)
    forests = [spanning_forest(part[:, 0], part[:, 1]) for part in np.array_split(shuffled, pieces)]
    merged = spanning_forest(*(np.concatenate([forest[name] for forest in forests]) for name in ("row", "root")))
    for name in whole:
        assert np.array_equal(whole[name], merged[name])


def test_a_long_chain_is_one_component() -> None:
    nodes = np.random.default_rng(0).permutation(100_000)
    forest = spanning_forest(nodes[1:], nodes[:-1])
    assert len(forest["row"]) == 99_999
    assert not forest["root"].any()


@pytest.mark.parametrize("files", [0, 1, 16, 40])
def test_forests_are_merged_in_a_tree(files: int, tmp_path: Path) -> None:
    """40 files take two levels; whatever the number, all members with their roots stand in the last file by span."""
    units = tuple(
        Unit(
            source=None,
            shard=f"{n}",
            rows=100,
            records=0,
            size=0,
            digest=f"{n}",
            place=f"{n}",
            files=f"{tmp_path}/unit{n}",
        )
        for n in range(3)
    )
    for number, unit in enumerate(units):
        write_whole(unit.members, {"lowest": np.arange(number * 100, number * 100 + 100)}, {})
    plan = Plan(method=MinHash(), units=units, work=str(tmp_path / "work"))
    random = np.random.default_rng(files)
    links: list[tuple[int, int]] = []
    paths = []
    for number in range(files):
        first, second = random.integers(0, 300, (2, 4))
        links += list(zip(first.tolist(), second.tolist(), strict=True))
        paths.append(str(tmp_path / f"links-{number}.arrow"))
        write_whole(paths[-1], spanning_forest(first, second), {})
    merged = merge_forests(plan, paths, workers=0)
    lowest = lowest_of(links, 300) if links else np.arange(300)
    size = np.bincount(lowest, minlength=300)
    linked = np.flatnonzero(size[lowest] > 1)
    table = read_parts(merged)
    assert np.array_equal(numpy_of(table["row"]), linked)
    assert np.array_equal(numpy_of(table["root"]), lowest[linked])
    for number, span in enumerate(plan.spans):
        rows = numpy_of(read_parts(merged, [number])["row"])
        assert ((rows >= plan.starts[span.start]) & (rows < plan.starts[span.stop])).all()
