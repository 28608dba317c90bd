"""A real vLLM server loads the exports – Hugging Face's Llava as it is, ours by the installed package's plugin – and
answers what the checkpoints answer."""

import base64
import contextlib
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image

from mmcorpus.curation.scoring.run import score
from mmcorpus.curation.scoring.servers.replica import free_port
from mmcorpus.curation.store.scores import load_scores
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.curation.synthetic.tiny_model import write_tiny_model
from mmcorpus.filters.image_perplexity import ImagePerplexityScorer
from mmcorpus.filters.mllm import METRICS, MllmScorer, read_rubric
from mmcorpus.packing.chat import CHATML
from mmcorpus.packing.conversations import encode_conversation
from mmcorpus.packing.layout import PerImage, read_layout
from mmcorpus.packing.tokens import load_tokenizer
from mmcorpus.training import Generator, RandomLanguage, RandomVision
from mmcorpus.training.batch import collate, expand
from mmcorpus.training.caption_perplexity import CheckpointPerplexityScorer
from mmcorpus.training.checkpoint import save_model
from mmcorpus.training.config import ModelConfig
from mmcorpus.training.exchange.export import export_model
from mmcorpus.training.exchange.image_side import positions
from mmcorpus.training.folder import STATE, new_folder
from mmcorpus.training.images import lay_out_images
from mmcorpus.training.model import build_model
from tests.curation.scoring.servers.vllm import ARGS, ENV, ON_CPU, vllm_server
from tests.training.conftest import COLORS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ROOT = Path(__file__).parents[3]
QUESTION, CAPTION = "What color is it?", "a photograph"
KINDS: dict[str, PerImage] = {
    "llava": 16,
    "tiled": read_layout({"kind": "molmo", "crop": 32, "patch": 8, "margins": [1, 1], "max_crops": 4}),
}
"""All patches of a square, which is Llava; crops of the image with marks around them, as many as its shape wants."""
SIZES = ((32, 32), (70, 40), (36, 90))

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]


class Served(NamedTuple):
    """A checkpoint, its export, and the server of that."""

    generator: Generator
    checkpoint: str
    folder: str
    url: str


def picture(color: tuple[int, int, int], seed: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(-40, 40, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.array(color) + noise, 0, 255).astype(np.uint8))


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def trained(folder: Path, kind: str, tokenizer: "PreTrainedTokenizerFast") -> str:
    """A checkpoint that names colours, and rates captions by them."""
    torch.set_num_threads(1)
    config = ModelConfig(
        vision=RandomVision(image_size=32, patch_size=8, hidden_size=64, layers=3, heads=2, intermediate_size=128),
        language=RandomLanguage(hidden_size=64, layers=2, heads=2, key_value_heads=1, intermediate_size=128),
        layout=KINDS[kind],
    )
    model, rubric = build_model(config, len(tokenizer)), read_rubric()
    pieces = []
    for number, (name, color) in enumerate(sorted(COLORS.items()) * 6):
        rated = (rubric.prompt(METRICS[number // len(COLORS) % 4], CAPTION), str(10 + 25 * (number % len(COLORS))))
        image = picture(color, number, SIZES[number % len(SIZES)])
        pixels, per_image, _ = lay_out_images([image], config.layout, 32)
        for asked, answer in ((QUESTION, f"It is {name}."), rated):
            turns = [{"from": "human", "value": f"<image>\n{asked}"}, {"from": "gpt", "value": answer}]
            sample = encode_conversation(tokenizer, turns, 1)
            count = len(sample.input_ids)
            length = count - 1 + positions(image.size, config.layout)
            pieces.append(expand(sample.input_ids, [length], [count], [sample.loss_spans], pixels, [], per_image))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(80):
        start = 8 * step % len(pieces)
        model.token_losses(collate(pieces[start : start + 8], multiple=1)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    tokenizer.chat_template = CHATML
    state = {"kind": "sft", "step": 80, "model": dataclasses.asdict(config), "chat_template": CHATML}
    with new_folder(str(folder)) as inner:
        save_model(inner, model, tokenizer, {name: value.detach() for name, value in model.named_parameters()})
        Path(inner, STATE).write_text(json.dumps(state))
    return str(folder)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """mmcorpus as pip installs it, without what it needs elsewhere: its metadata names the plugin."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("curation", "filters", "packing", "pipelines", "training"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(source)], check=True)
    # Of what it needs, vLLM's environment has all but this, unless make venv-vllm put it there; both have one Python.
    (target / "pyarrow").symlink_to(Path(pyarrow.__file__).parent)
    return str(target)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, installed: str) -> Iterator[dict[str, Served]]:
    """Both servers, which start side by side."""
    root = tmp_path_factory.mktemp("served")
    python = vllm_server().python
    assert python is not None
    tokenizer = load_tokenizer(write_tiny_model(str(root / "tiny")))
    started: list[subprocess.Popen[bytes]] = []
    found: dict[str, Served] = {}
    ports: set[int] = set()
    try:
        for kind in KINDS:
            checkpoint = trained(root / f"checkpoint-{kind}", kind, tokenizer)
            folder = export_model(checkpoint, str(root / f"export-{kind}")).folder
            ports.add(port := free_port(ports))
            command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", folder, *ARGS, *ON_CPU]
            with open(root / f"{kind}.log", "wb") as log:
                started.append(
                    subprocess.Popen(
                        [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=subprocess.STDOUT,
                        env={**os.environ, **ENV, "PYTHONPATH": installed}, cwd=root, start_new_session=True,
                    )
                )  # fmt: skip
            url = f"http://127.0.0.1:{port}/v1"
            found[kind] = Served(Generator.load(checkpoint, "cpu"), checkpoint, folder, url)
        for kind, server in zip(KINDS, started, strict=True):
            until_healthy(found[kind].url.removesuffix("v1") + "health", server, root / f"{kind}.log")
        yield found
    finally:
        for server in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, 9)
            server.wait()


def until_healthy(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-4000:])


def answered(served: Served, image: Image.Image, prompt: str) -> tuple[str, int]:
    url = "data:image/png;base64," + base64.b64encode(png(image)).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}]
    body: dict[str, Any] = {
        "model": served.folder, "messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 12,
    }  # fmt: skip
    request = urllib.request.Request(
        served.url + "/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        told = json.load(answer)
    return str(told["choices"][0]["message"]["content"]).strip(), int(told["usage"]["prompt_tokens"])


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_answers_are_the_checkpoints(servers: dict[str, Served], kind: str) -> None:
    """Twenty pictures, of the encoder's size and of others; the prompt has as many tokens there as here."""
    served, said = servers[kind], set[str]()
    colors = sorted(COLORS.values())
    for number in range(20):
        size = SIZES[0] if number % 2 else (40 + number, 90 - number)
        image = picture(colors[number % len(colors)], 100 + number, size)
        prompt = QUESTION if number % 5 else "Say what you see"
        theirs, tokens = answered(served, image, prompt)
        assert theirs == served.generator.generate(image, prompt, max_new_tokens=12), number
        assert tokens == len(served.generator.prompt_ids(prompt)) - 1 + positions(size, KINDS[kind])
        said.add(theirs)
    assert len(said) >= 3, "answers depend on the picture"


@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("kind", KINDS)
def test_the_export_judges_as_a_filter(servers: dict[str, Served], kind: str, tmp_path: Path) -> None:
    """Each scorer names it in one line: ratings by the server, likelihoods in the worker."""
    served, shards = servers[kind], str(tmp_path / "shards")
    colors = [picture(color, 200 + number) for number, color in enumerate(sorted(COLORS.values()))]
    with ShardWriter(Shard(root=shards, name="00000")) as writer:
        for number, image in enumerate(colors):
            encoded = (EncodedImage(extension="png", data=png(image)),)
            uid = pair_uid(f"http://example.com/{number}", CAPTION)
            writer.write(Sample(key=f"{number:09d}", uid=uid, caption=CAPTION, images=encoded, meta={}))
    scorers = [
        MllmScorer(model_name=served.folder, endpoints=(served.url,)),
        ImagePerplexityScorer(model_name=served.folder, device="cpu"),
        CheckpointPerplexityScorer(checkpoint=served.checkpoint, device="cpu"),
    ]
    assert score(shards, str(tmp_path / "scores"), scorers, workers=1).ok
    table = load_scores(str(tmp_path / "scores"))
    order = np.argsort(table["uid"].to_pylist())
    rubric, generator = read_rubric(), served.generator
    expected = {
        pair_uid(f"http://example.com/{number}", CAPTION): [
            generator.generate(image, rubric.prompt(metric, CAPTION), max_new_tokens=8) for metric in METRICS
        ]
        for number, image in enumerate(colors)
    }
    assert len(order) == len(expected)
    for row in table.to_pylist():
        raw = [row[f"mllm.{metric}_raw"].strip() for metric in METRICS]
        assert raw == expected[row["uid"]]
        assert all(0 <= row[f"mllm.{metric}"] <= 100 for metric in METRICS), raw
        assert row["image_perplexity.nll_sum"] == pytest.approx(row["checkpoint_perplexity.nll_sum"], rel=1e-4)
    assert len({row["mllm.image_text_matching_integer"] for row in table.to_pylist()}) > 1
