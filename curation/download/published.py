"""PixMo's published rows as annotations of their images (Molmo, arXiv 2409.17146, §2; allenai/molmo's
`pixmo_datasets.py`), in the form that packs read as branches (`packing/render.py`).

| layout | columns of the published parquet, beside `image_url` and mostly `image_sha256` |
|---|---|
| pixmo-cap | caption, transcripts |
| pixmo-points | label, points (x and y in per cent), collection_method |
| pixmo-points-eval | as pixmo-points, with masks: of each point, the pixels of its thing, true or false |
| pixmo-count | label, points (x and y in pixels; null in its test sets), count |
| pixmo-ask-model-anything | question, answer |
| pixmo-cap-qa | messages (question, answer, question, …) |
| pixmo-point-explanations | question, parsed_response (with <\\|POINT\\|>), points, inline_text, alt_text |
| pixmo-docs-charts, -tables, -diagrams, -other | questions (question, answer), and the image itself |
| pixmo-clocks | text; the images are facer.io's and not published: a column `image` is what one has rendered |

Labels are in lower case, as Molmo writes them.
"""

import functools
import html
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np

Published = Literal[
    "pixmo-cap",
    "pixmo-points",
    "pixmo-points-eval",
    "pixmo-count",
    "pixmo-ask-model-anything",
    "pixmo-cap-qa",
    "pixmo-point-explanations",
    "pixmo-docs-charts",
    "pixmo-docs-tables",
    "pixmo-docs-diagrams",
    "pixmo-docs-other",
    "pixmo-clocks",
]
POINT: Final = "<|POINT|>"
"""Stands for points in the answers of pixmo-point-explanations."""
PIXELS: Final = "pixels"
"""An annotation's points before the image's size is known."""
_CLOCK: Final = "What time is being shown?"


class BadRow(ValueError):
    """Why a published row says nothing of its image."""


Row = Mapping[str, Any]
Annotations = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A published layout: the columns that it has, and what they say of the image."""

    columns: tuple[str, ...]
    annotate: Callable[[Row], Annotations]
    """Raises BadRow for a row that says nothing, or cannot be read."""


def _cap(row: Row) -> Annotations:
    spoken = _listed(row["transcripts"], "transcripts") if row["transcripts"] is not None else []
    found: Annotations = [{"style": "long_caption", "text": row["caption"]}] if _is_text(row["caption"]) else []
    found += [{"style": "transcript", "text": text} for text in spoken if _is_text(text)]
    if not found:
        raise BadRow("it has neither a caption nor a transcript")
    return found


def _points(row: Row) -> Annotations:
    pairs = [[point["x"], point["y"]] for point in _records(row["points"], "points")]
    return [{"style": "pointing", "label": _label(row), "points": _within(pairs)}]


def _masked(row: Row) -> Annotations:
    (said,) = _points(row)
    masks = [_run_lengths(mask) for mask in _listed(row["masks"], "masks")] if said["points"] else []
    if len(masks) != len(said["points"]):
        raise BadRow(f"it has {len(said['points'])} points and {len(masks)} masks")
    return [{**said, "masks": masks}]


def _run_lengths(mask: Any) -> dict[str, list[int]]:
    """COCO's uncompressed RLE of a mask's rows: how many pixels, down the columns from the left, are outside, then
    inside, and so on."""
    pixels = np.array(mask, dtype=bool)
    if pixels.ndim != 2 or not pixels.size:
        raise BadRow("a mask is no rows of true and false, as many in each")
    flat = np.concatenate([[False], pixels.T.reshape(-1)])
    turns = np.flatnonzero(flat[1:] != flat[:-1]).tolist()
    counts = [after - before for before, after in itertools.pairwise([0, *turns, pixels.size])]
    return {"size": list(pixels.shape), "counts": counts}


def _count(row: Row) -> Annotations:
    label = _label(row)
    if row["points"] is None:  # of the sets to evaluate on
        if not isinstance(row["count"], int):
            raise BadRow("it has neither points nor a count")
        return [{"style": "point_count", "question": f"How many {label} are there?", "answer": str(row["count"])}]
    pairs = [[point["x"], point["y"]] for point in _records(row["points"], "points")]
    if not all(_is_number(part) and part >= 0 for pair in pairs for part in pair):
        raise BadRow(f"its points are no places in pixels: {pairs!r:.200}")
    return [{"style": "pointing", "label": label, PIXELS: pairs}]


def _asked(row: Row) -> Annotations:
    return [{"style": "user_qa", "question": _text(row, "question"), "answer": _text(row, "answer")}]


def _conversed(row: Row) -> Annotations:
    said = _listed(row["messages"], "messages")
    if len(said) < 2 or not all(map(_is_text, said)):
        raise BadRow("its messages are no texts, a question and an answer at least")
    turns = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(said)]
    return [{"style": "synthetic_qa", "messages": turns}]


def _explained(row: Row) -> Annotations:
    answer = _text(row, "parsed_response")
    points, inline, alt = (_listed(row[name], name) for name in ("points", "inline_text", "alt_text"))
    if not len(points) == len(inline) == len(alt) == answer.count(POINT):
        raise BadRow(f"it has {answer.count(POINT)} marks {POINT}, {len(points)} points and {len(alt)} texts to them")
    for group, text, title in zip(points, inline, alt, strict=True):
        pairs = _within([[point["x"], point["y"]] for point in _records(group, "points")])
        answer = answer.replace(POINT, _pointed(pairs, str(text), str(title)), 1)
    return [{"style": "point_qa", "question": _text(row, "question"), "answer": answer}]


def _documented(style: str, row: Row) -> Annotations:
    pairs = _records(row["questions"], "questions")
    if not pairs:
        raise BadRow("it has no questions")
    return [{"style": style, "question": _text(pair, "question"), "answer": _text(pair, "answer")} for pair in pairs]


def _clock(row: Row) -> Annotations:
    return [{"style": "clocks", "question": _CLOCK, "answer": _text(row, "text")}]


LAYOUTS: Final[dict[str, Layout]] = {
    "pixmo-cap": Layout(columns=("caption", "transcripts"), annotate=_cap),
    "pixmo-points": Layout(columns=("label", "points"), annotate=_points),
    "pixmo-points-eval": Layout(columns=("label", "points", "masks"), annotate=_masked),
    "pixmo-count": Layout(columns=("label", "points", "count"), annotate=_count),
    "pixmo-ask-model-anything": Layout(columns=("question", "answer"), annotate=_asked),
    "pixmo-cap-qa": Layout(columns=("messages",), annotate=_conversed),
    "pixmo-point-explanations": Layout(
        columns=("question", "parsed_response", "points", "inline_text", "alt_text"), annotate=_explained
    ),
    **{
        f"pixmo-docs-{kind}": Layout(
            columns=("questions",), annotate=functools.partial(_documented, f"pixmo_docs_{kind}")
        )
        for kind in ("charts", "tables", "diagrams", "other")
    },
    "pixmo-clocks": Layout(columns=("text",), annotate=_clock),
}
"""By the name that a source gives."""
assert set(LAYOUTS) == set(get_args(Published))


def annotated(layout: str, row: Row) -> Annotations:
    """What a published row says of its image. Raises BadRow for one that cannot be read, saying why."""
    try:
        return LAYOUTS[layout].annotate(row)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, BadRow):
            raise
        raise BadRow(f"it is no row of {layout}: {type(error).__name__}: {error}") from None


def conversation(annotations: Sequence[Mapping[str, Any]]) -> str:
    """Annotations of one image as the text of the column `conversations`."""
    return json.dumps({"annotations": list(annotations)}, ensure_ascii=False)


def in_per_cent(text: str | None, width: int, height: int) -> str | None:
    """A conversation whose points in pixels of the image as it arrived, upright, are in per cent of its sides."""
    if text is None or f'"{PIXELS}"' not in text:
        return text
    given = json.loads(text)
    for one in given["annotations"]:
        if PIXELS in one:
            one["points"] = [[round(100 * x / width, 3), round(100 * y / height, 3)] for x, y in one.pop(PIXELS)]
    return conversation(given["annotations"])


def _pointed(pairs: Sequence[Sequence[float]], text: str, title: str) -> str:
    """Points within an answer, as Molmo's `points_to_text` writes them."""
    placed = sorted((round(x, 1), round(y, 1)) for x, y in pairs)
    alt = html.escape(title)
    if len(placed) == 1:
        return f'<point x="{placed[0][0]:.1f}" y="{placed[0][1]:.1f}" alt="{alt}">{text}</point>'
    places = " ".join(f'x{number}="{x:.1f}" y{number}="{y:.1f}"' for number, (x, y) in enumerate(placed, start=1))
    return f'<points {places} alt="{alt}">{text}</points>'


def _listed(value: Any, name: str) -> list[Any]:
    """A list, or the JSON of one."""
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, list):
        raise BadRow(f"its {name} are no list")
    return value


def _records(value: Any, name: str) -> list[dict[str, Any]]:
    """A list of objects, also where a table has it as an object of lists (Hugging Face's `Sequence`)."""
    if isinstance(value, str):
        value = json.loads(value)
    if isinstance(value, Mapping):
        parts = {key: _listed(part, name) for key, part in value.items()}
        if len({len(part) for part in parts.values()}) > 1:
            raise BadRow(f"the parts of its {name} are not as many")
        value = [dict(zip(parts, each, strict=True)) for each in zip(*parts.values(), strict=True)]
    return _listed(value, name)


def _within(pairs: list[list[Any]]) -> list[list[float]]:
    if not all(_is_number(part) and 0 <= part <= 100 for pair in pairs for part in pair):
        raise BadRow(f"its points are not within 0 to 100 per cent: {pairs!r:.200}")
    return pairs


def _label(row: Row) -> str:
    return _text(row, "label").lower()


def _text(row: Row, name: str) -> str:
    if not _is_text(row[name]):
        raise BadRow(f"its {name} is no text")
    text: str = row[name]
    return text


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
