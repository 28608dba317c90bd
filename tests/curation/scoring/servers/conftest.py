"""Servers to keep: a quick one that only seems to be a model, shards to judge, and who still lives."""

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.filters.serving import ServerConfig


def fake(folder: Path, **more: float | int) -> ServerConfig:
    """The config of a fake server that leaves its marks in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    script = str(Path(__file__).with_name("fake_server.py"))
    command = (sys.executable, script, "{host}", "{port}", str(folder), "{model}")
    return ServerConfig(command=command, **{"start_timeout": 60.0, "hang_timeout": 60.0, **more})  # type: ignore[arg-type]


def pids(folder: Path) -> list[int]:
    """The processes that fake servers of a folder have been."""
    return [int(path.suffix[1:]) for path in folder.glob("pid.*")]


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def jpeg(seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((60 + seed % 7, 48)).save(file, "JPEG")
    return file.getvalue()


def write_shard(root: str, number: int, count: int) -> Shard:
    """A shard of pictures with captions; the second picture is cut off, and the third has no caption."""
    shard = Shard(root=root, name=f"{number:05d}")
    with ShardWriter(shard) as writer:
        for place in range(count):
            data = jpeg(number * 100 + place)
            url, caption = f"http://example.com/{number}/{place}.jpg", f"A picture of thing number {place} of {number}"
            writer.write(
                Sample(
                    key=f"{number:05d}{place:04d}",
                    uid=pair_uid(url, caption),
                    caption=caption if place != 2 else " ",
                    images=(EncodedImage(extension="jpg", data=data[: len(data) // 2] if place == 1 else data),),
                    meta={"url": url},
                )
            )
    return shard
