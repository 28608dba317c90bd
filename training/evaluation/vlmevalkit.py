"""Questions as VLMEvalKit reads data sets of one's own: a tsv of base64 images, and the class that judges it.

VLMEvalKit (open-compass/VLMEvalKit) looks for `NAME.tsv` in the folder that the environment variable LMUData names.
With columns A, B, … it is multiple choice; other questions need one of its classes, which chooses its metric by a
benchmark's name within that of the data set, so that the file's name ends in one: `NAME_ChartQA.tsv` is judged as
ChartQA is.
"""

import base64
import csv
import dataclasses
import io
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from PIL import Image, UnidentifiedImageError

from mmcorpus.curation.store import storage
from mmcorpus.packing.turns import IMAGE_MARK
from mmcorpus.training.evaluation.question import LETTERS, Picture, Question

_CLASSES: Final = {
    "choice": ("", "CustomMCQDataset"),
    "exact": ("_OCRVQA", "ImageVQADataset"),
    "vqa": ("_TextVQA", "ImageVQADataset"),
    "relaxed": ("_ChartQA", "ImageVQADataset"),
    "anls": ("_DocVQA", "ImageVQADataset"),
    "pope": ("_POPE", "ImageYORNDataset"),
}
"""By metric of ours the end of a data set's name that makes VLMEvalKit judge by the same, and its class."""
_RESERVED: Final = ("mmbench", "ccbench", "circular", "mmcr", "mmt", "mmsci", "mmvp", "openended", "video")
"""What in a name of multiple choice has VLMEvalKit judge otherwise (in circles, as a video, …)."""
_MISSING: Final = frozenset(
    {"#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
     "NaN", "None", "n/a", "nan", "null"}
)  # fmt: skip
"""Cells that pandas, by which VLMEvalKit reads, takes for empty."""
_KEPT: Final = "\N{NO-BREAK SPACE}"
"""Behind a cell it keeps pandas from reading it as empty or as a number."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WrittenTsv:
    """A data set that was written."""

    path: str
    name: str
    """For `--data`."""
    data_config: str
    """For `--data-config`, JSON."""
    questions: int
    left_out: dict[str, int]
    """By reason."""


def write_tsv(questions: Sequence[Question], folder: str, name: str) -> WrittenTsv:
    """Write `folder/NAME….tsv`, whose rows keep the questions' order; `id` holds theirs.

    Left out and counted are questions without an image, with one that cannot be read, or with several right choices.
    Raises ValueError for a name that VLMEvalKit takes for something else, and questions that are not all judged by one
    metric that it has.
    """
    metrics = sorted({question.metric for question in questions})
    if len(metrics) != 1 or metrics[0] not in _CLASSES:
        raise ValueError(
            f"the questions are judged by {', '.join(metrics)}; VLMEvalKit judges a file by one of "
            f"{', '.join(_CLASSES)}: take the questions of one (`only`), or say `metric`"
        )
    suffix, kind = _CLASSES[metrics[0]]
    whole = name + suffix
    _check_name(name, choice=not suffix)
    left_out, rows = Counter[str](), list[dict[str, Any]]()
    for question in questions:
        row = _row(question, len(rows))
        if isinstance(row, str):
            left_out[row] += 1
        else:
            rows.append(row)
    if not rows:
        raise ValueError(f"none of the {len(questions)} questions can be written: {dict(left_out)}")
    path = storage.join(folder, f"{whole}.tsv")
    storage.write_bytes(path, _table(rows).encode())
    config = json.dumps({whole: {"class": kind, "dataset": whole}})
    return WrittenTsv(path=path, name=whole, data_config=config, questions=len(rows), left_out=dict(left_out))


def _check_name(name: str, *, choice: bool) -> None:
    if not name or not all(letter.isalnum() or letter in "_-" for letter in name):
        raise ValueError(f"the name is {name!r}; give letters, digits, _ and -")
    ends = [suffix[1:].lower() for suffix, _ in _CLASSES.values() if suffix]
    taken = next((word for word in (*_RESERVED, *ends) if word in name.lower()), None)
    if taken is not None and (choice or taken in ends):
        raise ValueError(f"the name {name!r} holds {taken!r}, by which VLMEvalKit would judge otherwise; give another")


def _row(question: Question, index: int) -> dict[str, Any] | str:
    """A row, or the reason why there is none."""
    if not question.images:
        return "no image"
    if question.choices and len(question.answers) > 1:
        return "several right choices"
    try:
        images = [_encoded(image) for image in question.images]
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return "unreadable image"
    row = {
        "index": index,
        "image": images[0] if len(images) == 1 else repr(images),
        "question": _prompt(question),
        "answer": _answer(question),
        "category": question.category or "all",
        "id": question.id,
    }
    return row | dict(zip(LETTERS, question.choices, strict=False))


def _encoded(image: Picture) -> str:
    """Base64 of an image that Pillow can open; one whose text is short would be read as another row's number."""
    data = image if isinstance(image, bytes) else storage.read_bytes(image)
    with Image.open(io.BytesIO(data)) as opened:
        opened.verify()
    return base64.b64encode(data).decode()


def _prompt(question: Question) -> str:
    """The text; images stand before it, so that a mark of one of several becomes its number."""
    parts = question.prompt.split(IMAGE_MARK)
    if len(question.images) == 1:
        return "".join(parts).strip()
    marks = [f"<image {number}>" for number in range(1, len(parts))]
    return "".join(text + mark for text, mark in zip(parts, [*marks, ""], strict=True)).strip()


def _answer(question: Question) -> str:
    if question.metric == "choice":
        return question.answers[0]
    if question.metric == "pope":
        return question.answers[0].strip().capitalize()
    return repr(list(question.answers))


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a tsv that pandas gives back as they are."""
    choices = [letter for letter in LETTERS if any(letter in row for row in rows)]
    names = [*dict.fromkeys(name for row in rows for name in row if name not in choices), *choices]
    numeric = {name for name in (*choices, "question") if _numbers(rows, name)}
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, names, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    table.writeheader()
    for row in rows:
        table.writerow(
            {name: f"{value}{_KEPT}" if name in numeric or value in _MISSING else value for name, value in row.items()}
        )
    return text.getvalue()


def _numbers(rows: Sequence[dict[str, Any]], name: str) -> bool:
    """Whether pandas would read a column as numbers or truth values, and not give the texts back: 4 as 4.0, 04 as 4."""
    texts = [str(row[name]).strip() for row in rows if name in row]

    def is_number(text: str) -> bool:
        try:
            float(text)
        except ValueError:
            return text.lower() in ("true", "false")
        return True

    return bool(texts) and all(map(is_number, texts))
