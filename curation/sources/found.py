"""The rows that readers of all formats give: a sample, with its images as the row names them, not yet looked at."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from mmcorpus.curation.store.named_files import State
from mmcorpus.curation.store.places import MISSING_IMAGE as MISSING_IMAGE

BAD_ROW: Final = "bad_row"
BAD_CAPTION: Final = "bad_caption"
BAD_CONVERSATION: Final = "bad_conversation"
BAD_IMAGE: Final = "bad_image"
IMAGE_URL: Final = "image_url"
"""The rule of rows whose images have yet to be downloaded."""
LISTED_TWICE: Final = "listed_twice"
NO_IMAGE: Final = "no_image"
OUTSIDE_ROOT: Final = "outside_root"


MAX_IMAGES: Final = 10_000
"""Of a sample."""


class BadSample(ValueError):
    """Why a row is no sample: `code: detail`, as the ledger says it."""

    def __init__(self, code: str, detail: object) -> None:
        super().__init__(f"{code}: {str(detail)[:500]}")
        self.code = code


def check_count(images: int) -> None:
    """Raises BadSample for more images than a sample can have."""
    if images > MAX_IMAGES:
        raise BadSample(BAD_IMAGE, f"there are {images:,} images; at most {MAX_IMAGES:,} are read")


@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
    """The place of an image's bytes; see `places.SCHEMA`."""

    root: str
    file: str
    state: State
    offset: int | None = None
    size: int | None = None
    row: int | None = None
    item: int | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundImage:
    """An image as a row tells of it: by a name, or with a place or bytes."""

    name: str | None = None
    """A path, an address, or the image itself in base64."""
    read: Callable[[], bytes] | None = None
    """Its bytes, if these are at hand."""
    where: Where | None = None
    """Where they lie; None for those that have to be copied."""
    extension: str = ""
    width: int | None = None
    height: int | None = None


@dataclass(kw_only=True, slots=True)
class Found:
    """A row."""

    key: str | None = None
    """What the source calls it."""
    uid: str | None = None
    """Its own, if it is one."""
    url: str | None = None
    caption: str | None = None
    conversations: Any = None
    images: list[FoundImage] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)
    """What else it says."""
    status: str | None = None
    """That of a row that its own download had failed to get."""
    error: str | None = None
    """Why it is no sample: `code: detail`."""
