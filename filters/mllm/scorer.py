"""MLLM-Filter: a vision-language model rates a caption under its image by several criteria (arXiv:2403.02677, §3)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import pyarrow as pa

from mmcorpus.filters.mllm.in_process import InProcessClient
from mmcorpus.filters.mllm.prompts import Rubric, read_rubric
from mmcorpus.filters.mllm.visits import Visits
from mmcorpus.filters.scorer import REASON
from mmcorpus.filters.serving import DECIDING, Connection, ModelClient, ServedScorer, ServerConfig

METRICS: Final = (
    "image_text_matching",
    "object_detail_fulfillment",
    "caption_text_quality",
    "semantic_understanding",
)
"""Those of the rubric that ships, in its order."""


@dataclass(frozen=True, kw_only=True)
class MllmScorer(ServedScorer):
    """For each metric M: M, the expected rating (0-100, float); M_integer, the rating as the model wrote it; M_raw, its
    whole answer; M_reason, why there is no rating.

    One visit asks an image's metrics of the same server, the first alone and the rest together, so that the server's
    prefix cache pays for the image once. Ratings are greedy (temperature 0). Published cuts: semantic_understanding
    >= 85 (Open-Qwen2VL), image_text_matching >= 66 and object_detail_fulfillment >= 20 (MLM-Filter, DataComp-medium).
    """

    in_process: dict[str, Any] | None = None
    """Run vLLM's engine in the scoring worker itself, in place of servers: the arguments of `vllm.LLM`, e.g.
    `{max_model_len: 4096}`. For one machine whose environment has vLLM beside mmcorpus; give `score.workers: 1`, since
    every worker loads the model."""
    prompts: str | None = None
    """A YAML file with prompts of your own, laid out as filters/mllm/prompts.yaml, which is used if null."""
    metrics: tuple[str, ...] | None = None
    """The file's metrics to ask; null for all."""
    max_side: int | None = None
    """Larger images are scaled down to this before they are sent; null sends the shard's own bytes."""
    max_tokens: int = 8
    """Longest answer, in tokens: "100" may take three, and a blank or a mark may come first."""
    top_logprobs: int = 20
    """Alternatives of each token that the expectation sees. Servers limit it: vLLM to 20 (`--max-logprobs`)."""
    explore: float | None = None
    """Ask on from each first digit that was not taken but has at least this probability, so that the expectation need
    not guess how the number would go on. vLLM alone can; each costs a short request. null: never."""
    extra: dict[str, Any] | None = None
    """More keys of the request's body, e.g. `{chat_template_kwargs: {enable_thinking: false}}`."""

    name: ClassVar[str] = "mllm"
    version: ClassVar[str] = "2"
    inputs: ClassVar[tuple[str, ...]] = ("uid", "shard", "caption", "image", "encoded")

    def __post_init__(self) -> None:
        super().__post_init__()
        rubric = read_rubric(self.prompts)
        unknown = sorted(set(self.metrics or ()) - set(rubric.criteria))
        if unknown:
            raise ValueError(f"metrics: {unknown[0]!r} is not in the prompts; there are {', '.join(rubric.criteria)}")
        if self.metrics is not None and (not self.metrics or len(set(self.metrics)) != len(self.metrics)):
            raise ValueError(f"metrics is {list(self.metrics)}; name each once, and at least one")
        if self.max_side is not None and self.max_side < 16:
            raise ValueError(f"max_side is {self.max_side}; give 16 or more, or null")
        if self.max_tokens < 3:
            raise ValueError(f'max_tokens is {self.max_tokens}; "100" may take three tokens, so give 3 or more')
        if self.top_logprobs < 1:
            raise ValueError(f"top_logprobs is {self.top_logprobs}; give 1 or more")
        if self.explore is not None and not 0.0 < self.explore <= 1.0:
            raise ValueError(f"explore is {self.explore}; give a probability above 0, or null")
        if self.in_process is not None and (self.endpoints or self.server is not None):
            raise ValueError("in_process excludes endpoints and server: the model runs in one place")
        # Read once, where the recipe is checked: workers on other machines need not have the file.
        object.__setattr__(self, "_rubric", rubric)

    @property
    def rubric(self) -> Rubric:
        """The questions."""
        rubric: Rubric = getattr(self, "_rubric")  # noqa: B009
        return rubric

    @property
    def asked(self) -> tuple[str, ...]:
        """The metrics, in order."""
        return self.metrics or tuple(self.rubric.criteria)

    def schema(self) -> pa.Schema:
        kinds = {"": pa.float32(), "_integer": pa.int16(), "_raw": pa.string(), f"_{REASON}": pa.string()}
        return pa.schema({f"{metric}{suffix}": kind for metric in self.asked for suffix, kind in kinds.items()})

    def parameters(self) -> dict[str, Any]:
        """All that decides the ratings; where the servers are and how they are asked is none of it."""
        return {
            "prompts": self.rubric.digest(self.asked),
            "metrics": list(self.asked),
            "max_side": self.max_side,
            "max_tokens": self.max_tokens,
            "top_logprobs": self.top_logprobs,
            "explore": self.explore,
            "extra": self.extra,
            "server": self.deciding(),
        }

    def deciding(self) -> dict[str, Any]:
        if self.in_process is None:
            return super().deciding()
        return {name: value for name, value in sorted(self.in_process.items()) if name in DECIDING}

    def serving(self) -> ServerConfig | None:
        return None if self.in_process is not None else super().serving()

    def connection(self) -> Connection:
        if self.in_process is not None and not hasattr(self, "_connection"):
            return Connection(endpoints=())
        return super().connection()

    def clients(self) -> Callable[[], ModelClient]:
        if self.in_process is None:
            return super().clients()
        engine = InProcessClient(self.model_name, self.revision, self.in_process)
        return lambda: engine

    def questions(self, client: ModelClient, model: str) -> Visits:
        return Visits(self, client, model)

    def settings(self) -> dict[str, Any]:
        """All of a request but the model, the image and the text."""
        return {
            "temperature": 0,
            "max_tokens": self.max_tokens,
            "logprobs": True,
            "top_logprobs": self.top_logprobs,
            **(self.extra or {}),
        }
