"""Signatures and clusters against datasketch, fed with the same shingles."""

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash as Sketch
from datasketch import MinHashLSH

from mmcorpus.curation.dedup.minhash import PRESETS, Bands, MinHash, permutations_of
from mmcorpus.curation.dedup.run import deduplicate
from mmcorpus.curation.dedup.text import Shingles, hash_shingles, sign
from mmcorpus.curation.store.scores import load_scores
from tests.curation.dedup.conftest import Write

KIND = Shingles(size=2)


def texts(count: int, seed: int = 0) -> list[str]:
    """Random texts, a third of them some other with a few words changed."""
    random = np.random.default_rng(seed)
    made: list[list[int]] = []
    for _ in range(count):
        words = random.integers(0, 400, random.integers(1, 40)).tolist()
        if made and random.random() < 0.4:
            words = list(made[random.integers(len(made))])
            for _ in range(random.integers(0, 3)):
                words[random.integers(len(words))] = int(random.integers(0, 400))
        made.append(words)
    return [" ".join(f"w{chr(97 + word % 20)}{chr(97 + word // 20)}" for word in words) for words in made]


def sketch(hashes: np.ndarray, permutations: int, seed: int = 1) -> Sketch:
    made = Sketch(num_perm=permutations, seed=seed, hashfunc=lambda value: int.from_bytes(value[:4], "little"))
    made.update_batch([int(value).to_bytes(8, "little") for value in hashes])
    return made


def test_signatures_are_datasketchs() -> None:
    captions = [*texts(200), "", None, "one"]
    a, b = permutations_of(112, seed=7)
    signatures, _, known = sign(captions, KIND, a, b)
    offsets, hashes = hash_shingles(captions, KIND)
    for row in range(len(captions)):
        own = hashes[offsets[row] : offsets[row + 1]]
        assert known[row] == (len(own) > 0)
        if known[row]:
            assert np.array_equal(signatures[row], sketch(own, 112, seed=7).hashvalues)


@pytest.mark.parametrize("kind", [PRESETS["fineweb"].shingles, PRESETS["data_juicer"].shingles, Shingles(size=3)])
def test_the_short_way_through_english_gives_the_same_signatures(kind: Shingles) -> None:
    random = np.random.default_rng(3)
    alphabet = [*list("abcAB12 ,.$\t\n\x00-'"), "é", "中", "İ"]
    captions = ["".join(random.choice(alphabet[: 16 + 3 * (row % 2)], 40)) for row in range(400)]
    captions += ["", " ", "..", "1,2 3", "12 ", "a1b22", " a"]
    a, b = permutations_of(16, seed=7)
    short, _, known = sign(captions, kind, a, b)
    whole, hashes, also_known = sign(captions, kind, a, b, hashed=True)
    assert np.array_equal(short, whole)
    assert np.array_equal(known, also_known)
    assert len(set(hashes.tolist())) > 300


@pytest.mark.parametrize(("bands", "rows"), [(14, 8), (20, 3), (5, 2)])
def test_clusters_are_those_of_datasketchs_lsh(bands: int, rows: int, write_source: Write, tmp_path: object) -> None:
    captions = texts(400, seed=bands)
    source = write_source("web", captions)
    method = MinHash(shingles=KIND, bands=Bands(bands=bands, rows=rows))
    deduplicate("near", method, [source], f"{tmp_path}/work", workers=0)
    table = load_scores(source.scores, ["near"])

    offsets, hashes = hash_shingles(captions, KIND)
    lsh = MinHashLSH(num_perm=bands * rows, params=(bands, rows))
    sketches = [sketch(hashes[offsets[row] : offsets[row + 1]], bands * rows) for row in range(len(captions))]
    root = list(range(len(captions)))

    def find(row: int) -> int:
        while root[row] != row:
            row = root[row]
        return row

    for row, own in enumerate(sketches):
        for other in lsh.query(own):
            root[find(row)] = find(other)
        lsh.insert(row, own)
    groups: dict[int, set[str]] = {}
    uids = table["uid"].to_pylist()
    for row, uid in enumerate(uids):
        groups.setdefault(find(row), set()).add(uid)
    found: dict[str, set[str]] = {}
    for uid, cluster in zip(uids, table["near.cluster"].to_pylist(), strict=True):
        found.setdefault(cluster, set()).add(uid)
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, groups.values()))
    assert max(map(len, found.values())) > 2
    assert all(min(members) == cluster for cluster, members in found.items()), "the lowest uid survives"


def test_equal_texts_have_equal_keys_and_identities() -> None:
    table = pa.table({"caption": ["Red bike on a hill", "red  bike on a HILL", "a boat", "", None]})
    keys = MinHash(verify=0.9).keys(table, {})
    assert keys.keys.shape == (5, 14)
    assert np.array_equal(keys.keys[0], keys.keys[1])
    assert not (keys.keys[0] == keys.keys[2]).any()
    assert keys.identity is not None
    assert keys.identity[0] == keys.identity[1] != keys.identity[2]
    assert keys.known.tolist() == [True, True, True, False, False]
    assert MinHash(preset="fineweb").keys(table, {}).identity is None


def test_presets_and_what_replaces_their_parts() -> None:
    assert MinHash(preset="fineweb").bands_used == MinHash().bands_used == Bands(bands=14, rows=8)
    assert MinHash().preset == "by_length"
    assert MinHash(verify=0.8) == MinHash(preset="fineweb", verify=0.8), "what by_length has no use for is fineweb's"
    assert MinHash(bands=Bands(bands=3, rows=2)).preset == MinHash(threshold=0.7).preset == "fineweb"
    assert MinHash(preset="curator").bands_used == Bands(bands=20, rows=13)
    assert MinHash(preset="data_juicer").bands_used == Bands(bands=25, rows=10)
    assert MinHash(threshold=0.7, permutations=256).bands_used == Bands(bands=25, rows=10)
    assert MinHash(preset="curator", shingles=KIND).shingles_used == KIND
    assert MinHash(preset="curator").shingles_used == PRESETS["curator"].shingles
    assert MinHash(bands=Bands(bands=3, rows=2)).bands_used == Bands(bands=3, rows=2)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"threshold": 0.5, "bands": Bands(bands=2, rows=2)}, "one of them"),
        ({"threshold": 1.0}, "threshold"),
        ({"permutations": 1}, "permutations"),
        ({"bands": Bands(bands=0, rows=2)}, "bands"),
        ({"bands": Bands(bands=100, rows=20)}, "1024"),
        ({"verify": 0.0}, "verify"),
        ({"false_positive_weight": 2.0}, "false_positive_weight"),
        ({"seed": -1}, "seed"),
    ],
)
def test_configs_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MinHash(**wrong)  # type: ignore[arg-type]
