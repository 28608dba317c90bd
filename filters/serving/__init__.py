"""Model servers, seen from a scorer: how they are configured, asked, and what becomes of those that fail.

    MllmScorer(model_name="Qwen/Qwen2.5-VL-7B-Instruct", endpoints=("http://gpu1:8000/v1",))

`mmcorpus.curation.scoring.servers` starts servers; this asks them.
"""

from mmcorpus.filters.serving.client import ModelClient, NoAnswer, Rejected, run
from mmcorpus.filters.serving.config import DECIDING, ClientConfig, ServerConfig
from mmcorpus.filters.serving.endpoints import Endpoint, Pool
from mmcorpus.filters.serving.questions import REJECTED, Questions, Row, gravest
from mmcorpus.filters.serving.scorer import Answers, Connection, ServedScorer

__all__ = [
    "DECIDING",
    "REJECTED",
    "Answers",
    "ClientConfig",
    "Connection",
    "Endpoint",
    "ModelClient",
    "NoAnswer",
    "Pool",
    "Questions",
    "Rejected",
    "Row",
    "ServedScorer",
    "ServerConfig",
    "gravest",
    "run",
]
