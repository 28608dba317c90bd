"""What a trainer reads: images and positions a second and core, and how evenly devices share a step.

The loader is measured beside webdataset and Megatron-Energon (in an environment of its own, `peers/energon_load.py`) on
the same tars, which decode with Pillow (`pilrgb`), resize as we do and stack; they do not check CRCs, lengths and loss
spans, or expand images; and beside nanoVLM's, of a checkout, which tokenizes and packs as it goes
(`peers/nanovlm_load.py`). One thread each, processor seconds, best of `ROUNDS`.

Balance is simulated: tiled conversations and texts packed as a plan packs them, the FLOPs of Qwen2.5-1.5B with a
trained SigLIP-SO400M, eight devices; max / mean of their work is how much longer a step takes than it need.
"""

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.packing_fill import CAPACITY
from mmcorpus.packing import PlanConfig
from mmcorpus.packing.best import pack_items
from mmcorpus.training.balance import Work, assign
from mmcorpus.training.data import Order, PackLoader

ROUNDS: Final = 3
ENERGON: Final = Path(__file__).parent / "peers" / "energon_load.py"
NANOVLM: Final = Path(__file__).parent / "peers" / "nanovlm_load.py"
TILE: Final = 256
"""Positions of a tile of 448 pixels (InternVL)."""


def photograph(width: int, height: int, rng: np.random.Generator, quality: int = 88) -> bytes:
    """A JPEG with a photograph's spectrum (amplitudes fall with frequency), and edges."""
    from PIL import Image

    across, down = np.fft.fftfreq(width)[None, :], np.fft.fftfreq(height)[:, None]
    amplitude = np.maximum(np.hypot(across, down), 1 / max(width, height)) ** -1.1
    planes = []
    for _ in range(3):
        phases = rng.normal(size=(height, width)) + 1j * rng.normal(size=(height, width))
        plane = np.fft.ifft2(amplitude * phases).real
        planes.append((plane - plane.mean()) / plane.std() * 50 + 128)
    pixels = np.stack(planes, axis=-1)
    for _ in range(12):
        x, y = rng.integers(0, width - 20), rng.integers(0, height - 20)
        pixels[y : y + int(rng.integers(9, 90)), x : x + int(rng.integers(9, 120))] = rng.integers(0, 256, 3)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return file.getvalue()


def best(work: Callable[[], Any]) -> float:
    """Processor seconds of the quickest of `ROUNDS`."""
    found = []
    for _ in range(ROUNDS):
        before = time.process_time()
        work()
        found.append(time.process_time() - before)
    return min(found)


def measure_loader(
    packs: str, side: int, images: str, energon: Path | None = None, nanovlm: list[str] | None = None
) -> list[dict[str, Any]]:
    """Rows of ours, plain and scaled, of webdataset and, by the Python that has it, of Energon over the packs in a
    folder, and of nanoVLM by its command (`nanovlm_command`); `images` says what they are."""
    import torch

    from mmcorpus.packing.packs import PackReader

    torch.set_num_threads(1)
    reader = PackReader(packs)
    order = [number for _, number in Order(len(reader), len(reader), 0).step(0)]
    counts = reader.manifest["counts"]
    rows = []

    def row(name: str, seconds: float, positions: int = counts["positions"]) -> None:
        rates = {"images/s": counts["images"] / seconds, "positions/s": positions / seconds}
        rows.append({"loader": name, "images": images, "ms an image": 1000 * seconds / counts["images"], **rates})

    for name, scaled in (("PackLoader", False), ("PackLoader, jpeg_scaling", True)):
        loader = PackLoader(reader, image_size=side, scaled=scaled)
        row(name, best(lambda loader=loader: [loader.batch(order[at : at + 4]) for at in range(0, len(order), 4)]))
    row("webdataset, Pillow", best(lambda: _webdataset(reader, side)))
    if energon is not None:
        row("Megatron-Energon, Pillow", _energon(packs, side, counts["images"], energon))
    if nanovlm is not None:
        try:
            found = _peer(nanovlm, counts["images"])
            row("nanoVLM, tokenizing and packing", found["seconds"], found["positions"])
        except RuntimeError as failure:  # its threads at times end the process as it leaves; the other rows stand
            print(f"nanoVLM gave no result on {images}: {failure}", file=sys.stderr)
    row("plain loop: Pillow on bytes in memory", _plain(reader, side))
    return rows


def _square(image: Any, side: int) -> npt.NDArray[np.uint8]:
    from PIL import Image

    resized = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(resized, dtype=np.uint8).transpose(2, 0, 1)


def _webdataset(reader: Any, side: int) -> None:
    import torch
    import webdataset

    urls = [f"{reader.root}/{shard['name']}.tar" for shard in reader.manifest["shards"]]
    waiting = []
    for sample in webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode("pilrgb"):
        pictures = [_square(sample[key], side) for key in sorted(sample) if key[:3].isdigit()]
        waiting.append((sample["input_ids.npy"], sample["json"]["lengths"], pictures))
        if len(waiting) == 4:
            torch.from_numpy(np.stack([one for _, _, own in waiting for one in own]))
            waiting.clear()


def _energon(packs: str, side: int, images: int, python: Path) -> float:
    command = [str(python), str(ENERGON), packs, f"{packs}-energon", str(side), str(ROUNDS)]
    return float(_peer(command, images)["seconds"])


def nanovlm_command(
    python: Path, checkout: Path, root: str, captions: list[str], images: list[bytes], tokenizer: str, side: int
) -> list[str]:
    """What runs nanoVLM's loader over pairs, the images by turns, in sequences and tokens of `PlanConfig`."""
    pairs, config = f"{root}/pairs.parquet", PlanConfig()
    data = [images[number % len(images)] for number in range(len(captions))]
    pq.write_table(pa.table({"image": data, "caption": captions}), pairs)
    numbers = (side, config.context_length, config.tokens_per_image, ROUNDS)
    return [str(python), str(NANOVLM), str(checkout), pairs, tokenizer, *map(str, numbers)]


def _peer(command: list[str], images: int) -> dict[str, Any]:
    """What a peer's script found. Raises RuntimeError with its last words if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[1]}: {done.stderr.strip().splitlines()[-1]}")
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert said["images"] == images, f"{command[1]} gave {said['images']} images, the packs have {images}"
    return said


def _plain(reader: Any, side: int) -> float:
    import torch
    from PIL import Image

    data = [image.data for packed in reader for image in packed.images]

    def work() -> None:
        for at in range(0, len(data), 80):
            squares = [_square(Image.open(io.BytesIO(one)), side) for one in data[at : at + 80]]
            torch.from_numpy(np.stack(squares))

    return best(work)


def measure_balance(samples: int = 100_000, steps: int = 300, devices: int = 8) -> list[dict[str, Any]]:
    """max / mean of the devices' work over steps, by turns and by `assign`."""
    rng = np.random.default_rng(0)
    has_image = rng.random(samples) < 0.8
    cut = np.minimum(12, rng.geometric(0.25, samples))
    crops = np.where(has_image, cut + (cut > 1), 0)
    text = np.where(has_image, rng.gamma(1.5, 110.0, samples), rng.gamma(1.2, 700.0, samples)).astype(np.int64) + 8
    lengths = np.minimum(CAPACITY, TILE * crops + text)
    bins = pack_items(lengths, CAPACITY)
    squares = lengths.astype(np.float64) ** 2
    sums = {
        "length": np.bincount(bins.bin, lengths), "targets": np.bincount(bins.bin, text // 2),
        "crops": np.bincount(bins.bin, crops), "attention": np.bincount(bins.bin, squares),
    }  # fmt: skip
    rows = []
    for encoder, factor in (("trained", 6.0), ("frozen", 2.0)):
        # Qwen2.5-1.5B: 28 blocks of width 1536; 1,024 patches a tile through SigLIP-SO400M.
        work = Work(position=6 * 1.31e9, target=6 * 0.233e9, attention=6 * 28 * 1536, crop=factor * 1024 * 0.41e9)
        costs = work.position * sums["length"] + work.target * sums["targets"]
        costs = costs + work.attention * sums["attention"] + work.crop * sums["crops"]
        for each in (4, 16):
            order = Order(len(bins), devices * each, 0)
            turns, ours, seconds = [], [], 0.0
            for step in range(min(steps, len(bins) // (devices * each))):
                own = costs[[number for _, number in order.step(step)]]
                turns.append(_ratio([own[rank::devices].sum() for rank in range(devices)]))
                before = time.process_time()
                shares = assign(range(len(own)), own, devices)
                seconds += time.process_time() - before
                ours.append(_ratio([own[share].sum() for share in shares]))
            rows.append(
                {
                    "encoder": encoder,
                    "sequences a device": each,
                    "by turns": float(np.mean(turns)),
                    "by work": float(np.mean(ours)),
                    "worst step": max(ours),
                    "ms a step": 1000 * seconds / len(ours),
                }
            )
    return rows


def _ratio(loads: list[float]) -> float:
    return max(loads) / (sum(loads) / len(loads))
