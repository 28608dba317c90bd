"""Settings of an evaluation. Imports nothing heavy."""

import dataclasses
import re
from typing import ClassVar, Final, Literal

from mmcorpus.packing.layout import PerImage
from mmcorpus.packing.render import RenderConfig
from mmcorpus.training.evaluation.judge import CaptionJudge
from mmcorpus.training.settings import Settings, require

Format = Literal[
    "auto",
    "jsonl",
    "shards",
    "vqa",
    "gqa",
    "textvqa",
    "chartqa",
    "docvqa",
    "pope",
    "mmbench",
    "rows",
    "seed",
    "scienceqa",
]
"""How a set's file is read (`readers.py`); `auto` tells by its content."""


OTHERS: Final = "others"
"""Demonstrations that are the other questions."""

MetricName = Literal[
    "exact",
    "vqa",
    "choice",
    "relaxed",
    "anls",
    "count",
    "clock",
    "clock_hour",
    "points",
    "point_precision",
    "point_recall",
    "pope",
    "cider",
    "cap_f1",
]
"""The keys of `metrics.METRICS`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Settings):
    """Settings of how questions are read, asked and judged."""

    SPEED: ClassVar[frozenset[str]] = frozenset({"batch_size", "judge"})
    """Settings that change no answer."""

    format: Format = "auto"
    """How the file is read; `auto` tells by its content."""
    images: str | None = None
    """The folder of the images that the file names; null for the file's own."""
    annotations: str | None = None
    """The file of answers, where a benchmark has them apart from its questions (VQAv2)."""
    metric: MetricName | None = None
    """Judge every question by this metric instead of its own."""
    categories: dict[str, str] = dataclasses.field(default_factory=dict)
    """Names of categories and the regular expression that a prompt matches, the first one counting:
    `{count: "^How many", time: "^What time"}`. Empty takes the file's own."""
    by_count: bool = False
    """Name the category of each question by the number that its answer says or points at: counts by bucket."""
    only: str | None = None
    """Ask the questions alone whose prompts this regular expression finds; null for all."""
    limit: int | None = None
    """Ask so many questions, drawn by `seed`; null for all."""
    seed: int = 0
    """Draws the questions of `limit`, and bootstraps."""
    instruction: str = ""
    """Added to every prompt on a line of its own: `Answer with a single word.`"""
    chain_of_thought: bool = False
    """Ask for thoughts first, and judge what stands after the last `Answer:`."""
    shots: int = 0
    """Questions with their answers, each with its images, that stand before the one that is asked."""
    demonstrations: str | None = None
    """The file or folder that they are drawn from, read as the questions are; never the question's own image. `others`
    draws them from the other questions of the set, where it has no training split."""
    demonstration_layout: PerImage | None = None
    """What the images of demonstrations become, if something else than the question's: fewer tokens, so that more of
    them fit (MM1's mixed resolution); null for the model's layout. Of a checkpoint alone."""
    demonstration_seeds: tuple[int, ...] = (0,)
    """Each draws demonstrations anew for all questions; the result is the mean over them (Open-Qwen2VL: five)."""
    render: RenderConfig = dataclasses.field(default_factory=RenderConfig)
    """Of samples with annotations, how these are asked for: as the packs' own `render`."""
    layout: PerImage | None = None
    """What an image becomes for a checkpoint, if another than in training (docs/layouts.md): `{kind: molmo, max_crops:
    36}` reads finer print, and counts and captions get worse by it; a warning says so. Null for that of training."""
    blank: bool = False
    """Ask once more with every image grey: what prompts give away by themselves."""
    max_new_tokens: int | None = None
    """Longest answer; null for 32, and 512 with a chain of thought."""
    batch_size: int = 16
    """Questions answered side by side; greedy answers are the same for any number."""
    judge: CaptionJudge | None = None
    """The served model that judges captions, for the metric `cap_f1`: `{model_name: Qwen/Qwen2.5-7B-Instruct}`."""
    questions_per_shard: int = 256
    """Questions whose answers are committed together: what an interruption costs at most."""

    def __post_init__(self) -> None:
        self._require_positive("batch_size", "questions_per_shard")
        self._require_not_negative("shots", "seed")
        require(self.limit is None or self.limit > 0, f"limit is {self.limit}; give 1 or more, or null")
        most = self.max_new_tokens
        require(most is None or most > 0, f"max_new_tokens is {most}; give 1 or more, or null")
        require(bool(self.demonstration_seeds), "demonstration_seeds is empty; give at least one")
        require(
            self.shots == 0 or self.demonstrations is not None,
            f"shots is {self.shots} without demonstrations; name the file they are drawn from (a training split)",
        )
        require(
            self.demonstration_layout is None or self.shots > 0,
            "demonstration_layout is given without shots; say how many demonstrations there are",
        )
        require(
            self.metric != "cap_f1" or self.judge is not None,
            "metric is cap_f1, which asks a model about captions; give judge.model_name (docs/evaluation.md)",
        )
        require(not (self.by_count and self.categories), "by_count and categories both name categories: give one")
        for name, pattern in {**{f"categories.{name}": one for name, one in self.categories.items()},
                              "only": self.only or ""}.items():  # fmt: skip
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{name} is no regular expression: {error}") from None

    @property
    def unsaid(self) -> frozenset[str]:
        """Settings that records of answers leave out: those of speed, and later ones where they say nothing."""
        later = {"by_count": False, "layout": None, "render": RenderConfig(), "demonstration_layout": None}
        return self.SPEED | {name for name, value in later.items() if getattr(self, name) == value}

    @property
    def longest(self) -> int:
        """Tokens of an answer, at most."""
        return self.max_new_tokens or (512 if self.chain_of_thought else 32)
