"""Counts of a document's images, texts and words."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import pyarrow as pa

from mmcorpus.filters.scorer import Batch, Columns, Scorer, columns_of

NO_NODES: Final = "no_nodes"
"""The reason of a row that is no document: it does not say how many images it has."""


@dataclass(frozen=True, kw_only=True)
class DocumentScorer(Scorer):
    """images: that are left in it. texts: paragraphs, headings, lists … that are left. words, characters: of all texts.

    Words are runs between white space, as `caption.words` counts. Unlike in the scorers of texts, a document without
    text has 0 of everything but images, and is no failure.
    """

    name: ClassVar[str] = "document"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("caption", "meta")

    def schema(self) -> pa.Schema:
        return pa.schema(dict.fromkeys(("images", "texts", "words", "characters"), pa.int32()))

    def load(self) -> Callable[[Batch], Columns]:
        names = self.schema().names

        def judge(batch: Batch) -> Columns:
            rows = zip(batch["caption"], batch["meta"], strict=True)
            return columns_of(names, [measure(text or "", meta) for text, meta in rows])

        return judge


def measure(text: str, meta: Mapping[str, Any]) -> dict[str, int] | str:
    """The columns of one document, or why there are none."""
    images = meta.get("images")
    if images is None:
        return NO_NODES
    return {"images": images, "texts": _texts(text, meta), "words": len(text.split()), "characters": len(text)}


def _texts(text: str, meta: Mapping[str, Any]) -> int:
    """The number of text nodes: as counted, or in the row's nodes, or as separated by blank lines."""
    if meta.get("texts") is not None:
        return int(meta["texts"])
    nodes = meta.get("nodes")
    if nodes is not None:
        return sum("text" in node for node in (json.loads(nodes) if isinstance(nodes, str) else nodes))
    return sum(1 for part in text.split("\n\n") if part and not part.isspace())
