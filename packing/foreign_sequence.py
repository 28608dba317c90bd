"""One of Open-Qwen2VL's packs, a pickle or a JSON, as a packed sequence; and whether it is of a tokenizer."""

import base64
import binascii
import hashlib
import io
import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.members import own_uid
from mmcorpus.curation.store.shards import EncodedImage
from mmcorpus.filters.decode import Unreadable, open_image
from mmcorpus.packing.errors import PackError
from mmcorpus.packing.lengths import IMAGE_TOKEN
from mmcorpus.packing.pickle_reader import PickledSequence, read_pickle
from mmcorpus.packing.pickles import IGNORED
from mmcorpus.packing.sequence import PackedSequence
from mmcorpus.packing.tokens import encode_texts, special_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SOURCE: Final = "open_qwen2vl"
END_OF_CHUNK: Final = "<|endofchunk|>"
_EXTENSIONS: Final = {"jpeg": "jpg", "jpeg2000": "jp2"}
"""Of the formats that first bytes tell, those whose files end otherwise."""
_log = logging.getLogger(__name__)
_MOST_TOKENS: Final = 1 << 17
"""Of a sample whose text is encoded; the longest contexts have as many."""
OTHER: Final = "it was packed with another tokenizer; give that one (--tokenizer, or a model that has it)"


class WrongTokenizer(PackError):
    """Packs that were made with another tokenizer."""


def closing(tokenizer: "PreTrainedTokenizerFast") -> set[int]:
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


def sequence_of_pickle(path: str, number: int, tokenizer: "PreTrainedTokenizerFast", per_image: int) -> PackedSequence:
    read = read_pickle(path)
    ends = boundaries(read, per_image)
    if ends is None:
        raise PackError(
            f"{path}: its lengths, {list(read.lengths)[:4]} …, are not those of its ids, at {per_image} an image"
        )
    ids = read.input_ids[: ends[-1]].astype(np.int32)
    check_ids(path, ids, ends, tokenizer)
    starts = [0, *ends[:-1]]
    learned = ids != IMAGE_TOKEN if read.labels is None else read.labels[: len(ids)] != IGNORED
    learned[starts] = False
    images = tuple(EncodedImage(extension="png", data=_png(image)) for image in read.images)
    return _sequence(path, number, ids, starts, ends, read.lengths, images, learned)


def check_ids(path: str, ids: npt.NDArray[np.integer], ends: Sequence[int], tokenizer: Any) -> None:
    """Raise WrongTokenizer unless the ids can be the tokenizer's."""
    name, texts = tokenizer.name_or_path, ids[ids != IMAGE_TOKEN]
    wrong = texts[(texts < 0) | (texts >= len(tokenizer))]
    if len(wrong):
        raise WrongTokenizer(
            f"{path} has the id {wrong[0]}, and the tokenizer {name!r} has {len(tokenizer):,}: {OTHER}"
        )
    ends_with = closing(tokenizer)
    others = [int(ids[end - 1]) for end in ends if int(ids[end - 1]) not in ends_with]
    if others:
        word = tokenizer.convert_ids_to_tokens(others[0])
        raise WrongTokenizer(
            f"{path} ends a sample with the id {others[0]}, which is {word!r} in the tokenizer {name!r}, whose "
            f"texts end with {tokenizer.eos_token_id} ({tokenizer.eos_token!r}): {OTHER}"
        )


def _sequence(
    path: str,
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
        raise PackError(f"{path} has {sum(counts)} image marks and {len(images)} images")
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


def sequence_of_json(path: str, number: int, tokenizer: "PreTrainedTokenizerFast", per_image: int) -> PackedSequence:
    """Their JSON: texts are tokenized now, by their rules: `<s>`, an image and a line break, texts (in documents each
    with `<|endofchunk|>`), the end. The lengths that they were packed by tell which rule, and whose tokenizer. A sample
    with an image that cannot be read is left out, and logged."""
    try:
        content = json.loads(storage.read_bytes(path))
        samples, lengths = content["data"], [int(length) for length in content["lengths"]]
        if not samples or len(samples) != len(lengths):
            raise ValueError(f"{len(samples)} samples and {len(lengths)} lengths")
        parts = [_parts(sample) for sample in samples]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise PackError(f"{path} is not JSON of Open-Qwen2VL's layout: {str(error)[:200]}") from None
    ids: list[int] = []
    ends: list[int] = []
    images: list[EncodedImage] = []
    kept: list[int] = []
    uids: list[str | None] = []
    longest = max(map(len, tokenizer.get_vocab()))
    for place, (one, length) in enumerate(zip(parts, lengths, strict=True)):
        if isinstance(one, str):
            _log.warning("left out: sample %s of %s: %s", place, path, one)
            continue
        texts, found = one
        characters = sum(map(len, filter(None, texts)))
        if characters > longest * min(max(length, 1), _MOST_TOKENS):  # encoding takes a hundred times their memory
            _log.warning(
                "left out: sample %s of %s: its texts, %s characters, cannot be %s positions", place, path,
                f"{characters:,}", length,
            )  # fmt: skip
            continue
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
        kept.append(length)
        uids.append(own_uid(samples[place].get("uid")))
    if not kept:
        first = parts[0] if isinstance(parts[0], str) else "its texts are too long for its length"
        raise PackError(f"{path}: none of its {len(parts)} samples can be read; the first: {first}")
    array = np.array(ids, dtype=np.int32)
    starts = [0, *ends[:-1]]
    learned = array != IMAGE_TOKEN
    learned[starts] = False
    return _sequence(path, number, array, starts, ends, kept, tuple(images), learned, uids)


def _parts(sample: Mapping[str, Any]) -> tuple[list[str | None], list[EncodedImage]] | str:
    """A sample's texts in order, None where an image stands, and its images; why, if one of these cannot be read.

    Images of one pixel a side are left out, with their place, as theirs are.
    """
    texts: list[str | None] = []
    images: list[EncodedImage] = []
    for text, info in zip(sample["texts"], sample["image_info"], strict=True):
        if not info or "image_base64" not in info:
            texts.append(text if text is None else str(text))
            continue
        try:
            data = base64.b64decode(info["image_base64"], validate=True)
            opened = open_image(data)
        except (binascii.Error, Unreadable) as error:
            return f"an image cannot be read: {error}"
        with opened.image as image:
            size = image.size
        if min(size) > 1:
            images.append(EncodedImage(extension=_EXTENSIONS.get(opened.format, opened.format), data=data))
            texts.append(None)
    if sum(text is None for text in texts) != len(images):
        raise ValueError("a place without text has no image")
    return texts, images


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
