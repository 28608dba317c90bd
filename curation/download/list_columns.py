"""A URL list's columns and values: the types that all its files fit into, and captions that are text."""

import json
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from mmcorpus.curation.download.config import CONVERSATIONS, DownloadConfig
from mmcorpus.curation.download.formats import ListError, ListFile, column_types, nested_type
from mmcorpus.curation.download.published import LAYOUTS
from mmcorpus.curation.store import storage


class BadValue(ValueError):
    """A value that is not what its column should hold; its text says why."""


def wanted_columns(config: DownloadConfig, file: ListFile) -> list[str]:
    """The columns to read of a file."""
    caption_col = None if file.kind == "txt" or config.published else config.caption_col
    more = [name for name in config.kept_columns if name != CONVERSATIONS] if config.published else config.kept_columns
    names = (config.url_col, caption_col, config.uid_col, *more, *config.where)
    told = LAYOUTS[config.published].columns if config.published else ()
    return list(dict.fromkeys(name for name in (*names, *told) if name))


def list_schema(config: DownloadConfig, files: Sequence[ListFile]) -> pa.Schema:
    """The list shards' columns; the additional ones in a type that holds what all files have in them.

    Raises ListError for files that lack columns or cannot be one source.
    """
    types: list[dict[str, Any]] = storage.threaded(lambda file: _types(config, file), files)
    pairs = list(zip(files, types, strict=True))
    there = [(file, found) for file, found in pairs if not file.empty] or pairs[:1]
    texts = [file.path for file, _ in there if file.kind == "txt" and config.caption_col]
    if texts and len(texts) < len(there):
        raise ListError(f"{texts[0]} is a list of URLs alone, and others have captions: lists with and without "
                        "captions cannot be one source; take it away, or make two sources of them")  # fmt: skip
    fields = [pa.field("uid", pa.string()), pa.field("url", pa.string())]
    fields += [pa.field("caption", pa.string())] if config.caption_col and not (texts or config.published) else []
    for name in config.kept_columns:
        if name == CONVERSATIONS and config.published:  # made of the others
            fields.append(pa.field(name, pa.string()))
            continue
        known = pa.null()
        for file, found in there:
            try:
                known = _common(known, found[name])
            except pa.ArrowTypeError:
                before = next((other.path for other, types in there if types[name] == known), there[0][0].path)
                raise ListError(
                    f"{file.path}: column {name!r} has another type ({found[name]}) than in {before} ({known}), and no "
                    "type holds both; write it in one type, or leave it out of save_additional_columns"
                ) from None
        fields.append(pa.field(name, pa.string() if pa.types.is_null(known) else known))
    return pa.schema(fields)


def _types(config: DownloadConfig, file: ListFile) -> dict[str, Any]:
    """The types of the wanted columns of a file."""
    wanted = wanted_columns(config, file)
    if file.kind == "txt" and len(wanted) > 1:
        raise ListError(
            f"{file.path}: a .txt list has URLs alone, no columns {wanted[1:]}; take them out of the config"
        )
    types = column_types(file, wanted)
    caption_col = config.caption_col
    if caption_col in wanted and (nested := nested_type(file, str(caption_col))):
        raise ListError(f"{file.path}: column {caption_col!r} holds {nested}, not text; give each caption a row of its "
                        "own (pandas: explode), or name another column as caption_col")  # fmt: skip
    return types


def _common(first: Any, second: Any) -> Any:
    """The type that holds two; raises ArrowTypeError where there is none."""
    fields = (pa.schema([("it", kind)]) for kind in (first, second))
    return pa.unify_schemas(list(fields), promote_options="permissive").field(0).type


def is_null(value: Any) -> bool:
    """True for null and for NaN, which pandas writes where there is nothing."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def caption_text(value: Any) -> str | None:
    """A caption's text, None where there is none. Raises BadValue for what is no text: a number is none, unless the
    file, as a CSV, knows text alone."""
    if isinstance(value, str):
        return as_text(value)
    if is_null(value):
        return None
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise BadValue("the caption is not UTF-8") from None
    if isinstance(value, list):
        raise BadValue(f"the caption is a list of {len(value)}, not text; give each caption a row of its own")
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        raise BadValue(f"the caption is the number {value}, not text")
    raise BadValue(f"the caption is of type {type(value).__name__}, not text")


def as_text(value: Any) -> str | None:
    """A value of a list as text that Arrow can hold: nested ones as JSON, lone surrogates as `?`."""
    if is_null(value):
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Decimal):
        return str(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
