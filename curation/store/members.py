"""A shard's tar as samples: each key with its files, told by what follows the key in their names."""

import hashlib
import itertools
import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mmcorpus.curation.store import storage, written
from mmcorpus.curation.store.json_values import json_value
from mmcorpus.curation.store.tars import has_end, is_readable, read_tar, sample_of
from mmcorpus.curation.store.uid import is_uid, pair_uid

IMAGE_EXTENSIONS: Final = frozenset(
    {"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "heif", "jp2", "jxl"}
)
TAR: Final = "tar of a shard"
Parts = dict[str, bytes]
"""By ending (`jpg`, `000.jpg`, `txt`, `json`), the files of a sample."""


def read_members(path: str) -> Iterator[tuple[str, Parts]]:
    """Each key of a tar with its files; one that is not readable is empty.

    Raises:
        tarfile.ReadError: the tar is damaged; its path is in the text.
    """
    fs, inner = storage.filesystem(path)
    try:
        with fs.open(inner, "rb") as file, read_tar(file, "r|") as tar:
            named = ((*sample_of(member.name), member) for member in tar if member.isfile())
            samples = itertools.groupby(
                ((key, ending, member) for key, ending, member in named if key),
                lambda one: (one[2].name.rpartition("/")[0], one[0]),
            )
            for (_, key), members in samples:
                parts = {}
                for _, ending, member in members:
                    extracted = tar.extractfile(member) if is_readable(member) else None
                    parts[ending.lower()] = extracted.read() if extracted else b""
                yield key, parts
    except (tarfile.TarError, EOFError) as error:
        written.note_damaged(inner, str(error))
        raise tarfile.ReadError(f"{path} is damaged: {error}") from error


def is_whole(path: str) -> bool:
    """Whether a tar was not cut between two members, which no reading of it shows."""
    fs, inner = storage.filesystem(path)
    with fs.open(inner, "rb") as file:
        return has_end(file)


def images_in(parts: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Extension and bytes of a sample's images, by name; numbers in names as numbers, so that `2.jpg` is before
    `10.jpg`."""
    for ending, data in sorted(parts.items(), key=lambda part: image_order(part[0])):
        extension = ending.rpartition(".")[2]
        if extension in IMAGE_EXTENSIONS:
            yield extension, data


def image_order(ending: str) -> tuple[list[int], str]:
    """By which a sample's images are sorted."""
    return [int(number) for number in re.findall(r"\d{1,18}", ending.rpartition(".")[0])[:4]], ending


def meta_of(path: str, parts: Mapping[str, bytes]) -> dict[str, Any]:
    """The contents of a sample's json; empty if there is none. Raises `storage.Damaged` for what is no JSON object."""
    if "json" not in parts:
        return {}
    with storage.reading(path, TAR):
        meta = json_value(parts["json"])
        if not isinstance(meta, dict):
            raise ValueError(f"the json of a sample holds {type(meta).__name__}, not an object")
    return meta


def caption_of(path: str, parts: Mapping[str, bytes]) -> str | None:
    """A sample's text; None if there is none. Raises `storage.Damaged` for what is not UTF-8."""
    ending = next((ending for ending in ("txt", "caption") if ending in parts), None)
    if ending is None:
        return None
    with storage.reading(path, TAR):
        return parts[ending].decode()


def content_uid(meta: Mapping[str, Any], caption: str | None, parts: Mapping[str, bytes]) -> str | None:
    """A sample's own uid, or one of its content: of url and caption, where no url is known of the images' bytes and
    caption; None for a sample without either (DESIGN §3).
    """
    if (uid := own_uid(meta.get("uid"))) is not None:
        return uid
    if (uid := row_uid(meta.get("url"), caption, meta.get("conversations"))) is not None:
        return uid
    images = [hashlib.sha256(data).hexdigest() for _, data in images_in(parts)]
    turns = meta.get("conversations")
    turns = json_text(turns) if isinstance(turns, list | dict) else turns
    return hashed_uid(images, caption, turns if isinstance(turns, str) else None)


def hashed_uid(images: Sequence[str], caption: str | None, turns: str | None = None) -> str | None:
    """The uid of a sample without a url: of the SHA-256 of its images, in order, and of what is said of them."""
    words = "\n".join(text for text in (caption, turns) if text)
    return pair_uid(f"sha256:{','.join(images)}", words) if images or words else None


def own_uid(value: object) -> str | None:
    """A source's own uid, as `uid_col` of a list takes it: 32 hex digits in any case, dashes between them or not."""
    told = value.replace("-", "").lower() if isinstance(value, str) else None
    return told if is_uid(told) else None


def row_uid(url: object, caption: object, conversations: object = None) -> str | None:
    """The uid that downloading a list of this row gives (`curation/download/lists.py`); None without a url."""
    if not isinstance(url, str) or not url.strip():
        return None
    words = caption if caption is not None else conversations
    if isinstance(words, list | dict):
        words = json_text(words)
    return pair_uid(url.strip(), words if isinstance(words, str) else "")


def json_text(value: object) -> str:
    """A nested value as the download keeps it; lone surrogates, which json escapes may be, as `?`."""
    return storable(json.dumps(value, ensure_ascii=False, default=str))


def storable(text: str) -> str:
    """The text with lone surrogates as `?`."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
