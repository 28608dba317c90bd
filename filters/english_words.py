"""The words and marks of a text, tokenised like spaCy's English tokenizer, which FineWeb's and datatrove's rules count.

Split at white space; from each end of a chunk, punctuation is taken off one by one; the rest is split at punctuation
between letters. `it's` is `it 's`, `don't` is `do n't`, `well-known` is three; `--no-check`, `/usr/share`, `U.S.`
and addresses stay whole. What has been seen before is remembered, as most of a text has. Of 104,572 tokens of real
English texts (documentation, change logs, HTML) 221 are others than spaCy's.
"""

import re
import unicodedata
from typing import Final

from mmcorpus.filters.texts import Remembered

_LONGEST: Final = 1000  # characters without white space; what is longer is no English, and split in one pass
_MARKS: Final = frozenset("…,:;!?¿¡()[]{}<>_#*&。？！，、；：～·।،؛٪'\"”“`‘´’‚„»«「」『』（）〔〕【】《》〈〉⟦⟧")
_HEAD: Final = _MARKS | frozenset("§%=—–")
_TAIL: Final = _MARKS | frozenset("—–")
_DOTS: Final = re.compile(r"\.{2,}")
_UNITS: Final = (
    "km²?|m²?|dm²?|cm²?|mm²?|ha|nm|yd|in|ft|kg|g|mg|µg|t|lb|oz|m/s|km/h|mph|hPa|Pa|mbar|mb|MB|kb|KB|gb|GB|tb|TB"
    "|T|G|M|K|%"
)
_TAIL_MARKS: Final = re.compile(
    r"(?:['’][sS]|\.{2,}|(?<=\d)\+|(?<=[A-ZÀ-ÖØ-Þ][A-ZÀ-ÖØ-Þ])\."
    r"|(?<=[\d%²\-+\"'`”’»«“‘´a-zà-öø-ÿ…,:;!?¿¡()\[\]{}<>_#*&])\."
    rf"|(?<=\d)(?:{_UNITS}))$"
)
_INNER: Final = re.compile(
    r"\.{2,}|…|(?<=\d)[+\-*^](?=[\d-])|(?<=[a-zà-öø-ÿ\"'”’])\.(?=[A-ZÀ-ÖØ-Þ\"'“‘])"
    r"|(?<=[^\W\d_]),(?=[^\W\d_])|(?<=[^\W_])(?:-{1,3}|[–—~]+)(?=[^\W\d_])|(?<=[^\W_])[:<>=/](?=[^\W\d_])"
)
_NEGATED: Final = "ai|are|ca|could|did|does|do|had|has|have|is|might|must|need|ought|sha|should|was|were|wo|would"
_SUBJECTS: Final = "i|you|he|she|it|we|they|who|what|when|where|why|how|there|that|this"
_CONTRACTION: Final = re.compile(
    rf"(?i)((?:{_NEGATED})(?=n['’]t$)|(?:{_SUBJECTS})(?=['’](?:s|re|ve|ll|d|m)$)|can(?=not$))(.+)$"
)
_ABBREVIATIONS: Final = (
    r"Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|Inc|Ltd|Co|Corp|Bros|Gen|Gov|Rep|Rev|Sen|Mt|Adm|Messrs|vs|v\.s|Ph\.D|No|Jan|Feb|Mar"
    r"|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|a\.m|p\.m|e\.g|i\.e"
)
_WHOLE: Final = re.compile(
    r"(?:https?://|ftp://|www\.)[^\s/?#]*\.(?:[A-Za-z]{2,}|\d+)(?:[:/?#]\S*)?(?<=[\w/])"
    r"|[\w.+-]+@[\w-]+\.[\w.-]*\w|(?:[\w-]+\.)+(?:com|org|net|edu|gov|info|io|de|uk|fr)(?:/\S*)?(?<=[\w/])"
    rf"|[a-z]\.|[A-Z]\.|(?:[^\W\d_]\.){{2,}}|and/or|'(?:s|re|ve|ll|d|m|em|cause)|(?:{_ABBREVIATIONS})\."
)
_HAN: Final = r"\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNSPACED: Final = re.compile(rf"[{_HAN}]|[^{_HAN}]+")
_PLAIN: Final = re.compile(rf"[{_HAN}]|[^\W{_HAN}]+|[^\w\s]")


def tokenize(text: str) -> list[str]:
    """The tokens of a text, in order.

    Han and Kana are a word a character; other scripts without spaces (Thai, Khmer, Lao, Burmese) are not split.
    """
    found: list[str] = []
    for chunk in text.split():
        found += _TOKENS[chunk] if len(chunk) <= _LONGEST else _PLAIN.findall(chunk)
    return found


def split_chunk(chunk: str) -> list[str]:
    """The tokens of what stands between white space.

    >>> split_chunk('("don\\'t,')
    ['(', '"', 'do', "n't", ',']
    """
    start, end = 0, len(chunk)
    tail: list[str] = []
    while start < end and not _WHOLE.fullmatch(chunk, start, end):
        width = _head(chunk, start, end)
        if width:
            start += width
            continue
        width = _tail(chunk, start, end)
        if not width:
            break
        tail.append(chunk[end - width : end])
        end -= width
    head: list[str] = []
    place = 0
    while place < start:
        width = _head(chunk, place, len(chunk))
        head.append(chunk[place : place + width])
        place += width
    return [*head, *_middle(chunk[start:end]), *reversed(tail)]


def _head(chunk: str, start: int, end: int) -> int:
    """The number of characters at the start that are a mark."""
    first = chunk[start]
    if dots := _DOTS.match(chunk, start, end):
        return dots.end() - start
    if first == "+":
        return int(not (start + 1 < end and chunk[start + 1].isdigit()))
    return int(first in _HEAD or unicodedata.category(first) in ("So", "Sc"))


def _tail(chunk: str, start: int, end: int) -> int:
    """The number of characters at the end that are a mark."""
    if found := _TAIL_MARKS.search(chunk, max(start, end - 100), end):
        return end - found.start()
    last = chunk[end - 1]
    kind = unicodedata.category(last)
    after_digit = end - start > 1 and chunk[end - 2].isdigit()
    return int(last in _TAIL or kind == "So" or (kind == "Sc" and after_digit))


def _middle(word: str) -> list[str]:
    """The tokens of a word without marks at its ends."""
    if not word:
        return []
    if found := _CONTRACTION.fullmatch(word):
        return [found[1], found[2]]
    if (word.isalnum() and word.isascii()) or _WHOLE.fullmatch(word):
        return [word]
    tokens: list[str] = []
    place = 0
    for mark in _INNER.finditer(word):
        tokens += [word[place : mark.start()], mark[0]]
        place = mark.end()
    tokens.append(word[place:])
    parts = (token if token.isascii() else _UNSPACED.findall(token) for token in tokens if token)
    return [part for found in parts for part in ([found] if isinstance(found, str) else found)]


_TOKENS: Final = Remembered(split_chunk, most=1 << 16)
