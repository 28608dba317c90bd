"""Configuration of model servers and of the clients that ask them."""

import itertools
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

FORBID: Final[dict[str, Any]] = {"extra": "forbid"}
PLACES: Final = ("{model}", "{host}", "{port}")
"""Placeholders that a `command` of one's own must hold."""
DECIDING: Final = frozenset(
    {
        "chat_template",
        "chat_template_content_format",
        "default_chat_template_kwargs",
        "dtype",
        "generation_config",
        "hf_overrides",
        "kv_cache_dtype",
        "logprobs_mode",
        "media_io_kwargs",
        "mm_processor_kwargs",
        "override_generation_config",
        "quantization",
        "tokenizer",
        "tokenizer_revision",
    }
)
"""vLLM's arguments that change what a model answers. The others say how fast it does, or what it has room for."""


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Model servers that live as long as the scoring does (curation/scoring/servers)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    python: str | None = None
    """The interpreter of the environment that has vLLM; null for the one that runs. On a cluster it must exist on every
    machine that serves."""
    args: tuple[str, ...] = ()
    """Arguments of `vllm serve`: `["--max-model-len", "4096", "--limit-mm-per-prompt", '{"image": 1}']`."""
    env: dict[str, str] = field(default_factory=dict)
    """Environment variables of the server, over those of the run."""
    command: tuple[str, ...] | None = None
    """Another OpenAI-compatible server in place of vLLM, `{model}`, `{host}` and `{port}` being filled in."""
    replicas: int | None = None
    """Servers; null for as many as the cluster's GPUs allow, one where there are none."""
    gpus: int | None = None
    """GPUs of each server (`--tensor-parallel-size` in `args` must agree); null for 1 where there are any."""
    start_timeout: float = 1800.0
    """Seconds until a server must answer: downloads and compilation included."""
    hang_timeout: float = 120.0
    """Seconds without an answer to health checks after which a server is restarted."""
    max_restarts: int = 5
    """The number of times that a server that died is started again; ten minutes of work make it as good as new."""

    def __post_init__(self) -> None:
        if self.replicas is not None and self.replicas < 1:
            raise ValueError(f"replicas is {self.replicas}; give 1 or more, or null")
        if self.gpus is not None and self.gpus < 0:
            raise ValueError(f"gpus is {self.gpus}; give 0 or more, or null")
        if self.max_restarts < 0:
            raise ValueError(f"max_restarts is {self.max_restarts}; give 0 or more")
        for name in ("start_timeout", "hang_timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give seconds above 0")
        if self.command is None:
            return
        missing = [place for place in PLACES if not any(place in part for part in self.command)]
        if missing:
            raise ValueError(f"command does not hold {', '.join(missing)}, so that the server cannot be told")
        if self.python is not None or self.args:
            raise ValueError("command is the whole command; put python and args into it")

    def deciding(self) -> dict[str, str]:
        """Those of `args` that change what the model answers, by name: part of what makes scores stale."""
        words = [word for arg in self.args for word in (arg.split("=", 1) if arg.startswith("--") else [arg])]
        pairs = itertools.pairwise([*words, ""])
        found = {word[2:].replace("-", "_"): value for word, value in pairs if word.startswith("--")}
        return {name: value for name, value in sorted(found.items()) if name in DECIDING}


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """Timeouts, retries and concurrency of requests. None of this changes a score."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    concurrency: int = 32
    """Samples in flight at once, for each scoring worker."""
    connect_timeout: float = 10.0
    """Seconds until a connection stands."""
    timeout: float = 300.0
    """Seconds for one answer, waiting in the server's queue included."""
    attempts: int = 8
    """The number of attempts before a request is given up. Trying whether an endpoint is back costs no attempt."""
    patience: float = 600.0
    """Seconds to wait while no endpoint works at all: longer than a server takes to start again."""
    backoff: float = 0.5
    """Seconds before the second attempt; doubled for each one after, up to 30, with jitter."""
    unanswered: Literal["fail", "null"] = "fail"
    """The fate of a sample that gets no answer for reasons that may pass (timeouts, lost connections, 429, 5xx):
    `fail` leaves its shard to a rerun, `null` commits it without a score, with the reason `no_answer`."""
    key_variable: str | None = None
    """The environment variable that holds the API key of given endpoints."""

    def __post_init__(self) -> None:
        for name in ("concurrency", "attempts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more")
        for name in ("connect_timeout", "timeout", "patience", "backoff"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give seconds above 0")
