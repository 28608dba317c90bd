"""What counts as a repeat, and which of a cluster survives."""

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from curation.selection.expression import columns_of, parse
from curation.selection.names import REPEATS

SCORER: Final = "repeats"
"""The folder of its tables under `scores/<source>` and its prefix in expressions."""
INPUTS: Final = ("image", "fingerprint", "caption")
"""The scorers whose columns it reads."""
COLUMNS: Final = REPEATS
"""The columns it writes."""


@dataclass(frozen=True, kw_only=True)
class RepeatsConfig:
    """Defaults by the numbers in `filters/fingerprint.py`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    max_distance: int = 8
    """Bits, 0-16, in which the 64-bit `image.phash` of two copies may differ."""
    verify: bool = True
    """Compare the scorer `fingerprint` too. Without it use a `max_distance` of 2-4: clocks and documents look alike."""
    fingerprint_distance: int = 40
    """Bits of 256 in which `fingerprint.dct` may differ."""
    color_distance: int = 31
    """Largest difference, 0-255, in any channel of any cell of `fingerprint.color`."""
    aspect_tolerance: float = 0.05
    """Largest relative difference of width / height, so that a picture and its banner crop stay two."""
    survivor: str = "image.min_side"
    """A number; the sample of a cluster with the largest survives, equals by the lowest uid."""
    among: str = ""
    """A condition on the survivor: samples that meet it come before those that do not, so that a sample which the
    selection drops for another reason does not take its good copies with it. Empty: all are equal."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_distance <= 16:
            raise ValueError(f"max_distance: {self.max_distance} is not in 0-16 (bits of 64)")
        if not 0 <= self.fingerprint_distance <= 128:
            raise ValueError(f"fingerprint_distance: {self.fingerprint_distance} is not in 0-128 (bits of 256)")
        if not 0 <= self.color_distance <= 255:
            raise ValueError(f"color_distance: {self.color_distance} is not in 0-255")
        if not 0 <= self.aspect_tolerance < 10:
            raise ValueError(f"aspect_tolerance: {self.aspect_tolerance} is not in [0, 10)")
        parse(self.survivor)
        if self.among:
            parse(self.among)

    @property
    def columns(self) -> tuple[str, ...]:
        """The score columns that it reads."""
        named = ["image.phash", "image.stored_width", "image.stored_height", "caption.text_hash"]
        named += ["fingerprint.dct", "fingerprint.color"] if self.verify else []
        named += columns_of(self.survivor)
        named += columns_of(self.among) if self.among else ()
        return tuple(dict.fromkeys(name for name in named if name != "uid"))
