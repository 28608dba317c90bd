"""URL rules: addresses of page furniture."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

import pyarrow as pa

from filters.scorer import REASON, Batch, Columns, Scorer

WORDS: Final = ("logo", "button", "icon", "plugin", "widget")
NO_URL: Final = "no_url"
_PATH: Final = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:)?(?://[^/?#]*)?([^?#]*)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class UrlScorer(Scorer):
    """logo, button, icon, plugin, widget: true if the word stands anywhere in the URL's path, whatever its case.

    The published rule (MMC4, Zhu et al. 2023, §2; MM1, McKinzie et al. 2024, A.1) matches substrings, so `silicon`
    counts as an icon. The host and the query are not looked at. matches: how many of the five words stand there.
    """

    name: ClassVar[str] = "url"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("url",)

    def schema(self) -> pa.Schema:
        columns: dict[str, pa.DataType] = {word: pa.bool_() for word in WORDS}
        return pa.schema(columns | {"matches": pa.int32()})

    def load(self) -> Callable[[Batch], Columns]:
        def judge(batch: Batch) -> Columns:
            paths = [None if url is None else url_path(url) for url in batch["url"]]
            columns: Columns = {word: [None if path is None else word in path for path in paths] for word in WORDS}
            return {
                **columns,
                "matches": [None if path is None else sum(word in path for word in WORDS) for path in paths],
                REASON: [NO_URL if path is None else None for path in paths],
            }

        return judge


def url_path(url: str) -> str:
    """The path of a URL in lower case; unlike `urllib`'s, never raises."""
    match = _PATH.match(url.lower())
    return match[1] if match else ""
