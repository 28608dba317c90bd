"""Evaluation: questions about images, put to a checkpoint or a server, judged by the benchmarks' own metrics.

    from mmcorpus.training.evaluation import Checkpoint, EvaluationConfig, evaluate
    report = evaluate(EvaluationConfig(blank=True), Checkpoint("runs/demo/training/sft"), "questions.jsonl", "out")

Reading the configuration imports nothing heavy.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mmcorpus.training.evaluation.config import EvaluationConfig

if TYPE_CHECKING:
    from mmcorpus.training.evaluation.answering import Checkpoint, Server
    from mmcorpus.training.evaluation.metrics import METRICS
    from mmcorpus.training.evaluation.question import Question
    from mmcorpus.training.evaluation.readers import read_questions
    from mmcorpus.training.evaluation.results import EvaluationReport
    from mmcorpus.training.evaluation.run import evaluate

_MODULES = {
    "answering": ("Checkpoint", "Server"),
    "metrics": ("METRICS",),
    "question": ("Question",),
    "readers": ("read_questions",),
    "results": ("EvaluationReport",),
    "run": ("evaluate",),
}

__all__ = [
    "METRICS",
    "Checkpoint",
    "EvaluationConfig",
    "EvaluationReport",
    "Question",
    "Server",
    "evaluate",
    "read_questions",
]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
