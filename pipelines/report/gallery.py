"""Thumbnails of samples, drawn from a run's shards; few and small, whatever the size of the run."""

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import pyarrow.compute as pc

from mmcorpus.curation.store import shards
from mmcorpus.filters.decode import DecodedImage, decode_image

THUMBNAIL_SIDE: Final = 200
"""Pixels of a thumbnail's longer side."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One sample as the report shows it."""

    uid: str
    picture: str
    """A data: URI, or empty where there is no decodable image."""
    caption: str
    note: str = ""
    marked: bool = False


def thumbnail(data: bytes) -> str:
    """An encoded image as a small JPEG data: URI, upright; empty if it cannot be decoded."""
    decoded = decode_image(data)
    if not isinstance(decoded, DecodedImage):
        return ""
    from PIL import Image

    picture = Image.fromarray(decoded.pixels)
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=78, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def uids_at_hand(root: str, max_shards: int) -> list[str]:
    """The uids of downloaded samples in the first shards, sorted: galleries choose among these alone."""
    found: list[str] = []
    for shard in shards.list_shards(root)[:max_shards]:
        rows = shards.read_rows(shard, ["uid", "status"])
        found.extend(rows.filter(pc.equal(rows["status"], shards.SUCCESS))["uid"].to_pylist())
    return sorted(set(found))


def urls_by_uid(root: str, max_shards: int) -> dict[str, str]:
    """The URLs of the samples of the first shards, by uid, the failed ones included."""
    found: dict[str, str] = {}
    for shard in shards.list_shards(root)[:max_shards]:
        rows = shards.read_rows(shard, ["uid", "url"])
        found.update(zip(rows["uid"].to_pylist(), rows["url"].to_pylist(), strict=True))
    return found


def load_samples(root: str, uids: Iterable[str], max_shards: int) -> dict[str, tuple[str, str]]:
    """(thumbnail, caption) by uid, for those of `uids` that lie in the first shards."""
    wanted = set(uids)
    result: dict[str, tuple[str, str]] = {}
    for shard in shards.list_shards(root)[:max_shards]:
        if not wanted:
            break
        for sample in shards.read_samples(shard, wanted):
            picture = thumbnail(sample.images[0].data) if sample.images else ""
            result[sample.uid] = (picture, sample.caption or "")
            wanted.discard(sample.uid)
    return result
