"""The CLIP and perplexity stages, fed by CPUs: samples a second, and how busy the GPU is meanwhile."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray

from benchmarks.clip import Utilisation, forward_alone, make_model
from benchmarks.common import timed
from benchmarks.gpu.sizes import Emit, Sizes
from benchmarks.scoring import ADJECTIVES, NOUNS, make_shards
from mmcorpus.curation.scoring.run import score
from mmcorpus.filters.clip import ClipScorer
from mmcorpus.filters.model import ModelScorer
from mmcorpus.filters.perplexity import PerplexityScorer
from mmcorpus.packing.vocabulary import train_tokenizer

BATCH = 256


def clip(sizes: Sizes, folder: Path, emit: Emit) -> None:
    """CLIP's cosines of images and captions, beside the forward pass alone on batches that are ready."""
    model = make_model(sizes.clip, folder / "clip-model")
    batch = min(BATCH, sizes.images)
    alone = forward_alone(model, sizes.images, batch, sizes.device)
    emit({"way": "forward pass alone", "samples/s": alone})
    row = _stage(sizes, folder, ClipScorer(model_name=model, batch_size=batch, device=sizes.device))
    emit(row | {"share of forward": row["samples/s"] / alone})


def perplexity(sizes: Sizes, folder: Path, emit: Emit) -> None:
    """The captions' perplexity by a causal language model of random weights."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    place, causal = str(folder / "causal-model"), sizes.causal
    train_tokenizer([" ".join(ADJECTIVES), " ".join(NOUNS)], 300, place)
    with torch.device(sizes.device):
        model = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=sizes.causal_vocabulary, hidden_size=causal.hidden_size,
                intermediate_size=causal.intermediate_size, num_hidden_layers=causal.layers,
                num_attention_heads=causal.heads, num_key_value_heads=causal.key_value_heads,
                rope_parameters={"rope_type": "default", "rope_theta": causal.rope_theta}, tie_word_embeddings=True,
            )
        )  # fmt: skip
    model.to(torch.bfloat16).save_pretrained(place)
    del model
    if sizes.device == "cuda":
        torch.cuda.empty_cache()
    emit(_stage(sizes, folder, PerplexityScorer(model_name=place, batch_size=BATCH, device=sizes.device)))


def _stage(sizes: Sizes, folder: Path, scorer: ModelScorer) -> dict[str, Any]:
    """A scorer over all shards as a run has it, models apart from decoders; `warm` leaves out what one sample takes."""
    root, one = folder / "shards", folder / "one"
    if not one.exists():
        make_shards(root, sizes.images, sizes.per_shard)
        make_shards(one, 1, 1)
    ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        _, start = timed(lambda: score(str(one), str(folder / "out-one"), [scorer], model_workers=1))
        with Utilisation() as utilisation:
            report, took = timed(lambda: score(str(root), str(folder / "out"), [scorer], model_workers=1))
    finally:
        ray.shutdown()
    if not report.ok or report.scored != {scorer.name: sizes.images}:
        raise RuntimeError(f"scored {report.scored} of {sizes.images}: {report.failed or report.unscored}")
    return {
        "way": f"stage {scorer.name}",
        "samples/s": sizes.images / took,
        "warm samples/s": sizes.images / (took - start) if took > 2 * start else None,
        "start s": start,
        "GPU busy %": while_fed(utilisation.samples),
    }


def while_fed(samples: Sequence[float]) -> float | None:
    """The mean utilisation from the first sample that is not idle to the last; None without one."""
    busy = [place for place, share in enumerate(samples) if share > 0]
    return statistics.mean(samples[busy[0] : busy[-1] + 1]) if busy else None
