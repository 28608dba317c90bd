"""Tokens of a sample: input ids and the spans that carry loss, here of a pair; and what all kinds share.

A pair is `[-200, "\\n", caption…, eos]`, with loss on caption and eos; one with several captions goes on with the
others, each with its eos, none of which sees another (Molmo, arXiv 2409.17146 §3). Text from the web never becomes a
control token: `<|im_end|>` in a caption is encoded as the characters it is written with. For conversations see
packing/conversations.py, for documents packing/documents.py.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmcorpus.curation.store import storage
from mmcorpus.filters.plain_tokens import encode_plain
from mmcorpus.packing.lengths import IMAGE_TOKEN, Each, fitting_branches, fitting_prefix

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Spans = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TokenizedSample:
    """One sample before images are expanded."""

    input_ids: npt.NDArray[np.int32]
    """Shape (tokens,); each image is one IMAGE_TOKEN."""
    loss_spans: Spans
    """`[start, end)` over `input_ids` of the tokens that are targets."""
    image_count: int
    images: tuple[int, ...] | None = None
    """Which of the images stored with it these are, by number; None for all of them."""
    branches: tuple[int, ...] = ()
    """Where each annotation begins in `input_ids`, if it has several: each sees itself and what stands before the first
    of them."""
    weights: tuple[float, ...] = ()
    """Of each loss span, what its tokens' losses are multiplied by; empty where that is 1."""
    tags: tuple[str, ...] = ()
    """Of each loss span, what kind of target it is (`long_caption`, `pointing`); empty where nobody says."""

    def until(self, end: int) -> "TokenizedSample":
        """Its first `end` input ids."""
        count = sum(start < end for start, _ in self.loss_spans)
        branches = tuple(begin for begin in self.branches if begin < end)
        return dataclasses.replace(
            self,
            input_ids=self.input_ids[:end],
            loss_spans=tuple((start, min(last, end)) for start, last in self.loss_spans[:count]),
            branches=branches if len(branches) > 1 else (),
            weights=self.weights[:count],
            tags=self.tags[:count],
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SpecialIds:
    """The control tokens that formatting uses; planner, packer and trainer compare their hash (invariant 5)."""

    eos: int
    """Ends a pair."""
    pad: int
    """The end token's where the tokenizer has none."""
    im_start: int | None
    im_end: int | None
    """ChatML's, where the tokenizer has it."""
    newline: tuple[int, ...]
    """The ids of a line break on its own; one id in a byte-level vocabulary."""

    @property
    def hash(self) -> str:
        """16 hex digits: equal hashes mean that the same ids are written and read."""
        return hashlib.blake2b(json.dumps(self.as_dict(), sort_keys=True).encode(), digest_size=8).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """The ids as JSON-able values."""
        return {**dataclasses.asdict(self), "newline": list(self.newline)}


def load_tokenizer(name_or_path: str) -> "PreTrainedTokenizerFast":
    """A fast Hugging Face tokenizer from a hub name, a folder, or a remote folder such as `s3://…/tokenizer`.

    What is on this machine is used before the network is asked. Raises ValueError, saying what to do, if there is none.
    """
    from transformers import AutoTokenizer

    if "://" in name_or_path:
        with tempfile.TemporaryDirectory() as folder:
            names = storage.list_names(name_or_path)
            if not names:
                raise _missing(name_or_path, "the folder is empty or missing")
            for name in names:
                storage.write_bytes(f"{folder}/{name}", storage.read_bytes(storage.join(name_or_path, name)))
            try:
                return _checked(AutoTokenizer.from_pretrained(folder, trust_remote_code=False), name_or_path)
            except (OSError, ValueError, KeyError) as error:
                raise _unreadable(name_or_path) from error
    try:
        return _checked(
            AutoTokenizer.from_pretrained(name_or_path, local_files_only=True, trust_remote_code=False), name_or_path
        )
    except (OSError, ValueError, KeyError):
        if storage.exists(name_or_path) or name_or_path.startswith((".", "/", "~")):
            raise _unreadable(name_or_path) from None
    try:
        return _checked(AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False), name_or_path)
    except (OSError, ValueError) as error:
        raise _missing(name_or_path, f"it is not on this machine and the hub did not give it ({error})") from error


@functools.lru_cache(maxsize=2)
def cached_tokenizer(name_or_path: str, fingerprint: str, more: str = "") -> "PreTrainedTokenizerFast":
    """The tokenizer, kept in this process while it is that of `fingerprint` (and of whatever `more` says).

    Raises ValueError if it is another by now.
    """
    tokenizer = load_tokenizer(name_or_path)
    if tokenizer_fingerprint(tokenizer) != fingerprint:
        raise ValueError(f"{name_or_path} is not the tokenizer that the plan was made with; write the pack again")
    return tokenizer


def _checked(tokenizer: Any, name: str) -> "PreTrainedTokenizerFast":
    if not getattr(tokenizer, "is_fast", False):
        raise _missing(name, "it has no fast (tokenizer.json) version, which batch encoding needs")
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    checked: PreTrainedTokenizerFast = tokenizer
    return checked


def _unreadable(folder: str) -> ValueError:
    """The error of a folder of which transformers makes no tokenizer: the file at fault where it can be told."""
    for name in storage.list_names(folder):
        path = storage.join(folder, name)
        try:
            if name.endswith(".json"):
                storage.read_json(path)
            elif name.endswith(".jinja"):
                with storage.reading(path, "chat template"):
                    storage.read_bytes(path).decode()
        except storage.Damaged as error:
            return error
    return _missing(folder, "there is no tokenizer.json that transformers can read in that folder")


def _missing(name: str, why: str) -> ValueError:
    return ValueError(
        f"cannot load the tokenizer {name!r}: {why}. Give a folder that holds tokenizer.json and tokenizer_config.json "
        "(save_pretrained writes them), download it once with the network on, or make a small one offline with "
        "packing.train_tokenizer"
    )


def special_ids(tokenizer: "PreTrainedTokenizerFast") -> SpecialIds:
    """The control tokens' ids; raises ValueError if nothing ends a text."""
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    if eos is None:
        raise ValueError(
            f"the tokenizer {tokenizer.name_or_path!r} has no eos_token, which ends a caption; add one with "
            "tokenizer.add_special_tokens and save it"
        )
    vocabulary = tokenizer.get_vocab()
    return SpecialIds(
        eos=int(eos),
        pad=int(eos if pad is None else pad),
        im_start=vocabulary.get("<|im_start|>"),
        im_end=vocabulary.get("<|im_end|>"),
        newline=tuple(encode_texts(tokenizer, ["\n"])[0]),
    )


def tokenizer_fingerprint(tokenizer: "PreTrainedTokenizerFast") -> str:
    """16 hex digits of the whole tokenizer and its special ids: equal fingerprints encode equally."""
    content = tokenizer.backend_tokenizer.to_str() + special_ids(tokenizer).hash
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def encode_texts(tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts as plain text: nothing added, added tokens in them spelled out, lone surrogates replaced."""
    return encode_plain(tokenizer, texts)


def encode_captions(
    tokenizer: "PreTrainedTokenizerFast", captions: Sequence[str | Sequence[str]]
) -> list[TokenizedSample]:
    """Pairs of one image and a caption, or several, encoded in one batch: `[-200, "\\n", caption…, eos]`."""
    special = special_ids(tokenizer)
    head = [IMAGE_TOKEN, *special.newline]
    groups = [[given] if isinstance(given, str) else given for given in captions]
    encoded = iter(encode_texts(tokenizer, [caption for group in groups for caption in group]))
    samples = []
    for group in groups:
        branches = [[*next(encoded), special.eos] for _ in group]
        edges = list(itertools.accumulate(map(len, branches), initial=len(head)))
        samples.append(
            TokenizedSample(
                input_ids=np.array([*head, *itertools.chain.from_iterable(branches)], dtype=np.int32),
                loss_spans=tuple(itertools.pairwise(edges)),
                image_count=1,
                branches=tuple(edges[:-1]) if len(group) > 1 else (),
            )
        )
    return samples


def encode_pair(tokenizer: "PreTrainedTokenizerFast", caption: str) -> TokenizedSample:
    """One pair; see `encode_captions`."""
    return encode_captions(tokenizer, [caption])[0]


def fit_annotations(sample: TokenizedSample, capacity: int, tokens_per_image: Each) -> TokenizedSample:
    """The sample with as many of its annotations, in order, as fit whole into `capacity` positions; one at least."""
    if not sample.branches:
        return sample
    count = max(1, fitting_branches(sample.input_ids, sample.branches, capacity, tokens_per_image))
    return sample if count == len(sample.branches) else sample.until(sample.branches[count])


def truncate(sample: TokenizedSample, capacity: int, tokens_per_image: Each) -> TokenizedSample | None:
    """The sample's longest beginning that fits into `capacity` positions; None if an image or all targets would go.

    Of several annotations the last go first, whole. A cut sample has no end token: the model must not learn to stop
    where the context did.
    """
    sample = fit_annotations(sample, capacity, tokens_per_image)
    kept = fitting_prefix(sample.input_ids, capacity, tokens_per_image)
    if kept == len(sample.input_ids):
        return sample
    cut = sample.until(kept)
    if not cut.loss_spans or int((cut.input_ids == IMAGE_TOKEN).sum()) < sample.image_count:
        return None
    return cut


def weigh(sample: TokenizedSample, rules: Sequence[str]) -> TokenizedSample:
    """The sample with its targets' weights multiplied by what `PlanConfig.target_weights` says."""
    if not rules:
        return sample
    branch = np.searchsorted(sample.branches, [start for start, _ in sample.loss_spans], side="right")
    weights = np.array(sample.weights or (1.0,) * len(branch))
    if "branches" in rules:
        weights = weights / np.sqrt(max(1, len(sample.branches)))
    if "lengths" in rules:
        targets = np.bincount(branch, weights=[end - start for start, end in sample.loss_spans])
        weights = weights * 2 / np.sqrt(targets[branch])
    rounded = tuple(round(weight, 6) for weight in weights.tolist())
    return dataclasses.replace(sample, weights=rounded if set(rounded) != {1.0} else ())
