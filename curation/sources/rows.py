"""Samples that are rows: of parquet, Arrow, JSON; which column is what is told by the config, else by the usual names.

So read are the layouts of The Cauldron and FineVision (`images`, `texts`), LLaVA-OneVision-Data (`image`,
`conversations`), LLaVA's, ShareGPT's and MAmmoTH-VL's JSON (`image`, a path or a list of them), chat `messages` whose
parts name their images, img2dataset's parquet (`jpg`, `caption`), PixMo-Cap (`image_url`, `caption`).
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import pyarrow as pa

from mmcorpus.curation.download.list_columns import BadValue, caption_text
from mmcorpus.curation.download.published import LAYOUTS, BadRow, annotated
from mmcorpus.curation.sources.config import USUAL, IndexConfig
from mmcorpus.curation.sources.found import (
    BAD_CAPTION,
    BAD_CONVERSATION,
    BAD_IMAGE,
    BAD_ROW,
    BadSample,
    Found,
    FoundImage,
    Where,
    check_count,
)
from mmcorpus.curation.sources.inputs import Part, SourceError
from mmcorpus.curation.sources.json_rows import Layout, Readable, read_rows
from mmcorpus.curation.sources.parts import (
    GEMINI,
    asked_turns,
    conversation_images,
    marks_image,
    question_columns,
)
from mmcorpus.curation.store.bare import SUCCESS
from mmcorpus.curation.store.json_values import json_value
from mmcorpus.curation.store.members import IMAGE_EXTENSIONS, own_uid
from mmcorpus.curation.store.named_files import state_of
from mmcorpus.curation.store.row_tables import binary_columns, image_values, open_table, rows_of

FILE_NAME: Final = "file_name"
MAX_TEXT: Final = 32 << 20
"""Bytes of a value of a table's row that is read, where it holds no images as bytes."""
_log = logging.getLogger(__name__)


def read_part(part: Part, config: IndexConfig, file: Readable | None) -> Iterator[Found]:
    """The rows of a part of a table, or of JSON, whose file is open (`inputs.open_json`).

    Raises:
        SourceError: the file has no column that could be a sample's.
        storage.Damaged: it cannot be read.
    """
    if file is None:
        yield from _of_table(part, config)
        return
    layout = cast(Layout, part.input.format)
    for row in read_rows(file, layout, (part.start, part.end or 0, part.rows)):
        yield Found(error=f"{BAD_ROW}: {row}") if isinstance(row, str) else _tried(row, config)


def _of_table(part: Part, config: IndexConfig) -> Iterator[Found]:
    path = part.input.path
    with open_table(path) as table:
        chosen = _columns(path, table.schema, config)
        state = state_of(path)
        used = [name for names in chosen.values() for name in names]
        others = [name for name in binary_columns(table.schema) if name not in used]
        if others and part.start == 0:
            _log.warning(
                "%s: no part of the samples, as columns of bytes that no `columns` names: %s", path, ", ".join(others)
            )
        wanted = [name for name in table.names if name not in others]
        # What a dictionary has once, any number of rows may have.
        texts = set(wanted) - {*chosen["image"], *binary_columns(table.schema)}
        limits = dict.fromkeys(sorted(texts), MAX_TEXT)
        for number, row in rows_of(table, wanted, part.start, part.end, limits=limits):
            if isinstance(row, str):
                yield Found(error=f"{BAD_ROW}: {row}")
                continue
            place = Where(root=part.input.root, file=part.input.file, state=state, row=number)
            yield _tried(row, config, chosen, place)


def _columns(path: str, schema: pa.Schema, config: IndexConfig) -> dict[str, list[str]]:
    """By role, the columns of a table that have it.

    Raises:
        SourceError: it lacks one that the config names, or has none with images and none with texts.
    """
    told = LAYOUTS[config.published].columns if config.published is not None else ()
    lacking = [name for name in (*config.columns.values(), *told) if name not in schema.names]
    if lacking:
        raise SourceError(f"{path} has no column {lacking[0]!r}; it has {', '.join(schema.names)}")
    there = {role: [name for name in usual if name in schema.names] for role, usual in USUAL.items()}
    there["image"] = [name for name in there["image"] if not _is_number(schema.field(name).type)]
    if config.kind == "conversation":
        there["image"] = [name for name in there["image"] if name != FILE_NAME]
    lists = [name for name in there["conversations"] if pa.types.is_nested(schema.field(name).type)]
    there["conversations"] = [name for name in there["conversations"] if name != GEMINI or name in lists]
    chosen = {role: [config.columns[role]] if role in config.columns else names[:1] for role, names in there.items()}
    if not chosen["image"]:
        chosen["image"] = [field.name for field in schema if _is_image(field.type)]
    if config.published is not None:
        return {**chosen, "caption": [], "conversations": list(told)}
    text = "caption" if config.kind == "pair" else "conversations"
    if not chosen[text] and config.kind == "conversation":
        chosen[text] = question_columns(schema.names)
    if not chosen[text] and (config.kind == "conversation" or not (chosen["image"] or chosen["url"])):
        raise SourceError(
            f"{path}: which column has the {text} is not clear; it has {', '.join(schema.names)}. Name it: "
            f"columns: {{{text}: COLUMN}}; and say the kind, pair or conversation (it is {config.kind})"
        )
    return chosen


def _ends_as_image(name: Any) -> bool:
    return isinstance(name, str) and name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS


def _is_number(kind: Any) -> bool:
    """Whether a type says how many images there are, not which."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _is_image(kind: Any) -> bool:
    """Whether a type is Hugging Face's of images, or a list of it."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return pa.types.is_struct(kind) and {kind.field(number).name for number in range(kind.num_fields)} == {
        "bytes",
        "path",
    }


def sample_of(row: dict[str, Any], config: IndexConfig, images: Sequence[FoundImage]) -> Found:
    """A row whose images are at hand, beside it."""
    return _tried(row, config, images=images)


def _tried(
    row: dict[str, Any],
    config: IndexConfig,
    chosen: Mapping[str, Sequence[str]] | None = None,
    place: Where | None = None,
    images: Sequence[FoundImage] = (),
) -> Found:
    try:
        return _found(row, config, chosen or _keys(row, config), place, images)
    except BadSample as error:
        return Found(error=str(error), url=_text(row.get("url")), meta=_plain(row, ()))


def _keys(row: Mapping[str, Any], config: IndexConfig) -> dict[str, list[str]]:
    """By role, the keys of a row of JSON that have it."""
    found = {}
    for role, usual in USUAL.items():
        if role in config.columns:
            names = [config.columns[role]]
        else:
            # A number is how many images there are, not which.
            names = [name for name in usual if role != "image" or not isinstance(row.get(name), int | float)]
            names = [name for name in names if name != FILE_NAME or _ends_as_image(row.get(name))]
            names = [name for name in names if name != GEMINI or isinstance(row.get(name), list)]
        found[role] = [name for name in names if row.get(name) is not None][:1]
    if config.kind == "conversation" and not found["conversations"] and "conversations" not in config.columns:
        found["conversations"] = question_columns([name for name, value in row.items() if value is not None])
    return found


def _found(
    row: dict[str, Any],
    config: IndexConfig,
    chosen: Mapping[str, Sequence[str]],
    place: Where | None,
    given: Sequence[FoundImage],
) -> Found:
    def value(role: str) -> Any:
        names = chosen[role]
        if len(names) > 1:
            return asked_turns(row, names)
        return row.get(names[0]) if names else None

    used = [name for names in chosen.values() for name in names]
    found = Found(key=_text(row.get("key", row.get("id"))), uid=own_uid(value("uid")), meta=_plain(row, used))
    status = row.get("status")
    if isinstance(status, str) and status != SUCCESS and "error_message" in row:  # img2dataset's rows that it failed at
        found.status, found.error = status, str(row["error_message"] or status)
    found.url = _text(value("url"))
    if config.kind == "pair":
        try:
            found.caption = caption_text(value("caption"))
        except BadValue as error:
            raise BadSample(BAD_CAPTION, error) from None
        found.conversations = value("conversations")
    said = value("conversations")
    if config.published is not None:
        found.url, said = None, {"annotations": _annotations(config.published, row)}
    images = [*given] or _row_images(row, chosen["image"], place)
    if config.kind == "conversation":
        found.conversations, named = conversation_images(_parsed(said))
        # Of a text the usual `url` is where it was found.
        asked = "url" in config.columns or marks_image(found.conversations)
        if not images and found.url is not None and asked and not any(named):
            images = [FoundImage(name=found.url)]
        check_count(len(named))
        if named:
            waiting = iter(images)
            images = [next(waiting, None) or FoundImage() if name is None else FoundImage(name=name) for name in named]
            images += list(waiting)
    elif not images and found.url is not None:
        images = [FoundImage(name=found.url)]
    found.images = images
    return found


def _annotations(layout: str, row: Mapping[str, Any]) -> Any:
    try:
        return annotated(layout, {name: row.get(name) for name in LAYOUTS[layout].columns})
    except BadRow as error:
        raise BadSample(BAD_CONVERSATION, error) from None


def _parsed(value: Any) -> Any:
    """A conversation that is kept as JSON's text."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json_value(value)
        except ValueError:
            return value
    return value


def _row_images(row: Mapping[str, Any], columns: Sequence[str], place: Where | None) -> list[FoundImage]:
    """The images of a row's columns; of a table each one's place is its number among these."""
    images = []
    try:
        values = [image for name in columns for image in image_values(row.get(name))]
    except ValueError as error:
        raise BadSample(BAD_IMAGE, error) from None
    check_count(len(values))
    for number, image in enumerate(values):
        if image.data is None:
            images.append(FoundImage(name=image.path))
            continue
        where = None
        if place is not None:
            where = Where(
                root=place.root, file=place.file, state=place.state, row=place.row, item=number, columns=tuple(columns)
            )
        images.append(FoundImage(read=_Held(image.data), where=where))
    return images


class _Held:
    """Bytes at hand."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __call__(self) -> bytes:
        return self._data


def _text(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() or None if isinstance(value, str) else None


def _plain(row: Mapping[str, Any], used: Sequence[str]) -> dict[str, Any]:
    """The other columns, but images, text that is no UTF-8, and numbers that are none."""
    return {
        name: value
        for name, value in row.items()
        if name not in used and not _holds_bytes(value) and not (isinstance(value, float) and math.isnan(value))
    }


def _holds_bytes(value: Any) -> bool:
    inside = value.values() if isinstance(value, Mapping) else value
    return isinstance(value, bytes) or (isinstance(value, list | tuple | Mapping) and any(map(_holds_bytes, inside)))
