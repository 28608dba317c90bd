"""Rate of the CLIP stage against a plain open_clip DataLoader loop, and against the forward pass alone.

    python -m benchmarks.clip --images 500 --rounds 1 --model ViT-B-32   # CPU: about 5 minutes on 2 cores
    python -m benchmarks.clip --images 200000 --model ViT-L-14        # with a GPU

The weights are random, which costs what trained ones cost. All ways score the same shards, to the same cosines:

    forward      the model alone, on batches that are ready on its device
    DataLoader   as often written: a DataLoader's workers read tars, decode and preprocess, one process runs the model
    stage        curation.scoring.run.score: on a GPU the models are fed by decoders, on CPUs each worker does both
    stage, fed   the same, with the models held apart from the workers

`share` is the rate over the forward pass's. `start` is a run over one sample: processes, imports, loading the model;
`share warm` leaves it out. Rounds alternate; medians are shown. On a GPU its utilisation is sampled while a way runs.
"""

import argparse
import io
import json
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import show, timed, write_result
from benchmarks.scoring import make_shards
from mmcorpus.curation.scoring.run import score
from mmcorpus.curation.store.scores import load_scores
from mmcorpus.filters.clip import ClipScorer
from mmcorpus.filters.clip_model import ClipModel

TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def make_model(name: str, folder: Path) -> str:
    """A folder with a model of random weights as open_clip reads it; `tiny` is one for trying this out."""
    import open_clip
    from safetensors.torch import save_file

    config = TINY if name == "tiny" else open_clip.get_model_config(name)
    if config is None:
        raise SystemExit(f"open_clip has no model {name!r}; see open_clip.list_models()")
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}")
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return str(folder)


class Tars(torch.utils.data.IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """What a plain loop reads: the pairs of tars, each DataLoader worker its own."""

    def __init__(self, tars: list[Path], transform: Any, tokenizer: Any) -> None:
        self.tars, self.transform, self.tokenizer = tars, transform, tokenizer

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        from PIL import Image

        worker = torch.utils.data.get_worker_info()
        for path in self.tars[worker.id :: worker.num_workers] if worker else self.tars:
            with tarfile.open(path) as tar:
                parts: dict[str, bytes] = {}
                for member in tar:
                    file = tar.extractfile(member)
                    assert file is not None
                    parts[member.name.rpartition(".")[2]] = file.read()
                    if len(parts) == 3:
                        image = Image.open(io.BytesIO(parts["jpg"]))
                        yield self.transform(image), self.tokenizer([parts["txt"].decode()])[0]
                        parts = {}


def loader_loop(folder: str, tars: list[Path], workers: int, batch_size: int, device: str) -> list[float]:
    """The plain loop; the cosines, in the order in which the workers gave them."""
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model = model.eval().to(device)
    dataset = Tars(tars, transform, open_clip.get_tokenizer(f"local-dir:{folder}"))
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=batch_size, num_workers=workers, pin_memory=device == "cuda"
    )
    found: list[float] = []
    with torch.inference_mode(), torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
        for pixels, tokens in loader:
            image = model.encode_image(pixels.to(device, non_blocking=True), normalize=True)
            text = model.encode_text(tokens.to(device, non_blocking=True), normalize=True)
            found += (image * text).sum(-1).float().tolist()
    return found


def forward_alone(folder: str, images: int, batch_size: int, device: str) -> float:
    """Images a second of the two towers, on batches made beforehand."""
    from mmcorpus.filters.clip_model import Preprocess
    from mmcorpus.filters.open_clip_names import Checkpoint

    checkpoint = Checkpoint(model_name=folder, pretrained=None)
    model = ClipModel(checkpoint, device=device, dtype="bf16" if device == "cuda" else "fp32")
    preprocess = Preprocess(checkpoint)
    rng = np.random.default_rng(0)
    shape = preprocess.pixels([rng.integers(0, 256, (512, 512, 3), dtype=np.uint8)]).shape[1:]
    pixels = rng.integers(0, 256, (batch_size, *shape), dtype=np.uint8)
    tokens, _ = preprocess.tokens(["a red clock beside a quiet harbour"] * batch_size)

    def run(batches: int) -> None:
        for _ in range(batches):
            found = (model.embed_images(pixels) * model.embed_tokens(tokens)).sum(-1)
        found.cpu()

    run(1)
    batches = max(1, images // batch_size)
    return batches * batch_size / timed(lambda: run(batches))[1]


class Utilisation:
    """Samples the GPU's utilisation while a block runs; None without one."""

    def __init__(self) -> None:
        self.samples: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Utilisation":
        if torch.cuda.is_available():
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _sample(self) -> None:
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", "0"]
        while not self._stop.wait(0.2):
            out = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
            if out.isdigit():
                self.samples.append(float(out))

    @property
    def mean(self) -> float | None:
        return statistics.mean(self.samples) if self.samples else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--per-shard", type=int, default=250)
    parser.add_argument("--model", default="ViT-B-32", help="an architecture that open_clip lists, or tiny")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mmcorpus-bench-"))
    try:
        result = measure(folder, arguments)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show(f"CLIP scores of {arguments.images:,} images, {arguments.model} on {result['device']}", result["rows"])
    print(f"results in {write_result('clip', result)}")


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Rates of every way of scoring the same shards, medians over rounds."""
    import ray

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = make_model(arguments.model, folder / "model")
    make_shards(folder / "shards", arguments.images, arguments.per_shard)
    make_shards(folder / "one", 1, 1)
    tars = sorted((folder / "shards").glob("*.tar"))
    scorer = ClipScorer(model_name=model, batch_size=arguments.batch_size)
    # On a CPU-only machine the loop's own process is one of the workers.
    loaders = max(1, arguments.cpus - 1)
    ray.init(num_cpus=arguments.cpus, include_dashboard=False, log_to_driver=False, configure_logging=False)

    def stage(root: str, model_workers: int | None) -> Callable[[str], object]:
        return lambda out: score(str(folder / root), out, [scorer], model_workers=model_workers)

    ways: dict[str, Callable[[str], object]] = {
        "DataLoader": lambda out: loader_loop(model, tars, loaders, arguments.batch_size, device),
        "start": stage("one", None),
        "stage": stage("shards", None),
        **({} if device == "cuda" else {"start, fed": stage("one", 1), "stage, fed": stage("shards", 1)}),
    }
    seconds: dict[str, list[float]] = {}
    busy: dict[str, list[float]] = {}
    forward = []
    expected: list[float] = []
    for _ in range(arguments.rounds):
        forward.append(forward_alone(model, arguments.images, arguments.batch_size, device))
        for name, way in ways.items():
            out = folder / "out"
            with Utilisation() as utilisation:
                value, took = timed(lambda way=way, out=out: way(str(out)))  # type: ignore[misc]
            seconds.setdefault(name, []).append(took)
            if utilisation.mean is not None:
                busy.setdefault(name, []).append(utilisation.mean)
            if name == "DataLoader":
                assert isinstance(value, list)
                expected = value
            elif name.startswith("stage"):
                found = load_scores(str(out), columns=["clip.similarity"])["clip.similarity"].to_numpy()
                difference = float(np.abs(np.sort(found) - np.sort(expected)).max())
                assert difference < (0.02 if device == "cuda" else 1e-5), difference
            shutil.rmtree(out, ignore_errors=True)
            time.sleep(1)
    ray.shutdown()
    alone = statistics.median(forward)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    rows: list[dict[str, Any]] = [{"way": "forward", "images/s": alone}]
    for name in (name for name in ways if not name.startswith("start")):
        start = median.get(name.replace("stage", "start")) if name != "DataLoader" else None
        row: dict[str, Any] = {"way": name, "seconds": median[name], "start": start}
        row |= {"images/s": arguments.images / median[name], "share": arguments.images / median[name] / alone}
        if start is not None and median[name] > 2 * start:
            row["share warm"] = arguments.images / (median[name] - start) / alone
        if name in busy:
            row["GPU busy %"] = statistics.median(busy[name])
        rows.append(row)
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else f"{arguments.cpus} CPUs",
        **vars(arguments),
        "rows": rows,
        "seconds": seconds,
        "forward": forward,
    }


if __name__ == "__main__":
    main()
