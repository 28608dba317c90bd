"""Images at addresses that a download has fetched: by their address, the range of bytes of its shards' tars.

Rows with several images are no list for a download, which has an image a row. Their addresses are listed by themselves
(`run.IMAGES_TO_DOWNLOAD`), downloaded as any list, and found here again when the rows are indexed once more.
"""

import functools
import hashlib
import tarfile
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from mmcorpus.curation.engine.made_from import digest
from mmcorpus.curation.sources.found import MISSING_IMAGE, BadSample, FoundImage, Where
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.members import IMAGE_EXTENSIONS
from mmcorpus.curation.store.named_files import read_range, state_of
from mmcorpus.curation.store.shards import SUCCESS, Shard, list_shards, no_shards, read_rows, read_schema
from mmcorpus.curation.store.tars import is_readable, read_tar, sample_of

_KEPT: Final = 4
"""Shards whose rows are in memory: addresses come about in the order in which they were downloaded."""


class Downloaded:
    """The images of a folder of shards that a download made, by address; 12 bytes of memory for each."""

    def __init__(
        self, shards: Sequence[Shard], hashes: npt.NDArray[np.uint64], numbers: npt.NDArray[np.uint32]
    ) -> None:
        """`hashes` of all addresses, ascending, and of each the number of its shard; shapes (addresses,)."""
        self._shards, self._hashes, self._numbers = shards, hashes, numbers
        self._of_shard = functools.lru_cache(maxsize=_KEPT)(_of_shard)

    @classmethod
    def read(cls, folder: str) -> Self:
        """Those of a folder. Raises ValueError for one without shards, storage.Damaged."""
        shards = _listed(folder)
        hashes = [_hashes(read_rows(shard, ["url"])["url"].to_pylist()) for shard in shards]
        numbers = np.repeat(np.arange(len(hashes), dtype=np.uint32), [len(own) for own in hashes])
        every = np.concatenate(hashes)
        order = np.argsort(every, kind="stable")
        return cls(shards, every[order], numbers[order])

    def find(self, url: str) -> FoundImage | None:
        """The image of an address; None where the download did not have it.

        Raises:
            BadSample: it had it, and could not fetch it.
        """
        (wanted,) = _hashes([url])
        place = int(np.searchsorted(self._hashes, wanted))
        while place < len(self._hashes) and self._hashes[place] == wanted:
            found = self._of_shard(self._shards[self._numbers[place]]).get(url)
            if isinstance(found, str):
                raise BadSample(MISSING_IMAGE, f"{url} was not downloaded: {found}")
            if found is not None:
                return found
            place += 1
        return None


@functools.lru_cache(maxsize=2)
def open_downloaded(folder: str, identity: str) -> Downloaded:
    """A folder's images, kept for the next part; `identity` is that of `identity_of`."""
    return Downloaded.read(folder)


def identity_of(folder: str) -> str:
    """A digest that changes when a shard is added or made again. Raises ValueError for a folder without shards."""
    return digest([[shard.name, *state_of(shard.stats)] for shard in _listed(folder)])


def _listed(folder: str) -> list[Shard]:
    shards = list_shards(folder)
    if not shards:
        raise no_shards(folder)
    first = shards[0]
    if first.level or first.references or "url" not in read_schema(first).names:
        raise ValueError(f"downloaded: {folder} holds no shards that `mmcorpus download` made")
    return shards


def _hashes(urls: list[str | None]) -> npt.NDArray[np.uint64]:
    found = b"".join(
        hashlib.blake2b((url or "").encode("utf-8", "surrogatepass"), digest_size=8).digest() for url in urls
    )
    return np.frombuffer(found, np.uint64)


def _of_shard(shard: Shard) -> dict[str, FoundImage | str]:
    """By address, the image of a shard's row, or why it has none."""
    rows = read_rows(shard, ["url", "key", "status", "error_message", "width", "height"]).to_pylist()
    lying = _images(shard)
    found: dict[str, FoundImage | str] = {}
    for row in rows:
        image = lying.get(str(row["key"]))
        if row["status"] == SUCCESS and image is not None:
            extension, where = image
            read = partial(read_range, shard.tar, where.offset or 0, where.size or 0)
            found[row["url"]] = FoundImage(
                read=read, where=where, extension=extension, width=row["width"], height=row["height"]
            )
        elif row["url"] not in found:
            found[row["url"]] = str(row["error_message"] or row["status"])
    return found


def _images(shard: Shard) -> dict[str, tuple[str, Where]]:
    """By key, where the image of a shard's sample lies in its tar, and its extension."""
    found: dict[str, tuple[str, Where]] = {}
    state = state_of(shard.tar)
    root, _, name = shard.tar.rpartition("/")
    fs, inner = storage.filesystem(shard.tar)
    try:
        with fs.open(inner, "rb") as file, read_tar(file, "r:") as tar:
            while (member := tar.next()) is not None:
                opened: Any = tar
                opened.members = []  # tarfile keeps every header otherwise
                key, ending = sample_of(member.name)
                extension = ending.rpartition(".")[2].lower()
                if extension in IMAGE_EXTENSIONS and is_readable(member):
                    where = Where(root=root, file=name, state=state, offset=member.offset_data, size=member.size)
                    found.setdefault(key, (extension, where))
    except (tarfile.TarError, EOFError) as error:
        raise storage.Damaged(shard.tar, "tar", str(error)) from None
    return found
