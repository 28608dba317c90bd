"""A pass of deduplication as a recipe asks for it: over which sources, by which method, who survives."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import pyarrow as pa

from mmcorpus.curation.dedup.exact import SameBytes, SameColumns, SamePixels, SameText, SameTextAndImage, SameUrl
from mmcorpus.curation.dedup.image import NearImages
from mmcorpus.curation.dedup.method import Method
from mmcorpus.curation.dedup.minhash import MinHash
from mmcorpus.curation.dedup.semantic import Semantic
from mmcorpus.curation.selection.expression import columns_of, function_name, parse

METHODS: Final[Mapping[str, type[Method]]] = {
    "url": SameUrl,
    "bytes": SameBytes,
    "pixels": SamePixels,
    "text": SameText,
    "text_image": SameTextAndImage,
    "columns": SameColumns,
    "minhash": MinHash,
    "image": NearImages,
    "semantic": Semantic,
}
"""By the name that `by` gives."""
COLUMNS: Final = {"copies": pa.int32(), "rank": pa.int32(), "cluster": pa.string()}
"""What every pass writes of a sample: the size of its cluster, its place there (0 survives), the survivor's uid."""


@dataclass(frozen=True, kw_only=True)
class DedupConfig:
    """One pass; the settings of its method stand beside these."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    by: Literal["url", "bytes", "pixels", "text", "text_image", "columns", "minhash", "image", "semantic"]
    """What makes two samples copies: the same address, file, pixels, caption, caption and pixels, or columns of your
    choice; nearly the same text (MinHash), picture (hashes, then pixels) or meaning (SemDeDup)."""
    sources: tuple[str, ...] = ()
    """The sources that it looks through, as one; all of them if empty."""
    survivor: str | None = None
    """A number of columns, e.g. `clip.score`, `time(date)` or `length(caption)`: the sample of a cluster with the
    largest survives, equals by the lowest uid. Null: the largest picture for `by: image`, else the lowest uid."""
    among: str | None = None
    """A condition on the survivor: samples that meet it come before those that do not, so that a sample which the
    selection drops for another reason does not take its good copies with it. Null: all are equal."""
    annotations: bool = False
    """Also write `dedup/NAME/annotations.parquet`: the different captions of each cluster, to its survivor's uid, for
    packs that name the pass. Captions of samples that do not meet `among` are left out."""

    index: str | None = None
    """A folder of earlier samples, made by passes with `extend`: a copy of one of them has a rank of 1 or more."""
    extend: bool = False
    """Put the samples into the index afterwards, for later runs."""

    def __post_init__(self) -> None:
        if self.extend and self.index is None:
            raise ValueError("extend needs an index; name its folder: index: s3://…")
        for name in ("survivor", "among"):
            text = getattr(self, name)
            if text is not None:
                _check_row_by_row(name, text)
        if len(set(self.sources)) != len(self.sources):
            raise ValueError(f"sources names one twice: {list(self.sources)}")


def _check_row_by_row(name: str, text: str) -> None:
    """Refuse what depends on other rows than its own: the passes read one shard at a time."""
    for node in ast.walk(parse(text).tree):
        if isinstance(node, ast.Call) and function_name(node) in ("top", "bottom", "selected"):
            raise ValueError(f"{name}: `{function_name(node)}` looks at other samples too; say it with a threshold")


@dataclass(frozen=True, kw_only=True)
class DedupPass:
    """A pass that has been checked."""

    name: str
    """Its folder under `scores/<source>` and its prefix in expressions."""
    config: DedupConfig
    method: Method

    @property
    def survivor(self) -> str:
        """The expression of the survivor's rank; empty for the uid alone."""
        return self.method.survivor if self.config.survivor is None else self.config.survivor

    @property
    def read(self) -> dict[str, tuple[str, ...]]:
        """The columns that it reads by the key that asks for them: `scorer.column` of scores (and of other passes),
        `embeddings.scorer.part`, plain names of the shards' rows."""
        named = {"by": self.method.columns(), "annotations": ("caption",) if self.config.annotations else ()}
        for key, text in (("survivor", self.survivor), ("among", self.config.among)):
            named[key] = tuple(name for name in columns_of(text) if name != "uid") if text else ()
        return named

    @property
    def columns(self) -> tuple[str, ...]:
        """All that it reads, each once."""
        return tuple(dict.fromkeys(name for names in self.read.values() for name in names))

    @property
    def scorers(self) -> tuple[str, ...]:
        """The scorers and passes whose tables it reads."""
        dotted = (name.removeprefix("embeddings.") for name in self.columns if "." in name)
        return tuple(dict.fromkeys(name.partition(".")[0] for name in dotted))
