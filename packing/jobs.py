"""One pack shard: its samples tokenized as planned, their images fetched, the tar written, all from a small job."""

import functools
import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import EncodedImage, shard_at
from mmcorpus.packing import manifest, packs
from mmcorpus.packing.annotations import captions_of
from mmcorpus.packing.config import PlanConfig
from mmcorpus.packing.inputs import OpenTar, Referred, open_images, read_texts, sizes_of
from mmcorpus.packing.samples import FittedSample, Rejection, asks_sizes, fit_rows
from mmcorpus.packing.sequence import PackedSequence
from mmcorpus.packing.tokens import load_tokenizer, tokenizer_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MISSING_IMAGE: Final = "missing_image"
_CODE_VERSION: Final = 3  # the index has costs
"""Raised whenever the same job would write other bytes."""


@dataclass(frozen=True, kw_only=True)
class PackJob:
    """One pack shard to write; small and picklable."""

    name: str
    """The pack shard's, e.g. `00012`."""
    out: str
    """The pack's folder, which holds the tokenizer."""
    plan: str
    window: int
    """The plan's row group that holds its sequences."""
    first: int
    """Its first sequence."""
    end: int
    """One past its last sequence."""
    shards: dict[str, str]
    """Folder of each source's input shards."""
    tokenizer_fingerprint: str
    chat_template: str
    """The hash of the tokenizer's own chat template, if conversations are written in it; else empty."""
    config: PlanConfig


def write_pack_shard(job: PackJob) -> dict[str, Any]:
    """Do one job, unless it was done before; returns its record: PackShardWriter's and
    `dropped` ([source, uid, rule, value], …), `planned`, `resumed`."""
    rows = _rows(job)
    fingerprint = _fingerprint(job, rows)
    committed = _committed(job, fingerprint)
    if committed is not None:
        return committed
    inputs = _inputs(job, rows)
    metadata: dict[str, Any] = {"fingerprint": fingerprint, "dropped": [], "planned": job.end - job.first}
    with packs.PackShardWriter(
        job.out, job.name, tokens_per_image=job.config.per_image, layout=job.config.layout, metadata=metadata
    ) as writer:
        for sequence, planned in _by_sequence(rows):
            chosen: list[tuple[dict[str, Any], FittedSample, tuple[EncodedImage, ...]]] = []
            for row in planned:
                place = row["source"], row["shard"]
                tar, samples = inputs[place]
                key, parts = samples.get(row["uid"], ("", ()))
                sample = next((sample for sample in parts if sample.part == row["part"]), None)
                if sample is None or (len(sample.tokens.input_ids), sample.length) != (row["tokens"], row["length"]):
                    raise ValueError(
                        f"{job.plan}: sample {row['uid']} of {'/'.join(place)} has another length than planned, or "
                        "is gone; its shards have changed since, plan again"
                    )
                try:
                    images = _images(tar, key, sample, parts)
                    if len(images) != row["images"]:
                        raise LookupError(f"{len(images)} images of sample {row['uid']}, not {row['images']}")
                except LookupError as error:
                    drop = [row["source"], row["uid"], MISSING_IMAGE, f"{MISSING_IMAGE}: {error.args[0]}"]
                    writer.record["dropped"].append(drop)
                    continue
                chosen.append((row, sample, images))
            if chosen:
                writer.write(_assemble(sequence, chosen))
        if damaged := sorted(tar.path for tar, _ in inputs.values() if tar.damage):
            writer.record["damaged"] = damaged
    return {**writer.record, "resumed": False}


def _images(
    tar: OpenTar | Referred, key: str, sample: FittedSample, parts: tuple[FittedSample, ...]
) -> tuple[EncodedImage, ...]:
    """A sample's images; raises LookupError if any of its parts lacks one, so that all of a document goes or none."""
    if sample.tokens.images is None:
        return tar.images(key)
    for other in parts:
        if other is not sample:
            tar.images(key, other.tokens.images)
    return tar.images(key, sample.tokens.images)


def _assemble(
    sequence: int, chosen: list[tuple[dict[str, Any], FittedSample, tuple[EncodedImage, ...]]]
) -> PackedSequence:
    rows, samples, images = zip(*chosen, strict=True)
    tokens = [sample.tokens for sample in samples]
    counts = [len(own.input_ids) for own in tokens]
    starts = [0, *itertools.accumulate(counts[:-1])]
    branches = [tuple(start + first for first in own.branches) for start, own in zip(starts, tokens, strict=True)]
    return PackedSequence(
        sequence=sequence,
        branches=tuple(branches) if any(branches) else (),
        input_ids=np.concatenate([own.input_ids for own in tokens]),
        uids=tuple(row["uid"] for row in rows),
        sources=tuple(row["source"] for row in rows),
        lengths=tuple(sample.length for sample in samples),
        token_counts=tuple(counts),
        image_counts=tuple(map(len, images)),
        loss_spans=tuple(
            tuple((start + first, start + end) for first, end in own.loss_spans)
            for start, own in zip(starts, tokens, strict=True)
        ),
        images=tuple(itertools.chain.from_iterable(images)),
        sizes=tuple(itertools.chain.from_iterable(sample.sizes for sample in samples)),
    )


def _inputs(
    job: PackJob, rows: pa.Table
) -> dict[tuple[str, str], tuple[OpenTar | Referred, dict[str, tuple[str, tuple[FittedSample, ...]]]]]:
    """By source and input shard, its tar, and by uid a sample's key in it and its parts as tokens."""
    tokenizer = _tokenizer(storage.join(job.out, "tokenizer"), job.tokenizer_fingerprint, job.chat_template)
    wanted: dict[tuple[str, str, Any], dict[str, tuple[str, ...]]] = {}
    columns = (rows[name].to_pylist() for name in ("source", "shard", "kind", "uid"))
    for source, name, kind, uid, captions in zip(*columns, captions_of(rows), strict=True):
        wanted.setdefault((source, name, kind), {})[uid] = captions
    inputs = {}
    for (source, name, kind), said in sorted(wanted.items()):
        shard = shard_at(job.shards[source], name)
        sized = asks_sizes(kind, job.config)
        table = read_texts(shard, kind, said, sizes=sized)
        uids, keys, texts = (table[column].to_pylist() for column in ("uid", "key", "text"))
        spoken = [said[uid] or text for uid, text in zip(uids, texts, strict=True)]
        answers = fit_rows(tokenizer, kind, spoken, job.config, sizes_of(table) if sized else ())
        found = zip(uids, keys, answers, strict=True)
        samples = {uid: (key, answer) for uid, key, answer in found if not isinstance(answer, Rejection)}
        inputs[source, name] = open_images(shard), samples
    return inputs


@functools.lru_cache(maxsize=2)
def _tokenizer(path: str, fingerprint: str, chat_template: str) -> "PreTrainedTokenizerFast":
    tokenizer = load_tokenizer(path)
    if tokenizer_fingerprint(tokenizer) != fingerprint:
        raise ValueError(f"{path} is not the tokenizer that the plan was made with; write the pack again")
    return tokenizer


def _rows(job: PackJob) -> pa.Table:
    with storage.open_parquet(job.plan) as plan:
        rows = plan.read_row_group(job.window)
    return rows.filter((pc.field("sequence") >= job.first) & (pc.field("sequence") < job.end))


def _by_sequence(rows: pa.Table) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    numbers = rows["sequence"].to_numpy()
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    for start, end in itertools.pairwise(edges):
        yield int(numbers[start]), rows.slice(start, end - start).to_pylist()


def _fingerprint(job: PackJob, rows: pa.Table) -> str:
    """Of all that the pack shard's bytes depend on; of input shards their sizes, since reading them is the work."""
    places: list[Any] = sorted(set(zip(rows["source"].to_pylist(), rows["shard"].to_pylist(), strict=True)))
    inputs = [shard_at(job.shards[source], name) for source, name in places]
    identity = {
        "version": [_CODE_VERSION, manifest.VERSION],
        "rows": rows.to_pydict(),
        "config": job.config.settings(),
        "tokenizer": job.tokenizer_fingerprint + job.chat_template,
        "inputs": [[_size(shard.parquet), _size(shard.images)] for shard in inputs],
    }
    return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=16).hexdigest()


def _size(path: str) -> int:
    fs, inner = storage.filesystem(path)
    return int(fs.size(inner)) if fs.exists(inner) else -1


def _committed(job: PackJob, fingerprint: str) -> dict[str, Any] | None:
    """The record of the pack shard if it is there, whole and of this fingerprint."""
    try:
        schema = storage.read_schema(storage.join(job.out, f"{job.name}.index.parquet"))
        record: dict[str, Any] = json.loads((schema.metadata or {})[packs.METADATA_KEY])
    except (FileNotFoundError, KeyError, ValueError):
        return None
    whole = _size(storage.join(job.out, f"{job.name}.tar")) == record.get("bytes")
    # What a damaged tar could not give is tried again, once it is mended.
    kept = whole and record.get("fingerprint") == fingerprint and not record.get("damaged")
    return {**record, "resumed": True} if kept else None
