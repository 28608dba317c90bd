"""Options of the images of documents: the list to download, and their placing."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from mmcorpus.filters.profiles import MM1_USES
from mmcorpus.filters.url import WORDS

Beside = Literal["figcaption", "next", "previous", "alt"]
"""Sources of an image's text: its figure's caption, the nearest text after or before it, its alt text."""


@dataclass(frozen=True, kw_only=True)
class ImageListConfig:
    """The rules for image addresses before a download. An address is dropped by the first that it fails, in this order.

    The defaults are MM1's (McKinzie et al. 2024, A.1) where it has a rule: URL words, and uses. The rest of its
    rule for images is the profile `mm1_images`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    opt_out: bool = True
    """Leave out an address that any page asks not to use."""
    decorative: bool = True
    """Leave out an address that seems to be page chrome (spacer, icon, tracking, …) wherever it stands."""
    min_declared_side: int = 32
    """Leave out an address that every place shows with a side below so many CSS pixels; 0 for none."""
    url_words: tuple[str, ...] = WORDS
    """Leave out an address with one of these words in its path (of `logo`, `button`, `icon`, `plugin`, `widget`)."""
    whole_words: bool = False
    """Find words between non-letters only: `icons/a.png` but not `silicon.png`. MM1 and OBELICS find them anywhere."""
    max_uses: int | None = MM1_USES
    """Leave out an address that stands in more places of the corpus than this; null for no limit."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.url_words) - set(WORDS))
        if unknown:
            raise ValueError(f"url_words: unknown {unknown[0]!r}; there are {', '.join(WORDS)}")
        if self.min_declared_side < 0:
            raise ValueError(f"min_declared_side is {self.min_declared_side}; give 0 or more")
        if self.max_uses is not None and self.max_uses < 1:
            raise ValueError(f"max_uses is {self.max_uses}; give 1 or more, or null for no limit")


@dataclass(frozen=True, kw_only=True)
class PlaceConfig:
    """The placing of images back into their documents, and the text that stands for each."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    repeats: Literal["first", "all"] = "first"
    """Of an image that stands on a page several times (by address, or by the bytes that came) keep the first, as MM1
    does, or all."""
    decorative: bool = True
    """Leave out an image where its own page makes it page chrome, also if it is content elsewhere."""
    text_beside: tuple[Beside, ...] = ("figcaption", "next", "previous")
    """The caption of an image in the view `images`: the first of these that it has."""

    def __post_init__(self) -> None:
        if len(set(self.text_beside)) != len(self.text_beside):
            raise ValueError(f"text_beside names a place twice: {list(self.text_beside)}")
