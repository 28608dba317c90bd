"""The token ids of text from the web: whatever a text spells, no added token of the tokenizer comes out of it.

A tokenizer looks for its added tokens in the text before its model sees it. Its own switch against that
(`encode_special_tokens`, transformers' `split_special_tokens`) covers those marked special alone: Qwen's
`<tool_call>`, `<think>` and `<|fim_prefix|>` are not. Texts are therefore encoded by a copy of the tokenizer in which
all of them are special, and in whose model none of them can be put together or looked up (a Unigram or WordPiece
vocabulary holds `</s>` and `[SEP]` as it holds words). All other text gets the ids that it always has.
"""

import json
import re
import secrets
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_COPIES: Final[weakref.WeakKeyDictionary[Any, tuple[dict[int, str], "Tokenizer"]]] = weakref.WeakKeyDictionary()
"""By tokenizer, the added tokens that it had and its copy."""


_BEGINS: Final = re.compile(r"<(?=[\w/|｜])|\[(?=/?(?:INST|IMG|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_|THINK)\w*\])")
"""Of tags and of special tokens: `</caption>`, `<|im_end|>`, DeepSeek's `<｜User｜>`, Mistral's `[/INST]`."""


def apart(text: str) -> str:
    """The text for a chat, whose server looks for special tokens in it: a space stands in those that it spells out."""
    return _BEGINS.sub(r"\g<0> ", text)


def clean(text: str) -> str:
    """The text with lone surrogates, which tokenizers refuse, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def encode_plain(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The ids of the texts alone, nothing added: an added token that a text spells out is encoded as its characters.

    Added tokens of white space alone (GPT-NeoX's runs of spaces) are text and stay. So do those of a single character,
    which cannot be spelled otherwise, and the token for the unknown where a model has it for unknown words.

    Args:
        tokenizer: transformers' fast tokenizer; it is left as it is. Of a slow one only special tokens are spelled out.
    """
    if not texts:
        return []
    if not hasattr(tokenizer, "backend_tokenizer"):
        slow: list[list[int]] = tokenizer(
            [clean(text) for text in texts], add_special_tokens=False, split_special_tokens=True
        )["input_ids"]
        return slow
    encodings = _copy(tokenizer).encode_batch_fast([clean(text) for text in texts], add_special_tokens=False)
    return [encoding.ids for encoding in encodings]


def encode_plain_with_offsets(tokenizer: Any, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """`encode_plain`, and of each token the `[start, end)` of its characters; by a fast tokenizer alone."""
    encodings = (
        _copy(tokenizer).encode_batch([clean(text) for text in texts], add_special_tokens=False) if texts else []
    )
    return [(encoding.ids, encoding.offsets) for encoding in encodings]


def _copy(tokenizer: Any) -> "Tokenizer":
    """The tokenizer's copy without added tokens; made once, and again when tokens are added."""
    backend = tokenizer.backend_tokenizer
    added = {number: token.content for number, token in backend.get_added_tokens_decoder().items()}
    known = _COPIES.get(tokenizer)
    if known is not None and known[0] == added:
        return known[1]
    from tokenizers import Tokenizer

    data = json.loads(backend.to_str())
    for token in data["added_tokens"]:
        token["special"] = token["special"] or not token["content"].isspace()
    controls = {token["content"] for token in data["added_tokens"] if token["special"] and len(token["content"]) > 1}
    _hide(data["model"], controls)
    copy = Tokenizer.from_str(json.dumps({**data, "truncation": None, "padding": None}))
    copy.encode_special_tokens = True
    _COPIES[tokenizer] = added, copy
    return copy


def _hide(model: dict[str, Any], controls: set[str]) -> None:
    """Rename these entries of a model's vocabulary, as it is in tokenizer.json, so that no text gives their ids.

    The new names are drawn, since a text could spell any that were known. Ids and all other entries stay.
    """
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # Unigram's pieces and scores; its unknown piece is known by its place
        model["vocab"] = [[_unheard_of() if piece in controls else piece, score] for piece, score in vocabulary]
        return
    reachable = {name for name in controls if name in vocabulary and name != model.get("unk_token")}
    if "merges" in model:  # BPE: what merges make, and with ignore_merges whole words
        prefix = model.get("continuing_subword_prefix") or ""
        merges = [merge if isinstance(merge, list) else merge.split(" ") for merge in model["merges"]]
        made = reachable & {left + right.removeprefix(prefix) for left, right in merges}
        if not model.get("ignore_merges"):
            reachable = made
        if made:
            model["merges"] = [
                [left, right] for left, right in merges if not made & {left, right, left + right.removeprefix(prefix)}
            ]
    model["vocab"] = {_unheard_of() if name in reachable else name: number for name, number in vocabulary.items()}


def _unheard_of() -> str:
    return f"\U0010ffff{secrets.token_hex(16)}"
