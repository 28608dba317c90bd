"""Configuration of an index: the evaluation sets, and the n-grams of their texts."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from mmcorpus.filters.serving.config import FORBID


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """One set. Every row, shard sample or picture with its text file is an item."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    path: str
    """A .jsonl, .parquet or .arrow file, or a folder: of such files, of a dataset saved by Hugging Face `datasets`, of
    WebDataset shards, or of pictures with texts beside them (`a.jpg`, `a.txt`). Local or remote."""
    texts: tuple[str, ...] = ()
    """Columns whose texts are compared; empty for every text in a row, however deep."""
    images: tuple[str, ...] = ()
    """Columns with pictures: bytes, paths, or both as `datasets` stores them; empty for every picture in a row."""
    id: str = "id"
    """The column that names an item; where a row has none, its file and number do."""

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path is empty; name a file or folder")


@dataclass(frozen=True, kw_only=True)
class EmbeddingModel:
    """The CLIP that embeds the pictures; the one that will score."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    model_name: str
    """As the scorer `clip` has it: an architecture of open_clip, `hf-hub:organisation/name`, or a folder."""
    pretrained: str | None = None
    """As the scorer `clip` has it."""


@dataclass(frozen=True, kw_only=True)
class EvaluationsConfig:
    """The sets of an index, and how they are compared."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    sets: dict[str, EvaluationSet] = field(default_factory=dict)
    """By a name of your own, which stands before each item's."""
    n: int = 13
    """Words that two texts must share in a row (GPT-3, appendix C). Captions are short: 8 finds more of them."""
    min_words: int = 8
    """Texts of fewer words are not compared at all; those of fewer than n are compared whole. 8 is GPT-3's least."""
    max_items: int | None = 10
    """An n-gram that more items have than this is a template or a common phrase, and ignored; null ignores none."""
    clip: EmbeddingModel | None = None
    """Embed the pictures too, for the scorer `clip` with `evaluations`; null does not."""

    def __post_init__(self) -> None:
        if not self.sets:
            raise ValueError("sets is empty; name at least one evaluation set")
        for name in self.sets:
            if not name or "/" in name:
                raise ValueError(f"sets: {name!r} is no name; a set's name is not empty and has no slash")
        if self.n < 1:
            raise ValueError(f"n: {self.n} words; give 1 or more")
        if not 1 <= self.min_words <= self.n:
            raise ValueError(f"min_words: {self.min_words} is not in 1-{self.n}, the n of this index")
        if self.max_items is not None and self.max_items < 1:
            raise ValueError(f"max_items: {self.max_items}; give 1 or more, or null")
