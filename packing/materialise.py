"""From plan to packs: pack shards are written by independent jobs and commit themselves, so any engine can spread them.

A job reads its sequences' rows from the plan, their texts from the input shards' parquet and their images from the
tars, checks every length against the plan's, and writes one tar and its index. A job whose index is there with the same
fingerprint is done. The manifest is written after the last one.
"""

import hashlib
import itertools
import logging
import os
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mmcorpus.curation.engine.made_from import table_digest
from mmcorpus.curation.engine.progress import Progress
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.places import REFERENCES_FILE
from mmcorpus.curation.store.shards import shard_at
from mmcorpus.packing import manifest, numbers
from mmcorpus.packing.config import PlanConfig
from mmcorpus.packing.errors import PackError
from mmcorpus.packing.index import write_index
from mmcorpus.packing.jobs import PackJob, PackPart, write_pack_shards
from mmcorpus.packing.plan import read_plan_metadata
from mmcorpus.packing.samples import chat_template, template_hash
from mmcorpus.packing.stored_images import Images, relative, resolve
from mmcorpus.packing.tokens import load_tokenizer, tokenizer_fingerprint
from mmcorpus.packing.window import check_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_log = logging.getLogger(__name__)
_SHARD_FILE = re.compile(r"(\d{5,12})(\.tar|\.index\.parquet)\Z")


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """Settings of how packs are stored."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    sequences_per_shard: int = 1000
    """Sequences in one tar."""
    images: Images = "original"
    """`original`: the bytes they arrived in. `resized`: once, the shorter side to `image_side`, as JPEG. `reference`:
    where they lie in the sources' shards, which must then stay; each is read there when a trainer needs it."""
    image_side: int = 512
    """Pixels of a resized image's shorter side; smaller images, and those whose bytes would grow, stay as they are."""

    def __post_init__(self) -> None:
        for name in ("image_side", "sequences_per_shard"):
            numbers.whole(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class PackReport:
    """The counts of a pack."""

    counts: dict[str, int]
    """sequences, samples, images, tokens (input ids), positions (expanded)."""
    bytes: int
    dropped: dict[str, dict[str, int]]
    """Per source, copies of planned samples that could not be packed, by rule; a manifest in `out` says no more."""
    written: int
    """Pack shards written now."""
    resumed: int
    """Pack shards that were there already."""
    stored: dict[str, int]
    """Of images that are not stored as they arrived: their `arrived_bytes`, their `stored_bytes` in the pack, and how
    many were `resized`; empty of others."""
    damaged: dict[str, str]
    """Input files, by source and name, that are damaged, gone, or not as they were indexed, and why: what they hold is
    dropped. Once they are mended, packing again writes these pack shards anew."""


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
    if config.images == "resized" and not isinstance(plan_config.per_image, int):
        raise ValueError(
            f"pack.images is resized, but under the layout {plan_config.per_image.kind!r} an image's size decides its "
            "length, which was planned from what is stored: give original or reference, or download smaller images"
        )
    if config.images == "reference":
        for name in metadata["sources"]:
            if storage.exists(storage.join(shards[name], REFERENCES_FILE)):
                raise ValueError(
                    f"pack.images is reference, but the shards of source {name!r} are references to files of others "
                    "themselves: give original or resized"
                )
    parameters = {
        **metadata,
        "plan": table_digest(plan, hashlib.sha256()),
        "sequences_per_shard": config.sequences_per_shard,
        **({} if config.images == "original" else {"images": config.images}),
        **({"image_side": config.image_side} if config.images == "resized" else {}),
    }
    storage.sweep(out)
    _forget_other_manifest(out, parameters)
    if "conversation" in metadata["sources"].values():  # who trains or serves must write prompts as they were packed
        loaded.chat_template = chat_template(loaded, plan_config).template
    _save_tokenizer(loaded, storage.join(out, "tokenizer"))
    jobs = [
        PackJob(
            parts=parts,
            out=out,
            plan=plan,
            window=window,
            shards={name: shards[name] for name in metadata["sources"]},
            tokenizer_fingerprint=metadata["tokenizer"]["fingerprint"],
            chat_template=template,
            config=plan_config,
            images=config.images,
            image_side=config.image_side if config.images == "resized" else 0,
        )
        for window, parts in _parts(
            plan, config, metadata["sources"], remote=not all(map(storage.is_local, shards.values()))
        )
    ]
    names = [part.name for job in jobs for part in job.parts]
    records: list[dict[str, Any]] = []
    with Progress("pack", total=jobs[-1].parts[-1].end if jobs else 0, unit="sequence") as progress:
        for result in map_fn(write_pack_shards, jobs):
            for record in result["shards"]:
                records.append(record)
                progress.advance(record["planned"], samples=record["samples"], dropped=len(record["dropped"]))
    records.sort(key=lambda record: str(record["name"]))
    if [record["name"] for record in records] != names:
        raise ValueError(f"map_fn gave {len(records)} pack shards for {len(names)}; the pack under {out} is unfinished")
    _remove_others(out, set(names))
    index = write_index(out, names)
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
        references=_folders(out, parameters["sources"], shards) if config.images == "reference" else None,
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
        stored=dict(sum((Counter(record.get("stored", {})) for record in records), Counter[str]())),
        damaged={place: why for record in records for place, why in record.get("damage", {}).items()},
    )


def _folders(out: str, sources: Iterable[str], shards: Mapping[str, str]) -> dict[str, str]:
    """By source, where its shards' tars lie, as the pack names it; a view's are those that it speaks of."""
    found = {name: relative(shard_at(shards[name], "00000").tar.rpartition("/")[0], out) for name in sorted(sources)}
    for folder in found.values():
        try:
            resolve(folder, out)
        except PackError as error:
            _log.warning("who reads these packs has to allow it: %s", error)
    return found


def _parts(
    plan: str, config: PackConfig, kinds: Mapping[str, str], *, remote: bool
) -> Iterator[tuple[int, tuple[PackPart, ...]]]:
    """Window and pack shards of each job; no pack shard spans two windows. Raises ValueError for a damaged plan.

    A job is one pack shard, so that many are written at once; or, where input shards are `remote`, all those of a
    window: each input shard belongs to one window, so it is read from the store once.
    """
    numbers = itertools.count()
    with storage.open_parquet(plan) as parquet:
        for window in range(parquet.num_row_groups):
            rows = parquet.read_row_group(window)
            try:
                check_rows(rows, kinds)
            except ValueError as error:
                raise ValueError(f"{plan} is damaged, or no plan: {error}; plan again") from None
            sequences = rows["sequence"]
            start, end = int(sequences[0].as_py()), int(sequences[-1].as_py()) + 1
            parts = tuple(
                PackPart(name=f"{next(numbers):05d}", first=first, end=min(first + config.sequences_per_shard, end))
                for first in range(start, end, config.sequences_per_shard)
            )
            yield from [(window, parts)] if remote else ((window, (part,)) for part in parts)


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
    """Write the tokenizer, and remove what another one left in its folder."""
    with storage.naming_full_disk(tempfile.gettempdir()), tempfile.TemporaryDirectory() as temporary:
        tokenizer.save_pretrained(temporary)
        names = files_below(temporary)
        for name in names:
            storage.write_bytes(storage.join(folder, name), storage.read_bytes(os.path.join(temporary, name)))
    for name in set(files_below(folder)) - set(names):
        storage.remove(storage.join(folder, name))


def files_below(folder: str) -> list[str]:
    """The files at or below a folder, local or remote, by their paths from it, sorted."""
    base = storage.filesystem(folder)[1].rstrip("/") + "/"
    return sorted(path.removeprefix(base) for path in storage.list_files(folder) if path.startswith(base))


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
