"""Texts that a served model writes about a sample: captions (recaptioning, CapFusion), questions and their answers.

    WrittenScorer(prompt="recaption", model_name="Qwen/Qwen2.5-VL-7B-Instruct", endpoints=("http://gpu1:8000/v1",))

`prompts/` has what is asked, `answer.py` says which answers are taken, docs/written.md how to use it.
"""

from mmcorpus.filters.written.answer import AnswerRules, check_answer
from mmcorpus.filters.written.prompt import Prompt, read_prompt, shipped_prompts
from mmcorpus.filters.written.scorer import WrittenScorer

__all__ = ["AnswerRules", "Prompt", "WrittenScorer", "check_answer", "read_prompt", "shipped_prompts"]
