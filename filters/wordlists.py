"""Lists of words: how common a language's words are (by `wordfreq`), and lists of one's own.

`wordfreq` (Speer 2022) ships the frequencies of 40 languages' words in eight kinds of text, and needs no network. It
was chosen by measuring: of 6,600 English paragraphs its 200 most frequent words decide 97.6 % as the 301 stop words in
OBELICS' code do at OBELICS' thresholds for paragraphs (96.3 % for documents), spaCy's 326 stop words 97.4 % (96.4 %),
stopwords-iso's 1,298, which know neither case nor measure, 92.5 % (90.5 %).
"""

import functools
import gzip
import importlib.util
import json
import zlib
from importlib import metadata
from pathlib import Path
from typing import Final

from mmcorpus.filters.weights import local_copy

_INSTALL: Final = "install it with: pip install 'mmcorpus[curate]', or name a file of your own words"


def check_language(code: str) -> None:
    """Raise ValueError if `wordfreq` is missing or does not know a language."""
    if importlib.util.find_spec("wordfreq") is None:
        raise ValueError(f"it needs the package wordfreq; {_INSTALL}")
    from wordfreq import available_languages

    known = available_languages("best")
    if code not in known:
        raise ValueError(
            f"wordfreq knows no frequencies for the language {code!r}; it knows {', '.join(sorted(known))}; "
            "name files of your own words for others"
        )


def edition() -> str:
    """The lists' name and version."""
    return f"wordfreq@{metadata.version('wordfreq')}"


@functools.cache
def most_frequent(code: str, count: int) -> frozenset[str]:
    """The `count` most frequent words of a language, in lower case."""
    from wordfreq import top_n_list

    return frozenset(top_n_list(code, count))


@functools.cache
def at_least(code: str, zipf: float) -> frozenset[str]:
    """The words of a language that occur at least 10**zipf times in a billion, in lower case."""
    from wordfreq import get_frequency_dict

    least = 10 ** (zipf - 9)
    return frozenset(word for word, share in get_frequency_dict(code, "best").items() if share >= least)


def from_file(path: str) -> frozenset[str]:
    """The words of a file, local or remote, in lower case: one a line, or a JSON list (`.json`); `.gz` of both.

    Raises:
        ValueError: the file is missing, holds no list of words, or an entry of several words.
    """
    place = Path(local_copy(path))
    if not place.is_file():
        raise ValueError(f"there is no word list at {path}; give a file of one word a line")
    data = place.read_bytes()
    try:
        text = (gzip.decompress(data) if place.suffix == ".gz" else data).decode("utf-8-sig")
        entries = json.loads(text) if place.name.removesuffix(".gz").endswith(".json") else text.splitlines()
    except (ValueError, OSError, EOFError, zlib.error, RecursionError) as error:
        raise ValueError(f"{path} is not readable as a word list in UTF-8: {error}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ValueError(f'{path} is no JSON list of words; give a list such as ["one", "two"]')
    return frozenset(entry.strip().lower() for entry in entries if entry.strip())
