"""Questions from a file or folder: our JSONL, shards of a corpus, and benchmarks as they are published (`layouts.py`).

Which it is, is told by what the file holds, never by its name. Images are named by path within one folder, lie in the
row, or are base64: nothing is fetched.
"""

import base64
import binascii
import csv
import dataclasses
import hashlib
import io
import itertools
import json
import posixpath
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from mmcorpus.curation.selection.tables import read_selection
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import Sample, list_shards, read_samples
from mmcorpus.packing.chat import ANSWERS, Turns
from mmcorpus.packing.render import COUNTS, POINTING, Annotation, RenderConfig, parse_annotations, render
from mmcorpus.packing.turns import IMAGE_MARK, parse_conversation
from mmcorpus.training.evaluation.config import EvaluationConfig
from mmcorpus.training.evaluation.layouts import LAYOUTS, Entry
from mmcorpus.training.evaluation.metrics import check, count_of
from mmcorpus.training.evaluation.points import read_mask
from mmcorpus.training.evaluation.question import Picture, Question

_ENCODED: Final = re.compile(r"(?:data:image/[a-z+.-]+;base64,)?([A-Za-z0-9+/\s]{64,}={0,2})")
_ROWS: Final = 64
_METRICS: Final = {POINTING: "points", COUNTS: "count"}
"""By an annotation's style; of others texts are judged by cider, answers by exact."""
_CELL: Final = 1 << 28
"""Characters of a tsv's cell, at most: an image in base64."""


def read_questions(data: str, config: EvaluationConfig, *, selection: str | None = None) -> list[Question]:
    """The questions of a file, or of a folder of shards or parquet files, in its order; `limit` draws some.

    `selection`: of shards, only the samples that it lists. Raises FileNotFoundError, or ValueError naming file, entry
    and what is wrong with it.
    """
    if not storage.exists(data) and not storage.list_names(data):
        raise FileNotFoundError(f"there is nothing at {data}; give a file of questions or a folder of shards")
    wanted = None if selection is None else set(read_selection(selection)["uid"].to_pylist())
    questions = list(_numbered(_questions(data, config, wanted), data, config))
    if not questions:
        raise ValueError(f"{data} holds no questions")
    if config.limit is not None and config.limit < len(questions):
        drawn = sorted(random.Random(config.seed).sample(range(len(questions)), config.limit))
        questions = [questions[number] for number in drawn]
    return questions


def _numbered(found: Iterator[Question], data: str, config: EvaluationConfig) -> Iterator[Question]:
    """Questions with the config's metric and categories, an id each, and images within the folder."""
    names = {name: re.compile(pattern) for name, pattern in config.categories.items()}
    only = re.compile(config.only or "")
    seen: dict[str, int] = {}
    for number, question in enumerate(found):
        if not only.search(question.prompt):
            continue
        own = question.id or str(number)
        seen[own] = seen.get(own, 0) + 1
        category = question.category
        if names:
            category = next((name for name, pattern in names.items() if pattern.search(question.prompt)), "other")
        if config.by_count:
            category = f"{count_of(question.answers[0]) or 0:g}"
        made = dataclasses.replace(
            question,
            id=own if seen[own] == 1 else f"{own}#{seen[own]}",
            metric=config.metric or question.metric,
            category=category,
            cluster=question.cluster or own,
        )
        try:
            check(made)
        except ValueError as error:
            raise ValueError(f"{data}: question {made.id}: {error}") from None
        yield made


def _questions(data: str, config: EvaluationConfig, wanted: set[str] | None) -> Iterator[Question]:
    if config.format == "shards" or (config.format == "auto" and list_shards(data)):
        for shard in list_shards(data):
            for sample in read_samples(shard, wanted):
                yield from _of_sample(sample, config.render)
        return
    files = [storage.join(data, name) for name in storage.list_names(data)] or [data]
    for file in sorted(file for file in files if len(files) == 1 or file.endswith((".parquet", ".jsonl", ".tsv"))):
        folder = config.images if config.images is not None else posixpath.dirname(file)
        for number, (layout, row) in enumerate(_entries(file, config)):
            try:
                question = LAYOUTS[layout](row)
                images = tuple(_image(folder, image) for image in question.images)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                told = f"no {error}" if isinstance(error, KeyError) else str(error)
                raise ValueError(f"{file}, entry {number + 1}, read as {layout}: {told}") from None
            yield dataclasses.replace(question, images=images)


def _of_sample(sample: Sample, config: RenderConfig) -> Iterator[Question]:
    """Of a conversation each of its questions, alone; of annotations each as `config` asks for it; of a pair its
    caption (CIDEr)."""
    images = tuple(image.data for image in sample.images)
    said = sample.meta.get("conversations")
    annotations = parse_annotations(said) if said else None
    if annotations is not None:
        yield from _of_annotations(sample.uid, images, annotations, config)
        return
    turns = parse_conversation(said) if said else None
    if turns is None:
        if sample.caption:
            yield Question(id=sample.uid, images=images, prompt="", answers=(sample.caption,), metric="cider",
                           cluster=sample.uid)  # fmt: skip
        return
    for number, ((role, asked), (other, said)) in enumerate(itertools.pairwise(turns)):
        if role == "user" and other == ANSWERS:
            prompt = asked.replace(IMAGE_MARK, "").strip() if len(images) <= 1 else asked
            yield Question(id=f"{sample.uid}.{number // 2}", images=images, prompt=prompt, answers=(said,),
                           metric="exact", cluster=sample.uid)  # fmt: skip


def _of_annotations(
    uid: str, images: tuple[bytes, ...], annotations: Sequence[Annotation], config: RenderConfig
) -> Iterator[Question]:
    """Each annotation's questions, alone, in all styles that it may have, as the packs' rendering puts them, drawn by
    uid and place; the category is the style."""
    styled = [
        dataclasses.replace(one, style=style, turns=list(turns))
        for one in annotations
        if config.draw.get(one.style) != 0
        for style in config.restyle.get(one.style, (one.style,))
        for turns in _alone(one)
    ]
    whole = dataclasses.replace(config, restyle={}, draw={}, shuffle=False)
    for number, one in enumerate(styled):
        word = int.from_bytes(hashlib.blake2b(f"{uid}.{number}".encode(), digest_size=8).digest(), "big")
        (branch,) = render([one], whole, word)
        text = one.points is None and len(one.turns) == 1
        (_, asked), (_, answer) = branch.turns
        yield Question(
            id=f"{uid}.{number}", images=images, prompt=asked, answers=(answer,),
            metric=_METRICS.get(branch.style, "cider" if text else "exact"), category=branch.style, cluster=uid,
            masks=tuple(map(read_mask, one.masks)) if branch.style == POINTING else (),
        )  # fmt: skip


def _alone(annotation: Annotation) -> Iterator[Turns]:
    """Of a conversation each question with its answer; of points and texts what there is."""
    if len(annotation.turns) < 2:
        yield annotation.turns
    for first, second in itertools.pairwise(annotation.turns):
        if (first[0], second[0]) == ("user", ANSWERS):
            yield [first, second]


def _image(folder: str, image: Picture) -> Picture:
    """An image's bytes, or its path within the folder; ValueError for one that points elsewhere."""
    if isinstance(image, bytes):
        return image
    encoded = _ENCODED.fullmatch(image.strip())
    if encoded:
        try:
            return base64.b64decode(encoded[1], validate=False)
        except binascii.Error:
            pass  # a long name, then
    if "://" in image or posixpath.isabs(image) or ".." in image.replace("\\", "/").split("/"):
        raise ValueError(f"the image {image[:200]!r} is not a path within the images' folder; set `images` to it")
    return storage.join(folder, image)


def _entries(file: str, config: EvaluationConfig) -> Iterator[tuple[str, Entry]]:
    """(layout, row) of each entry of a file."""
    head = storage.read_bytes(file, 0, 4)
    if head == b"PAR1":
        yield from (("rows", row) for row in _parquet(file))
        return
    text = _text(file)
    opening = text.lstrip()[:1]
    if opening not in ("{", "["):
        yield from ((_said(config, "mmbench"), row) for row in _table(text, file))
        return
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None  # a document a line, then
    except RecursionError:
        raise ValueError(f"{file} is nested too deeply to be a file of questions") from None
    if whole is None or _row_layout(whole) is not None:
        lines = [line for line in text.splitlines() if line.strip()]
        rows = (_line(file, number, line) for number, line in enumerate(lines, 1))
        yield from ((_said(config, _kind_of(row, file)), row) for row in rows)
        return
    yield from ((_said(config, layout), row) for layout, row in _document(whole, file, config))


def _said(config: EvaluationConfig, told: str) -> str:
    return told if config.format in ("auto", "shards") else config.format


def _document(whole: Any, file: str, config: EvaluationConfig) -> Iterator[tuple[str, Entry]]:
    """The entries of one JSON document, joined with what stands elsewhere in it or in `annotations`."""
    if isinstance(whole, dict) and isinstance(whole.get("questions"), list):
        if whole["questions"] and "choice_a" in whole["questions"][0]:
            kinds = {number: name for name, number in whole.get("question_type", {}).items()}
            for row in whole["questions"]:
                if row.get("data_type", "image") == "image":
                    yield "seed", {**row, "question_type": kinds.get(row.get("question_type_id"), "")}
            return
        yield from (("vqa", row) for row in _annotated(whole, file, config))
        return
    if isinstance(whole, dict) and isinstance(whole.get("data"), list):
        for row in whole["data"]:
            document = "docId" in row or "image_local_name" in row or "questionId" in row
            yield ("docvqa" if document else "textvqa"), row
        return
    if isinstance(whole, dict):
        for name, row in whole.items():
            if not isinstance(row, dict):
                raise ValueError(f"{file} is a JSON object whose {name!r} is no question; see docs/evaluation.md")
            yield ("scienceqa" if "choices" in row else "gqa"), {"id": name, **row}
        return
    for row in whole:
        yield _kind_of(row, file), row


def _annotated(whole: Mapping[str, Any], file: str, config: EvaluationConfig) -> Iterator[Entry]:
    """VQAv2's questions with the answers of its other file."""
    if config.annotations is None:
        raise ValueError(f"{file} has questions without answers; name the file of answers by `annotations`")
    answers = {row["question_id"]: row for row in json.loads(_text(config.annotations))["annotations"]}
    for row in whole["questions"]:
        if row["question_id"] not in answers:
            raise ValueError(f"{config.annotations} has no answers to the question {row['question_id']}")
        yield {"data_subtype": whole.get("data_subtype", "val2014"), **answers[row["question_id"]], **row}


def _kind_of(row: Any, file: str) -> str:
    """The layout of a row of a list or of lines, by its keys."""
    if not isinstance(row, dict):
        raise ValueError(f"{file}: an entry is {type(row).__name__}, not an object")
    return _row_layout(row) or ("jsonl" if "prompt" in row else "rows")


def _row_layout(row: Any) -> str | None:
    """The layout of which an object is one row; None for all others."""
    layouts = (("jsonl", {"prompt", "answers"}), ("chartqa", {"imgname", "query", "label"}),
               ("pope", {"image", "text", "label"}))  # fmt: skip
    keys = set(row) if isinstance(row, dict) else set()
    return next((layout for layout, needed in layouts if needed <= keys), None)


def _line(file: str, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}, line {number}: no JSON: {error}") from None


def _text(file: str) -> str:
    try:
        return storage.read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is neither text nor parquet: {error}") from None


def _table(text: str, file: str) -> Iterator[Entry]:
    """Rows of a tsv; one whose image is another row's number has that row's image, as in MMBench."""
    before = csv.field_size_limit(_CELL)
    try:
        table = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t")
        rows, columns = list(table), table.fieldnames or ()
    except csv.Error as error:
        raise ValueError(f"{file} is no tsv: {error}") from None
    finally:
        csv.field_size_limit(before)
    if "question" not in columns:
        raise ValueError(f"{file} is not JSON, parquet, or a tsv with a column `question`: it cannot be read")
    images = {row.get("index"): row.get("image") for row in rows}
    for row in rows:
        named = row.get("image")
        cluster = named if named in images and named is not None else row.get("index")
        yield {**row, "image": images.get(named, named), "image_id": cluster}


def _parquet(file: str) -> Iterator[Entry]:
    with storage.open_parquet(file) as opened:
        for batch in opened.iter_batches(batch_size=_ROWS):
            yield from batch.to_pylist()
