"""Packing measured: fill beside others' algorithms, first-fit-decreasing against the textbook, packs against pickles.

    python -m benchmarks.packing                            # all of it, a few minutes
    python -m benchmarks.packing --only fill                # ours and the peers' on 100,000 samples
    python -m benchmarks.packing --only fill --samples 10000000 --ours   # ours alone
    python -m benchmarks.packing --only fill --lengths RUN/plans/pretrain.parquet   # the lengths of a plan
    python -m benchmarks.packing --items 10000 --pairs 500
    python -m benchmarks.packing --only loader balance      # what a trainer reads, and how devices share a step
    python -m benchmarks.packing --only loader --small --nanovlm CHECKOUT   # beside nanoVLM's, its environment made too
    python -m benchmarks.packing --only whole --samples 1000000 --captions FILE   # lengths, plan, packs; a line each
    python -m benchmarks.packing --only many --samples 10000000   # conversations planned and opened: memory

Fill is described in `benchmarks/packing_fill.py`, the peers in `benchmarks/packing_peers.py`, loader and balance in
`benchmarks/packing_loader.py` (Energon's environment is made under `--envs` at the first run; if that fails it is left
out, and the reason printed; nanoVLM, which is no package, is run where `--nanovlm` says that it lies, in such an
environment), the whole way in `benchmarks/packing_whole.py`, millions of conversations in
`benchmarks/packing_many.py`.

The textbook version probes bins one by one. In plain Python it is quadratic, so beyond `--plain` items its probing is
done by numpy, a scan of all open bins for each item, which is the same algorithm; beyond `--scan` items it is not run.
Where both run, the bins must be identical.
"""

import argparse
import io
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.common import show, timed, write_result
from benchmarks.packing_fill import CAPACITY, CROPS, LENGTHS, MIXTURES, OURS, compare
from benchmarks.packing_loader import measure_balance, measure_loader, nanovlm_command, photograph
from benchmarks.packing_many import measure_many
from benchmarks.packing_peers import PEERS
from benchmarks.packing_whole import drawn_captions, measure_whole, write_shards
from mmcorpus.packing import (
    PackConfig,
    PackReader,
    PlanConfig,
    PlanSource,
    first_fit_decreasing,
    make_plan,
    write_packs,
)
from mmcorpus.packing.tokens import encode_captions, load_tokenizer
from mmcorpus.packing.vocabulary import train_tokenizer

Lengths = npt.NDArray[np.int64]
SHAPES = {name: draw for name, draw in LENGTHS.items() if not name.startswith("tiles")}


def textbook_plain(lengths: Lengths, capacity: int) -> list[int]:
    """Each item's bin; every open bin is probed in turn."""
    free: list[int] = []
    bins = [0] * len(lengths)
    for item in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[item])
        number = next((number for number, space in enumerate(free) if space >= length), len(free))
        if number == len(free):
            free.append(capacity)
        free[number] -= length
        bins[item] = number
    return bins


def textbook_scan(lengths: Lengths, capacity: int) -> list[int]:
    """The same bins; numpy probes all open bins at once for each item."""
    free = np.zeros(len(lengths), dtype=np.int32)
    opened = 0
    bins = [0] * len(lengths)
    for item in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[item])
        number = int((free[:opened] >= length).argmax()) if opened else 0
        if number >= opened or free[number] < length:
            number, opened = opened, opened + 1
            free[number] = capacity
        free[number] -= length
        bins[item] = number
    return bins


def measure_bins(items: list[int], plain: int, scan: int) -> list[dict[str, Any]]:
    rows = []
    for shape, draw in SHAPES.items():
        for count in items:
            lengths = np.clip(draw(np.random.default_rng(0), count), 1, CAPACITY)
            bins, seconds = timed(lambda lengths=lengths: first_fit_decreasing(lengths, CAPACITY))
            row: dict[str, Any] = {
                "lengths": shape,
                "items": count,
                "seconds": seconds,
                "bins": len(bins),
                "lower bound": bins.lower_bound,
                "fill": bins.fill,
                "items a bin": bins.packing_factor,
            }
            for name, most, version in (("plain", plain, textbook_plain), ("scan", scan, textbook_scan)):
                row[f"textbook, {name} (s)"] = None
                if count <= most:
                    expected, taken = timed(lambda lengths=lengths, version=version: version(lengths, CAPACITY))
                    if expected != bins.bin.tolist():
                        raise AssertionError(f"{shape}, {count} items: other bins than the textbook's")
                    row[f"textbook, {name} (s)"] = taken
            rows.append(row)
    return rows


def make_corpus(root: str, pairs: int, side: int) -> tuple[str, pa.Table, list[str]]:
    """Shards of `pairs` JPEGs of smooth random content, about as many bytes as photographs of their size."""
    from PIL import Image

    from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
    from mmcorpus.curation.store.uid import pair_uid

    rng = random.Random(0)
    words = [f"{a}{b}" for a in ("red", "blue", "old", "tall") for b in ("house", "tree", "clock", "cat")]
    uids, captions = [], []
    for shard in range(-(-pairs // 1000)):
        with ShardWriter(Shard(root=f"{root}/shards", name=f"{shard:05d}")) as writer:
            for number in range(shard * 1000, min(pairs, (shard + 1) * 1000)):
                caption = " ".join(rng.choices(words, k=rng.randint(4, 30)))
                coarse = Image.frombytes("RGB", (side // 6, side // 6), rng.randbytes(3 * (side // 6) ** 2))
                file = io.BytesIO()
                coarse.resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
                uid = pair_uid(str(number), caption)
                images = (EncodedImage(extension="jpg", data=file.getvalue()),)
                meta = {"url": str(number)}
                writer.write(Sample(key=f"{number:09d}", uid=uid, caption=caption, images=images, meta=meta))
                uids.append(uid)
                captions.append(caption)
    return f"{root}/shards", pa.table({"uid": uids, "count": pa.array([1] * pairs, pa.int32())}), captions


def folder_bytes(root: str, pattern: str) -> int:
    return sum(path.stat().st_size for path in Path(root).rglob(pattern) if path.is_file())


def measure_packs(pairs: int, side: int) -> list[dict[str, Any]]:
    from mmcorpus.packing.pickles import read_pickle, write_pickles

    with tempfile.TemporaryDirectory() as root:
        shards, selection, captions = make_corpus(root, pairs, side)
        tokenizer = train_tokenizer(captions, 600, f"{root}/tokenizer")
        loaded = load_tokenizer(tokenizer)
        encoded, seconds = timed(lambda: encode_captions(loaded, captions * 5))
        tokens = sum(len(sample.input_ids) for sample in encoded)
        rows = [{"step": "encode captions", "seconds": seconds, "tokens/s": tokens / seconds}]

        source = PlanSource(shards=shards, selection=selection, kind="pair")
        plan = f"{root}/plan.parquet"
        config = PlanConfig()
        report, seconds = timed(lambda: make_plan(config, tokenizer=tokenizer, sources={"x": source}, out=plan))
        rows.append({"step": "plan", "seconds": seconds, "samples/s": pairs / seconds, "fill": report.fill})

        def pack() -> Any:
            return write_packs(PackConfig(), plan=plan, tokenizer=tokenizer, shards={"x": shards}, out=f"{root}/packs")

        written, seconds = timed(pack)
        size = written.bytes
        rows.append(_rate("write packs", pairs, size, seconds))
        reader = PackReader(f"{root}/packs")
        order = random.Random(1).sample(range(len(reader)), len(reader))
        _, seconds = timed(lambda: [reader[number] for number in order])
        rows.append(_rate("read packs, shuffled, encoded", pairs, size, seconds))

        _, seconds = timed(lambda: write_pickles(f"{root}/packs", f"{root}/pickles"))
        pickled = folder_bytes(f"{root}/pickles", "*.pkl")
        rows.append(_rate("write Open-Qwen2VL pickles", pairs, pickled, seconds))
        paths = sorted(Path(root, "pickles").rglob("*.pkl"))
        _, seconds = timed(lambda: [read_pickle(str(path)) for path in paths])
        rows.append(_rate("read pickles, decoded", pairs, pickled, seconds))
        rows.append({"step": "pickles' bytes / packs' bytes", "ratio": pickled / size})
    return rows


def loader_rows(
    sizes: tuple[int, int],
    energon: Path | None,
    nanovlm: tuple[Path, Path] | None = None,
    images: int = 240,
    side: int = 384,
) -> list[dict[str, Any]]:
    """The loaders on packs of some images of this width and height; `nanovlm`: its Python and its checkout."""
    rng = np.random.default_rng(0)
    made = [photograph(*sizes, rng) for _ in range(24)]
    with tempfile.TemporaryDirectory() as root:
        captions = drawn_captions(images)
        selection = write_shards(root, captions, made)
        tokenizer = train_tokenizer(captions, 2000, f"{root}/tokenizer")
        plan, shards = f"{root}/plan.parquet", f"{root}/shards"
        source = PlanSource(shards=shards, selection=selection, kind="pair")
        make_plan(PlanConfig(), tokenizer=tokenizer, sources={"web": source}, out=plan)
        write_packs(PackConfig(), plan=plan, tokenizer=tokenizer, shards={"web": shards}, out=f"{root}/packs")
        command = nanovlm_command(*nanovlm, root, captions, made, tokenizer, side) if nanovlm else None
        shown = f"{sizes[0]}x{sizes[1]}, {len(made[0]) // 1000} kB"
        return measure_loader(f"{root}/packs", side, shown, energon, command)


def _rate(step: str, pairs: int, size: int, seconds: float) -> dict[str, Any]:
    megabytes = size / 1e6
    return {
        "step": step,
        "seconds": seconds,
        "samples/s": pairs / seconds,
        "MB/s": megabytes / seconds,
        "MB": megabytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts = ["fill", "bins", "packs", "whole", "many", "loader", "balance"]
    parser.add_argument("--only", nargs="*", choices=parts, default=parts)
    parser.add_argument("--samples", type=int, default=100_000, help="samples for fill, whole and many")
    parser.add_argument("--captions", type=Path, help="for whole: a file of captions, one a line; else made words")
    parser.add_argument("--ours", action="store_true", help="fill of the plan alone, without peers")
    parser.add_argument("--lengths", nargs="*", default=[*LENGTHS, *MIXTURES, CROPS], help="of fill; or plans' paths")
    parser.add_argument("--items", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--plain", type=int, default=10_000, help="most items for the textbook in plain Python")
    parser.add_argument("--scan", type=int, default=1_000_000, help="most items for the textbook on numpy")
    parser.add_argument("--pairs", type=int, default=3000, help="pairs for packs and pickles")
    parser.add_argument("--side", type=int, default=384, help="pixels of an image's sides")
    parser.add_argument("--envs", type=Path, default=Path.home() / ".cache" / "mmcorpus" / "peers", help="for loader")
    parser.add_argument("--nanovlm", type=Path, help="for loader: a checkout of huggingface/nanoVLM, with data/ in it")
    parser.add_argument("--small", action="store_true", help="for loader: images of 512 x 384 alone")
    arguments = parser.parse_args()
    result: dict[str, Any] = {}
    if "fill" in arguments.only:
        methods = ["plan"] if arguments.ours else [*OURS, *PEERS]
        result["fill"] = compare(arguments.lengths, arguments.samples, methods)
        show("Fill and mixing", result["fill"])
    if "bins" in arguments.only:
        result["bins"] = measure_bins(arguments.items, arguments.plain, arguments.scan)
        show("First-fit-decreasing into 4096; bins identical wherever the textbook ran", result["bins"])
    if "packs" in arguments.only:
        result["packs"] = measure_packs(arguments.pairs, arguments.side)
        show(f"{arguments.pairs} pairs of {arguments.side}x{arguments.side} JPEGs", result["packs"])
    if "whole" in arguments.only:
        lines = arguments.captions.read_text("utf-8").splitlines() if arguments.captions else None
        with tempfile.TemporaryDirectory() as root:
            result["whole"] = measure_whole(root, arguments.samples, lines)
        show("End to end, processor seconds of one process", result["whole"])
    if "many" in arguments.only:
        with tempfile.TemporaryDirectory() as root:
            result["many"] = measure_many(root, arguments.samples)
        show("Conversations planned and opened", result["many"])
    if "loader" in arguments.only:
        from benchmarks.dedup import environment

        energon = environment("energon", arguments.envs)
        python = environment("nanovlm", arguments.envs) if arguments.nanovlm else None
        nanovlm = (python, arguments.nanovlm) if python else None
        sizes = ((512, 384), (2048, 1536))[: 1 if arguments.small else 2]
        result["loader"] = [row for size in sizes for row in loader_rows(size, energon, nanovlm)]
        show("Loader, per core", result["loader"])
    if "balance" in arguments.only:
        result["balance"] = measure_balance()
        show("Work of the slowest of eight devices / mean", result["balance"])
    path = write_result(
        "packing", {**result, "arguments": {name: str(value) for name, value in vars(arguments).items()}}
    )
    print(json.dumps({"written": str(path)}))


if __name__ == "__main__":
    main()
