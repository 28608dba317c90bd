"""URL rules: addresses of page chrome."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

import pyarrow as pa

from mmcorpus.filters.scorer import Batch, Columns, Scorer, columns_of

WORDS: Final = ("logo", "button", "icon", "plugin", "widget")
NO_URL: Final = "no_url"
_PATH: Final = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:)?(?://[^/?#]*)?([^?#]*)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class UrlScorer(Scorer):
    """logo, button, icon, plugin, widget: true if the word stands anywhere in the URL's path, whatever its case.

    The words are those of MM1 (McKinzie et al. 2024, A.1), after MMC4 (Zhu et al. 2023). OBELICS' released code has
    them too and looks for substrings, as this does: `silicon` counts as an icon, unless `whole_words` is set. The
    host and the query are not looked at. matches: how many of the five words stand there.
    """

    whole_words: bool = False
    """Count a word only between non-letters, its plural too: `icons/a.png` but not `silicon.png`. Not published."""

    name: ClassVar[str] = "url"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("url",)

    def schema(self) -> pa.Schema:
        columns: dict[str, pa.DataType] = {word: pa.bool_() for word in WORDS}
        return pa.schema(columns | {"matches": pa.int32()})

    def load(self) -> Callable[[Batch], Columns]:
        edges = r"(?<![a-z]){}s?(?![a-z])" if self.whole_words else "{}"
        patterns = {word: re.compile(edges.format(word)) for word in WORDS}

        def measure(url: str) -> dict[str, int]:
            path = url_path(url)
            found = {word: patterns[word].search(path) is not None for word in WORDS}
            return {**found, "matches": sum(found.values())}

        def judge(batch: Batch) -> Columns:
            rows = [NO_URL if url is None else measure(url) for url in batch["url"]]
            return columns_of((*WORDS, "matches"), rows)

        return judge


def url_path(url: str) -> str:
    """The path of a URL in lower case; unlike `urllib`'s, never raises."""
    match = _PATH.match(url.lower())
    return match[1] if match else ""
