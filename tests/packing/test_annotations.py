"""One image under several captions, from the table to the packs."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import Sample
from mmcorpus.packing import (
    PackConfig,
    PackReader,
    PlanConfig,
    PlanReport,
    PlanSource,
    expanded_length,
    load_tokenizer,
    make_plan,
    write_packs,
)
from mmcorpus.packing.tokens import encode_captions

CONFIG = PlanConfig(context_length=160, tokens_per_image=16, window_shards=1)


@dataclasses.dataclass
class Corpus:
    """Three shards of pairs, some of which have several captions."""

    root: str
    tokenizer: str
    samples: dict[str, Sample]
    captions: dict[str, list[str]]
    source: PlanSource

    def plan(self, captions: dict[str, list[str]] | None, config: PlanConfig = CONFIG) -> PlanReport:
        source = self.source
        if captions is not None:
            rows = {"uid": list(captions), "captions": list(captions.values()), "uids": [["0" * 32]] * len(captions)}
            storage.write_table(f"{self.root}/annotations.parquet", pa.table(rows))
            source = dataclasses.replace(source, annotations=f"{self.root}/annotations.parquet")
        return make_plan(
            config,
            tokenizer=self.tokenizer,
            sources={"web": source},
            out=f"{self.root}/plan.parquet",
            ledger_root=f"{self.root}/ledger",
        )

    def pack(self) -> tuple[PackReader, int]:
        """The packs, and how many pack shards were written anew."""
        report = write_packs(
            PackConfig(sequences_per_shard=4),
            plan=f"{self.root}/plan.parquet",
            tokenizer=self.tokenizer,
            shards={"web": self.source.shards},
            out=f"{self.root}/packs",
        )
        return PackReader(f"{self.root}/packs"), report.written


@pytest.fixture
def corpus(
    tmp_path: Path,
    tokenizer_folder: str,
    make_shards: Callable[..., list[Sample]],
    select: Callable[..., pa.Table],
) -> Corpus:
    samples = make_shards(tmp_path / "web", 3, 12)
    some = {s.uid: [s.caption or "", f"a photo of {n}", "the clock"][: 2 + n % 2] for n, s in enumerate(samples[::4])}
    return Corpus(
        root=str(tmp_path),
        tokenizer=tokenizer_folder,
        samples={sample.uid: sample for sample in samples},
        captions=some,
        source=PlanSource(shards=str(tmp_path / "web"), selection=select(samples, {samples[4].uid: 2}), kind="pair"),
    )


def test_annotated_images_are_planned_packed_and_read(corpus: Corpus) -> None:
    others = {"f" * 32: ["not", "selected"], "short": ["no", "uid"]}
    report = corpus.plan(corpus.captions | others)
    assert (report.annotated, report.captions_left_out) == (9, 0)
    assert report.verdicts == {"web": {"kept": 36}}
    tokenizer = load_tokenizer(corpus.tokenizer)
    reader, _ = corpus.pack()
    assert (reader.annotated, reader.manifest["version"]) == (10, 2), "one of them comes twice"
    seen = 0
    for packed in reader:
        start = 0
        for number, uid in enumerate(packed.uids):
            said = corpus.captions.get(uid) or [corpus.samples[uid].caption or ""]
            (alone,) = encode_captions(tokenizer, [said])
            end = start + packed.token_counts[number]
            assert packed.input_ids[start:end].tolist() == alone.input_ids.tolist()
            assert packed.lengths[number] == expanded_length(len(alone.input_ids), 1, 16)
            assert packed.loss_spans[number] == tuple((start + a, start + b) for a, b in alone.loss_spans)
            begins = packed.branches[number] if packed.branches else ()
            assert begins == tuple(start + first for first in alone.branches)
            seen += len(begins) > 1
            start = end
    assert seen == 10


def test_a_plan_without_annotations_is_what_it_was(corpus: Corpus) -> None:
    corpus.plan(None)
    assert "captions" not in storage.read_schema(f"{corpus.root}/plan.parquet").names
    reader, _ = corpus.pack()
    assert (reader.annotated, reader.manifest["version"]) == (0, 1)
    assert set(reader.manifest["parameters"]) == {"config", "tokenizer", "sources", "plan", "sequences_per_shard"}
    assert all(packed.branches == () for packed in reader)


def test_changed_captions_are_packed_anew_and_only_those(corpus: Corpus) -> None:
    corpus.plan(corpus.captions)
    _, first = corpus.pack()
    assert corpus.pack()[1] == 0
    uid = next(iter(corpus.captions))
    other = [*corpus.captions[uid][:-1], corpus.captions[uid][-1][::-1]]
    corpus.plan(corpus.captions | {uid: other})
    reader, again = corpus.pack()
    assert 0 < again < first
    assert reader.verify() == []


@pytest.mark.parametrize("too_long", ["drop", "truncate", "split"])
def test_captions_without_room_are_left_out_and_told(corpus: Corpus, too_long: Any) -> None:
    uids = list(corpus.captions)
    long = "red square " * 200
    given = corpus.captions | {
        uids[0]: ["a red square", "three", long, "blue"],
        uids[1]: ["one", long],
        uids[2]: [long, "two"],
    }
    report = corpus.plan(given, dataclasses.replace(CONFIG, too_long=too_long))
    cut = too_long == "truncate"
    assert report.captions_left_out == 3 + cut, "none is skipped for a later one, and the survivor's own stays"
    assert (report.annotated, report.truncated) == (7, cut)
    rows = {row["uid"]: row for row in ledger.read_stages(f"{corpus.root}/ledger/web")["pack"].to_pylist()}
    assert [rows[uid]["value"] for uid in uids[:2]] == ["captions=2 of 4", "captions=1 of 2"]
    assert rows[uids[2]]["rule"] == (None if cut else "too_long")
    if cut:
        assert rows[uids[2]]["value"].startswith("captions=1 of 2, truncated: length=")
    plan = storage.read_table(f"{corpus.root}/plan.parquet").to_pylist()
    said = {row["uid"]: row["captions"] for row in plan}
    assert (said[uids[0]], said[uids[1]]) == (["a red square", "three"], ["one"])
    assert said.get(uids[2]) == ([long] if cut else None)
    reader, _ = corpus.pack()
    assert reader.manifest["counts"]["positions"] == report.positions


def test_blank_captions_say_nothing(corpus: Corpus) -> None:
    uids = list(corpus.captions)
    report = corpus.plan({uids[0]: ["", "a", "b"], uids[1]: [" ", "only"], uids[2]: []})
    assert report.annotated == 1
    rows = {row["uid"]: row["captions"] for row in storage.read_table(f"{corpus.root}/plan.parquet").to_pylist()}
    assert [rows[uid] for uid in uids[:3]] == [["a", "b"], ["only"], None]
    corpus.pack()


def test_a_mixture_counts_all_captions(corpus: Corpus) -> None:
    alone = corpus.plan(corpus.captions)
    mixed = corpus.plan(corpus.captions, dataclasses.replace(CONFIG, mix={"web": 1}))
    assert (mixed.positions, mixed.annotated) == (alone.positions, alone.annotated)


def test_annotations_that_do_not_fit_are_refused(corpus: Corpus) -> None:
    with pytest.raises(ValueError, match="annotations are captions of images"):
        dataclasses.replace(corpus.source, kind="document", annotations="x.parquet")
    for annotations, problem in (
        ("nowhere.parquet", r"annotations of source 'web': there is nothing at nowhere.parquet; a pass"),
        (pa.table({"uid": ["a" * 32]}), "need the columns uid"),
        (pa.table({"uid": ["a" * 32], "captions": ["text"]}), "need the columns uid"),
        (pa.table({"uid": [next(iter(corpus.samples))] * 2, "captions": [["a", "b"]] * 2}), "name a uid twice"),
    ):
        source = dataclasses.replace(corpus.source, annotations=annotations)
        with pytest.raises(ValueError, match=problem):
            make_plan(CONFIG, tokenizer=corpus.tokenizer, sources={"web": source}, out=f"{corpus.root}/plan.parquet")
