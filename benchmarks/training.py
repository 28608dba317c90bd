"""Training rate on packs against padded loops over the same samples, in random order and grouped by length.

    python -m benchmarks.training
    python -m benchmarks.training --device cuda --model qwen2.5-1.5b-shape --precision bf16 --context 4096 --micro 8

`packed` is this project's loop: packs read and decoded ahead, isolated attention, the LM head on target tokens alone.
`padded` is the loop as it is often written: one sample a row, as many rows as hold the same number of positions, each
padded to the longest in its batch, transformers' own loss over all logits, images decoded in the loop. `by length` is
the same with batches of samples of like length, as `group_by_length` of transformers' Trainer makes them. All run the
same model and optimiser from the same weights over the same captions and images, for each of `--tokens` an image (of
Open-Qwen2VL 144 and 729).

`useful` counts positions that are not padding. MFU is the trainer's own (`training/speed.py`), against `--peak`
(TFLOP/s; the data sheet's, or one large matrix product timed, if not given); padded work of a padded loop has the LM
head everywhere. How a step splits up is measured in steps of their own, in which the device is waited for after each
part.
"""

import argparse
import dataclasses
import io
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.common import show, write_result
from mmcorpus.curation.store.shards import EncodedImage
from mmcorpus.packing.binpack import first_fit_decreasing
from mmcorpus.packing.lengths import expanded_length
from mmcorpus.packing.manifest import describe_tokenizer, write_manifest
from mmcorpus.packing.packs import PackReader, PackShardWriter
from mmcorpus.packing.sequence import PackedSequence
from mmcorpus.packing.tokens import TokenizedSample, encode_captions, load_tokenizer
from mmcorpus.packing.vocabulary import train_tokenizer
from mmcorpus.training.balance import Work
from mmcorpus.training.batch import PackedBatch
from mmcorpus.training.config import ModelConfig, RandomLanguage, RandomVision
from mmcorpus.training.data import PackLoader
from mmcorpus.training.model import VisionLanguageModel, build_model
from mmcorpus.training.optim import OptimizerConfig, scale_and_clip
from mmcorpus.training.speed import batch_flops, peak_flops

MODELS: dict[str, tuple[ModelConfig, int]] = {
    "tiny": (
        ModelConfig(
            vision=RandomVision(image_size=64, patch_size=8, hidden_size=128, layers=4, heads=4),
            language=RandomLanguage(hidden_size=192, layers=4, heads=6, key_value_heads=2, intermediate_size=512),
            tokens_per_image=16,
        ),
        1024,
    ),
    # SigLIP-SO400M/14-384 and Qwen2.5-1.5B, as in Open-Qwen2VL; random weights cost what trained ones do.
    "qwen2.5-1.5b-shape": (
        ModelConfig(
            vision=RandomVision(
                image_size=378, patch_size=14, hidden_size=1152, layers=27, heads=16, intermediate_size=4304
            ),
            language=RandomLanguage(
                hidden_size=1536, layers=28, heads=12, key_value_heads=2, intermediate_size=8960, rope_theta=1e6
            ),
            tokens_per_image=144,
        ),
        151_936,
    ),
}
WORDS = (
    "a", "the", "of", "in", "on", "with", "two", "red", "blue", "small", "old",
    "street", "house", "garden", "dog", "boat", "people", "light", "water", "tree", "sign",
)  # fmt: skip


def samples(count: int, folder: str) -> tuple[list[TokenizedSample], list[bytes]]:
    """Captions of log-normal length, median 20 words, each with a JPEG of a web photograph's size."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3.0, 0.6, count), 3, 120).astype(int)
    captions = [" ".join(rng.choice(WORDS, length)) for length in lengths]
    tokenizer = load_tokenizer(train_tokenizer(captions, 300, folder))
    images = []
    for _ in range(64):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((512, 384), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        images.append(file.getvalue())
    return encode_captions(tokenizer, captions), [images[number % len(images)] for number in range(count)]


def packed_sequence(number: int, items: list[tuple[TokenizedSample, bytes]], tokens_per_image: int) -> PackedSequence:
    """Pairs side by side as one sequence."""
    counts = [len(sample.input_ids) for sample, _ in items]
    starts = np.cumsum([0, *counts])[:-1].tolist()
    return PackedSequence(
        sequence=number,
        input_ids=np.concatenate([sample.input_ids for sample, _ in items]),
        uids=tuple(f"{number:016x}{place:016x}" for place in range(len(items))),
        sources=("benchmark",) * len(items),
        lengths=tuple(int(expanded_length(count, 1, tokens_per_image)) for count in counts),
        token_counts=tuple(counts),
        image_counts=(1,) * len(items),
        loss_spans=tuple(
            tuple((start + first, start + last) for first, last in sample.loss_spans)
            for start, (sample, _) in zip(starts, items, strict=True)
        ),
        images=tuple(EncodedImage(extension="jpg", data=data) for _, data in items),
    )


def write_pack(root: str, groups: list[list[Any]], folder: str, tokens_per_image: int, context: int) -> PackReader:
    """A pack with one sequence a group."""
    with PackShardWriter(root, "00000", tokens_per_image=tokens_per_image) as writer:
        for number, items in enumerate(groups):
            writer.write(packed_sequence(number, items, tokens_per_image))
    tokenizer = describe_tokenizer(load_tokenizer(folder), "benchmark")
    write_manifest(
        root, tokenizer=tokenizer, tokens_per_image=tokens_per_image, context_length=context,
        shards=[writer.record], parameters={},
    )  # fmt: skip
    return PackReader(root)


def padded_loss(model: VisionLanguageModel, batch: PackedBatch) -> torch.Tensor:
    """The usual forward pass: a 2-D mask, labels, and transformers' loss over all logits."""
    labels_BL = torch.full_like(batch.input_ids_BL, -100)
    labels_BL.view(-1)[batch.predict_positions_M + 1] = batch.targets_M
    language: Any = model.language
    loss: torch.Tensor = language(
        inputs_embeds=model.embed(batch), attention_mask=(batch.sample_ids_BL >= 0).long(), labels=labels_BL
    ).loss
    return loss


def by_length(lengths: Sequence[int], batch: int, rng: np.random.Generator) -> list[list[int]]:
    """Batches of samples of like length: a random order, in parts of 50 batches (fewer where there are few) that are
    each sorted, longest first; the order of transformers' LengthGroupedSampler."""
    order = rng.permutation(len(lengths)).tolist()
    part = batch * max(1, min(50, len(order) // (batch * 4)))
    found = [
        one
        for start in range(0, len(order), part)
        for one in sorted(order[start : start + part], key=lambda sample: -lengths[sample])
    ]
    return [found[start : start + batch] for start in range(0, len(found), batch)]


@dataclasses.dataclass(kw_only=True)
class Rate:
    """What a loop did in its measured steps, and how those of `split` divide."""

    useful: int = 0
    padded: int = 0
    images: int = 0
    useful_flops: float = 0.0
    padded_flops: float = 0.0
    waited: float = 0.0
    seconds: float = 0.0
    split: dict[str, float] = dataclasses.field(default_factory=dict)
    """Seconds by part of a step."""

    def row(self, name: str, tokens: int, peak: float) -> dict[str, Any]:
        """The rates as a table's row."""
        whole = sum(self.split.values()) or 1.0
        return {
            "loop": name,
            "tokens an image": tokens,
            "useful positions/s": self.useful / self.seconds,
            "images/s": self.images / self.seconds,
            "filled": self.useful / self.padded,
            "MFU useful": self.useful_flops / self.seconds / peak,
            "MFU padded": self.padded_flops / self.seconds / peak,
            "data wait": self.waited / self.seconds,
            **{f"{part} %": 100 * seconds / whole for part, seconds in self.split.items()},
        }


SPLIT_STEPS = 2


def measure(
    model: VisionLanguageModel, batches: Iterator[PackedBatch], arguments: argparse.Namespace, *, padded: bool
) -> Rate:
    """Train on the batches: the first `warm` unmeasured, then the measured steps, then those that are split up."""
    device, work = next(model.parameters()).device, Work.of(model)
    optimizer = OptimizerConfig().build(model)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate, split, start = Rate(), dict[str, float](), time.perf_counter()
    last, measured = start, arguments.warm + arguments.steps

    def lap(part: str, *, wait: bool) -> float:
        """The seconds since the last call, which are the part's."""
        nonlocal last
        if wait and device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        took, last = now - last, now
        split[part] = split.get(part, 0.0) + took
        return took

    for step in range(measured + SPLIT_STEPS):
        apart = step >= measured
        lap("update", wait=apart or step == arguments.warm)
        if step == arguments.warm:
            rate, start = Rate(), last
        if step == measured:
            rate.seconds = last - start
            split.clear()
        batch = next(batches)
        waited = lap("data", wait=False)
        if not apart:
            rate.waited += waited
            useful, all_padded = batch_flops(work, batch, model.vision.patches)
            if padded:  # logits of every position, not of the targets alone
                all_padded += work.target * (batch.input_ids_BL.numel() - batch.target_tokens)
            rate.useful_flops, rate.padded_flops = rate.useful_flops + useful, rate.padded_flops + all_padded
            rate.useful += batch.positions
            rate.padded += batch.input_ids_BL.numel()
            rate.images += batch.images_NCHW.shape[0]
        with torch.autocast(device.type, torch.bfloat16, enabled=arguments.precision == "bf16"):
            loss = padded_loss(model, batch.to(device)) if padded else model(batch.to(device)).sum()
        lap("forward", wait=apart)
        loss.backward()
        lap("backward", wait=apart)
        scale_and_clip(parameters, 1.0 if padded else batch.target_tokens, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    lap("update", wait=True)
    rate.split = {part: split[part] for part in ("data", "forward", "backward", "update")}
    return rate


def main() -> None:
    """Measure both loops and write benchmarks/results/training.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--model", default="tiny", choices=sorted(MODELS))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--attention", default="sdpa", choices=("sdpa", "flex"), help="of the packed loop")
    parser.add_argument("--tokens", type=int, nargs="+", help="an image; by default the model's, and one a patch")
    parser.add_argument("--context", type=int, default=512, help="positions a packed sequence")
    parser.add_argument("--micro", type=int, default=4, help="packed sequences a forward pass")
    parser.add_argument("--steps", type=int, default=10, help="measured steps")
    parser.add_argument("--warm", type=int, default=2, help="steps before measuring")
    parser.add_argument("--threads", type=int, default=2, help="that decode for the packed loop")
    parser.add_argument("--train-vision", action="store_true", help="train the encoder too")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device, e.g. 989 for bf16 on an H100")
    arguments = parser.parse_args()
    config, vocabulary = MODELS[arguments.model]
    device = torch.device(arguments.device)
    assert isinstance(config.vision, RandomVision)
    patches = (config.vision.image_size // config.vision.patch_size) ** 2
    peak = arguments.peak * 1e12 if arguments.peak else peak_flops(device, arguments.precision)
    table, speedups = [], {}
    for tokens in arguments.tokens or [config.tokens_per_image, patches]:
        rows = compare(dataclasses.replace(config, tokens_per_image=tokens), vocabulary, arguments, peak)
        rates = {row["loop"]: row["useful positions/s"] for row in rows}
        speedups[tokens] = {loop: rates["packed"] / rate for loop, rate in rates.items() if loop != "packed"}
        table += rows
    told = "; ".join(
        f"{tokens} an image: " + ", ".join(f"{times:.2f}× {loop}" for loop, times in found.items())
        for tokens, found in speedups.items()
    )
    show(f"training, {arguments.model} on {arguments.device}: packed is, with {told}", table)
    result = {"arguments": vars(arguments), "peak_tflops": peak / 1e12, "rows": table, "speedup": speedups}
    print(write_result("training", result))


def compare(config: ModelConfig, vocabulary: int, arguments: argparse.Namespace, peak: float) -> list[dict[str, Any]]:
    """The rows of the three loops at one number of tokens an image."""
    per_image, device = config.tokens_per_image, torch.device(arguments.device)
    needed = (arguments.warm + arguments.steps + SPLIT_STEPS) * arguments.micro
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        texts, images = samples(needed * (arguments.context // (per_image + 26) + 1), f"{folder}/tokenizer")
        items = list(zip(texts, images, strict=True))
        lengths = np.array([expanded_length(len(sample.input_ids), 1, per_image) for sample in texts])
        bins = first_fit_decreasing(lengths, arguments.context).bin
        groups: list[list[Any]] = [[] for _ in range(int(bins.max()) + 1)]
        for item, place in zip(items, bins, strict=True):
            groups[int(place)].append(item)
        packed = write_pack(f"{folder}/packed", groups, f"{folder}/tokenizer", per_image, arguments.context)
        single = write_pack(
            f"{folder}/single", [[item] for item in items], f"{folder}/tokenizer", per_image, arguments.context
        )
        rows_a_batch = max(1, arguments.micro * arguments.context // int(lengths.mean()))
        rng = np.random.default_rng(1)
        for name, reader, batches, threads in (
            ("padded", single, by_length([0] * len(items), rows_a_batch, rng), 0),
            ("padded, by length", single, by_length(lengths.tolist(), rows_a_batch, rng), 0),
            ("packed", packed, by_length([0] * len(packed), arguments.micro, rng), arguments.threads),
        ):
            model = build_model(config, vocabulary).to(device)
            model.freeze(vision=not arguments.train_vision, projector=False, language=False)
            model.set_attention(isolated=True, implementation=arguments.attention if name == "packed" else "sdpa")
            rng.shuffle(batches)  # type: ignore[arg-type]
            loader = PackLoader(reader, image_size=model.vision.image_size, threads=threads)
            cycle = (group for _ in range(needed) for group in batches)
            rate = measure(model, loader.batches(cycle), arguments, padded=name != "packed")
            rows.append(rate.row(name, per_image, peak))
    return rows


if __name__ == "__main__":
    main()
