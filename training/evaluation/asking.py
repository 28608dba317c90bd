"""A question as it is put to a model: instruction, choices, demonstrations, chain of thought; and its answer read."""

import dataclasses
import hashlib
import random
import re
from collections.abc import Sequence
from typing import Final

from mmcorpus.packing.chat import ANSWERS
from mmcorpus.packing.layout import PerImage
from mmcorpus.packing.turns import IMAGE_MARK
from mmcorpus.training.evaluation.config import EvaluationConfig
from mmcorpus.training.evaluation.question import Picture, Question

_LETTER: Final = "Answer with the option's letter from the given choices directly."
_THINK: Final = "Think step by step. Then write 'Answer:' and the answer alone."
_ANSWER: Final = re.compile(r".*\banswer\s*:\s*", re.IGNORECASE | re.DOTALL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """A prompt before anything is loaded: turns whose texts have a mark an image."""

    turns: tuple[tuple[str, str], ...]
    images: tuple[Picture, ...]
    layouts: tuple[PerImage | None, ...] = ()
    """Of each image, what it becomes if something else than the model's layout says; empty if none does."""


def ask(
    question: Question, config: EvaluationConfig, demonstrations: Sequence[Question] = (), seed: int | None = None
) -> Asked:
    """The question, after `config.shots` of the demonstrations where a seed is given.

    Those of a question depend on the seed and its id alone, so that every model sees the same ones; none shows the
    question's own image.
    """
    shown = [] if seed is None else draw(question, demonstrations, config.shots, seed)
    turns: list[tuple[str, str]] = []
    for one in shown:
        turns += [("user", _text(one, config)), (ANSWERS, _answer(one, config))]
    turns.append(("user", _text(question, config)))
    images = tuple(image for one in (*shown, question) for image in one.images)
    low, own = config.demonstration_layout, len(question.images)
    layouts = () if low is None else (low,) * (len(images) - own) + (None,) * own
    return Asked(turns=tuple(turns), images=images, layouts=layouts)


def draw(question: Question, demonstrations: Sequence[Question], shots: int, seed: int) -> list[Question]:
    """So many demonstrations, never the question itself or one of its image. Raises ValueError if there are too few."""
    others = [one for one in demonstrations if one.id != question.id and one.cluster != question.cluster]
    if len(others) < shots:
        raise ValueError(f"{shots} demonstrations are wanted, and there are {len(others)} of other images")
    digest = hashlib.blake2b(f"{seed}\0{question.id}".encode("utf-8", "replace"), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big")).sample(others, shots)


def read(answer: str, config: EvaluationConfig) -> str:
    """What is judged of an answer: after a chain of thought what stands after the last `Answer:`, its first line."""
    if not config.chain_of_thought:
        return answer
    found = _ANSWER.match(answer)
    return answer[found.end() :].partition("\n")[0].strip() if found else answer


def _text(question: Question, config: EvaluationConfig) -> str:
    missing = max(0, len(question.images) - question.prompt.count(IMAGE_MARK))
    lines = [question.prompt]
    lines += [f"{letter}. {choice}" for letter, choice in zip(question.letters, question.choices, strict=True)]
    if config.chain_of_thought:
        lines.append(_THINK)
    elif question.choices and not config.instruction:
        lines.append(_LETTER)
    lines += [config.instruction] if config.instruction else []
    return f"{IMAGE_MARK}\n" * missing + "\n".join(line for line in lines if line)


def _answer(question: Question, config: EvaluationConfig) -> str:
    """What a demonstration answers: of several humans the most frequent; with a chain of thought its thoughts first."""
    answer = max(question.answers, key=question.answers.count)
    if not config.chain_of_thought:
        return answer
    return "\n".join(part for part in (question.thoughts, f"Answer: {answer}") if part)
