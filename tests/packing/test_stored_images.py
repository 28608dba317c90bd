"""Images by reference, from wherever the sources' shards lie."""

import zlib
from pathlib import Path

import pytest

from mmcorpus.curation.store import storage
from mmcorpus.packing.stored_images import GoneError, Reference, fetch


def test_a_sequence_may_mix_sources_of_several_stores(tmp_path: Path) -> None:
    folders = {"here": str(tmp_path), "away": "memory://mixed/a", "s": "memory://mixed/b"}
    data = {source: f"bytes of {source}".encode() for source in folders}
    for source, folder in folders.items():
        storage.write_bytes(f"{folder}/00000.tar", b"before" + data[source] + b"after")

    def reference(source: str, shard: str = "00000") -> Reference:
        crc32 = zlib.crc32(data[source])
        return Reference(source=source, shard=shard, offset=6, size=len(data[source]), crc32=crc32, extension="jpg")

    order = ["away", "here", "s", "here", "away"]
    for asked in (order, order[1:], order[::-1]):
        assert [image.data for image in fetch(list(map(reference, asked)), folders)] == [data[one] for one in asked]
    for source in folders:
        with pytest.raises(GoneError, match=f"{folders[source]}/00007.tar, which it refers to, is missing"):
            fetch([*map(reference, order), reference(source, "00007")], folders)
    storage.remove("memory://mixed")
