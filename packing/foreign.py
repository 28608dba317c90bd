"""Open-Qwen2VL's packs – pickles, or JSON with the images in base64 – as ours, so that they can be trained on.

What shares a sequence stays as it is: there is no plan. Each file becomes a sequence, some hundred of them a shard,
whose index commits it; a file that cannot be read costs itself. Pixels of pickles become PNG, images of JSON keep their
bytes. Whose tokenizer they are of, pickles do not say. It shows: ids lie in its vocabulary, or are tokens that their
packer adds to it, and samples end with what ends a text.
"""

import base64
import hashlib
import io
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.members import own_uid
from mmcorpus.curation.store.shards import EncodedImage
from mmcorpus.filters.decode import open_image
from mmcorpus.packing import manifest
from mmcorpus.packing.lengths import IMAGE_TOKEN
from mmcorpus.packing.manifest import PackError
from mmcorpus.packing.packs import METADATA_KEY, PackShardWriter
from mmcorpus.packing.pickle_reader import PickledSequence, read_pickle
from mmcorpus.packing.sequence import PackedSequence
from mmcorpus.packing.tokens import encode_texts, load_tokenizer, special_ids, tokenizer_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SOURCE: Final = "open_qwen2vl"
END_OF_CHUNK: Final = "<|endofchunk|>"
ADDED: Final = (END_OF_CHUNK, "<s>", "<|pad|>")
"""What their packers add to Qwen's tokenizer, in this order; the JSON packer the first two."""
TOKENS_PER_IMAGE: Final = (144, 729)
"""Theirs, in pretraining and in SFT; tried first."""
FILES_PER_SHARD: Final = 256
IGNORED: Final = -100
OTHER: Final = "it was packed with another tokenizer; give that one (--tokenizer, or a model that has it)"
_PICKLE, _JSON = ".pkl", "packed.json"
_log = logging.getLogger(__name__)
MapFn = Callable[[Callable[[Any], dict[str, Any]], Sequence[Any]], Iterable[dict[str, Any]]]


class WrongTokenizer(PackError):
    """Packs that were made with another tokenizer."""


def find_foreign(root: str) -> list[str]:
    """The files of Open-Qwen2VL's packs under a folder, by name; none where it holds packs of ours, or nothing."""
    if storage.exists(storage.join(root, "manifest.json")):
        return []
    _, inner = storage.filesystem(root)
    below = (path.removeprefix(inner.rstrip("/") + "/") for path in storage.list_files(root))
    return sorted(path for path in below if path.endswith((_PICKLE, _JSON)))


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
    if bad:
        _log.warning("%s: %s of %s files cannot be read and are left out", root, f"{bad:,}", f"{len(files):,}")
    return manifest.write_manifest(
        out,
        tokenizer=manifest.describe_tokenizer(loaded, os.path.basename(tokenizer.rstrip("/")) or tokenizer),
        tokens_per_image=per_image,
        context_length=max(record["longest"] for record in records),
        shards=records,
        parameters={"sources": {SOURCE: "pair"}, "unreadable": bad},
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
    """The positions of an image, by the lengths in the first files that have any."""
    for file in files[:16]:
        try:
            if file.endswith(_JSON):
                return TOKENS_PER_IMAGE[0]  # their JSON packer knows no other
            read = read_pickle(storage.join(root, file))
        except PackError:
            continue
        images, total = int((read.input_ids == IMAGE_TOKEN).sum()), sum(read.lengths)
        if not images:
            continue
        solved = {(total - tokens) // images + 1 for tokens in range(1, len(read.input_ids) + 1)
                  if total >= tokens and (total - tokens) % images == 0}  # fmt: skip
        closing = _closing(tokenizer)
        possible: list[int] | None = None
        # Too few positions an image would make samples reach into the padding, which may look like an end.
        for each in (*TOKENS_PER_IMAGE, *sorted(solved, reverse=True)):
            ends = boundaries(read, each)
            if ends is not None and all(int(read.input_ids[end - 1]) in closing for end in ends):
                return each
            possible = possible or ends
        if possible is not None:  # the lengths could be right: what the samples end with is not
            _check_ids(storage.join(root, file), read.input_ids, possible, tokenizer)
    return TOKENS_PER_IMAGE[0]


def _closing(tokenizer: "PreTrainedTokenizerFast") -> set[int]:
    """What a sample may end with: the end of a text or turn, or the line break after it."""
    special = special_ids(tokenizer)
    return {special.eos, *special.newline, *([special.im_end] if special.im_end is not None else [])}


def boundaries(read: PickledSequence, per_image: int) -> list[int] | None:
    """Where each sample of a pickle ends in its `input_ids`; None if its lengths are not of so many positions an image,
    or what follows is not padding."""
    ids = read.input_ids
    expanded = np.cumsum(np.where(ids == IMAGE_TOKEN, per_image, 1))
    ends = np.cumsum(read.lengths)
    places = np.searchsorted(expanded, ends)
    if len(ends) == 0 or places[-1] >= len(ids) or not np.array_equal(expanded[places], ends):
        return None
    if len(np.unique(ids[places[-1] + 1 :])) > 1 or (ids[places[-1] + 1 :] == IMAGE_TOKEN).any():
        return None
    found: list[int] = (places + 1).tolist()
    return found


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
                read = _sequence_of_json if file.endswith(_JSON) else _sequence_of_pickle
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
    content = json.dumps([told, job.first, fingerprint, job.tokens_per_image])
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _sequence_of_pickle(path: str, number: int, tokenizer: "PreTrainedTokenizerFast", per_image: int) -> PackedSequence:
    read = read_pickle(path)
    ends = boundaries(read, per_image)
    if ends is None:
        raise PackError(
            f"{path}: its lengths, {list(read.lengths)[:4]} …, are not those of its ids, at {per_image} an image"
        )
    ids = read.input_ids[: ends[-1]].astype(np.int32)
    _check_ids(path, ids, ends, tokenizer)
    starts = [0, *ends[:-1]]
    learned = ids != IMAGE_TOKEN if read.labels is None else read.labels[: len(ids)] != IGNORED
    learned[starts] = False
    images = tuple(EncodedImage(extension="png", data=_png(image)) for image in read.images)
    return _sequence(number, ids, starts, ends, read.lengths, images, learned)


def _check_ids(path: str, ids: npt.NDArray[np.integer], ends: Sequence[int], tokenizer: Any) -> None:
    """Raise WrongTokenizer unless the ids can be the tokenizer's."""
    highest = int(ids.max(initial=0))
    name = tokenizer.name_or_path
    if highest >= len(tokenizer) or ids[ids != IMAGE_TOKEN].min(initial=0) < 0:
        raise WrongTokenizer(f"{path} has the id {highest}, and the tokenizer {name!r} has {len(tokenizer):,}: {OTHER}")
    closing = _closing(tokenizer)
    others = [int(ids[end - 1]) for end in ends if int(ids[end - 1]) not in closing]
    if others:
        word = tokenizer.convert_ids_to_tokens(others[0])
        raise WrongTokenizer(
            f"{path} ends a sample with the id {others[0]}, which is {word!r} in the tokenizer {name!r}, whose "
            f"texts end with {tokenizer.eos_token_id} ({tokenizer.eos_token!r}): {OTHER}"
        )


def _sequence(
    number: int,
    ids: npt.NDArray[np.int32],
    starts: Sequence[int],
    ends: Sequence[int],
    lengths: Sequence[int],
    images: tuple[EncodedImage, ...],
    learned: npt.NDArray[np.bool_],
    uids: Sequence[str | None] = (),
) -> PackedSequence:
    counts = [int((ids[start:end] == IMAGE_TOKEN).sum()) for start, end in zip(starts, ends, strict=True)]
    if sum(counts) != len(images):
        raise PackError(f"sequence {number} has {sum(counts)} image marks and {len(images)} images")
    made, first = [], 0
    for place, (start, end, count) in enumerate(zip(starts, ends, counts, strict=True)):
        digest = hashlib.blake2b(ids[start:end].tobytes(), digest_size=16)
        for image in images[first : first + count]:
            digest.update(hashlib.sha256(image.data).digest())
        first += count
        made.append((uids[place] if uids else None) or digest.hexdigest())
    return PackedSequence(
        sequence=number,
        input_ids=ids,
        uids=tuple(made),
        sources=(SOURCE,) * len(starts),
        lengths=tuple(int(length) for length in lengths),
        token_counts=tuple(end - start for start, end in zip(starts, ends, strict=True)),
        image_counts=tuple(counts),
        loss_spans=tuple(_spans(learned, start, end) for start, end in zip(starts, ends, strict=True)),
        images=images,
    )


def _spans(learned: npt.NDArray[np.bool_], start: int, end: int) -> tuple[tuple[int, int], ...]:
    """The runs of what is learned in [start, end)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], learned[start:end], [False]]).astype(np.int8))) + start
    return tuple((int(first), int(last)) for first, last in edges.reshape(-1, 2))


def _png(image: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _sequence_of_json(path: str, number: int, tokenizer: "PreTrainedTokenizerFast", per_image: int) -> PackedSequence:
    """Their JSON: texts are tokenized now, by their rules: `<s>`, an image and a line break, texts (in documents each
    with `<|endofchunk|>`), the end. The lengths that they were packed by tell which rule, and whose tokenizer."""
    try:
        content = json.loads(storage.read_bytes(path))
        samples, lengths = content["data"], [int(length) for length in content["lengths"]]
        parts = [_parts(path, sample) for sample in samples]
        if not parts or len(parts) != len(lengths):
            raise ValueError(f"{len(parts)} samples and {len(lengths)} lengths")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PackError(f"{path} is not JSON of Open-Qwen2VL's layout: {str(error)[:200]}") from None
    ids: list[int] = []
    ends: list[int] = []
    images: list[EncodedImage] = []
    for (texts, found), length in zip(parts, lengths, strict=True):
        tried = [_encode(tokenizer, texts, chunks) for chunks in (False, True)]
        fits = [each for each in tried if len(each) + (per_image - 1) * len(found) == length]
        if not fits:
            raise WrongTokenizer(
                f"{path}: a sample packed as {length} positions has {len(tried[0]) + (per_image - 1) * len(found)} "
                f"with the tokenizer {tokenizer.name_or_path!r}: {OTHER}"
            )
        ids += fits[0]
        ends.append(len(ids))
        images += found
    array = np.array(ids, dtype=np.int32)
    starts = [0, *ends[:-1]]
    learned = array != IMAGE_TOKEN
    learned[starts] = False
    uids = [own_uid(sample.get("uid")) for sample in samples]
    return _sequence(number, array, starts, ends, lengths, tuple(images), learned, uids)


def _parts(path: str, sample: Mapping[str, Any]) -> tuple[list[str | None], list[EncodedImage]]:
    """A sample's texts in order, None where an image stands, and its images.

    Images of one pixel a side are left out, with their place, as theirs are.
    """
    texts: list[str | None] = []
    images: list[EncodedImage] = []
    for text, info in zip(sample["texts"], sample["image_info"], strict=True):
        if not info or "image_base64" not in info:
            texts.append(text if text is None else str(text))
            continue
        data = base64.b64decode(info["image_base64"], validate=True)
        extension, size = _known(data)
        if min(size) > 1:
            images.append(EncodedImage(extension=extension, data=data))
            texts.append(None)
    if sum(text is None for text in texts) != len(images):
        raise ValueError("a place without text has no image")
    return texts, images


def _known(data: bytes) -> tuple[str, tuple[int, int]]:
    try:
        with open_image(data).image as image:
            return {"JPEG": "jpg", "TIFF": "tiff"}.get(str(image.format), str(image.format).lower()), image.size
    except (OSError, SyntaxError) as error:
        raise ValueError(f"an image cannot be read: {error}") from None


def _encode(tokenizer: Any, texts: Sequence[str | None], chunks: bool) -> list[int]:
    vocabulary = tokenizer.get_vocab()
    ids: list[int] = [vocabulary["<s>"]]
    run = ""
    for text in texts:
        if text is None:
            ids += encode_texts(tokenizer, [run])[0] if run else []
            ids.append(IMAGE_TOKEN)
            run = "\n"
        elif chunks:
            ids += [*encode_texts(tokenizer, [run + text])[0], vocabulary[END_OF_CHUNK]]
            run = ""
        else:
            run += text
    ids += encode_texts(tokenizer, [run])[0] if run else []
    return [*ids, special_ids(tokenizer).eos]
