"""Small files in the layouts that people have."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmcorpus.curation.sources import IndexConfig, IndexReport, index
from mmcorpus.curation.store.shards import Sample, list_shards, read_rows, read_samples


def picture(seed: int, kind: str = "JPEG", size: tuple[int, int] = (40, 30)) -> bytes:
    """An image file, another for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
    """A tar of these members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def as_tar(pairs: Iterable[Mapping[str, Any]], *, before: str = "") -> list[tuple[str, bytes]]:
    """Members of a tar: of each pair key, image (jpg), caption, and what its json says."""
    found = []
    for pair in pairs:
        key = before + pair["key"]
        found.append((f"{key}.{pair.get('extension', 'jpg')}", pair["image"]))
        found.append((f"{key}.{pair.get('text', 'txt')}", pair["caption"].encode()))
        if pair.get("json") is not None:
            found.append((f"{key}.json", json.dumps(pair["json"]).encode()))
    return found


def pairs(count: int = 4, first: int = 0) -> list[dict[str, Any]]:
    """Pairs as img2dataset stores them."""
    return [
        {
            "key": f"{number:09d}",
            "image": picture(number),
            "caption": f"harbour number {number}",
            "json": {"url": f"http://x.test/{number}.jpg", "caption": f"harbour number {number}"},
        }
        for number in range(first, first + count)
    ]


class Indexed:
    """What an index made."""

    def __init__(self, root: Path, report: IndexReport) -> None:
        self.root, self.report = root, report
        self.shards = list_shards(str(root / "shards"))

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for shard in self.shards for row in read_rows(shard).to_pylist()]

    @property
    def samples(self) -> list[Sample]:
        return [sample for shard in self.shards for sample in read_samples(shard)]

    @property
    def captions(self) -> dict[str, tuple[bytes, ...]]:
        """By caption or conversation the images."""
        return {
            sample.caption or sample.meta["conversations"]: tuple(image.data for image in sample.images)
            for sample in self.samples
        }


@pytest.fixture
def indexed(tmp_path: Path) -> Any:
    def run(paths: Path | Sequence[Path], *, out: str = "out", formats: Any = (), **config: Any) -> Indexed:
        listed = [str(path) for path in ([paths] if isinstance(paths, Path) else paths)]
        root = tmp_path / out
        report = index(
            IndexConfig(**config), listed, str(root / "shards"), str(root / "ledger"), formats=formats, workers=0,
            shown=False,
        )  # fmt: skip
        return Indexed(root, report)

    return run
