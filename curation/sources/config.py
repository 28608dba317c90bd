"""Settings for reading data that is here: the kind of its samples, their columns, and the folder of their images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from mmcorpus.curation.download.published import Published

ROLES: Final = ("image", "url", "caption", "conversations", "uid")
"""What a column can be."""

USUAL: Final[dict[str, tuple[str, ...]]] = {
    "image": ("images", "image", "jpg", "jpeg", "png", "webp", "img", "image_bytes", "pil_image", "file_name"),
    "url": ("url", "URL", "image_url", "img_url", "image_link"),
    "caption": ("caption", "text", "TEXT", "txt", "title"),
    "conversations": ("conversations", "messages", "conversation", "texts", "chat", "dialog", "contents"),
    "uid": ("uid",),
}
"""The names that published corpora give the columns. `file_name` (Hugging Face's image folders) is an image's where
it ends as one's does, of tables in pairs alone."""


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """Settings by which existing data is read as samples."""

    kind: Literal["pair", "conversation"] = "pair"
    """`pair`: an image and its caption. `conversation`: turns, with no, one or several images."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Which column of a table, or key of JSON, is what: `{image: …, caption: …, conversations: …, url: …, uid: …}`.
    What is not named is looked for under the usual names, so that published corpora need none."""
    image_root: str | None = None
    """The folder below which JSON's and tables' paths of images lie, and outside of which nothing is read; null for the
    folder of the file that names them."""
    strip: str = ""
    """What is taken off the beginning of such paths: `coco/` where `image_root` is COCO's own folder. Of addresses
    too: `https://images.example/` where what was served there lies in `image_root`."""
    downloaded: str | None = None
    """A folder of shards that `mmcorpus download` made, in which images at addresses are looked for: those of rows with
    several (`images_to_download.parquet` lists them), which become samples so."""
    published: Published | None = None
    """A published layout (`curation/download/published.py`) of tables or JSON that hold the images themselves
    (PixMo-Docs): what its columns say of an image becomes its annotations, a conversation."""
    samples_per_shard: int = 10_000
    """Rows of one shard, about; a tar, and a row group of a table, is never divided."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.columns) - set(ROLES))
        if unknown:
            raise ValueError(f"columns: there is no {unknown[0]!r}; a column can be {', '.join(ROLES)}")
        empty = [role for role, name in self.columns.items() if not name]
        if empty:
            raise ValueError(f"columns.{empty[0]} is empty; name a column")
        if self.published is not None and (self.kind != "conversation" or "conversations" in self.columns):
            raise ValueError(f"published {self.published} makes the conversations: say kind: conversation, no column")
        if self.samples_per_shard < 1:
            raise ValueError(f"samples_per_shard is {self.samples_per_shard}; give 1 or more")

    @property
    def unsaid(self) -> frozenset[str]:
        """Settings that came after others had indexed, at their defaults: no fingerprint names them."""
        return frozenset(name for name in ("published", "downloaded") if getattr(self, name) is None)
