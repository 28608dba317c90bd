"""Training rate on packs against the usual padded loop over the same samples.

    python -m benchmarks.training
    python -m benchmarks.training --device cuda --model qwen2.5-1.5b-shape --precision bf16 --context 4096 --micro 8

`packed` is this project's loop: packs read and decoded ahead, isolated attention, the LM head on target tokens alone.
`padded` is the loop as it is often written: one sample a row, as many rows as hold the same number of positions, each
padded to the longest in its batch, transformers' own loss over all logits, images decoded in the loop. Both run the
same model and optimiser from the same weights over the same captions and images.

`useful` counts positions that are not padding. MFU divides by `--peak` (TFLOP/s; measured with one large matrix product
if not given): useful counts the work that the samples need (attention inside each sample, the LM head at its targets),
padded what the loop feeds the hardware (attention over whole rows, the LM head everywhere it runs it).
"""

import argparse
import dataclasses
import io
import tempfile
import time
from collections.abc import Iterator
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
from mmcorpus.training.batch import PackedBatch
from mmcorpus.training.config import ModelConfig, RandomLanguage, RandomVision
from mmcorpus.training.data import PackLoader
from mmcorpus.training.model import VisionLanguageModel, build_model
from mmcorpus.training.optim import OptimizerConfig, scale_and_clip

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


def flops(model: VisionLanguageModel, batch: PackedBatch, *, useful: bool, all_logits: bool) -> float:
    """Of a training step on a batch: 6 a weight and position, causal attention at half, the frozen encoder at 2."""
    language: Any = model.language.config
    head = language.vocab_size * language.hidden_size
    blocks = sum(parameter.numel() for parameter in model.language.model.layers.parameters())  # type: ignore[union-attr]
    encoder = sum(parameter.numel() for parameter in model.vision.parameters())
    patches = model.vision.siglip.embeddings.num_patches  # type: ignore[union-attr]
    positions = batch.positions if useful else batch.input_ids_BL.numel()
    if useful:
        ids = batch.sample_ids_BL + batch.sample_ids_BL.shape[1] * torch.arange(len(batch.sample_ids_BL))[:, None]
        squares = float(torch.bincount(ids[batch.sample_ids_BL >= 0]).double().square().sum())
    else:
        squares = float(batch.input_ids_BL.shape[0] * batch.input_ids_BL.shape[1] ** 2)
    attention = 6 * language.num_hidden_layers * language.hidden_size * squares
    logits = batch.input_ids_BL.numel() if all_logits and not useful else batch.target_tokens
    images = batch.images_NCHW.shape[0] * patches * encoder * (6 if model.train_vision else 2)
    return 6.0 * blocks * positions + attention + 6.0 * head * logits + images


def measured_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of one large matrix product: what the hardware gives at best."""
    size = 8192 if device.type == "cuda" else 1536
    matrix = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        product = matrix @ matrix
        float(product[0, 0])
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best


@dataclasses.dataclass(kw_only=True)
class Rate:
    """What a loop did in its measured steps."""

    useful: int = 0
    padded: int = 0
    images: int = 0
    useful_flops: float = 0.0
    padded_flops: float = 0.0
    waited: float = 0.0
    seconds: float = 0.0

    def row(self, name: str, peak: float) -> dict[str, Any]:
        """The rates as a table's row."""
        return {
            "loop": name,
            "useful positions/s": self.useful / self.seconds,
            "images/s": self.images / self.seconds,
            "filled": self.useful / self.padded,
            "MFU useful": self.useful_flops / self.seconds / peak,
            "MFU padded": self.padded_flops / self.seconds / peak,
            "data wait": self.waited / self.seconds,
        }


def measure(
    model: VisionLanguageModel, batches: Iterator[PackedBatch], arguments: argparse.Namespace, *, padded: bool
) -> Rate:
    """Train on the batches, the first `warm` of them unmeasured."""
    device = next(model.parameters()).device
    optimizer = OptimizerConfig().build(model)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate = Rate()
    for step in range(arguments.warm + arguments.steps):
        if step == arguments.warm:
            start, rate = time.perf_counter(), Rate()
        before = time.perf_counter()
        batch = next(batches)
        rate.waited += time.perf_counter() - before
        rate.useful_flops += flops(model, batch, useful=True, all_logits=padded)
        rate.padded_flops += flops(model, batch, useful=False, all_logits=padded)
        rate.useful += batch.positions
        rate.padded += batch.input_ids_BL.numel()
        rate.images += batch.images_NCHW.shape[0]
        with torch.autocast(device.type, torch.bfloat16, enabled=arguments.precision == "bf16"):
            loss = padded_loss(model, batch.to(device)) if padded else model(batch.to(device)).sum()
        loss.backward()
        scale_and_clip(parameters, 1.0 if padded else batch.target_tokens, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.synchronize()
    rate.seconds = time.perf_counter() - start
    return rate


def main() -> None:
    """Measure both loops and write benchmarks/results/training.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--model", default="tiny", choices=sorted(MODELS))
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--attention", default="sdpa", choices=("sdpa", "flex"), help="of the packed loop")
    parser.add_argument("--context", type=int, default=512, help="positions a packed sequence")
    parser.add_argument("--micro", type=int, default=4, help="packed sequences a forward pass")
    parser.add_argument("--steps", type=int, default=10, help="measured steps")
    parser.add_argument("--warm", type=int, default=2, help="steps before measuring")
    parser.add_argument("--threads", type=int, default=2, help="that decode for the packed loop")
    parser.add_argument("--train-vision", action="store_true", help="train the encoder too")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device, e.g. 989 for bf16 on an H100")
    arguments = parser.parse_args()
    config, vocabulary = MODELS[arguments.model]
    per_image, device = config.tokens_per_image, torch.device(arguments.device)
    needed = (arguments.warm + arguments.steps) * arguments.micro
    with tempfile.TemporaryDirectory() as folder:
        mean = per_image + 26
        texts, images = samples(needed * (arguments.context // mean + 1), f"{folder}/tokenizer")
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
        peak = arguments.peak * 1e12 if arguments.peak else measured_peak(
            device, torch.bfloat16 if arguments.precision == "bf16" else torch.float32
        )  # fmt: skip
        table = []
        for name, reader, rows, threads in (
            ("padded", single, rows_a_batch, 0),
            ("packed", packed, arguments.micro, arguments.threads),
        ):
            model = build_model(config, vocabulary).to(device)
            model.freeze(vision=not arguments.train_vision, projector=False, language=False)
            model.set_attention(isolated=True, implementation=arguments.attention if name == "packed" else "sdpa")
            order = np.random.default_rng(1).permutation(len(reader))
            groups_of_rows = [order[start : start + rows].tolist() for start in range(0, len(order), rows)]
            loader = PackLoader(reader, image_size=model.vision.image_size, threads=threads)
            cycle = (group for _ in range(needed) for group in groups_of_rows)
            rate = measure(model, loader.batches(cycle), arguments, padded=name == "padded")
            table.append(rate.row(name, peak))
    speedup = table[1]["useful positions/s"] / table[0]["useful positions/s"]
    show(f"training, {arguments.model} on {arguments.device}: packed is {speedup:.2f}× padded", table)
    result = {"arguments": vars(arguments), "peak_tflops": peak / 1e12, "rows": table, "speedup": speedup}
    print(write_result("training", result))


if __name__ == "__main__":
    main()
