"""Open-Qwen2VL's packs – pickles, or JSON with the images in base64 – as ours, so that they can be trained on.

What shares a sequence stays as it is: there is no plan. Each file becomes a sequence, some hundred of them a shard,
whose index commits it; a file that cannot be read costs itself. Pixels of pickles become PNG, images of JSON keep their
bytes. Whose tokenizer they are of, pickles do not say. It shows: ids lie in its vocabulary, or are tokens that their
packer adds to it, and samples end with what ends a text.
"""

import hashlib
import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mmcorpus.curation.store import storage
from mmcorpus.packing import manifest
from mmcorpus.packing.errors import PackError
from mmcorpus.packing.foreign_sequence import (
    END_OF_CHUNK,
    SOURCE,
    WrongTokenizer,
    boundaries,
    check_ids,
    closing,
    sequence_of_json,
    sequence_of_pickle,
)
from mmcorpus.packing.index import write_index
from mmcorpus.packing.lengths import IMAGE_TOKEN
from mmcorpus.packing.packs import METADATA_KEY, PackShardWriter
from mmcorpus.packing.pickle_reader import read_pickle
from mmcorpus.packing.tokens import load_tokenizer, tokenizer_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ADDED: Final = (END_OF_CHUNK, "<s>", "<|pad|>")
"""What their packers add to Qwen's tokenizer, in this order; the JSON packer the first two."""
TOKENS_PER_IMAGE: Final = (144, 729)
"""Theirs, in pretraining and in SFT; tried first."""
FILES_PER_SHARD: Final = 256
_VERSION: Final = "2"
"""Raised when the same files would give other shards."""
_PICKLE, _JSON = ".pkl", "packed.json"
_STATS: Final = "_stats.json"
_log = logging.getLogger(__name__)
MapFn = Callable[[Callable[[Any], dict[str, Any]], Sequence[Any]], Iterable[dict[str, Any]]]


def find_foreign(root: str) -> list[str]:
    """The files of Open-Qwen2VL's packs under a folder, by name; none where it holds packs of ours, or nothing."""
    if storage.exists(storage.join(root, "manifest.json")):
        return []
    _, inner = storage.filesystem(root)
    below = (path.removeprefix(inner.rstrip("/") + "/") for path in storage.list_files(root))
    return sorted(path for path in below if path.endswith((_PICKLE, _JSON)))


def _missing(root: str, files: Sequence[str]) -> dict[str, int]:
    """By folder, how many pickles are gone of those that the `FOLDER_stats.json` beside it has the lengths of."""
    there = Counter(os.path.dirname(file) for file in files if file.endswith(_PICKLE))
    gone = {}
    for folder in {*there, *(name.removesuffix(_STATS) for name in storage.list_names(root) if name.endswith(_STATS))}:
        path = storage.join(root, f"{folder}{_STATS}")
        told = storage.read_json(path) if folder and storage.exists(path) else None
        lengths = told.get("len") if isinstance(told, dict) else None
        if isinstance(lengths, list) and len(lengths) > there[folder]:
            gone[folder] = len(lengths) - there[folder]
    return dict(sorted(gone.items()))


@dataclass(frozen=True, kw_only=True)
class ForeignShard:
    """The files that become one shard."""

    name: str
    root: str
    files: tuple[str, ...]
    first: int
    """The number of the first sequence."""
    out: str
    tokenizer: str
    tokens_per_image: int


def import_packs(root: str, out: str, *, tokenizer: str, map_fn: MapFn = map) -> dict[str, Any]:
    """Write Open-Qwen2VL's packs under `root` as packs under `out`; returns the manifest. What is there is kept.

    Args:
        tokenizer: name or folder of the one that they were made with; their packer's additions need not be in it.

    Raises:
        WrongTokenizer: (a PackError, a ValueError) ids or lengths are another tokenizer's.
        PackError: there are no such packs, or none that can be read.
    """
    files = find_foreign(root)
    if not files:
        raise PackError(f"{root} holds neither packs (manifest.json) nor Open-Qwen2VL's ({_PICKLE}, …{_JSON})")
    loaded = extended(load_tokenizer(tokenizer))
    storage.sweep(out)
    folder = storage.join(out, "tokenizer")
    _save(loaded, folder)
    per_image = _per_image(root, files, loaded)
    jobs = [
        ForeignShard(
            name=f"{number:05d}", root=root, files=tuple(files[first : first + FILES_PER_SHARD]), first=first, out=out,
            tokenizer=folder, tokens_per_image=per_image,
        )
        for number, first in enumerate(range(0, len(files), FILES_PER_SHARD))
    ]  # fmt: skip
    records = sorted(map_fn(import_shard, jobs), key=lambda record: str(record["name"]))
    bad = sum(record["unreadable"] for record in records)
    if bad == len(files):
        raise PackError(f"none of the {bad:,} files under {root} can be read; the first: {records[0]['reason']}")
    gone = _missing(root, files)
    if gone:
        _log.warning(
            "%s: %s files are gone that the _stats.json beside them count: of %s", root, f"{sum(gone.values()):,}",
            ", ".join(gone),
        )  # fmt: skip
    if bad:
        _log.warning("%s: %s of %s files cannot be read and are left out", root, f"{bad:,}", f"{len(files):,}")
    return manifest.write_manifest(
        out,
        tokenizer=manifest.describe_tokenizer(loaded, os.path.basename(tokenizer.rstrip("/")) or tokenizer),
        tokens_per_image=per_image,
        context_length=max(record["longest"] for record in records),
        shards=records,
        parameters={"sources": {SOURCE: "pair"}, "unreadable": bad + sum(gone.values())},
        index=write_index(out, [job.name for job in jobs]),
    )


def extended(tokenizer: "PreTrainedTokenizerFast") -> "PreTrainedTokenizerFast":
    """The tokenizer with what their packers add, at the ids that these have there."""
    lacking = [token for token in ADDED if token not in tokenizer.get_vocab()]
    if lacking:
        tokenizer.add_tokens(lacking, special_tokens=True)
    return tokenizer


def with_added(tokenizer: "PreTrainedTokenizerFast", packs: str) -> "PreTrainedTokenizerFast":
    """A model's tokenizer, or that of packs, if it is the same and has their packers' tokens besides."""
    folder = storage.join(packs, "tokenizer")
    if not storage.exists(folder):
        return tokenizer
    own = tokenizer.get_vocab()
    theirs = load_tokenizer(folder)
    more = {token: number for token, number in theirs.get_vocab().items() if token not in own}
    same = len(own) + len(more) == len(theirs.get_vocab()) and own.items() <= theirs.get_vocab().items()
    return theirs if more and same and more.keys() <= set(ADDED) else tokenizer


def _save(tokenizer: "PreTrainedTokenizerFast", folder: str) -> None:
    with storage.naming_full_disk(tempfile.gettempdir()), tempfile.TemporaryDirectory() as temporary:
        tokenizer.save_pretrained(temporary)
        for name in sorted(os.listdir(temporary)):
            storage.write_bytes(storage.join(folder, name), storage.read_bytes(os.path.join(temporary, name)))


def _per_image(root: str, files: Sequence[str], tokenizer: "PreTrainedTokenizerFast") -> int:
    """The positions of an image, by the lengths in the first files that have any; by two that say the same, since one
    may be damaged."""
    found = Counter[int]()
    for file in files[:16]:
        if file.endswith(_JSON):
            break  # their JSON packer knows no other than the first
        each = _told_by(storage.join(root, file), tokenizer)
        found.update([each] if each else [])
        if each and found[each] > 1:
            break
    return found.most_common(1)[0][0] if found else TOKENS_PER_IMAGE[0]


def _told_by(path: str, tokenizer: "PreTrainedTokenizerFast") -> int | None:
    """The positions of an image by one pickle; None if it says none, or cannot be read."""
    try:
        read = read_pickle(path)
    except PackError:
        return None
    images, total = int((read.input_ids == IMAGE_TOKEN).sum()), sum(read.lengths)
    if not images:
        return None
    solved = {(total - tokens) // images + 1 for tokens in range(1, len(read.input_ids) + 1)
              if total >= tokens and (total - tokens) % images == 0}  # fmt: skip
    ends_with = closing(tokenizer)
    possible: list[int] | None = None
    # Too few positions an image would make samples reach into the padding, which may look like an end.
    for each in (*TOKENS_PER_IMAGE, *sorted(solved, reverse=True)):
        ends = boundaries(read, each)
        if ends is not None and all(int(read.input_ids[end - 1]) in ends_with for end in ends):
            return each
        possible = possible or ends
    if possible is not None:  # the lengths could be right: what the samples end with is not
        check_ids(path, read.input_ids, possible, tokenizer)
    return None


def import_shard(job: ForeignShard) -> dict[str, Any]:
    """Write one shard unless that was done; returns its record."""
    loaded = load_tokenizer(job.tokenizer)
    made_from = _digest(job, tokenizer_fingerprint(loaded))
    index = storage.join(job.out, f"{job.name}.index.parquet")
    if storage.exists(index):
        record: dict[str, Any] = json.loads((storage.read_schema(index).metadata or {}).get(METADATA_KEY, b"{}"))
        if record.get("made_from") == made_from:
            return record
    unreadable, reason, longest = 0, "", 1
    with PackShardWriter(job.out, job.name, tokens_per_image=job.tokens_per_image) as writer:
        for number, file in enumerate(job.files, job.first):
            path = storage.join(job.root, file)
            try:
                read = sequence_of_json if file.endswith(_JSON) else sequence_of_pickle
                packed = read(path, number, loaded, job.tokens_per_image)
            except WrongTokenizer:
                raise
            except (PackError, OSError) as error:
                unreadable, reason = unreadable + 1, reason or str(error)
                _log.warning("left out: %s", error)
                continue
            longest = max(longest, packed.length)
            writer.write(packed)
        writer.record |= {"made_from": made_from, "unreadable": unreadable, "reason": reason, "longest": longest}
    return writer.record


def _digest(job: ForeignShard, fingerprint: str) -> str:
    """Of what a shard is made from: the files by name, size and time."""
    fs, _ = storage.filesystem(job.root)
    told = []
    for file in job.files:
        info = fs.info(storage.filesystem(storage.join(job.root, file))[1])
        told.append([file, info.get("size"), str(info.get("mtime") or info.get("ETag") or info.get("LastModified"))])
    content = json.dumps([_VERSION, told, job.first, fingerprint, job.tokens_per_image])
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
