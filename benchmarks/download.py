"""Our download against bare img2dataset: the same list, the same options, Ray under both, turn about.

    python -m benchmarks.download --images 5000 --repeats 3 --out benchmarks/results/download.json

Each run is a process of its own with a Ray of its own; a small list is downloaded first, so that starting workers and
importing img2dataset are not measured. CPU and memory are those of the process and all it started, the server not.
Bare img2dataset starts a logger process in each call, which imports it again; so `images_per_worker_second`, images by
the seconds that shards took as both record them, is the fairer figure for short lists.

A third row is our download alone on an uneven list: the same images, and for each ten of them a URL of a host that is
dead and one of a host that drips a byte a second; the rate counts the images.
"""

import argparse
import asyncio
import contextlib
import io
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.common import machine, show

VARIANTS: Final = ("bare img2dataset", "mmcorpus")
UNEVEN: Final = "mmcorpus, uneven list"
DEAD: Final = "127.0.0.2:9"
DRIP: Final = "127.0.0.3"
DISTINCT: Final = 200
OPTIONS: Final[dict[str, Any]] = {
    "image_size": 512,
    "resize_mode": "keep_ratio_largest",
    "resize_only_if_bigger": True,
    "encode_quality": 95,
    "timeout": 10,
    "retries": 0,
    "compute_hash": "sha256",
    "extract_exif": False,
    "caption_col": "caption",
}


def photographs(count: int) -> list[bytes]:
    """JPEGs as the web has them: 640 to 1280 pixels wide, 30 to 200 kB, detail at several scales."""
    import numpy as np
    from PIL import Image

    files = []
    for seed in range(count):
        random = np.random.default_rng(seed)
        width, height = int(random.integers(640, 1281)), int(random.integers(480, 961))
        pixels = np.zeros((height, width, 3), np.float32)
        for cells, weight in ((4, 120), (16, 60), (64, 30), (256, 12)):
            coarse = Image.fromarray(random.integers(0, 255, (cells, cells, 3), dtype=np.uint8))
            fine = coarse.resize((width, height), Image.Resampling.BICUBIC)
            pixels += (np.asarray(fine, np.float32) / 255 - 0.5) * weight
        buffer = io.BytesIO()
        Image.fromarray((pixels + 128).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=80)
        files.append(buffer.getvalue())
    return files


def serve(listeners: list[socket.socket], files: list[bytes]) -> None:
    """Answer `GET /N.jpg` with file N modulo their number, `GET /drip/…` a byte a second, until killed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            request = await reader.readuntil(b"\r\n\r\n")
            if request.startswith(b"GET /drip/"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 90000\r\n\r\n")
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(1)
            data = files[int(request.split(b" ", 2)[1].strip(b"/").split(b".")[0]) % len(files)]
            head = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
            writer.write(head % len(data) + data)
            await writer.drain()
        writer.close()

    async def run() -> None:
        servers = [await asyncio.start_server(answer, sock=listener) for listener in listeners]
        await asyncio.gather(*(server.serve_forever() for server in servers))

    asyncio.run(run())


@contextlib.contextmanager
def server(files: list[bytes]) -> Iterator[int]:
    """A server process; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    drip = socket.create_server((DRIP, listener.getsockname()[1]), backlog=1024)
    process = multiprocessing.get_context("fork").Process(target=serve, args=([listener, drip], files), daemon=True)
    process.start()
    try:
        yield listener.getsockname()[1]
    finally:
        process.kill()
        process.join()
        listener.close()
        drip.close()


def download_with(variant: str, urls: str, out: str, shard: int) -> tuple[int, float]:
    """One download by one of the two; returns the images stored and the seconds that its shards took, added up."""
    options = {**OPTIONS, "number_sample_per_shard": shard}
    if variant != VARIANTS[0]:
        from mmcorpus.curation.download import DownloadConfig, download

        config = DownloadConfig(**options, allow_private=True, total_timeout=20)
        download(config, urls, f"{out}/shards", f"{out}/lists", f"{out}/ledger", progress=False)
        return recorded(f"{out}/shards")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import img2dataset

    shards = f"{out}/shards"
    os.makedirs(shards)
    img2dataset.download(
        url_list=urls, output_folder=shards, input_format="parquet", output_format="webdataset",
        distributor="ray", **options,
    )  # fmt: skip
    return recorded(shards)


def recorded(shards: str) -> tuple[int, float]:
    """The images stored and the seconds taken, by the shards' stats files."""
    stats = [json.loads(path.read_text()) for path in Path(shards).glob("*_stats.json")]
    return sum(one["successes"] for one in stats), sum(one["duration"] for one in stats)


def child(variant: str, folder: str, out: str, shard: int) -> None:
    """A run's process: a Ray, a warm-up, the download; says `start` and `end` on standard output."""
    import ray

    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    ray.init(include_dashboard=False, object_store_memory=200_000_000, log_to_driver=False)
    speak = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    cores = os.cpu_count() or 1
    download_with(variant, f"{folder}/warm.parquet", f"{out}/warm", max(1, 32 // cores))
    print("start", file=speak, flush=True)
    start = time.perf_counter()
    name = "uneven" if variant == UNEVEN else "list"
    stored, shard_seconds = download_with(variant, f"{folder}/{name}.parquet", f"{out}/run", shard)
    found = {"seconds": time.perf_counter() - start, "stored": stored, "shard_seconds": shard_seconds}
    print(json.dumps(found), file=speak, flush=True)
    sys.stdin.readline()  # the parent has read the clocks
    ray.shutdown()


class Watch:
    """CPU seconds and the most memory of a process and all its descendants (Linux)."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.cpu: dict[int, float] = {}
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.wait(0.2):
            self.read()

    def read(self) -> float:
        """CPU seconds so far, those of ended processes included as last seen."""
        tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        parents, memory = {}, {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                    pid = int(entry)
                    parents[pid] = int(fields[1])
                    memory[pid] = (int(fields[21]) * page, (int(fields[11]) + int(fields[12])) / tick)
        family = {self.root}
        while more := {pid for pid, parent in parents.items() if parent in family} - family:
            family |= more
        self.cpu.update({pid: memory[pid][1] for pid in family if pid in memory})
        self.peak = max(self.peak, sum(memory[pid][0] for pid in family if pid in memory))
        return sum(self.cpu.values())

    def stop(self) -> None:
        self._done.set()
        self._thread.join()


def measure(variant: str, folder: str, images: int, shard: int) -> dict[str, Any]:
    """One run in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        command = [sys.executable, "-m", "benchmarks.download", "--child", variant, folder, out, str(shard)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None, "it was opened as a pipe"
        watch = Watch(process.pid)
        try:
            if process.stdout.readline().strip() != "start":
                raise RuntimeError(f"{variant} did not start; run {' '.join(command)} to see why")
            before, watch.peak = watch.read(), 0
            found = json.loads(process.stdout.readline())
            cpu = watch.read() - before
        finally:
            watch.stop()
            process.communicate("\n", timeout=120)
        if found["stored"] != images:
            raise RuntimeError(f"{variant} stored {found['stored']} of {images} images")
    return {
        "variant": variant,
        "images_per_second": images / found["seconds"],
        "images_per_worker_second": images / found["shard_seconds"],
        "cpu_ms_per_image": 1000 * cpu / images,
        "peak_memory_mb": watch.peak / 2**20,
    }


def main() -> None:
    """Parse the command line, run, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shard", type=int, default=500, help="images a shard")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/download.json"))
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        variant, folder, out, shard = options.child
        return child(variant, folder, out, int(shard))
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = photographs(DISTINCT)
    runs = []
    with tempfile.TemporaryDirectory() as folder, server(files) as port:
        for name, start, count in (("list", 0, options.images), ("warm", 10**6, 32)):
            numbers = range(start, start + count)
            urls = [f"http://127.0.0.1:{port}/{number}.jpg" for number in numbers]
            table = pa.table({"url": urls, "caption": [f"a picture, number {number}" for number in numbers]})
            pq.write_table(table, f"{folder}/{name}.parquet")
        urls = []
        for number in range(options.images):
            urls.append(f"http://127.0.0.1:{port}/{number}.jpg")
            if number % 10 == 0:
                urls += [f"http://{DEAD}/{number}.jpg", f"http://{DRIP}:{port}/drip/{number}.jpg"]
        pq.write_table(pa.table({"url": urls, "caption": urls}), f"{folder}/uneven.parquet")
        for turn in range(options.repeats):
            for variant in VARIANTS if turn % 2 == 0 else VARIANTS[::-1]:
                runs.append(measure(variant, folder, options.images, options.shard))
                print(f"{variant}: {runs[-1]['images_per_second']:.1f} images/s", file=sys.stderr, flush=True)
            runs.append(measure(UNEVEN, folder, options.images, options.shard))
            print(f"{UNEVEN}: {runs[-1]['images_per_second']:.1f} images/s", file=sys.stderr, flush=True)
    rows = []
    for variant in (*VARIANTS, UNEVEN):
        own = [run for run in runs if run["variant"] == variant]
        names = ("images_per_second", "images_per_worker_second", "cpu_ms_per_image", "peak_memory_mb")
        rows.append({"variant": variant, **{name: statistics.median(run[name] for run in own) for name in names}})
    rate, worker_rate = (rows[1][name] / rows[0][name] for name in ("images_per_second", "images_per_worker_second"))
    show(f"Download of {options.images:,} JPEGs from loopback, medians of {options.repeats} runs", rows)
    print(f"mmcorpus / bare img2dataset: {rate:.2f} in images/s, {worker_rate:.2f} per second of a worker")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "machine": machine(), "images": options.images, "shard": options.shard, "options": OPTIONS,
        "mean_kb": sum(map(len, files)) / len(files) / 1024, "runs": runs, "medians": rows,
        "ratio": rate, "worker_ratio": worker_rate,
    }  # fmt: skip
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
