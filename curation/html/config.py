"""Bounds of an extraction, and the error of a page that cannot be read."""

from dataclasses import dataclass
from typing import Any, ClassVar


class ExtractError(Exception):
    """A page that cannot be read: a fixed code and what was seen.

    Codes: `empty`, `not_html`, `too_large`, `too_many_nodes`.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code, self.detail = code, detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """The reading of pages, and how much of one is read at most."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    max_bytes: int = 20_000_000
    """A larger page is refused (`too_large`) before it is decoded; so is one of more characters."""
    max_nodes: int = 500_000
    """Of the tree, elements and texts together; a page with more is refused (`too_many_nodes`)."""
    max_image_width: int = 2_560
    """In pixels. Of a `srcset` the widest candidate up to this is taken, else the narrowest."""
    max_data_uri: int = 1_000_000
    """In characters. A longer `data:` image is left out."""
    min_data_uri: int = 1_000
    """In characters. A shorter `data:` image is a placeholder, which yields to any address beside it."""
    links: bool = False
    """Keep navigation-like lists of links inside the content as well."""

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_nodes", "max_image_width", "max_data_uri", "min_data_uri"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.min_data_uri > self.max_data_uri:
            raise ValueError(f"min_data_uri ({self.min_data_uri}) is greater than max_data_uri ({self.max_data_uri})")
