"""Reading what people have, beside the library that each format is made for: samples a second of processor time.

    python -m benchmarks.sources --samples 5000 --repeats 5

The same JPEGs and captions as a WebDataset tar, a folder of images beside JSON, Hugging Face parquet and Arrow.
`index` looks through the files once (uids, sizes, places). From the shards of references then, images undecoded: `like`
gives what the peer does, bytes and caption, and `read` whole samples, with uid, sizes and all that is known of each;
both compare a file with what was indexed, which no peer does. The peer reads the files themselves: webdataset the tar,
`datasets` parquet and Arrow, and the JSON is loaded whole and each file opened, as its users do. All are measured by
turns, in one thread, and the best of the repeats counts, so that other work beside matters little. `datasets` is
installed into an environment of its own under --envs at the first run; if that fails it is left out, and the reason
printed.
"""

import argparse
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.common import show, write_result

PEER: Final = Path(__file__).parent / "peers" / "datasets_read.py"
DISTINCT: Final = 100
FORMATS: Final = ("tar", "json", "parquet", "arrow")


def make(folder: Path, samples: int) -> None:
    """The same samples in every format."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    files = []
    for seed in range(DISTINCT):
        coarse = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((512, 384), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    rows = [(f"{number:09d}", files[number % DISTINCT], f"caption number {number}") for number in range(samples)]
    for kind in FORMATS:
        (folder / kind).mkdir(parents=True)
    with tarfile.open(folder / "tar" / "a-0000.tar", "w") as tar:
        for key, data, caption in rows:
            about = json.dumps({"url": f"http://x.test/{key}.jpg", "status": "success", "width": 512, "height": 384})
            for ending, content in (("jpg", data), ("txt", caption.encode()), ("json", about.encode())):
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    (folder / "json" / "images").mkdir()
    for key, data, _ in rows:
        (folder / "json" / "images" / f"{key}.jpg").write_bytes(data)
    listed = [{"id": key, "image": f"images/{key}.jpg", "caption": caption} for key, _, caption in rows]
    (folder / "json" / "llava.json").write_text(json.dumps(listed))
    table = pa.table({"image": [{"bytes": row[1], "path": None} for row in rows], "text": [row[2] for row in rows]})
    pq.write_table(table, folder / "parquet" / "train-00000.parquet", row_group_size=100)
    path = str(folder / "arrow" / "data-00000.arrow")
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, table.schema) as sink:
        sink.write_table(table, max_chunksize=1000)


def source(folder: Path, kind: str) -> str:
    """What of a format is indexed."""
    return str(folder / kind / "llava.json") if kind == "json" else str(folder / kind)


def index_seconds(folder: Path, kind: str) -> float:
    """Processor's seconds of one look through a format's files."""
    from mmcorpus.curation.sources import IndexConfig, index

    out = folder / f"{kind}.out"
    shutil.rmtree(out, ignore_errors=True)
    start = time.process_time()
    report = index(IndexConfig(), [source(folder, kind)], f"{out}/shards", f"{out}/ledger", workers=0, shown=False)
    assert not report.failed
    return time.process_time() - start


def like_peers(folder: Path, kind: str) -> Iterator[tuple[bytes, str | None]]:
    """Bytes and captions alone of the shards of references."""
    from mmcorpus.curation.store.references import References
    from mmcorpus.curation.store.shards import SUCCESS, list_shards, read_rows

    for shard in list_shards(str(folder / f"{kind}.out" / "shards")):
        rows = read_rows(shard, ["key", "caption", "status"]).to_pylist()
        captions = {row["key"]: row["caption"] for row in rows if row["status"] == SUCCESS}
        for key, ((_, data),) in References(shard.root, shard.name).samples(captions.keys()):
            yield data, captions[key]


def ours(folder: Path, kind: str) -> Iterator[tuple[bytes, str | None]]:
    """The samples of the shards of references."""
    from mmcorpus.curation.store.shards import list_shards, read_samples

    for shard in list_shards(str(folder / f"{kind}.out" / "shards")):
        for sample in read_samples(shard):
            yield sample.images[0].data, sample.caption


def webdataset(folder: Path) -> Iterator[tuple[bytes, str]]:
    """The tar's own library."""
    import webdataset as wds

    for sample in wds.WebDataset(str(folder / "tar" / "a-0000.tar"), shardshuffle=False):
        yield sample["jpg"], sample["txt"].decode()


def as_llava_does(folder: Path) -> Iterator[tuple[bytes, str]]:
    """The JSON loaded whole, then a file a sample."""
    for row in json.loads((folder / "json" / "llava.json").read_text()):
        yield (folder / "json" / row["image"]).read_bytes(), row["caption"]


def seconds(read: Callable[[], Iterator[tuple[bytes, Any]]], samples: int) -> float:
    """Processor's seconds of one reading."""
    start = time.process_time()
    assert sum(bool(data) and bool(text) for data, text in read()) == samples
    return time.process_time() - start


def peer_seconds(folder: Path, kind: str, samples: int, python: Path) -> float:
    """The best of a few readings, as the peer's process measures itself."""
    command = [str(python), str(PEER), str(folder / kind), kind]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(said.splitlines()[-1])
    assert found["samples"] == samples
    return float(found["seconds"])


def peer(folder: Path, kind: str, samples: int, python: Path | None) -> tuple[str, Callable[[], float] | None]:
    """Whom a format is read beside, and what measures it."""
    if kind == "tar":
        return "webdataset", partial(seconds, partial(webdataset, folder), samples)
    if kind == "json":
        return "json, a file a sample", partial(seconds, partial(as_llava_does, folder), samples)
    return "datasets", None if python is None else partial(peer_seconds, folder, kind, samples, python)


def main() -> None:
    """The command."""
    from benchmarks.dedup import environment

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=5_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--envs", type=Path, default=Path.home() / ".cache" / "mmcorpus" / "peers")
    options = parser.parse_args()
    count, times = options.samples, options.repeats

    python = environment("datasets", options.envs)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, count)
        for kind in FORMATS:
            library, measure = peer(folder, kind, count, python)
            measures = {
                "index": partial(index_seconds, folder, kind),
                "like": partial(seconds, partial(like_peers, folder, kind), count),
                "read": partial(seconds, partial(ours, folder, kind), count),
                **({"its": measure} if measure is not None else {}),
            }
            taken = [{name: one() for name, one in measures.items()} for _ in range(times)]
            rates: dict[str, Any] = {name: count / min(turn[name] for turn in taken) for name in measures}
            ratios = {f"{name}/its": rates[name] / rates["its"] for name in ("like", "read") if "its" in rates}
            rows.append({"format": kind, "peer": library, **rates, **ratios})
    show(f"samples/s of processor time, one thread, {count:,} samples", rows)
    print(write_result("sources", {"samples": count, "rows": rows}))


if __name__ == "__main__":
    main()
