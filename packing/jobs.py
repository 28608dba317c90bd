"""Pack shards: their samples tokenized as planned, their images fetched, the tars written, all from a small job."""

import hashlib
import itertools
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.engine.guard import SetAside, guarded
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.places import Moved
from mmcorpus.curation.store.shards import EncodedImage, shard_at
from mmcorpus.packing import manifest, packs
from mmcorpus.packing.annotations import captions_of
from mmcorpus.packing.config import PlanConfig
from mmcorpus.packing.inputs import OpenTar, Referred, content_of, open_images, read_texts, stored_images
from mmcorpus.packing.samples import FittedSample, Rejection, asks_sizes, fit_copies
from mmcorpus.packing.sequence import PackedSequence
from mmcorpus.packing.stored_images import Images, Reference, resized
from mmcorpus.packing.tokens import cached_tokenizer

MISSING_IMAGE: Final = "missing_image"
STORED: Final = ("arrived_bytes", "stored_bytes", "resized")
"""What a pack shard's record counts of images that are not stored as they arrived: their bytes before and in the pack,
and how many were resized."""
_CODE_VERSION: Final = 4  # input shards are known by their rows
"""Raised whenever the same job would write other bytes."""


@dataclass(frozen=True, kw_only=True)
class PackPart:
    """One pack shard of a job."""

    name: str
    """The pack shard's, e.g. `00012`."""
    first: int
    """Its first sequence."""
    end: int
    """One past its last sequence."""


@dataclass(frozen=True, kw_only=True)
class PackJob:
    """Pack shards of one window to write; small and picklable."""

    parts: tuple[PackPart, ...]
    """Several where the input shards are remote: a window's are then read once for all of them."""
    out: str
    """The pack's folder, which holds the tokenizer."""
    plan: str
    window: int
    """The plan's row group that holds its sequences."""
    shards: dict[str, str]
    """Folder of each source's input shards."""
    tokenizer_fingerprint: str
    chat_template: str
    """The hash of the tokenizer's own chat template, if conversations are written in it; else empty."""
    config: PlanConfig
    images: Images = "original"
    image_side: int = 0
    """Pixels of a resized image's shorter side; 0 unless `images` is `resized`."""

    @property
    def name(self) -> str:
        """That of its first pack shard."""
        return self.parts[0].name


Inputs = dict[tuple[str, str], tuple[OpenTar | Referred, dict[str, tuple[str, list[tuple[FittedSample, ...]]]]]]
"""By source and input shard, its tar, and by uid a sample's key in it and, its parts, a rendering each."""


def write_pack_shards(job: PackJob) -> dict[str, Any]:
    """Do one job but for what was done before; returns its `name` and the records of its `shards`: PackShardWriter's
    and `dropped` ([source, uid, rule, value], …), `planned`, `resumed`, and of those written now `damage`: by source
    and file name, which inputs cannot be read as they should, and why."""
    with storage.open_parquet(job.plan) as plan:
        window = plan.read_row_group(job.window)
    numbers = pc.field("sequence")
    rows = {part.name: window.filter((numbers >= part.first) & (numbers < part.end)) for part in job.parts}
    fingerprints = {part.name: _fingerprint(job, rows[part.name]) for part in job.parts}
    records = {part.name: _committed(job, part.name, fingerprints[part.name]) for part in job.parts}
    left = [part for part in job.parts if records[part.name] is None]
    if left:
        inputs = _inputs(job, pa.concat_tables([rows[part.name] for part in left]))
        for part in left:
            records[part.name] = _write(job, part, rows[part.name], fingerprints[part.name], inputs)
    return {"name": job.name, "shards": [records[part.name] for part in job.parts]}


def _write(job: PackJob, part: PackPart, rows: pa.Table, fingerprint: str, inputs: Inputs) -> dict[str, Any]:
    metadata: dict[str, Any] = {"fingerprint": fingerprint, "dropped": [], "planned": part.end - part.first}
    stored, cut = Counter[str](), dict[str, str]()
    with packs.PackShardWriter(
        job.out, part.name, tokens_per_image=job.config.per_image, layout=job.config.layout, metadata=metadata
    ) as writer:
        for sequence, planned in _by_sequence(rows):
            chosen: list[_Chosen] = []
            for row in planned:
                place = row["source"], row["shard"]
                tar, samples = inputs[place]
                key, renderings = samples.get(row["uid"], ("", [()]))
                parts = renderings[row["copy"] % len(renderings)]
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
                    chosen.append(_stored(job, row, sample, images, tar, key, stored))
                except LookupError as error:
                    if tar.cut:
                        cut[_named(row["source"], tar)] = tar.cut
                    said = error.brief if isinstance(error, Moved) else error.args[0]
                    drop = [row["source"], row["uid"], MISSING_IMAGE, f"{MISSING_IMAGE}: {said}"]
                    writer.record["dropped"].append(drop)
            if chosen:
                references = tuple(one for own in chosen for one in own.references)
                writer.write(_assemble(sequence, chosen), references)
        wanting = rows.filter(pc.field("images") > 0)
        places: set[Any] = set(zip(wanting["source"].to_pylist(), wanting["shard"].to_pylist(), strict=True))
        opened = {_named(place[0], inputs[place][0]): inputs[place][0] for place in places}
        damage = dict(sorted((cut | {name: tar.damage for name, tar in opened.items() if tar.damage}).items()))
        if damage:
            writer.record["damaged"] = list(damage)
        if job.images != "original":
            writer.record["stored"] = {name: stored[name] for name in STORED}
    return {**writer.record, "resumed": False, "damage": damage}


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """A planned sample with all that it needs."""

    row: dict[str, Any]
    sample: FittedSample
    images: tuple[EncodedImage, ...]
    references: tuple[Reference, ...] = ()


def _stored(
    job: PackJob,
    row: dict[str, Any],
    sample: FittedSample,
    images: tuple[EncodedImage, ...],
    tar: OpenTar | Referred,
    key: str,
    counts: Counter[str],
) -> _Chosen:
    """The sample with its images as the pack stores them; `counts` is what that saves. Raises LookupError for one whose
    image takes its decoder down."""
    counts["arrived_bytes"] += sum(len(image.data) for image in images)
    if job.images == "reference":
        assert isinstance(tar, OpenTar), "write_packs refuses to refer to references"
        places = tar.places(key, sample.tokens.images)
        references = tuple(
            Reference(
                source=row["source"], shard=row["shard"], offset=offset, size=size, crc32=zlib.crc32(image.data),
                extension=extension,
            )
            for (extension, offset, size), image in zip(places, images, strict=True)
        )  # fmt: skip
        return _Chosen(row=row, sample=sample, images=images, references=references)
    if job.images == "resized":
        try:
            small = tuple(
                guarded(f"resized@{job.image_side}", f"{row['uid']}.{number}", resized, image, job.image_side)
                for number, image in enumerate(images)
            )
        except SetAside as error:
            raise LookupError(str(error)) from error
        counts["resized"] += sum(one is not image for one, image in zip(small, images, strict=True))
        images = small
    counts["stored_bytes"] += sum(len(image.data) for image in images)
    return _Chosen(row=row, sample=sample, images=images)


def _named(source: str, tar: OpenTar | Referred) -> str:
    """The tar by a name that is the same wherever the run lies."""
    return f"{source}/{os.path.basename(tar.path)}"


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


def _assemble(sequence: int, chosen: Sequence[_Chosen]) -> PackedSequence:
    rows, samples, images = zip(*((one.row, one.sample, one.images) for one in chosen), strict=True)
    tokens = [sample.tokens for sample in samples]
    counts = [len(own.input_ids) for own in tokens]
    starts = [0, *itertools.accumulate(counts[:-1])]
    branches = [tuple(start + first for first in own.branches) for start, own in zip(starts, tokens, strict=True)]
    weights, tags = (tuple(getattr(own, name) for own in tokens) for name in ("weights", "tags"))
    return PackedSequence(
        sequence=sequence,
        weights=weights if any(weights) else (),
        tags=tags if any(tags) else (),
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


def _inputs(job: PackJob, rows: pa.Table) -> Inputs:
    tokenizer = cached_tokenizer(storage.join(job.out, "tokenizer"), job.tokenizer_fingerprint, job.chat_template)
    wanted: dict[tuple[str, str, Any], dict[str, tuple[str, ...]]] = {}
    most: dict[tuple[str, str, str], int] = {}
    """Of each sample the last copy that is here, so that no other is rendered."""
    columns = (rows[name].to_pylist() for name in ("source", "shard", "kind", "uid", "copy"))
    for source, name, kind, uid, copy, captions in zip(*columns, captions_of(rows), strict=True):
        wanted.setdefault((source, name, kind), {})[uid] = captions
        most[source, name, uid] = max(copy, most.get((source, name, uid), 0))
    inputs = {}
    for (source, name, kind), said in sorted(wanted.items()):
        shard = shard_at(job.shards[source], name)
        if not (storage.exists(shard.parquet) or storage.exists(shard.tar)):
            raise ValueError(f"{job.plan} names {source}/{name}, and there is no such shard any more; plan again")
        table = read_texts(shard, kind, said, sizes=asks_sizes(kind, job.config) and kind != "document")
        uids, keys, texts = (table[column].to_pylist() for column in ("uid", "key", "text"))
        spoken = [said[uid] or text for uid, text in zip(uids, texts, strict=True)]
        copies = [most[source, name, uid] + 1 for uid in uids]
        own = np.array(uids, dtype="S32")
        answers = fit_copies(tokenizer, kind, spoken, job.config, stored_images(table), own, copies)
        samples = {
            uid: (key, [answer for answer in answers_of if not isinstance(answer, Rejection)])
            for uid, key, answers_of in zip(uids, keys, answers, strict=True)
            if not isinstance(answers_of[0], Rejection)
        }
        inputs[source, name] = open_images(shard, {key for key, _ in samples.values()}), samples
    return inputs


def _by_sequence(rows: pa.Table) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    numbers = rows["sequence"].to_numpy()
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    for start, end in itertools.pairwise(edges):
        yield int(numbers[start]), rows.slice(start, end - start).to_pylist()


def _fingerprint(job: PackJob, rows: pa.Table) -> str:
    """Of all that the pack shard's bytes depend on; of input shards their parquets' bytes and the tables
    that say where images lie, of tars the size, since reading these is the work."""
    places: list[Any] = sorted(set(zip(rows["source"].to_pylist(), rows["shard"].to_pylist(), strict=True)))
    inputs = [shard_at(job.shards[source], name) for source, name in places]
    identity = {
        "version": [_CODE_VERSION, manifest.VERSION],
        "rows": rows.to_pydict(),
        "config": job.config.settings(),
        "tokenizer": job.tokenizer_fingerprint + job.chat_template,
        "inputs": [
            [content_of(shard.parquet), content_of(shard.images) if shard.references else _size(shard.images)]
            for shard in inputs
        ],
        **({} if job.images == "original" else {"images": [job.images, job.image_side]}),
    }
    return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=16).hexdigest()


def _size(path: str) -> int:
    fs, inner = storage.filesystem(path)
    return int(fs.size(inner)) if fs.exists(inner) else -1


def _committed(job: PackJob, name: str, fingerprint: str) -> dict[str, Any] | None:
    """The record of the pack shard if it is there, whole and of this fingerprint."""
    try:
        schema = storage.read_schema(storage.join(job.out, f"{name}.index.parquet"))
        record: dict[str, Any] = json.loads((schema.metadata or {})[packs.METADATA_KEY])
    except (FileNotFoundError, KeyError, ValueError):
        return None
    whole = _size(storage.join(job.out, f"{name}.tar")) == record.get("bytes")
    # What a damaged input could not give is tried again, once it is mended.
    kept = whole and record.get("fingerprint") == fingerprint and not record.get("damaged")
    return {**record, "resumed": True} if kept else None
