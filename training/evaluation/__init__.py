"""Evaluation: questions about images, put to a checkpoint or a server, judged by the benchmarks' own metrics.

    from mmcorpus.training.evaluation import Checkpoint, EvaluationConfig, evaluate
    report = evaluate(EvaluationConfig(blank=True), Checkpoint("runs/demo/training/sft"), "questions.jsonl", "out")

Reading the configuration imports nothing heavy.
"""

from typing import TYPE_CHECKING

from mmcorpus.training.evaluation.config import EvaluationConfig
from mmcorpus.training.lazy import exports

if TYPE_CHECKING:
    from mmcorpus.training.evaluation.answering import Checkpoint, Server
    from mmcorpus.training.evaluation.metrics import METRICS
    from mmcorpus.training.evaluation.question import Question
    from mmcorpus.training.evaluation.readers import read_questions
    from mmcorpus.training.evaluation.results import EvaluationReport
    from mmcorpus.training.evaluation.run import evaluate

__getattr__ = exports(
    __name__,
    {
        "answering": ("Checkpoint", "Server"),
        "metrics": ("METRICS",),
        "question": ("Question",),
        "readers": ("read_questions",),
        "results": ("EvaluationReport",),
        "run": ("evaluate",),
    },
)

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
