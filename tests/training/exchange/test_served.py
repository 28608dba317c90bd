"""A real vLLM server loads the exports – Hugging Face's Llava as it is, ours by the installed package's plugin – and
answers what the checkpoints answer."""

import base64
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
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from mmcorpus.curation.scoring.run import score
from mmcorpus.curation.scoring.servers.replica import free_port
from mmcorpus.curation.store.scores import load_scores
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.curation.synthetic.tiny_model import write_tiny_model
from mmcorpus.filters.image_perplexity import ImagePerplexityScorer
from mmcorpus.filters.mllm import METRICS, MllmScorer, read_rubric
from mmcorpus.packing.conversations import encode_conversation
from mmcorpus.packing.tokens import load_tokenizer
from mmcorpus.training import Generator, RandomLanguage, RandomVision, SFTConfig, train
from mmcorpus.training.caption_perplexity import CheckpointPerplexityScorer
from mmcorpus.training.config import ModelConfig
from mmcorpus.training.exchange.export import export_model
from tests.curation.scoring.servers.vllm import ARGS, ENV, ON_CPU, vllm_server
from tests.training.conftest import COLORS, configured, write_packs

ROOT = Path(__file__).parents[3]
QUESTION, CAPTION = "What color is it?", "a photograph"
KINDS = {"llava": 16, "pooled": 4}
"""Tokens an image, of 16 patches."""

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


def trained(root: Path, kind: str, tokenizer_folder: str) -> str:
    """A checkpoint that names colours, and rates captions by them."""
    tokenizer, rubric = load_tokenizer(tokenizer_folder), read_rubric()
    items = []
    for number, (name, color) in enumerate(sorted(COLORS.items()) * 6):
        rated = (rubric.prompt(METRICS[number // len(COLORS) % 4], CAPTION), str(10 + 25 * (number % len(COLORS))))
        for asked, answer in ((QUESTION, f"It is {name}."), rated):
            turns = [{"from": "human", "value": f"<image>\n{asked}"}, {"from": "gpt", "value": answer}]
            items.append((encode_conversation(tokenizer, turns, 1), [png(picture(color, number))]))
    pairs = [items[start : start + 2] for start in range(0, len(items), 2)]
    packs = write_packs(str(root / f"packs-{kind}"), pairs, tokenizer_folder, tokens_per_image=KINDS[kind], context=512)
    model = ModelConfig(
        vision=RandomVision(image_size=32, patch_size=8, hidden_size=64, layers=3, heads=2, intermediate_size=128),
        language=RandomLanguage(hidden_size=64, layers=2, heads=2, key_value_heads=1, intermediate_size=128),
        tokens_per_image=KINDS[kind],
    )
    stage = configured(
        SFTConfig, steps=80, batch_sequences=4, micro_batch_sequences=4, precision="fp32", num_workers=0,
        learning_rate=3e-3, freeze_vision=False,
    )  # fmt: skip
    return train(stage, packs, str(root / f"out-{kind}"), model=model).checkpoint


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
    return str(target)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, installed: str) -> Iterator[dict[str, Served]]:
    """Both servers, which start side by side."""
    root = tmp_path_factory.mktemp("served")
    python = vllm_server().python
    assert python is not None
    tokenizer_folder = str(root / "tokenizer")
    tokenizer = load_tokenizer(write_tiny_model(str(root / "tiny")))
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tokenizer_folder)
    started: list[subprocess.Popen[bytes]] = []
    found: dict[str, Served] = {}
    ports: set[int] = set()
    try:
        for kind in KINDS:
            checkpoint = trained(root, kind, tokenizer_folder)
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
        size = (32, 32) if number % 2 else (40 + number, 90 - number)
        image = picture(colors[number % len(colors)], 100 + number, size)
        prompt = QUESTION if number % 5 else "Say what you see"
        theirs, tokens = answered(served, image, prompt)
        assert theirs == served.generator.generate(image, prompt, max_new_tokens=12), number
        assert tokens == len(served.generator.prompt_ids(prompt)) - 1 + KINDS[kind]
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
