"""From plan to packs: each pack shard is one independent job that commits itself, so any engine can spread them.

A job reads its sequences' rows from the plan, their texts from the input shards' parquet and their images from the
tars, checks every length against the plan's, and writes one tar and its index. A job whose index is there with the same
fingerprint is done. The manifest is written after the last one.
"""

import hashlib
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mmcorpus.curation.engine.made_from import table_digest
from mmcorpus.curation.engine.progress import Progress
from mmcorpus.curation.store import ledger, storage
from mmcorpus.packing import manifest
from mmcorpus.packing.config import PlanConfig
from mmcorpus.packing.errors import PackError
from mmcorpus.packing.index import write_index
from mmcorpus.packing.jobs import PackJob, write_pack_shard
from mmcorpus.packing.plan import read_plan_metadata
from mmcorpus.packing.samples import chat_template, template_hash
from mmcorpus.packing.tokens import load_tokenizer, tokenizer_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_SHARD_FILE = re.compile(r"(\d{5,12})(\.tar|\.index\.parquet)\Z")


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """How packs are stored."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    sequences_per_shard: int = 1000
    """Sequences in one tar."""

    def __post_init__(self) -> None:
        if self.sequences_per_shard < 1:
            raise ValueError(f"pack.sequences_per_shard is {self.sequences_per_shard}; give a number of at least 1")


@dataclass(frozen=True, kw_only=True)
class PackReport:
    """What a pack holds."""

    counts: dict[str, int]
    """sequences, samples, images, tokens (input ids), positions (expanded)."""
    bytes: int
    dropped: dict[str, dict[str, int]]
    """Per source, copies of planned samples that could not be packed, by rule; a manifest in `out` says no more."""
    written: int
    """Pack shards written now."""
    resumed: int
    """Pack shards that were there already."""


MapFn = Callable[[Callable[[Any], dict[str, Any]], Sequence[Any]], Iterable[dict[str, Any]]]
"""Applies a function to jobs, here or on other machines; results in any order."""


def write_packs(
    config: PackConfig,
    *,
    plan: str,
    tokenizer: str,
    shards: Mapping[str, str],
    out: str,
    tokenizer_name: str | None = None,
    ledger_root: str | None = None,
    map_fn: MapFn = map,
) -> PackReport:
    """Write a plan's packs, tokenizer and manifest under `out`; what an earlier run committed is kept.

    Args:
        shards: folder of the input shards of each source that the plan names.
        tokenizer: name or folder; must be the one that the plan was made with.
        tokenizer_name: what the manifest calls it; by default a hub name as given, a folder by its own name.
        ledger_root: samples whose images are missing become dropped in `<ledger_root>/<source>/pack.parquet`.
        map_fn: how jobs are spread; by default one after the other, in this process.

    Raises:
        ValueError: the plan was made with another tokenizer, or the input shards are not those it was made from.
    """
    metadata = read_plan_metadata(plan)
    loaded = load_tokenizer(tokenizer)
    if tokenizer_fingerprint(loaded) != metadata["tokenizer"]["fingerprint"]:
        raise ValueError(f"{plan} was made with another tokenizer than {tokenizer!r}; plan again or give that one")
    template = metadata["tokenizer"].get("chat_template", "")
    plan_config = PlanConfig.read(metadata["config"])
    if template and template_hash(loaded, plan_config) != template:
        raise ValueError(f"{plan} was made with another chat template than that of {tokenizer!r}; plan again")
    lacking = sorted(set(metadata["sources"]) - set(shards))
    if lacking:
        raise ValueError(f"{plan} names the source {', '.join(lacking)}; give the folder of its shards")
    parameters = {
        **metadata,
        "plan": table_digest(plan, hashlib.sha256()),
        "sequences_per_shard": config.sequences_per_shard,
    }
    _forget_other_manifest(out, parameters)
    if "conversation" in metadata["sources"].values():  # who trains or serves must write prompts as they were packed
        loaded.chat_template = chat_template(loaded, plan_config).template
    _save_tokenizer(loaded, storage.join(out, "tokenizer"))
    jobs = [
        PackJob(
            name=f"{number:05d}",
            out=out,
            plan=plan,
            window=window,
            first=first,
            end=end,
            shards={name: shards[name] for name in metadata["sources"]},
            tokenizer_fingerprint=metadata["tokenizer"]["fingerprint"],
            chat_template=template,
            config=plan_config,
        )
        for number, (window, first, end) in enumerate(_ranges(plan, config.sequences_per_shard))
    ]
    records = []
    with Progress("pack", total=jobs[-1].end if jobs else 0, unit="sequence") as progress:
        for record in map_fn(write_pack_shard, jobs):
            records.append(record)
            progress.advance(record["planned"], samples=record["samples"], dropped=len(record["dropped"]))
    records.sort(key=lambda record: str(record["name"]))
    if [record["name"] for record in records] != [job.name for job in jobs]:
        raise ValueError(f"map_fn gave {len(records)} results for {len(jobs)} jobs; the pack under {out} is unfinished")
    _remove_others(out, {job.name for job in jobs})
    index = write_index(out, [job.name for job in jobs])
    described = manifest.describe_tokenizer(loaded, tokenizer_name or _short_name(tokenizer))
    written = manifest.write_manifest(
        out,
        tokenizer=described,
        tokens_per_image=plan_config.per_image if isinstance(plan_config.per_image, int) else 0,
        layout=plan_config.layout,
        context_length=plan_config.context_length,
        shards=records,
        parameters=parameters,
        index=index,
    )
    dropped = [tuple(drop) for record in records for drop in record["dropped"]]
    if ledger_root is not None:
        _amend_ledger(ledger_root, dropped)
    counts: dict[str, dict[str, int]] = {}
    for source, _, rule, _ in dropped:
        counts.setdefault(source, {}).setdefault(rule, 0)
        counts[source][rule] += 1
    resumed = sum(bool(record["resumed"]) for record in records)
    return PackReport(
        counts=written["counts"],
        bytes=sum(record["bytes"] for record in records),
        dropped=counts,
        written=len(records) - resumed,
        resumed=resumed,
    )


def _ranges(plan: str, sequences_per_shard: int) -> Iterator[tuple[int, int, int]]:
    """(window, first sequence, one past the last) of each pack shard; none spans two windows."""
    with storage.open_parquet(plan) as parquet:
        for window in range(parquet.num_row_groups):
            sequences = parquet.read_row_group(window, columns=["sequence"])["sequence"]
            start, end = int(sequences[0].as_py()), int(sequences[-1].as_py()) + 1
            for first in range(start, end, sequences_per_shard):
                yield window, first, min(first + sequences_per_shard, end)


def _forget_other_manifest(out: str, parameters: dict[str, Any]) -> None:
    """A reader must not meet a manifest over shards that are being replaced."""
    path = storage.join(out, "manifest.json")
    if storage.exists(path):
        try:
            same = manifest.read_manifest(out).get("parameters") == parameters
        except PackError:
            same = False
        if not same:
            storage.remove(path)


def _remove_others(out: str, names: set[str]) -> None:
    """Remove pack shards that an earlier, larger plan left."""
    for name in storage.list_names(out):
        match = _SHARD_FILE.match(name)
        if match and match[1] not in names:
            storage.remove(storage.join(out, name))


def _save_tokenizer(tokenizer: "PreTrainedTokenizerFast", folder: str) -> None:
    with storage.naming_full_disk(tempfile.gettempdir()), tempfile.TemporaryDirectory() as temporary:
        tokenizer.save_pretrained(temporary)
        for name in sorted(os.listdir(temporary)):
            storage.write_bytes(storage.join(folder, name), storage.read_bytes(os.path.join(temporary, name)))


def _short_name(tokenizer: str) -> str:
    """Where a run's folder lies must not change a pack's bytes."""
    is_folder = "://" in tokenizer or os.path.isdir(tokenizer)
    return os.path.basename(tokenizer.rstrip("/")) if is_folder else tokenizer


def _amend_ledger(root: str, dropped: Iterable[tuple[str, str, str, str]]) -> None:
    """Mark planned samples that could not be packed as dropped in their source's stage `pack`."""
    by_source: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
    for source, uid, rule, value in dropped:
        by_source[source][uid] = (rule, value)
    for source, drops in by_source.items():
        folder = storage.join(root, source)
        rows = storage.read_table(storage.join(folder, "pack.parquet")).to_pylist()
        for row in rows:
            if row["uid"] in drops:
                rule, value = drops[row["uid"]]
                row |= {"verdict": ledger.DROPPED, "rule": rule, "value": value}
        ledger.write_stage(folder, "pack", rows)
