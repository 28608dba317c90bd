"""Thumbnails of samples, drawn from a run's shards; few and small, whatever the size of the run."""

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import pyarrow.compute as pc

from mmcorpus.curation.store import shards
from mmcorpus.filters.decode import DecodedImage, decode_image
from mmcorpus.packing.inputs import open_images

THUMBNAIL_SIDE: Final = 200
"""Pixels of a thumbnail's longer side."""
_PLACE_COLUMNS: Final = ("uid", "key", "caption", "image", "nodes")


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


def texts_by_uid(root: str, column: str, max_shards: int) -> dict[str, str]:
    """A column of the samples of the first shards, by uid, the failed ones included; empty text for null."""
    found: dict[str, str] = {}
    for shard in shards.list_shards(root)[:max_shards]:
        rows = shards.read_rows(shard, ["uid", column])
        found.update(zip(rows["uid"].to_pylist(), (text or "" for text in rows[column].to_pylist()), strict=True))
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The location of a downloaded sample, or of a node of a document."""

    shard: shards.Shard
    key: str
    caption: str
    numbers: tuple[int, ...] | None
    """The key's images that are its own; None for all of them."""

    def image(self) -> bytes:
        """Its image file, of a document its first; empty if it has none, or its tar is damaged there."""
        try:
            images = open_images(self.shard).images(self.key, self.numbers and self.numbers[:1])
        except LookupError:
            return b""
        return images[0].data if images else b""


def places(shard: shards.Shard) -> dict[str, Place]:
    """The places of a shard's downloaded samples, by uid.

    The key of a node's row is its document's, a dash, and the node's number; the row says which image is its own.
    """
    rows = shards.read_rows(shard)
    rows = rows.filter(pc.equal(rows["status"], shards.SUCCESS))
    found = {}
    for row in rows.select([name for name in _PLACE_COLUMNS if name in rows.column_names]).to_pylist():
        key: str = row["key"]
        numbers: tuple[int, ...] | None = None
        if shard.level in ("image", "paragraph"):
            key = key.rpartition("-")[0]
            numbers = (row["image"],) if shard.level == "image" else ()
        elif shard.level == "document":
            numbers = tuple(shards.image_numbers(row["nodes"]))
        found[row["uid"]] = Place(shard=shard, key=key, caption=row.get("caption") or "", numbers=numbers)
    return found


def load_samples(root: str, uids: Iterable[str], max_shards: int) -> dict[str, Card]:
    """The cards, by uid, of those of `uids` that lie in the first shards."""
    wanted = set(uids)
    result: dict[str, Card] = {}
    for shard in shards.list_shards(root)[:max_shards] if wanted else ():
        found = places(shard)
        for uid in sorted(wanted & found.keys(), key=lambda uid: found[uid].key):
            data = found[uid].image()
            picture = thumbnail(data) if data else ""
            result.setdefault(uid, Card(uid=uid, picture=picture, caption=found[uid].caption))
    return result


def cards(loaded: Mapping[str, Card], notes: Mapping[str, str]) -> list[Card]:
    """The cards of those that were loaded, each with its note, in the notes' order."""
    return [replace(loaded[uid], note=note) for uid, note in notes.items() if uid in loaded]
