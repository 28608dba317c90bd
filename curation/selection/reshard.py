"""Materialising a selection: its samples, as often as their counts say, in new shards of equal size.

The plan is made from the input shards' rows alone, so output shard `00007` holds the same samples whatever the number
of workers, and a killed run goes on where it was. Output shards follow the order of the input; only the last is short.

Of a view the rows become samples of their own: trimmed documents with the nodes that are left (`key.json` has them,
each with all that was known of it) and their images, numbered anew; images with the text beside them; paragraphs.
"""

import functools
import hashlib
import itertools
import json
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.engine.items import run_pending
from mmcorpus.curation.engine.made_from import MadeFrom
from mmcorpus.curation.engine.output import Output, indexed_from
from mmcorpus.curation.selection.blur_faces import FaceBlurring, blur_sample
from mmcorpus.curation.selection.tables import read_selection, selection_pairs
from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.curation.store.members import is_whole
from mmcorpus.curation.store.places import lost_images
from mmcorpus.curation.store.shards import (
    SUCCESS,
    VIEW_FILE,
    Sample,
    Shard,
    ShardWriter,
    list_shards,
    read_rows,
    read_samples,
)
from mmcorpus.curation.store.views import read_kept

pc: Any = pyarrow.compute  # its stubs do not know chunked columns


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """The K samples that an output shard takes from one input shard."""

    shard: Shard
    pairs: uids.Pairs
    """Their uids, shape (K,), in key order."""
    first: npt.NDArray[np.int64]
    """Of each sample its first copy that goes here, shape (K,); not 0 where an output shard ended between copies."""
    last: npt.NDArray[np.int64]
    """The one after its last."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OutputShard:
    """One output shard's contents."""

    shard: Shard
    digits: int
    """Of a sample's number within the shard."""
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        return self.shard.name


@dataclass(frozen=True, kw_only=True, slots=True)
class ReshardReport:
    """Counts of what was written."""

    shards: int
    """Output shards that are there now."""
    samples: int
    """Samples in them, copies included."""
    not_written: int
    """Copies that could not be: rows of their parquets with the reason, `not_in_tar`, `missing_image` or
    `undecodable`."""
    resumed: int
    """Of these shards, the ones that an earlier run had committed."""
    missing: tuple[str, ...]
    """Uids of the selection that no input shard has."""
    unreadable: dict[str, str]
    """Input shards whose rows could not be read, and why. Their samples count as missing."""
    failed: dict[str, str]
    """Output shards that could not be written, and why (a damaged input tar is named). Run again to retry them."""


def reshard(
    shards_root: str,
    selection: str | pa.Table,
    out: str,
    *,
    samples_per_shard: int = 10_000,
    blur: FaceBlurring | None = None,
    workers: int | None = None,
) -> ReshardReport:
    """Write the selected samples of the shards under `shards_root` as new shards under `out`.

    A sample with count n is written n times, one after the other, with the same uid: key `000000012`, then
    `000000013-1`, …; the json of each says which `copy` it is, from 0. Needs an initialised Ray.

    Args:
        selection: a table of uid and count, or the path of one (.parquet, .npy, .txt).
        blur: blur the faces that a scorer has found; images without any keep their bytes, the others become JPEG. Not
            of documents, which have more than one image.
        workers: worker processes; None for as many as Ray has CPUs.

    Raises:
        ValueError: `out` holds shards of another selection, size or input; or faces of documents are to be blurred.
        RuntimeError: Ray is not initialised.
    """
    if samples_per_shard < 1:
        raise ValueError(f"samples_per_shard: {samples_per_shard} must be 1 or more")
    if blur is not None and any(shard.level == "document" for shard in list_shards(shards_root)[:1]):
        raise ValueError("faces are blurred in pairs; blur them when the images of documents are downloaded")
    table = read_selection(selection) if isinstance(selection, str) else selection
    outputs, missing, unreadable = plan_outputs(shards_root, table, out, samples_per_shard)
    view = storage.join(shards_root, VIEW_FILE)
    decisions = storage.read_bytes(view) if storage.exists(view) else b""
    _output(out, outputs, samples_per_shard, blur, decisions, indexed_from(shards_root)).claim()
    committed = {shard.name for shard in list_shards(out)}
    work = functools.partial(write_output, blur=blur)
    ran = run_pending(lambda: work, outputs, committed=committed, title="reshard", workers=workers)
    failed = {name: str(failure) for name, failure in ran.failed.items()}
    written = [output for output in outputs if output.shard.name not in failed]
    stats = storage.threaded(lambda output: storage.read_json(output.shard.stats), written)
    return ReshardReport(
        shards=len(written),
        samples=sum(one["successes"] for one in stats),
        not_written=sum(one["count"] - one["successes"] for one in stats),
        resumed=ran.resumed,
        missing=missing,
        unreadable=unreadable,
        failed=failed,
    )


def plan_outputs(
    shards_root: str, selection: pa.Table, out: str, samples_per_shard: int
) -> tuple[list[OutputShard], tuple[str, ...], dict[str, str]]:
    """The output shards, the uids not found, and the input shards whose rows could not be read.

    A uid in several input rows is taken from the first.
    """
    wanted, counts = selection_pairs(selection)
    taken = np.zeros(len(wanted), bool)
    unreadable: dict[str, str] = {}
    parts: list[list[Part]] = []
    written = 0
    for shard in list_shards(shards_root):
        try:
            pairs = _usable_pairs(shard)
        except (OSError, pa.ArrowException, ValueError) as error:
            unreadable[shard.name] = f"{type(error).__name__}: {error}"
            continue
        found = uids.find(pairs, wanted)
        _, rows = np.unique(found, return_index=True)
        rows = rows[found[rows] >= 0]
        rows = np.sort(rows[~taken[found[rows]]])
        taken[found[rows]] = True
        for number, part in _split(shard, pairs[rows], counts[found[rows]], written, samples_per_shard):
            parts.extend([] for _ in range(number + 1 - len(parts)))
            parts[number].append(part)
        written += int(counts[found[rows]].sum())
    digits = max(4, len(str(samples_per_shard - 1)))
    outputs = [
        OutputShard(shard=Shard(root=out, name=f"{number:05d}"), digits=digits, parts=tuple(content))
        for number, content in enumerate(parts)
    ]
    return outputs, tuple(str(uid) for uid in uids.decode(wanted[~taken]).to_pylist()), unreadable


def _split(
    shard: Shard, pairs: uids.Pairs, counts: npt.NDArray[np.int64], start: int, size: int
) -> Iterator[tuple[int, Part]]:
    """The parts of one input shard, each with the number of its output shard.

    With start 9, size 10 and counts [3, 1], the copies stand at 9 10 11 and 12: output 0 gets copy 0 of the first
    sample; output 1 gets its copies 1 and 2, and the second sample.
    """
    ends = start + np.cumsum(counts)
    begins = ends - counts
    last_number = (int(ends[-1]) - 1) // size if len(ends) else -1
    for number in range(start // size, last_number + 1):
        low, high = number * size, (number + 1) * size
        inside = slice(int(np.searchsorted(ends, low, "right")), int(np.searchsorted(begins, high, "left")))
        first = np.maximum(low - begins[inside], 0)
        last = np.minimum(high, ends[inside]) - begins[inside]
        yield number, Part(shard=shard, pairs=pairs[inside], first=first, last=last)


def _usable_pairs(shard: Shard) -> uids.Pairs:
    rows = read_rows(shard, ["key", "uid", "status"]).sort_by("key")
    return uids.encode(rows["uid"].filter(pc.equal(rows["status"], SUCCESS)))


def _output(
    out: str, outputs: list[OutputShard], samples_per_shard: int, blur: FaceBlurring | None, view: bytes, indexed: str
) -> Output:
    """The folder that the plan fills.

    A view's file says by which decisions its documents were trimmed: other decisions, other samples of the same uids.
    So has what was `indexed` from other files.
    """
    digest = hashlib.blake2b(digest_size=8)
    for output in outputs:
        for part in output.parts:
            digest.update(f"{output.shard.name} {part.shard.name} {len(part.pairs)} ".encode())
            for array in (part.pairs, part.first, part.last):
                digest.update(np.ascontiguousarray(array).tobytes())
    config = {"samples_per_shard": samples_per_shard, "blur": blur.scores if blur is not None else None}
    inputs = {"selected samples": digest.hexdigest(), "view": hashlib.blake2b(view, digest_size=8).hexdigest()}
    if indexed:
        inputs["indexed"] = indexed
    # Of references, samples without images came last once.
    version = "2" if any(part.shard.references for output in outputs for part in output.parts) else "1"
    return Output(
        folder=out,
        holds="resharded samples",
        made_from=MadeFrom(config=config, version=version, inputs=inputs),
        earlier=("reshard.json",),
    )


def write_output(output: OutputShard, blur: FaceBlurring | None = None) -> dict[str, Any]:
    """Write one output shard; returns its number of samples.

    A sample that its tar lacks, one whose images are no longer where they were indexed, and one with faces that cannot
    be decoded, has a row with the reason.

    Raises:
        OSError: an input tar is damaged or cut; nothing is committed.
    """
    number = 0
    with ShardWriter(output.shard) as writer:
        for part in output.parts:
            boxes = blur.boxes(part.shard.name) if blur is not None else {}
            nodes = _nodes(part)
            for uid, found, copy in _copies(part):
                suffix = f"-{copy}" if copy else ""
                key = f"{output.shard.name}{number:0{output.digits}d}{suffix}"
                number += 1
                if found is None:
                    writer.fail(key, uid, f"not_in_tar: {posixpath.basename(part.shard.images)} lacks it")
                    continue
                lost = lost_images(found.meta, len(found.images)) if part.shard.references else ""
                if lost:
                    writer.fail(key, uid, lost)
                    continue
                try:
                    sample = blur_sample(found, boxes)
                except ValueError as error:
                    writer.fail(key, uid, f"undecodable: {error}")
                    continue
                meta = {**sample.meta, "copy": copy}
                if uid in nodes:
                    meta["nodes"] = nodes[uid]
                writer.write(Sample(key=key, uid=uid, caption=sample.caption, images=sample.images, meta=meta))
    return {"samples": number}


def _nodes(part: Part) -> dict[str, str]:
    """By uid, the nodes of trimmed documents, their images numbered from 0 in page order; nothing of other samples."""
    if part.shard.level != "document":
        return {}
    found: dict[str, str] = {}
    for row, nodes in read_kept(part.shard, uids.decode(part.pairs).to_pylist()):
        numbers = itertools.count()
        listed = [{**node, "image": next(numbers)} if "image" in node else node for node in nodes]
        found[row["uid"]] = json.dumps(listed, ensure_ascii=False)
    return found


def _copies(part: Part) -> Iterator[tuple[str, Sample | None, int]]:
    """The copies of a part's samples, in the order of the tar (which needs one sample in memory at a time).

    Those that a whole tar lacks come last, without a sample.
    """
    names = (str(uid) for uid in uids.decode(part.pairs).to_pylist())
    ranges = dict(zip(names, zip(part.first.tolist(), part.last.tolist(), strict=True), strict=True))
    try:
        for sample in read_samples(part.shard, ranges.keys()):
            # Popped, so that a uid that stands twice in a tar is taken once, as in the plan.
            first, last = ranges.pop(sample.uid, (0, 0))
            for copy in range(first, last):
                yield sample.uid, sample, copy
        if ranges and not part.shard.references and not is_whole(part.shard.tar):
            raise EOFError(f"it ends early, {len(ranges)} samples of its rows are missing")
    except (OSError, ValueError, EOFError, tarfile.TarError) as error:
        raise OSError(f"input shard {part.shard.images} cannot be read: {error}") from error
    for uid, (first, last) in ranges.items():
        for copy in range(first, last):
            yield uid, None, copy
