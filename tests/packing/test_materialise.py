"""The whole way from shards to packs: lengths agree, bytes are equal, nothing is unaccounted for."""

import dataclasses
import functools
import hashlib
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner

from mmcorpus.curation.sources import IndexConfig, index
from mmcorpus.curation.store import ledger, references, storage
from mmcorpus.curation.store.shards import (
    EncodedImage,
    Sample,
    Shard,
    ShardWriter,
    add_member,
    list_shards,
    read_rows,
)
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.packing import (
    PackConfig,
    PackError,
    PackReader,
    PackReport,
    PlanConfig,
    PlanReport,
    PlanSource,
    encode_conversation,
    encode_pair,
    expanded_length,
    expanded_offsets,
    inputs,
    load_tokenizer,
    make_plan,
    materialise,
    special_ids,
    train_tokenizer,
    write_packs,
)
from mmcorpus.packing.inputs import open_tar
from mmcorpus.packing.jobs import PackJob
from mmcorpus.packing.layout import MolmoLayout
from mmcorpus.packing.plan import read_plan_metadata
from mmcorpus.packing.stored_images import Reference
from mmcorpus.pipelines.cli import app
from tests.packing.conftest import image_bytes

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

    def pack(self, out: str, store: PackConfig = STORE, **more: Any) -> PackReport:
        return write_packs(
            store,
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
    for name in ("00001.tar", "manifest.json", "tokenizer/tokenizer.json"):
        (packs / f"{name}.{'0' * 12}.partial").write_bytes(b"left by a kill")
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


def test_a_tar_cut_between_two_of_its_files_is_damaged_where_it_lacks_a_sample(corpus: Corpus) -> None:
    corpus.plan(corpus.root)
    path = Path(Shard(root=corpus.sources["web"].shards, name="00001").tar)
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    whole = path.read_bytes()
    last = members[-1]
    end = last.offset_data + -(-last.size // 512) * 512
    path.write_bytes(whole[:end])
    report = corpus.pack(corpus.root)
    assert (report.damaged, report.dropped) == ({}, {}), "nothing is missing of what others write without an end"
    path.write_bytes(whole[: members[len(members) // 2].offset])
    report = corpus.pack(corpus.root)
    assert 10 < report.dropped["web"]["missing_image"] < 30
    assert report.damaged == {"web/00001.tar": "it has no end: it may have been cut between two of its files"}
    path.write_bytes(whole)
    report = corpus.pack(corpus.root)
    assert (report.damaged, report.dropped) == ({}, {})


@pytest.mark.parametrize("harm", ["gone", "later"])
def test_a_file_that_is_not_as_it_was_indexed_is_named_until_it_is(
    tmp_path: Path, tokenizer_folder: str, harm: str
) -> None:
    """The pack says so in the same bytes wherever the run lies, and holds all once the file is mended."""
    packed = {}
    for place in ("a", "b"):
        files, out = tmp_path / place / "files", f"{tmp_path}/{place}/run"
        files.mkdir(parents=True)
        for name in ("fine", "harmed"):
            with tarfile.open(files / f"{name}.tar", "w") as tar:
                for number in range(3):
                    data = image_bytes(random.Random(number + 10 * len(name)))
                    add_member(tar, f"{number}.jpg", data)
                    add_member(tar, f"{number}.txt", f"a {name} clock {number}".encode())
            os.utime(files / f"{name}.tar", (9, 9))
        index(IndexConfig(), [str(files)], f"{out}/shards", f"{out}/ledger", workers=0, shown=False)
        uids = [row["uid"] for shard in list_shards(f"{out}/shards") for row in read_rows(shard).to_pylist()]
        chosen = pa.table({"uid": sorted(uids), "count": pa.array([1] * 6, pa.int32())})
        source = PlanSource(shards=f"{out}/shards", selection=chosen, kind="pair")
        ledgers = f"{out}/plan.ledger"
        make_plan(CONFIG, tokenizer=tokenizer_folder, sources={"web": source}, out=f"{out}/p", ledger_root=ledgers)
        write = functools.partial(
            write_packs, STORE, plan=f"{out}/p", tokenizer=tokenizer_folder, shards={"web": source.shards},
            out=f"{out}/packs", ledger_root=ledgers,
        )  # fmt: skip
        whole, bytes_of_whole = write(), digest(f"{out}/packs")
        assert (whole.damaged, whole.counts["samples"]) == ({}, 6)
        path = files / "harmed.tar"
        if harm == "gone":
            path.rename(tmp_path / place / "kept")
        else:
            os.utime(path, (10, 10))
        shutil.rmtree(f"{out}/packs")
        references._open.cache_clear()  # a process asks once whether a file is as it was
        report = write()
        assert (report.dropped, report.counts["samples"]) == ({"web": {"missing_image": 3}}, 3)
        ((name, why),) = report.damaged.items()
        assert (name, str(path) in why) == ("web/000010000.images.parquet", True)
        dropped = [row["value"] for row in ledger.read_stages(f"{ledgers}/web")["pack"].to_pylist() if row["value"]]
        assert {value.partition(" since")[0] for value in dropped} == {
            f"missing_image: harmed.tar {'is gone' if harm == 'gone' else 'was written again'}"
        }
        packed[place] = digest(f"{out}/packs")
        assert (write().damaged, write().written) == (report.damaged, report.written), "it is tried each time"
        if harm == "gone" and place == "b":
            told = CliRunner().invoke(
                app,
                ["pack", f"{out}/p", "--source", f"web={out}/shards", "--tokenizer", tokenizer_folder, "--out",
                 f"{out}/packs"],
                env={"COLUMNS": "400"},
            )  # fmt: skip
            assert (told.exit_code, f"failed: web/000010000.images.parquet: {path}" in told.output) == (1, True)
        if harm == "gone":
            (tmp_path / place / "kept").rename(path)
        os.utime(path, (9, 9))
        assert (write().damaged, digest(f"{out}/packs")) == ({}, bytes_of_whole)
    assert packed["a"] == packed["b"]


def test_another_tokenizer_or_changed_shards_are_refused(corpus: Corpus, make_shards: Make) -> None:
    corpus.plan(corpus.root)
    other = train_tokenizer(["other words"], 300, f"{corpus.root}/other")
    with pytest.raises(ValueError, match="another tokenizer"):
        dataclasses.replace(corpus, tokenizer=other).pack(corpus.root)
    make_shards(corpus.sources["web"].shards, 4, 40, seed=9)
    with pytest.raises(ValueError, match="plan again"):
        corpus.pack(corpus.root)
    assert not storage.exists(f"{corpus.root}/packs/manifest.json")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("source", "other", "the source 'other' of kind"),
        ("kind", "evil", "of kind 'evil'"),
        ("shard", "../../etc", "a shard's name is none"),
        ("shard", "00099", "names talk/00099, and there is no such shard any more"),
        ("sequence", -1, "its column sequence holds"),
        ("copy", 2**30, "its column copy holds"),
        ("length", None, "its column length is not int32 without nulls"),
        ("length", 5, "has another length than planned"),
        ("tokens", ..., "it has no column tokens"),
    ],
)
def test_a_plan_that_is_none_is_refused(corpus: Corpus, column: str, value: Any, message: str) -> None:
    corpus.plan(corpus.root)
    path = f"{corpus.root}/plan.parquet"
    table = storage.read_table(path)
    if value is ...:
        table = table.drop_columns([column])
    else:
        field = table.schema.field(column)
        changed = pa.array([value] * len(table), field.type)
        table = table.set_column(table.schema.get_field_index(column), field, changed)
    storage.write_table(path, table)
    with pytest.raises(ValueError, match=f"{message}.*plan again"):
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


def test_a_remote_shard_is_read_once_however_many_pack_shards_need_it(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the bytes are those that jobs of a pack shard each write of shards that are here, also after a kill."""
    corpus.plan(corpus.root)
    opened: Counter[str] = Counter()

    def counted(path: str, keys: Any = None) -> Any:
        opened[path] += 1
        return open_tar(path, keys)

    monkeypatch.setattr(inputs, "open_tar", counted)
    corpus.pack(corpus.root)
    whole = digest(f"{corpus.root}/packs")
    assert max(opened.values()) > 1, "what has to be seen: pack shards of a window need the same input shards"
    assert len(opened) == 6

    for name, source in corpus.sources.items():
        for file in storage.list_names(source.shards):
            storage.write_bytes(f"memory://read-once/{name}/{file}", storage.read_bytes(f"{source.shards}/{file}"))
    remote = {
        name: dataclasses.replace(source, shards=f"memory://read-once/{name}")
        for name, source in corpus.sources.items()
    }
    away = dataclasses.replace(corpus, sources=remote)
    opened.clear()
    shutil.rmtree(f"{corpus.root}/packs")
    away.pack(corpus.root)
    assert set(opened.values()) == {1}
    assert len(opened) == 6
    assert digest(f"{corpus.root}/packs") == whole
    Path(corpus.root, "packs/00002.index.parquet").unlink()
    assert away.pack(corpus.root).written == 1
    assert digest(f"{corpus.root}/packs") == whole
    storage.remove("memory://read-once")


def test_of_a_remote_tar_what_nobody_wants_is_not_asked_for(
    tmp_path: Path, s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    monkeypatch.setattr(inputs, "_BLOCK", 1 << 14)
    images = {f"{key:03d}": bytes([key]) * (1 << 18) for key in range(8)}
    with tarfile.open(tmp_path / "00000.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for key, data in images.items():
            add_member(tar, f"{key}.jpg", data)
            add_member(tar, f"{key}.txt", b"a caption")
    storage.write_bytes(f"{s3_root}/00000.tar", (tmp_path / "00000.tar").read_bytes())
    asked: list[tuple[int, int]] = []
    fetch = s3fs.core.S3File._fetch_range

    def counting(self: Any, start: int, end: int) -> Any:
        asked.append((start, end))
        return fetch(self, start, end)

    monkeypatch.setattr(s3fs.core.S3File, "_fetch_range", counting)
    found = open_tar(f"{s3_root}/00000.tar", {"001", "006"})
    assert {key: found.images(key)[0].data for key in ("001", "006")} == {key: images[key] for key in ("001", "006")}
    assert sorted(found.members) == ["001", "006"]
    assert sum(end - start for start, end in asked) < 3 * (1 << 18), "of eight such images"
    with pytest.raises(LookupError, match="no image of sample 002"):
        found.images("002")


def test_resized_images_are_as_large_as_training_needs_and_the_rest_is_as_it_was(
    tmp_path: Path, tokenizer_folder: str, select: Select
) -> None:
    made = []
    with ShardWriter(Shard(root=str(tmp_path / "web"), name="00000")) as writer:
        for number, size in enumerate([(900, 300), (300, 900), (80, 60), (640, 640)]):
            file = io.BytesIO()
            gradient = np.linspace(0, 255, size[0] * size[1] * 3).reshape(size[1], size[0], 3)
            noise = np.random.default_rng(number).integers(0, 40, gradient.shape)
            Image.fromarray((gradient * 0.8 + noise).astype(np.uint8)).save(file, "JPEG", quality=98)
            text = f"the red square {number}"
            data = file.getvalue()[: 5000 if number == 3 else None]  # the last ends early
            image = EncodedImage(extension="jpg", data=data)
            meta = {"url": str(number)}
            made.append(
                Sample(key=f"{number:09d}", uid=pair_uid(str(number), text), caption=text, images=(image,), meta=meta)
            )
            writer.write(made[-1])
    source = PlanSource(shards=str(tmp_path / "web"), selection=select(made), kind="pair")
    corpus = Corpus(root=str(tmp_path), tokenizer=tokenizer_folder, samples={}, counts={}, sources={"web": source})
    corpus.plan(corpus.root)
    report = corpus.pack(corpus.root, PackConfig(images="resized", image_side=100))
    stored = {
        uid: image
        for sequence in PackReader(f"{corpus.root}/packs")
        for uid, image in zip(sequence.uids, sequence.images, strict=True)
    }
    found = [stored[sample.uid] for sample in made]
    assert [Image.open(io.BytesIO(image.data)).size for image in found[:2]] == [(300, 100), (100, 300)]
    assert found[2:] == [made[2].images[0], made[3].images[0]], (
        "small ones, and what cannot be decoded, as they arrived"
    )
    exact = Image.open(io.BytesIO(made[0].images[0].data)).resize((300, 100), Image.Resampling.BICUBIC)
    difference = np.abs(np.asarray(exact).astype(int) - np.asarray(Image.open(io.BytesIO(found[0].data))))
    assert difference.mean() < 2
    before, after = (sum(len(one.data) for one in images) for images in ([s.images[0] for s in made], found))
    assert report.stored == {"arrived_bytes": before, "stored_bytes": after, "resized": 2}
    assert after < before / 2
    kept = corpus.pack(corpus.root, PackConfig(images="resized", image_side=100))
    assert (kept.written, kept.stored) == (0, report.stored)
    assert corpus.pack(corpus.root, PackConfig(images="resized", image_side=90)).written == 1


def referred(reader: PackReader, number: int) -> list[Any]:
    """The references of a sequence, as its json has them."""
    row = reader.index.slice(number, 1).to_pylist()[0]
    with tarfile.open(f"{reader.root}/{row['shard']}.tar") as tar:
        member = tar.extractfile(f"{row['sequence']:08d}.json")
        assert member is not None
        found: list[Any] = json.load(member)["references"]
        return found


def test_images_by_reference_are_read_where_they_lie(
    corpus: Corpus, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_reference = PackConfig(sequences_per_shard=10, images="reference")
    corpus.plan(f"{corpus.root}/run")
    before = corpus.pack(f"{corpus.root}/run")
    whole = list(map(str, PackReader(f"{corpus.root}/run/packs")))
    images = sum(len(image.data) for one in PackReader(f"{corpus.root}/run/packs") for image in one.images)
    report = corpus.pack(f"{corpus.root}/run", by_reference)
    assert report.stored == {"arrived_bytes": images}
    assert report.bytes <= before.bytes - images
    assert list(map(str, PackReader(f"{corpus.root}/run/packs"))) == whole
    assert corpus.pack(f"{corpus.root}/run", by_reference).written == 0

    moved = Path(corpus.root, "elsewhere")  # sources and packs together
    moved.mkdir()
    for name in ("web", "talk", "run"):
        shutil.move(f"{corpus.root}/{name}", moved / name)
    reader = PackReader(f"{moved}/run/packs")
    assert reader.manifest["version"] == 4, "who reads earlier versions alone would find no images"
    assert list(map(str, reader)) == whole
    source, shard, offset, *_ = referred(reader, 0)[0]
    tar = moved / source / f"{shard}.tar"
    data = bytearray(tar.read_bytes())
    data[offset + 9] ^= 1
    tar.write_bytes(data)
    with pytest.raises(PackError, match=rf"sequence 0 cannot be read: .*{tar.name}.* other bytes"):
        reader[0]
    tar.unlink()
    with pytest.raises(PackError, match=rf"sequence 0 cannot be read: .*{tar.name}, which it refers to, is missing"):
        reader[0]

    named = materialise._folders(reader.root, ["web"], {"web": "memory:///bucket/web"})
    assert "who reads these packs has to allow it" in caplog.text
    storage.write_json(f"{reader.root}/manifest.json", {**reader.manifest, "references": named})
    with pytest.raises(PackError, match="read from memory:///bucket/web, which is another store"):
        PackReader(reader.root)
    monkeypatch.setenv("MMCORPUS_REFERENCES", named["web"])
    assert len(PackReader(reader.root)) == len(reader)


def test_shards_that_refer_to_files_of_others_are_not_referred_to(corpus: Corpus) -> None:
    corpus.plan(corpus.root)
    storage.write_json(f"{corpus.sources['web'].shards}/references.json", {"roots": []})
    with pytest.raises(ValueError, match="source 'web' are references"):
        corpus.pack(corpus.root, PackConfig(images="reference"))


@pytest.mark.parametrize(
    "row",
    [
        ["web", "../../../etc/passwd", 0, 9, 1, "jpg"],
        ["web", "00000", -5, 9, 1, "jpg"],
        ["web", "00000", 0, 9, 1, "pkl"],
        ["web", "00000", 0, 2**30 + 1, 1, "jpg"],
        [None, "00000", 0, 9, 1, "jpg"],
    ],
)
def test_references_that_lead_elsewhere_are_refused(row: list[Any]) -> None:
    with pytest.raises(ValueError, match="a reference to"):
        Reference.read(row)


def test_images_whose_sizes_decide_their_lengths_are_not_resized(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.plan(corpus.root)
    planned = read_plan_metadata(f"{corpus.root}/plan.parquet")
    settings = planned | {"config": PlanConfig(layout=MolmoLayout()).settings()}
    monkeypatch.setattr(materialise, "read_plan_metadata", lambda path: settings)
    with pytest.raises(ValueError, match="'molmo' an image's size decides"):
        corpus.pack(corpus.root, PackConfig(images="resized"))


def test_what_another_tokenizer_left_beside_the_packs_goes(corpus: Corpus) -> None:
    corpus.plan(corpus.root)
    corpus.pack(corpus.root)
    before = digest(f"{corpus.root}/packs")
    left = Path(corpus.root, "packs/tokenizer")
    (left / "merges.txt").write_text("of another tokenizer")
    (left / "additional_chat_templates").mkdir()
    (left / "additional_chat_templates/tool.jinja").write_text("of another tokenizer")
    corpus.pack(corpus.root)
    assert digest(f"{corpus.root}/packs") == before


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
        assert digest(str(packs)) == whole
    assert killed >= rounds // 2 + 1


def test_lengths_count_images_once_each() -> None:
    assert expanded_length(30, 1, 144) == 173
    assert expanded_length(30, 0, 144) == 30
