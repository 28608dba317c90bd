"""A plan's windows as jobs, so that they can be fitted and packed by any number of workers: the same plan by each.

What a window makes of its shards depends on their rows and on which of its uids are selected. A uid that several
shards have belongs to the first: it is reserved as jobs are made, one after the other, from the uids alone, and each
job takes the reserved part of the selection along. In this process a job has all of it, and decides as it reads.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from mmcorpus.curation.store.shards import Shard
from mmcorpus.packing.annotations import Annotations, with_captions
from mmcorpus.packing.config import PlanConfig
from mmcorpus.packing.inputs import Kind, read_texts, read_uids, stored_images, uid_bytes
from mmcorpus.packing.measure import fit_measured, measured_uids, origin
from mmcorpus.packing.mixture import Amount
from mmcorpus.packing.samples import asks_sizes, fit_copies
from mmcorpus.packing.tokens import cached_tokenizer
from mmcorpus.packing.verdicts import FittedRows, SourceVerdicts
from mmcorpus.packing.window import pack_window

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_NO_UIDS: Final = np.zeros(0, dtype="S32")


@dataclass(frozen=True, kw_only=True)
class ShardShare:
    """A shard of a window, or a share of its samples."""

    source: str
    kind: Kind
    lengths: str | None
    """The root of the source's tables of lengths; None if its texts are to be measured."""
    shard: Shard
    share: tuple[int, int] = (0, 1)
    """(i, n): the i-th of n parts of its samples, drawn by a hash of their uids."""


@dataclass(frozen=True, kw_only=True)
class WindowJob:
    """A window; picklable."""

    name: str
    config: PlanConfig
    tokenizer: str
    """A name or folder for `load_tokenizer`, on every machine."""
    fingerprint: str
    """The tokenizer's."""
    shards: tuple[ShardShare, ...]
    windows: int
    """Of the whole plan."""
    verdicts: Mapping[str, SourceVerdicts]
    """By source, what is selected."""
    captions: Mapping[str, Annotations]


class Windows:
    """Jobs in order, and what becomes of the selections as their results are taken in, in that order too."""

    def __init__(
        self,
        config: PlanConfig,
        tokenizer: tuple[str, str],
        verdicts: Mapping[str, SourceVerdicts],
        captions: Mapping[str, Annotations],
        *,
        apart: bool,
    ) -> None:
        """`tokenizer`: its name or folder, and fingerprint. `apart`: jobs are worked on elsewhere."""
        self._config, self._tokenizer = config, tokenizer
        self._verdicts, self._captions, self._apart = verdicts, captions, apart
        self._reserved: dict[str, dict[str, npt.NDArray[np.int64]]] = {}
        """By job and source, the places of its uids in the selection, while it is worked on."""

    def jobs(self, windows: Sequence[Sequence[ShardShare]]) -> Iterator[WindowJob]:
        """A job a window."""
        for number, shards in enumerate(windows):
            name = f"window {number}"
            verdicts, captions = self._verdicts, self._captions
            if self._apart:
                reserved = self._reserved[name] = self._reserve(shards)
                verdicts = {source: verdicts[source].part(places) for source, places in reserved.items()}
                captions = {
                    source: own.part(verdicts[source].uids() if source in verdicts else _NO_UIDS)
                    for source, own in captions.items()
                }
            path, fingerprint = self._tokenizer
            yield WindowJob(
                name=name, config=self._config, tokenizer=path, fingerprint=fingerprint, shards=tuple(shards),
                windows=len(windows), verdicts=verdicts, captions=captions,
            )  # fmt: skip

    def take_in(self, result: Mapping[str, Any]) -> None:
        """Record what became of a job's samples."""
        for source, places in self._reserved.pop(result["name"], {}).items():
            self._verdicts[source].take_in(places, result["verdicts"][source])

    def _reserve(self, shards: Sequence[ShardShare]) -> dict[str, npt.NDArray[np.int64]]:
        reserved: dict[str, list[npt.NDArray[np.int64]]] = {}
        tokenizer = cached_tokenizer(*self._tokenizer)
        for own in shards:
            if own.lengths is not None:
                uids = measured_uids(own.lengths, own.shard, origin(own.kind, tokenizer, self._config))
            else:
                uids = read_uids(own.shard)
            reserved.setdefault(own.source, []).append(self._verdicts[own.source].reserve(uids, own.share))
        return {source: np.sort(np.concatenate(places)) for source, places in reserved.items()}


def plan_window(job: WindowJob) -> dict[str, Any]:
    """A window's rows of the plan as `table`, sequences numbered from 0; its `name`, how many `shards` end in it, and
    its `verdicts` by source."""
    rows = [(own.source, own.kind, own.shard.name, fitted) for own, fitted in _fitted(job)]
    table = pack_window(job.config, rows, job.windows)
    if job.captions:
        table = with_captions(table, ((source, fitted) for source, *_, fitted in rows))
    return {**_told(job), "table": table}


def measure_window(job: WindowJob) -> dict[str, Any]:
    """What a window's samples take, as `amounts` by source; and what `plan_window` tells of it besides."""
    amounts: dict[str, Amount] = {own.source: Amount() for own in job.shards}
    for own, fitted in _fitted(job):
        sizes = {"positions": fitted.lengths, "images": fitted.images, "crops": fitted.crops}
        amounts[own.source].add(fitted.counts, **sizes)
    return {**_told(job), "amounts": amounts}


def _told(job: WindowJob) -> dict[str, Any]:
    ended = sum(own.share[0] + 1 == own.share[1] for own in job.shards)
    return {"name": job.name, "shards": ended, "verdicts": job.verdicts}


def _fitted(job: WindowJob) -> Iterator[tuple[ShardShare, FittedRows]]:
    tokenizer = cached_tokenizer(job.tokenizer, job.fingerprint)
    for own in job.shards:
        for rows in _fit_shard(job, own, tokenizer):
            yield own, rows


def _fit_shard(job: WindowJob, own: ShardShare, tokenizer: "PreTrainedTokenizerFast") -> list[FittedRows]:
    config, kind, shard, verdicts = job.config, own.kind, own.shard, job.verdicts[own.source]
    if own.lengths is not None:
        return fit_measured(own.lengths, shard, origin(kind, tokenizer, config), kind, config, verdicts, own.share)
    rows = read_texts(shard, kind, sizes=asks_sizes(kind, config) and kind != "document")
    uids = uid_bytes(rows["uid"])
    wanted = verdicts.wanted(uids, own.share)
    rows, uids = rows.take(wanted), uids[wanted]
    texts = rows["text"].to_pylist()
    if own.source in job.captions:
        captions = job.captions[own.source].of(uids)
        texts = [several or text for several, text in zip(captions, texts, strict=True)]
    copies = verdicts.copies_of(uids)
    return [verdicts.decide(uids, fit_copies(tokenizer, kind, texts, config, stored_images(rows), uids, copies))]


def windows_of(
    shards: Mapping[str, Sequence[ShardShare]], window_shards: int, *, spread: bool
) -> list[list[ShardShare]]:
    """Consecutive shards in windows, each source spread evenly over all of them: whole shards, or, of a source with
    fewer shards than there are windows, with `spread` a share of one's samples, so that the mixture holds in each
    window."""
    count = max(1, -(-sum(map(len, shards.values())) // window_shards))
    windows = []
    for window in range(count):
        here: list[ShardShare] = []
        for listed in shards.values():
            if spread and len(listed) < count:
                number = window * len(listed) // count
                first, end = -(-number * count // len(listed)), -(-(number + 1) * count // len(listed))
                here.append(dataclasses.replace(listed[number], share=(window - first, end - first)))
            else:
                here += listed[window * len(listed) // count : (window + 1) * len(listed) // count]
        windows.append(here)
    return windows
