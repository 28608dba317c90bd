"""What a sample is as tokens: a caption or a conversation to input ids and the spans that carry loss.

A pair is `[-200, "\\n", caption…, eos]`, with loss on caption and eos. A conversation is ChatML, token for token
what a Qwen2 tokenizer's `apply_chat_template` gives, with `-200` where `<image>` stood; loss on each answer and its
`<|im_end|>`, not on the newline after it. Text from the web never becomes a control token: `<|im_end|>` in a caption
is encoded as the characters it is written with.
"""

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from curation import storage
from packing.lengths import IMAGE_TOKEN, fitting_prefix

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

IMAGE_MARK: Final = "<image>"
"""How LLaVA's conversations write the place of an image."""

_ROLES: Final = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}

Spans = tuple[tuple[int, int], ...]
Turns = list[tuple[str, str]]
"""A conversation's (role, text), roles being `system`, `user` and `assistant`."""


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


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SpecialIds:
    """The control tokens that formatting uses; planner, packer and trainer compare their hash (invariant 5)."""

    eos: int
    """Ends a pair."""
    pad: int
    im_start: int
    im_end: int
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
            for name in storage.list_names(name_or_path):
                storage.write_bytes(f"{folder}/{name}", storage.read_bytes(storage.join(name_or_path, name)))
            return (
                _loaded(AutoTokenizer.from_pretrained(folder), name_or_path)
                if storage.list_names(folder)
                else _missing(name_or_path, "the folder is empty or missing")
            )
    try:
        return _loaded(AutoTokenizer.from_pretrained(name_or_path, local_files_only=True), name_or_path)
    except (OSError, ValueError, KeyError):
        if storage.exists(name_or_path) or name_or_path.startswith((".", "/", "~")):
            return _missing(name_or_path, "there is no tokenizer.json that transformers can read in that folder")
    try:
        return _loaded(AutoTokenizer.from_pretrained(name_or_path), name_or_path)
    except (OSError, ValueError) as error:
        return _missing(name_or_path, f"it is not on this machine and the hub did not give it ({error})")


def _loaded(tokenizer: Any, name: str) -> "PreTrainedTokenizerFast":
    if not getattr(tokenizer, "is_fast", False):
        _missing(name, "it has no fast (tokenizer.json) version, which batch encoding needs")
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    loaded: PreTrainedTokenizerFast = tokenizer
    return loaded


def _missing(name: str, why: str) -> Any:
    raise ValueError(
        f"cannot load the tokenizer {name!r}: {why}. Give a folder that holds tokenizer.json and tokenizer_config.json "
        "(save_pretrained writes them), download it once with the network on, or make a small one offline with "
        "packing.train_tokenizer"
    )


def special_ids(tokenizer: "PreTrainedTokenizerFast") -> SpecialIds:
    """The control tokens' ids; raises ValueError naming those the tokenizer lacks."""
    vocabulary = tokenizer.get_vocab()
    ids = {
        "eos_token": tokenizer.eos_token_id,
        "pad_token": tokenizer.pad_token_id,
        "<|im_start|>": vocabulary.get("<|im_start|>"),
        "<|im_end|>": vocabulary.get("<|im_end|>"),
    }
    lacking = [name for name, value in ids.items() if value is None]
    if lacking:
        raise ValueError(
            f"the tokenizer {tokenizer.name_or_path!r} has no {', '.join(lacking)}; use a Qwen2-style (ChatML) "
            "tokenizer or add them with tokenizer.add_special_tokens and save it"
        )
    return SpecialIds(
        eos=int(ids["eos_token"]),
        pad=int(ids["pad_token"]),
        im_start=int(ids["<|im_start|>"]),
        im_end=int(ids["<|im_end|>"]),
        newline=tuple(encode_texts(tokenizer, ["\n"])[0]),
    )


def tokenizer_fingerprint(tokenizer: "PreTrainedTokenizerFast") -> str:
    """16 hex digits of the whole tokenizer and its special ids: equal fingerprints encode equally."""
    content = tokenizer.backend_tokenizer.to_str() + special_ids(tokenizer).hash
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def encode_texts(tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str]) -> list[list[int]]:
    """The ids of texts as plain text: nothing added, special tokens in them spelled out, lone surrogates replaced."""
    backend = tokenizer.backend_tokenizer
    before = backend.encode_special_tokens
    backend.encode_special_tokens = True
    try:
        clean = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]
        return [encoding.ids for encoding in backend.encode_batch_fast(clean, add_special_tokens=False)]
    finally:
        backend.encode_special_tokens = before


def encode_captions(tokenizer: "PreTrainedTokenizerFast", captions: Sequence[str]) -> list[TokenizedSample]:
    """Pairs of one image and a caption each, encoded in one batch: `[-200, "\\n", caption…, eos]`."""
    special = special_ids(tokenizer)
    head = [IMAGE_TOKEN, *special.newline]
    return [
        TokenizedSample(
            input_ids=np.array([*head, *ids, special.eos], dtype=np.int32),
            loss_spans=((len(head), len(head) + len(ids) + 1),),
            image_count=1,
        )
        for ids in encode_texts(tokenizer, captions)
    ]


def encode_pair(tokenizer: "PreTrainedTokenizerFast", caption: str) -> TokenizedSample:
    """One pair; see `encode_captions`."""
    return encode_captions(tokenizer, [caption])[0]


def parse_conversation(conversations: str | Sequence[Mapping[str, Any]]) -> Turns:
    """LLaVA's `[{"from": "human"|"gpt"|"system", "value": …}, …]`, as JSON text or parsed.

    Raises ValueError for anything else, and for a conversation without an answer to learn from.
    """
    if isinstance(conversations, str):
        try:
            conversations = json.loads(conversations)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"conversations is not JSON: {error}") from None
    if not isinstance(conversations, Sequence) or isinstance(conversations, str):
        raise ValueError("conversations is not a list of turns")
    turns: Turns = []
    for number, turn in enumerate(conversations):
        role = _ROLES.get(str(turn.get("from"))) if isinstance(turn, Mapping) else None
        value = turn.get("value") if isinstance(turn, Mapping) else None
        if role is None or not isinstance(value, str):
            raise ValueError(f"turn {number} needs 'from' (human, gpt or system) and a text 'value'")
        turns.append((role, value))
    if not any(role == "assistant" and text.strip() for role, text in turns):
        raise ValueError("no turn from gpt says anything, so there is nothing to learn")
    return turns


def encode_conversations(
    tokenizer: "PreTrainedTokenizerFast", conversations: Sequence[Turns], image_counts: Sequence[int]
) -> list[TokenizedSample]:
    """Conversations as ChatML, encoded in one batch.

    The first `image_count` marks `<image>` in user turns become placeholders, text around them kept; further ones
    stay text. Where there are fewer marks than images, the missing ones open the first user turn, a line each, as
    LLaVA does.
    """
    special = special_ids(tokenizer)
    pieces = [
        _pieces(turns, count, special) for turns, count in zip(conversations, image_counts, strict=True)
    ]  # each conversation a list of ids and (text, is_answer)
    answer_head = encode_texts(tokenizer, [_ANSWER_HEAD])[0]
    texts = [piece[0] for conversation in pieces for piece in conversation if isinstance(piece, tuple)]
    encoded = iter(encode_texts(tokenizer, texts))
    samples = []
    for conversation, image_count in zip(pieces, image_counts, strict=True):
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for piece in conversation:
            if isinstance(piece, int):
                ids.append(piece)
                continue
            text_ids = next(encoded)
            if piece[1]:
                # The span ends one past the <|im_end|> that follows the answer.
                spans.append((len(ids) + _answer_start(text_ids, answer_head), len(ids) + len(text_ids) + 1))
            ids += text_ids
        samples.append(
            TokenizedSample(
                input_ids=np.array(ids, dtype=np.int32), loss_spans=tuple(spans), image_count=max(image_count, 0)
            )
        )
    return samples


def encode_conversation(
    tokenizer: "PreTrainedTokenizerFast", conversations: str | Sequence[Mapping[str, Any]], image_count: int
) -> TokenizedSample:
    """One conversation; see `parse_conversation` and `encode_conversations`."""
    return encode_conversations(tokenizer, [parse_conversation(conversations)], [image_count])[0]


_ANSWER_HEAD: Final = "assistant\n"


def _pieces(turns: Turns, image_count: int, special: SpecialIds) -> list[int | tuple[str, bool]]:
    """A conversation as ids and (text, is an answer), in order."""
    marks = sum(text.count(IMAGE_MARK) for role, text in turns if role == "user")
    missing = max(0, image_count - marks)
    if missing and not any(role == "user" for role, _ in turns):
        turns = [("user", ""), *turns] if turns[0][0] != "system" else [turns[0], ("user", ""), *turns[1:]]
    slots = image_count
    pieces: list[int | tuple[str, bool]] = []
    for role, text in turns:
        if role == "user" and missing:
            text, missing = f"{IMAGE_MARK}\n" * missing + text, 0
        pieces.append(special.im_start)
        before, *after = text.split(IMAGE_MARK, slots) if role == "user" and slots else [text]
        slots -= len(after)
        pieces.append((f"{role}\n{before}", role == "assistant"))
        for part in after:
            pieces.append(IMAGE_TOKEN)
            if part:
                pieces.append((part, False))
        pieces.append(special.im_end)
        pieces.append(("\n", False))
    return pieces


def _answer_start(text_ids: Sequence[int], head: Sequence[int]) -> int:
    """How many of a turn's ids belong to `assistant\\n`.

    An answer that opens with a line break may share a token with the head's own; no prompt ends in the middle of a
    token, so that token carries no loss.
    """
    common = 0
    while common < min(len(head), len(text_ids)) and text_ids[common] == head[common]:
        common += 1
    return common if common == len(head) else min(common + 1, len(text_ids))


def truncate(sample: TokenizedSample, capacity: int, tokens_per_image: int) -> TokenizedSample | None:
    """The sample's longest beginning that fits into `capacity` positions; None if an image or all targets would go.

    A cut sample has no end token: the model must not learn to stop where the context did.
    """
    kept = fitting_prefix(sample.input_ids, capacity, tokens_per_image)
    if kept == len(sample.input_ids):
        return sample
    spans = tuple((start, min(end, kept)) for start, end in sample.loss_spans if start < kept)
    input_ids = sample.input_ids[:kept]
    if not spans or int((input_ids == IMAGE_TOKEN).sum()) < sample.image_count:
        return None
    return TokenizedSample(input_ids=input_ids, loss_spans=spans, image_count=sample.image_count)
