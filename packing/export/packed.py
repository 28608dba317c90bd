"""Packs as parquet that Hugging Face `datasets` loads: a row a sequence.

`input_ids` (int32, each image one -200), `labels` (the same length: -100 where nothing is to be learned, as everybody's
losses ignore), `images`, and of each sample `uids`, `sources`, `lengths`, `token_counts`, `image_counts`, `loss_spans`.
Where targets have weights there are `weights`, too (float32, as long as `labels`): what each loss is multiplied by, 0
where nothing is to be learned.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmcorpus.curation.engine.items import run_pending
from mmcorpus.curation.engine.made_from import MadeFrom, digest
from mmcorpus.curation.engine.output import Output
from mmcorpus.curation.store import storage
from mmcorpus.packing.export.huggingface import DATA, IMAGE, struct, with_features, write_card, write_rows
from mmcorpus.packing.export.run import DONE, ExportReport
from mmcorpus.packing.packs import PackReader
from mmcorpus.packing.pickles import IGNORED, labels_of
from mmcorpus.packing.sequence import PackedSequence

_INTS: Final = pa.list_(pa.int32())
SCHEMA: Final = pa.schema(
    {
        "sequence": pa.int64(),
        "input_ids": _INTS,
        "labels": _INTS,
        "images": pa.list_(IMAGE),
        "uids": pa.list_(pa.string()),
        "sources": pa.list_(pa.string()),
        "lengths": _INTS,
        "token_counts": _INTS,
        "image_counts": _INTS,
        "loss_spans": pa.list_(pa.list_(_INTS)),
    }
)
WEIGHTS: Final = pa.field("weights", pa.list_(pa.float32()))
"""Of packs whose targets have weights."""


def export_packs(packs: str, out: str, *, workers: int | None = None) -> ExportReport:
    """Write packs as `OUT/data/00000.parquet …`; what an earlier call committed is kept.

    Raises:
        PackError: (a ValueError) there are no packs, or such as a row cannot say: images with several captions.
        ValueError: `out` holds another export.
        RuntimeError: Ray is not running (workers=0 needs none).
    """
    reader = PackReader(packs)
    if reader.annotated:
        raise ValueError(
            f"{packs} has {reader.annotated:,} images with several captions, which must not see each other, and "
            "rows of ids cannot say so: plan without annotations"
        )
    shards = [str(shard["name"]) for shard in reader.manifest["shards"]]
    output = Output(
        folder=out,
        holds="an export (packs)",
        made_from=MadeFrom(
            config={"kind": "packs"} | ({"weights": True} if _weighted(reader) else {}),
            inputs={"packs": digest([shard["sha256"] for shard in reader.manifest["shards"]])},
        ),
    )
    committed = {name.removesuffix(".json") for name in storage.list_names(storage.join(out, DONE))}
    output.claim(bool(committed))
    work = partial(_write_shard, packs, out)
    ran = run_pending(lambda: work, shards, committed=committed, title="export packs", workers=workers)
    failed = {name: str(failure) for name, failure in ran.failed.items()}
    done = [name for name in shards if name not in failed]
    said = storage.threaded(lambda name: storage.read_json(_done(out, name)), done)
    if not failed:
        write_card(out)
    return ExportReport(
        shards=len(done), resumed=ran.resumed, samples=sum(one["samples"] for one in said),
        images=sum(one["images"] for one in said), left_out={}, missing=0, failed=failed,
    )  # fmt: skip


def _weighted(reader: PackReader) -> bool:
    return bool(reader.manifest["counts"].get("weighted"))


def _weights(packed: PackedSequence, labels: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """The weight of each label's loss, shape (tokens,)."""
    weights = (labels != IGNORED).astype(np.float32)
    for spans, own in zip(packed.loss_spans, packed.weights, strict=bool(packed.weights)):
        for (start, end), weight in zip(spans, own, strict=bool(own)):
            weights[start:end] *= weight
    return weights


def _done(out: str, name: str) -> str:
    return storage.join(out, DONE, f"{name}.json")


def _write_shard(packs: str, out: str, name: str) -> dict[str, int]:
    reader = PackReader(packs)
    numbers = np.flatnonzero(np.array(reader.index["shard"].to_pylist()) == name).tolist()
    counts = {"samples": 0, "images": 0}
    weighted = _weighted(reader)
    schema = with_features(SCHEMA.append(WEIGHTS) if weighted else SCHEMA)

    def rows() -> Iterator[tuple[dict[str, Any], int]]:
        for number in numbers:
            packed = reader[number]
            counts["samples"] += len(packed.uids)
            counts["images"] += len(packed.images)
            labels = labels_of(packed)
            row = {
                "sequence": packed.sequence,
                "input_ids": packed.input_ids,
                "labels": labels,
                "images": [
                    struct(image, f"{packed.sequence:08d}.{place:03d}.{image.extension}")
                    for place, image in enumerate(packed.images)
                ],
                "loss_spans": [[list(span) for span in spans] for spans in packed.loss_spans],
                **{each: getattr(packed, each) for each in ("uids", "sources", "lengths", "token_counts")},
                "image_counts": packed.image_counts,
                **({"weights": _weights(packed, labels)} if weighted else {}),
            }
            yield row, sum(len(image.data) for image in packed.images)

    write_rows(storage.join(out, DATA, f"{name}.parquet"), schema, rows())
    storage.write_json(_done(out, name), counts)
    return {"kept": counts["samples"]}
