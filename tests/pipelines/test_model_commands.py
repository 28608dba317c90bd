"""`export-model`, `import-model` and `chat` as they are typed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from mmcorpus.packing.tokens import load_tokenizer
from mmcorpus.packing.vocabulary import train_tokenizer
from mmcorpus.training.checkpoint import read_state, read_tensors, write_tensors
from tests.pipelines.test_cli import call
from tests.processes import interruptible
from tests.training.exchange.releases import llava_release
from tests.training.exchange.test_export import write_random


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("commands")
    folder = train_tokenizer(["a red square", "user assistant system"], 300, str(root / "tokenizer"))
    return write_random(root / "checkpoint", "all patches", load_tokenizer(folder))


def test_export(checkpoint: str, tmp_path: Path) -> None:
    said = call("export-model", checkpoint, str(tmp_path / "hf"), "--dtype", "bf16")
    assert "LlavaForConditionalGeneration, 16 tokens an image" in said
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (config["architectures"], config["dtype"]) == (["LlavaForConditionalGeneration"], "bfloat16")
    assert "is not empty" in call("export-model", checkpoint, str(tmp_path / "hf"), code=2)
    assert "--dtype is 'int4'" in call("export-model", checkpoint, str(tmp_path / "other"), "--dtype", "int4", code=2)
    assert "no checkpoint at" in call("export-model", str(tmp_path), str(tmp_path / "other"), code=2)


def test_import_then_generate_and_export(checkpoint: str, tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    llava_release(tmp_path / "release", load_tokenizer(f"{checkpoint}/tokenizer"))
    said = call("import-model", str(tmp_path / "release"), str(tmp_path / "ours"))
    assert "in llava's layout, 4 tokens an image" in said
    Image.new("RGB", (30, 20), (200, 0, 0)).save(tmp_path / "red.png")
    picture = str(tmp_path / "red.png")
    assert call("generate", str(tmp_path / "ours"), picture, "--prompt", "What?", "--max-new-tokens", "3").strip()
    said = call("export-model", str(tmp_path / "ours"), str(tmp_path / "hf"))
    assert "transformers and vLLM need mmcorpus beside them" in said
    (tmp_path / "mine").write_text("no template")
    told = ("import-model", str(tmp_path / "release"), str(tmp_path / "more"))
    assert "leaves out" in call(*told, "--template", str(tmp_path / "mine"), code=2)
    assert not (tmp_path / "more").exists()


def test_soup(checkpoint: str, tmp_path: Path) -> None:
    other = shutil.copytree(checkpoint, tmp_path / "other")
    weights = {name: value * 1.5 for name, value in read_tensors(str(other), "model").items()}
    write_tensors(str(other), "model", weights)
    Image.new("RGB", (30, 20), (200, 0, 0)).save(tmp_path / "red.png")
    question = {"id": "1", "images": ["red.png"], "prompt": "What?", "answers": ["red"], "metric": "exact"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(question) + "\n")
    told = ("soup", checkpoint, str(other), "--out", str(tmp_path / "soup"))
    assert "Checkpoint:" in call(*told)
    said = call(*told, "--method", "greedy", "--data", str(tmp_path / "questions.jsonl"), "--set", "max_new_tokens=2")
    assert "The soup of 2: 0.0000" in said
    assert read_state(str(tmp_path / "soup"))["soup"]["method"] == "greedy"
    assert "needs --data" in call(*told, "--method", "greedy", code=2)
    assert "give average, maximum or greedy" in call(*told, "--method", "best", code=2)


def test_chat_wants_one_model(checkpoint: str) -> None:
    assert "give a checkpoint, or --server" in call("chat", code=2)
    assert "give a checkpoint, or --server" in call("chat", checkpoint, "--server", "http://127.0.0.1:9/v1", code=2)
    assert "belong to --server" in call("chat", checkpoint, "--model", "m", code=2)
    assert "does not answer" in call("chat", "--server", "http://127.0.0.1:9/v1", code=1)


@pytest.mark.slow
def test_chat_serves_until_ctrl_c(checkpoint: str) -> None:
    command = [sys.executable, "-m", "mmcorpus.pipelines.cli", "chat", checkpoint, "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, preexec_fn=interruptible
    ) as process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline(), process.stdout.readline()]
            url = re.search(r"http://127\.0\.0\.1:[0-9]+/", lines[1])
            assert url is not None, lines
            with urllib.request.urlopen(url[0] + "about", timeout=60) as answer:
                assert json.load(answer)["name"] == checkpoint
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        finally:
            process.kill()
