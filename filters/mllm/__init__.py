"""MLLM-Filter: a served vision-language model rates each caption under its image.

    MllmScorer(model_name="Qwen/Qwen2.5-VL-7B-Instruct", endpoints=("http://gpu1:8000/v1",))

`prompts.yaml` is what it is asked, `answer.py` how its answers become numbers, docs/judging-mllm.md how to use it.
"""

from mmcorpus.filters.mllm.answer import Answer, expected, parse
from mmcorpus.filters.mllm.prompts import Rubric, read_rubric
from mmcorpus.filters.mllm.scorer import METRICS, MllmScorer

__all__ = ["METRICS", "Answer", "MllmScorer", "Rubric", "expected", "parse", "read_rubric"]
