"""The environment in which tests start vLLM: .venv-vllm beside the checkout (make venv-vllm), or one that is named."""

import os
import platform
import sys
from pathlib import Path

import pytest

from mmcorpus.filters.serving import ServerConfig

ROOT = Path(__file__).parents[4]
PYTHON = os.environ.get("MMCORPUS_VLLM_PYTHON", str(ROOT / ".venv-vllm" / "bin" / "python"))
ARGS = ("--enforce-eager", "--dtype", "float32", "--max-model-len", "2048", "--max-num-seqs", "16")
ON_CPU = ("--block-size", "32", "--distributed-executor-backend", "uni")
ENV = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}


def vllm_server(*args: str) -> ServerConfig:
    """A server that starts on a CPU. Where it could be installed, a test without it fails."""
    if not os.path.exists(PYTHON):
        if sys.platform != "linux" or platform.machine() != "x86_64":
            pytest.skip("this machine cannot: vLLM has no CPU build for it")
        pytest.fail(f"there is no vLLM at {PYTHON}; install it with: make venv-vllm")
    return ServerConfig(python=PYTHON, args=(*ARGS, *ON_CPU, *args), env=ENV, start_timeout=900.0, hang_timeout=300.0)
