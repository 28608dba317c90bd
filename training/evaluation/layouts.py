"""The layouts of benchmarks as they are published: one function each, from a file's entry to a question.

An entry is a row as a mapping. What is wrong with one is raised as KeyError, TypeError or ValueError; the reader says
where.
"""

import ast
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from mmcorpus.training.evaluation.points import read_mask
from mmcorpus.training.evaluation.question import LETTERS, Question, as_letter

Entry = Mapping[str, Any]
_NUMBERED: Final = re.compile(r"<image (\d+)>")
_INLINE: Final = re.compile(r"Options:\s*(?=A[:.]\s)", re.IGNORECASE)
_OPTION: Final = re.compile(r"(?:,\s*+|(?:^|\n)[^\S\n]*+)([A-Z])[:.]\s")
_QUESTION: Final = ("question", "prompt", "query")
_ANSWER: Final = ("answer", "answers", "label", "gt_answer", "number")
_CATEGORY: Final = ("category", "question_type", "answer_type", "type", "subject", "subfield")
_ID: Final = ("id", "question_id", "questionId", "index", "pid", "qid")


def jsonl(row: Entry) -> Question:
    """Ours: the fields of Question; id, images, prompt, answers and metric are needed."""
    known = {field.name for field in dataclasses.fields(Question)}
    unknown = sorted(set(row) - known)
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; there are {', '.join(sorted(known))}")
    answers, choices = texts(row["answers"]), texts(row.get("choices", []))
    if choices:
        answers = tuple(as_letter(answer, choices) for answer in answers)
    return Question(
        id=str(row["id"]), images=texts(row["images"]), prompt=text(row["prompt"]), answers=answers,
        metric=text(row["metric"]), choices=choices, category=text(row.get("category", "")),
        cluster=text(row.get("cluster", "")), thoughts=text(row.get("thoughts", "")),
        masks=tuple(map(read_mask, row.get("masks", []))),
    )  # fmt: skip


def vqa(row: Entry) -> Question:
    """VQAv2, OK-VQA: a question joined with its annotation; COCO's image names."""
    image = f"COCO_{row['data_subtype']}_{int(row['image_id']):012d}.jpg"
    answers = tuple(text(one["answer"]) for one in row["answers"])
    question = _make(row, (image,), text(row["question"]), answers, "vqa")
    return dataclasses.replace(question, category=text(row.get("answer_type", "")))


def gqa(row: Entry) -> Question:
    """GQA: by question id, imageId, question, answer."""
    kind = row.get("types", {}).get("structural", "") if isinstance(row.get("types"), Mapping) else ""
    question = _make(row, (f"{row['imageId']}.jpg",), text(row["question"]), (text(row["answer"]),), "exact")
    return dataclasses.replace(question, category=kind)


def textvqa(row: Entry) -> Question:
    """TextVQA: `data` with image_id and ten answers."""
    return _make(row, (f"{row['image_id']}.jpg",), text(row["question"]), texts(row["answers"]), "vqa")


def docvqa(row: Entry) -> Question:
    """DocVQA and InfographicVQA: `data` with image (image_local_name) and answers."""
    image = text(row.get("image") or row["image_local_name"])
    return _make(row, (image.removeprefix("documents/"),), text(row["question"]), texts(row["answers"]), "anls")


def chartqa(row: Entry) -> Question:
    """ChartQA: imgname, query, label."""
    return _make(row, (text(row["imgname"]),), text(row["query"]), (text(row["label"]),), "relaxed")


def pope(row: Entry) -> Question:
    """POPE: image, text, label (yes or no)."""
    return _make(row, (text(row["image"]),), text(row["text"]), (text(row["label"]),), "pope")


def seed(row: Entry) -> Question:
    """SEED-Bench: choice_a to choice_d, answer, data_id; its questions about videos are left out."""
    choices = tuple(text(row[f"choice_{letter}"]) for letter in "abcd")
    question = _make(row, (text(row["data_id"]),), text(row["question"]), (text(row["answer"]),), "choice", choices)
    return dataclasses.replace(question, category=str(row.get("question_type", "")))


def scienceqa(row: Entry) -> Question:
    """ScienceQA's problems.json: question, choices, answer (a number from 0), hint, image, split, solution."""
    choices = texts(row["choices"])
    image = row.get("image")
    hint = text(row.get("hint") or "")
    prompt = "\n".join(part for part in (hint, text(row["question"])) if part)
    images = (f"{row['split']}/{row['id']}/{image}",) if image else ()
    question = _make(row, images, prompt, (LETTERS[int(row["answer"])],), "choice", choices)
    thoughts = text(row.get("solution") or "")
    return dataclasses.replace(question, category=text(row.get("subject") or ""), thoughts=thoughts)


def mmbench(row: Entry) -> Question:
    """MMBench's tsv, and those of VLMEvalKit: index, question, hint, A, B, …, answer, category, image (base64)."""
    letters = [letter for letter in LETTERS if filled(row.get(letter))]
    choices = tuple(text(row[letter]) for letter in letters)
    prompt = "\n".join(text(row[name]) for name in ("hint", "question") if filled(row.get(name)))
    images = row.get("image") or row["image_path"]
    listed = parsed(images) if isinstance(images, str) else images
    metric = "choice" if choices else "exact"
    answers = (text(row["answer"]),) if choices or not isinstance(parsed(row["answer"]), list) else texts(
        parsed(row["answer"])
    )  # fmt: skip
    return _make(row, tuple(listed) if isinstance(listed, list) else (listed,), prompt, answers, metric, choices)


def rows(row: Entry) -> Question:
    """Rows of Hugging Face datasets (AI2D, ScienceQA, MMStar, MMMU, POPE, ChartQA, CountBenchQA, … as parquet), by
    their columns.

    An image is `image`, `decoded_image`, `images`, or `image_1`, `image_2`, …, the numbers of which may stand in the
    text as `<image 1>`; choices are `options` or `choices`, a list or the text of one, or stand in the question after
    `Options:` (MMStar). An answer that stands under `number` alone is a count (CountBenchQA).
    """
    prompt = text(first(row, _QUESTION))
    given = first(row, _ANSWER)
    options: Any = next((row[name] for name in ("options", "choices") if filled(row.get(name))), [])
    choices = texts(parsed(options) if isinstance(options, str) else options)
    if not choices and (inline := _INLINE.search(prompt)):
        parts = _OPTION.split(prompt[inline.end() :])
        if parts[1::2] == list(LETTERS[: len(parts) // 2]):
            prompt, choices = prompt[: inline.start()].rstrip(), tuple(part.strip() for part in parts[2::2])
    answers = texts(given) if isinstance(given, list | tuple) else (text(given),)
    metric = "choice" if choices else "vqa" if len(answers) >= 4 else "exact"
    if metric == "exact" and not any(filled(row.get(name)) for name in _ANSWER if name != "number"):
        metric = "count"
    images = _row_images(row)
    prompt, choices, order = _numbered(prompt, choices, len(images))
    return _make(row, tuple(images[number] for number in order), prompt, answers, metric, choices)


def _row_images(row: Entry) -> list[Any]:
    several = [row[name] for name in (f"image_{number}" for number in range(1, 8)) if filled(row.get(name))]
    if several:
        return [picture(one) for one in several]
    found: Any = next((row[name] for name in ("images", "image", "decoded_image") if filled(row.get(name))), [])
    return [picture(one) for one in (found if isinstance(found, list) else [found])]


def _numbered(prompt: str, choices: Sequence[str], count: int) -> tuple[str, tuple[str, ...], list[int]]:
    """A prompt and choices whose `<image 2>` are marks, and the images in the marks' order; all without any."""
    order: list[int] = []

    def mark(found: re.Match[str]) -> str:
        number = int(found[1]) - 1
        if not 0 <= number < count:
            return found[0]
        order.append(number)
        return "<image>"

    marked, options = _NUMBERED.sub(mark, prompt), tuple(_NUMBERED.sub(mark, choice) for choice in choices)
    return (marked, options, order) if order else (prompt, tuple(choices), list(range(count)))


def _make(
    row: Entry, images: tuple[Any, ...], prompt: str, answers: Sequence[str], metric: str, choices: Sequence[str] = ()
) -> Question:
    """A question with the row's own id, category and image."""
    own = next((row[name] for name in _ID if filled(row.get(name))), "")
    category = next((row[name] for name in _CATEGORY if filled(row.get(name))), "")
    image = next((row[name] for name in ("image_id", "imageId", "imgname", "image", "data_id")
                  if isinstance(row.get(name), str | int)), "")  # fmt: skip
    named = str(image) if len(str(image)) < 200 else ""
    answers = [as_letter(answer, choices) for answer in answers] if choices else answers
    return Question(
        id=str(own), images=images, prompt=prompt, answers=tuple(answers), metric=metric, choices=tuple(choices),
        category=str(category), cluster=named,
    )  # fmt: skip


def first(row: Entry, names: Sequence[str]) -> Any:
    """The value of the first of the columns that is there. Raises ValueError if none is."""
    found = next((row[name] for name in names if filled(row.get(name))), None)
    if found is None:
        raise ValueError(f"no column {' or '.join(names)}; it has {', '.join(map(str, row))}")
    return found


def filled(value: Any) -> bool:
    """Whether a cell holds something."""
    return value is not None and value != "" and value != [] and value == value  # NaN is not itself


def text(value: Any) -> str:
    """A value as text. Raises TypeError for one that is no text and no number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"{value!r} is no text")
    return str(value)


def texts(values: Any) -> tuple[str, ...]:
    """A list of texts, or one text. Raises TypeError for anything else."""
    if isinstance(values, str | int | float):
        return (text(values),)
    if not isinstance(values, list | tuple):
        raise TypeError(f"{values!r} is no list of texts")
    return tuple(text(value) for value in values)


def parsed(value: Any) -> Any:
    """A list that is written as Python or JSON writes it; any other text as it is."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    return value


def picture(value: Any) -> Any:
    """The bytes or the path of an image as `datasets` stores it."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if not isinstance(value, bytes | str):
        raise TypeError("an image is neither bytes nor a path")
    return value


LAYOUTS: Final[dict[str, Callable[[Entry], Question]]] = {
    "jsonl": jsonl, "vqa": vqa, "gqa": gqa, "textvqa": textvqa, "docvqa": docvqa, "chartqa": chartqa, "pope": pope,
    "mmbench": mmbench, "rows": rows, "seed": seed, "scienceqa": scienceqa,
}  # fmt: skip
"""By the name that `format` gives them."""
