"""The driver of exports: which samples of which shards, how often, and which shards are written already.

Everything of a shard is written before its file in `OUT/done/`, which commits it; what concerns the whole – a data
set's card, one list of all – is written once all shards are there. Equal inputs give equal bytes, so that a killed
export goes on where it was.
"""

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.documents.read_extracted import digest_of_shards
from mmcorpus.curation.engine.items import run_pending
from mmcorpus.curation.engine.made_from import MadeFrom, digest, plain
from mmcorpus.curation.engine.output import Output, indexed_from
from mmcorpus.curation.selection.tables import read_selection, selection_pairs
from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.curation.store.places import MISSING_IMAGE
from mmcorpus.curation.store.shards import SUCCESS, VIEW_FILE, Shard, list_shards, no_shards, read_rows
from mmcorpus.packing.export.items import Item, Kind, read_items

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

DONE: Final = "done"
"""The folder of the files that commit a shard each, and hold its counts."""
NOT_HELD: Final = "not_held"
"""The code of a sample of a kind that the layout cannot say."""


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """The outcome of an export."""

    shards: int
    """Written, now or before."""
    resumed: int
    """Of these, written before."""
    samples: int
    """Copies included."""
    images: int
    left_out: dict[str, int]
    """Samples that the layout cannot hold, or that cannot be read, by reason."""
    missing: int
    """Uids of the selection that no shard has."""
    failed: dict[str, str]
    """Shards that could not be exported, and why; run again to try them again."""


@dataclass(kw_only=True)
class Written:
    """What became of the copies of a shard's samples."""

    samples: int = 0
    images: int = 0
    left_out: dict[str, int] = field(default_factory=Counter)
    """By reason."""


@dataclass(frozen=True, kw_only=True)
class Exporter(ABC):
    """A layout and its settings, all of which decide what is written."""

    kind: ClassVar[str]
    """Its name on the command line."""
    holds: ClassVar[frozenset[Kind]]
    """The kinds of samples that it can say."""
    version: ClassVar[str] = "1"
    """Raised when the same samples would give other bytes."""

    def prepare(self, out: str, shards: Sequence[Shard]) -> "Exporter":
        """The exporter that works on the shards, having seen what all of them hold. Raises ValueError where one cannot
        be exported so."""
        return self

    @abstractmethod
    def write_shard(self, out: str, shard: Shard, counts: Mapping[str, int]) -> Written:
        """Write the copies of some samples of a shard; returns what was written."""

    @abstractmethod
    def finish(self, out: str, names: Sequence[str]) -> None:
        """Write what concerns all shards, which are named in order."""


@dataclass(frozen=True, kw_only=True)
class ItemExporter(Exporter):
    """One that writes the samples of a shard one after the other."""

    def write_shard(self, out: str, shard: Shard, counts: Mapping[str, int]) -> Written:
        """Write the copies of some samples of a shard; returns what was written."""
        written = Written()

        def held() -> Iterator[Item]:
            for item in read_items(shard, counts):
                if isinstance(item, tuple):
                    written.left_out[item[1]] += 1
                elif item.kind not in self.holds:
                    written.left_out[f"{NOT_HELD}: {item.kind}"] += 1
                else:
                    written.samples += 1
                    written.images += len(item.images)
                    yield item

        self.write(out, shard.name, held())
        return written

    @abstractmethod
    def write(self, out: str, name: str, items: Iterator[Item]) -> None:
        """Write the files of the shard of a name; equal items give equal bytes."""


def export_samples(
    exporter: Exporter,
    shards: str,
    out: str,
    *,
    selection: str | pa.Table | None = None,
    workers: int | None = None,
) -> ExportReport:
    """Write the samples of some shards, as often as a selection counts them, in an exporter's layout.

    Needs an initialised Ray, but for `workers=0`. Samples keep the shards' order, copies following each other.

    Args:
        shards: a folder of shards: downloaded, resharded, others', or of documents (`shards/<source>.trimmed`).
        selection: a table of uid and count, or the path of one (.parquet, .npy, .txt); None for every sample.
        workers: None for as many as Ray has CPUs; 0 for this process, without Ray.

    Raises:
        ValueError: `shards` has no shards, or such as the layout cannot hold; or `out` holds another export.
        RuntimeError: Ray is not running.
    """
    listed = list_shards(shards)
    if not listed:
        raise no_shards(shards)
    table = read_selection(selection) if isinstance(selection, str) else selection
    view = storage.join(shards, VIEW_FILE)
    output = Output(
        folder=out,
        holds=f"an export ({exporter.kind})",
        made_from=MadeFrom(
            config=plain(asdict(exporter)),
            version=exporter.version,
            inputs={
                "shards": digest_of_shards(shards),
                "decisions": digest(storage.read_json(view) if storage.exists(view) else None),
                "selection": "" if table is None else _digest_of(table),
                **({"indexed": indexed} if (indexed := indexed_from(shards)) else {}),
            },
        ),
    )
    prepared = exporter.prepare(out, listed)
    committed = {name.removesuffix(".json") for name in storage.list_names(storage.join(out, DONE))}
    output.claim(bool(committed))
    referring = [(out, shard.name) for shard in listed if shard.references and shard.name in committed]
    committed -= {*storage.threaded(_lost_some, referring)}
    storage.sweep(out)
    chosen, missing = _choose(listed, table)
    work = ExportShard(exporter=prepared, out=out)
    ran = run_pending(
        lambda: work, chosen, committed=committed, name=lambda job: job[0].name, title=f"export {exporter.kind}",
        workers=workers,
    )  # fmt: skip
    failed = {name: str(failure) for name, failure in ran.failed.items()}
    names = [shard.name for shard, _ in chosen if shard.name not in failed]
    said = storage.threaded(lambda name: storage.read_json(work.done(name)), names)
    if not failed:
        prepared.finish(out, names)
    left_out = Counter[str]()
    for one in said:
        left_out.update(one["left_out"])
    return ExportReport(
        shards=len(names), resumed=ran.resumed, samples=sum(one["samples"] for one in said),
        images=sum(one["images"] for one in said), left_out=dict(left_out.most_common()), missing=missing,
        failed=failed,
    )  # fmt: skip


def _lost_some(one: tuple[str, str]) -> str:
    """The name of a shard that left out samples because files of others were gone, which may be back; else empty."""
    out, name = one
    left_out = storage.read_json(storage.join(out, DONE, f"{name}.json"))["left_out"]
    return name if any(reason.startswith(MISSING_IMAGE) for reason in left_out) else ""


def _digest_of(selection: pa.Table) -> str:
    pairs, counts = selection_pairs(selection)
    return hashlib.blake2b(pairs.tobytes() + counts.tobytes(), digest_size=16).hexdigest()


def _choose(listed: Sequence[Shard], selection: pa.Table | None) -> tuple[list[tuple[Shard, "Chosen"]], int]:
    """The shards that have selected samples, with these; and how many selected uids none has.

    A uid in several shards is taken from the first.
    """
    wanted, counts = selection_pairs(selection) if selection is not None else (None, None)
    taken = np.zeros(0 if wanted is None else len(wanted), bool)
    chosen: list[tuple[Shard, Chosen]] = []
    for shard in listed:
        if wanted is None or counts is None:
            chosen.append((shard, Chosen(pairs=None, counts=None)))
            continue
        rows = read_rows(shard, ["uid", "status"])
        found = uids.find(uids.encode(rows["uid"].filter(pc.equal(rows["status"], SUCCESS))), wanted)
        found = np.unique(found[found >= 0])
        found = found[~taken[found]]
        taken[found] = True
        if len(found):
            chosen.append((shard, Chosen(pairs=wanted[found], counts=counts[found])))
    return chosen, int((~taken).sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """Samples of a shard: uids (N,) and how often each, (N,); None for every sample once."""

    pairs: uids.Pairs | None
    counts: Any

    def by_uid(self, shard: Shard) -> dict[str, int]:
        if self.pairs is None:
            rows = read_rows(shard, ["uid", "status"])
            return dict.fromkeys(rows["uid"].filter(pc.equal(rows["status"], SUCCESS)).to_pylist(), 1)
        return dict(zip(map(str, uids.decode(self.pairs).to_pylist()), self.counts.tolist(), strict=True))


@dataclass(frozen=True, kw_only=True)
class ExportShard:
    """The work on one shard."""

    exporter: Exporter
    out: str

    def done(self, name: str) -> str:
        """The file that commits a shard."""
        return storage.join(self.out, DONE, f"{name}.json")

    def __call__(self, job: tuple[Shard, Chosen]) -> dict[str, int]:
        """Write the shard and commit it; returns counts."""
        shard, chosen = job
        written = self.exporter.write_shard(self.out, shard, chosen.by_uid(shard))
        left_out = dict(sorted(written.left_out.items()))
        counts = {"samples": written.samples, "images": written.images, "left_out": left_out}
        storage.write_json(self.done(shard.name), counts)
        return {"kept": written.samples, **left_out}
