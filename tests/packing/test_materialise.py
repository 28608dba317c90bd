"""The whole way from shards to packs: lengths agree, bytes are equal, nothing is unaccounted for."""

import dataclasses
import hashlib
import multiprocessing
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import Sample, Shard
from mmcorpus.packing import (
    PackConfig,
    PackReader,
    PackReport,
    PlanConfig,
    PlanReport,
    PlanSource,
    encode_conversation,
    encode_pair,
    expanded_length,
    expanded_offsets,
    load_tokenizer,
    make_plan,
    special_ids,
    train_tokenizer,
    write_packs,
)
from mmcorpus.packing.jobs import PackJob

Make = Callable[..., list[Sample]]
Select = Callable[..., pa.Table]
CONFIG = PlanConfig(context_length=256, tokens_per_image=16, window_shards=2)
STORE = PackConfig(sequences_per_shard=10)


@dataclasses.dataclass
class Corpus:
    """Two sources, one of conversations, in a folder of their own; some samples are asked for more than once."""

    root: str
    tokenizer: str
    samples: dict[str, Sample]
    counts: dict[str, int]
    sources: dict[str, PlanSource]

    def plan(self, out: str, config: PlanConfig = CONFIG) -> PlanReport:
        return make_plan(
            config,
            tokenizer=self.tokenizer,
            sources=self.sources,
            out=f"{out}/plan.parquet",
            ledger_root=f"{out}/ledger",
        )

    def pack(self, out: str, **more: Any) -> PackReport:
        return write_packs(
            STORE,
            plan=f"{out}/plan.parquet",
            tokenizer=self.tokenizer,
            shards={name: source.shards for name, source in self.sources.items()},
            out=f"{out}/packs",
            ledger_root=f"{out}/ledger",
            **more,
        )


@pytest.fixture
def corpus(tmp_path: Path, tokenizer_folder: str, make_shards: Make, select: Select) -> Corpus:
    web = make_shards(tmp_path / "web", 4, 40, seed=1)
    talk = make_shards(tmp_path / "talk", 2, 30, conversations=True, seed=2)
    counts = {web[3].uid: 3, talk[5].uid: 2}
    return Corpus(
        root=str(tmp_path),
        tokenizer=tokenizer_folder,
        samples={sample.uid: sample for sample in web + talk},
        counts=counts,
        sources={
            "web": PlanSource(shards=str(tmp_path / "web"), selection=select(web, counts), kind="pair"),
            "talk": PlanSource(shards=str(tmp_path / "talk"), selection=select(talk, counts), kind="conversation"),
        },
    )


def digest(root: str) -> dict[str, str]:
    paths = sorted(path for path in Path(root).rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_planner_packer_and_tokens_agree_and_every_copy_is_packed_once(corpus: Corpus) -> None:
    out = f"{corpus.root}/out"
    planned, packed = corpus.plan(out), corpus.pack(out)
    rows = storage.read_table(f"{out}/plan.parquet").to_pylist()
    reader = PackReader(f"{out}/packs")
    tokenizer = load_tokenizer(f"{out}/packs/tokenizer")
    assert reader.manifest["tokenizer"]["special_ids_hash"] == special_ids(load_tokenizer(corpus.tokenizer)).hash
    assert special_ids(tokenizer).hash == reader.manifest["tokenizer"]["special_ids_hash"]

    seen: Counter[str] = Counter()
    for number, sequence in enumerate(reader):
        mine = [row for row in rows if row["sequence"] == number]
        assert [row["position"] for row in mine] == list(range(len(mine)))
        assert [row["uid"] for row in mine] == list(sequence.uids)
        assert [row["tokens"] for row in mine] == list(sequence.token_counts)
        assert [row["length"] for row in mine] == list(sequence.lengths)
        assert sequence.length <= CONFIG.context_length
        assert expanded_offsets(sequence.input_ids, CONFIG.tokens_per_image)[-1] == sequence.length
        assert reader.index["length"][number].as_py() == sequence.length
        start = 0
        for uid, source, tokens, spans, image in zip(
            sequence.uids,
            sequence.sources,
            sequence.token_counts,
            sequence.loss_spans,
            sequence.images,
            strict=True,
        ):
            sample = corpus.samples[uid]
            alone = (
                encode_pair(tokenizer, sample.caption or "")
                if source == "web"
                else encode_conversation(tokenizer, sample.meta["conversations"], 1)
            )
            assert sequence.input_ids[start : start + tokens].tolist() == alone.input_ids.tolist()
            assert spans == tuple((first + start, end + start) for first, end in alone.loss_spans)
            assert image == sample.images[0], "images are stored as they arrived"
            seen[uid] += 1
            start += tokens
    assert seen == {uid: corpus.counts.get(uid, 1) for uid in corpus.samples}
    assert packed.counts == {
        "sequences": planned.sequences,
        "samples": planned.samples,
        "images": planned.images,
        "tokens": planned.tokens,
        "positions": planned.positions,
    }
    assert not packed.dropped
    assert reader.verify() == []
    assert planned.fill == planned.positions / (planned.sequences * 256) > 0.9
    assert planned.padding == planned.sequences * 256 - planned.positions
    assert planned.lower_bound <= planned.sequences
    assert planned.verdicts == {"talk": {"kept": 60}, "web": {"kept": 160}}


def test_index_ranges_are_exact_and_tile_the_tar(corpus: Corpus) -> None:
    corpus.plan(corpus.root)
    corpus.pack(corpus.root)
    reader = PackReader(f"{corpus.root}/packs")
    for shard in reader.manifest["shards"]:
        rows = [row for row in reader.index.to_pylist() if row["shard"] == shard["name"]]
        end = 0
        for row in rows:
            assert row["offset"] == end
            end += row["size"]
        tail = storage.read_bytes(f"{corpus.root}/packs/{shard['name']}.tar")[end:]
        assert len(tail) >= 1024
        assert not tail.strip(b"\0"), "only the end-of-archive blocks follow the last sequence"


def test_packs_are_read_by_webdataset(corpus: Corpus) -> None:
    import webdataset

    corpus.plan(corpus.root)
    corpus.pack(corpus.root)
    reader = PackReader(f"{corpus.root}/packs")
    urls = [f"{corpus.root}/packs/{shard['name']}.tar" for shard in reader.manifest["shards"]]
    dataset = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode("pil")
    for ours, theirs in zip(reader, dataset, strict=True):
        assert theirs["__key__"] == f"{ours.sequence:08d}"
        assert theirs["json"]["uids"] == list(ours.uids)
        assert np.array_equal(theirs["input_ids.npy"], ours.input_ids)
        assert sum(key[:3].isdigit() for key in theirs) == len(ours.images)


def test_same_bytes_wherever_it_runs_and_in_whatever_order(corpus: Corpus) -> None:
    def backwards(work: Callable[[PackJob], dict[str, Any]], jobs: Sequence[PackJob]) -> Iterable[dict[str, Any]]:
        return [work(job) for job in reversed(jobs)]

    for name, more in (("one", {}), ("two", {"map_fn": backwards})):
        corpus.plan(f"{corpus.root}/{name}")
        corpus.pack(f"{corpus.root}/{name}", **more)
    elsewhere = f"{corpus.root}/elsewhere"
    for name, source in corpus.sources.items():
        shutil.copytree(source.shards, f"{elsewhere}/{name}")
    moved = {
        name: dataclasses.replace(source, shards=f"{elsewhere}/{name}")
        for name, source in reversed(list(corpus.sources.items()))
    }
    shuffled = dataclasses.replace(corpus, sources=moved)
    shuffled.plan(f"{corpus.root}/three")
    shuffled.pack(f"{corpus.root}/three")
    first = digest(f"{corpus.root}/one")
    assert len([name for name in first if name.endswith(".tar")]) > 2
    assert first == digest(f"{corpus.root}/two") == digest(f"{corpus.root}/three")


def test_another_seed_orders_otherwise_and_packs_the_same_samples(corpus: Corpus) -> None:
    corpus.plan(f"{corpus.root}/one")
    corpus.plan(f"{corpus.root}/two", dataclasses.replace(CONFIG, seed=1))
    one, two = (storage.read_table(f"{corpus.root}/{name}/plan.parquet")["uid"].to_pylist() for name in ("one", "two"))
    assert one != two
    assert sorted(one) == sorted(two)


def test_committed_shards_are_kept_and_damaged_or_foreign_ones_replaced(corpus: Corpus) -> None:
    corpus.plan(corpus.root)
    first = corpus.pack(corpus.root)
    before = digest(f"{corpus.root}/packs")
    again = corpus.pack(corpus.root)
    assert (again.written, again.resumed) == (0, first.written)
    assert again.counts == first.counts

    packs = Path(corpus.root, "packs")
    (packs / "00000.tar").write_bytes(b"torn")
    (packs / "00001.index.parquet").unlink()
    (packs / "00099.tar").write_bytes(b"left by a larger plan")
    third = corpus.pack(corpus.root)
    assert third.written == 2
    assert digest(str(packs)) == before

    corpus.plan(corpus.root, dataclasses.replace(CONFIG, context_length=512))
    fourth = corpus.pack(corpus.root)
    assert fourth.resumed == 0
    assert len(PackReader(str(packs))) == fourth.counts["sequences"] < first.counts["sequences"]


def test_a_damaged_tar_costs_its_own_samples_with_a_reason(corpus: Corpus) -> None:
    corpus.plan(corpus.root)
    path = Path(Shard(root=corpus.sources["web"].shards, name="00001").tar)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    Path(Shard(root=corpus.sources["talk"].shards, name="00001").tar).unlink()
    report = corpus.pack(corpus.root)
    assert report.dropped["talk"]["missing_image"] >= 30
    assert 10 < report.dropped["web"]["missing_image"] < 30
    packed = Counter(uid for sequence in PackReader(f"{corpus.root}/packs") for uid in sequence.uids)
    for name in corpus.sources:
        rows = ledger.read_stages(f"{corpus.root}/ledger/{name}")["pack"].to_pylist()
        assert {row["uid"] for row in rows if row["verdict"] == "kept"} == {
            row["uid"] for row in rows if packed[row["uid"]]
        }
        dropped = [row for row in rows if row["verdict"] == "dropped"]
        assert {row["rule"] for row in dropped} == {"missing_image"}
        assert all("00001.tar" in row["value"] for row in dropped)


def test_another_tokenizer_or_changed_shards_are_refused(corpus: Corpus, make_shards: Make) -> None:
    corpus.plan(corpus.root)
    other = train_tokenizer(["other words"], 300, f"{corpus.root}/other")
    with pytest.raises(ValueError, match="another tokenizer"):
        dataclasses.replace(corpus, tokenizer=other).pack(corpus.root)
    make_shards(corpus.sources["web"].shards, 4, 40, seed=9)
    with pytest.raises(ValueError, match="plan again"):
        corpus.pack(corpus.root)
    assert not storage.exists(f"{corpus.root}/packs/manifest.json")


def test_everything_on_s3(corpus: Corpus, s3_root: str) -> None:
    corpus.plan(f"{corpus.root}/local")
    corpus.pack(f"{corpus.root}/local")
    for name, source in corpus.sources.items():
        for file in storage.list_names(source.shards):
            storage.write_bytes(f"{s3_root}/shards/{name}/{file}", storage.read_bytes(f"{source.shards}/{file}"))
        storage.write_table(f"{s3_root}/{name}.parquet", source.selection)  # type: ignore[arg-type]
    for file in storage.list_names(corpus.tokenizer):
        storage.write_bytes(f"{s3_root}/small/{file}", storage.read_bytes(f"{corpus.tokenizer}/{file}"))
    remote = dataclasses.replace(
        corpus,
        tokenizer=f"{s3_root}/small",
        sources={
            name: PlanSource(shards=f"{s3_root}/shards/{name}", selection=f"{s3_root}/{name}.parquet", kind=source.kind)
            for name, source in corpus.sources.items()
        },
    )
    remote.plan(s3_root)
    remote.pack(s3_root)
    for file in storage.list_names(f"{corpus.root}/local/packs"):
        if file != "tokenizer":
            here, there = f"{corpus.root}/local/packs/{file}", f"{s3_root}/packs/{file}"
            assert storage.read_bytes(here) == storage.read_bytes(there), file
    there = PackReader(f"{s3_root}/packs")
    assert there[3].images == PackReader(f"{corpus.root}/local/packs")[3].images
    assert there.verify() == []
    assert remote.pack(s3_root).written == 0


@pytest.mark.slow
def test_ray_workers_write_the_same_bytes(corpus: Corpus, ray_local: None) -> None:
    from mmcorpus.curation.engine.tasks import run_shards

    def on_ray(work: Callable[[PackJob], dict[str, Any]], jobs: Sequence[PackJob]) -> Iterable[dict[str, Any]]:
        outcomes = run_shards(lambda: work, jobs, name=lambda job: job.name, title="pack", workers=2)
        return [outcome.result or {} for outcome in outcomes]

    for name, more in (("one", {}), ("ray", {"map_fn": on_ray})):
        corpus.plan(f"{corpus.root}/{name}")
        corpus.pack(f"{corpus.root}/{name}", **more)
    assert digest(f"{corpus.root}/one") == digest(f"{corpus.root}/ray")


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [2, pytest.param(8, marks=pytest.mark.soak)])
def test_killed_at_any_moment_it_resumes_to_the_same_bytes(corpus: Corpus, rounds: int) -> None:
    corpus.plan(corpus.root)
    corpus.pack(corpus.root)
    packs = Path(corpus.root, "packs")
    whole = digest(str(packs))
    rng = random.Random(4)
    killed = 0
    for _ in range(rounds):
        shutil.rmtree(packs)
        for _ in range(2):
            process = multiprocessing.get_context("fork").Process(target=corpus.pack, args=(corpus.root,))
            process.start()
            wanted = rng.randint(0, 4)
            while process.is_alive() and len(list(packs.glob("*.tar"))) < wanted:
                time.sleep(0.001)
            if process.is_alive():
                process.kill()
            process.join()
            killed += process.exitcode == -signal.SIGKILL
        corpus.pack(corpus.root)
        left = {name: value for name, value in digest(str(packs)).items() if not name.endswith(".partial")}
        assert left == whole
    assert killed >= rounds // 2 + 1


def test_lengths_count_images_once_each() -> None:
    assert expanded_length(30, 1, 144) == 173
    assert expanded_length(30, 0, 144) == 30
