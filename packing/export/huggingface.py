"""Parquet that Hugging Face `datasets` loads: `datasets.load_dataset(OUT)`, images in the rows.

`OUT/data/00000.parquet` and `OUT/README.md`, the card that says which files are the data. The columns are those of the
shards, with

pairs           image (struct of bytes and path), caption
conversations   images (list of these), conversations (list of structs of from and value)
documents       images and texts, parallel lists of which one is null at each place, as OBELICS' ones, but with the
                images themselves; metadata, JSON, what is known of each

The schema's metadata say of images that they are images, so that `datasets` decodes them.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import EncodedImage, Shard, read_schema
from mmcorpus.packing.export.items import Item, Kind, document_parts, kind_of, plain_json
from mmcorpus.packing.export.run import ItemExporter

DATA: Final = "data"
CARD: Final = "README.md"
IMAGE: Final = pa.struct({"bytes": pa.binary(), "path": pa.string()})
TURNS: Final = pa.list_(pa.struct({"from": pa.string(), "value": pa.string()}))
GROUP_BYTES: Final = 64 * 2**20
"""Of images in a row group: as much as a reader holds at a time."""
_NOT_ROWS: Final = frozenset(
    {"uid", "key", "status", "error_message", "caption", "conversations", "nodes", "copy", "image", "images", "texts"}
)
_COLUMNS: Final[dict[Kind, dict[str, Any]]] = {
    "pair": {"image": IMAGE, "caption": pa.string()},
    "text": {"image": IMAGE, "caption": pa.string()},
    "conversation": {"images": pa.list_(IMAGE), "conversations": TURNS},
    "document": {"images": pa.list_(IMAGE), "texts": pa.list_(pa.string()), "metadata": pa.string()},
}


@dataclass(frozen=True, kw_only=True)
class ParquetExporter(ItemExporter):
    """Writes it."""

    kind: ClassVar[str] = "parquet"
    holds: ClassVar[frozenset[Kind]] = frozenset({"pair", "conversation", "document", "text"})
    version: ClassVar[str] = "2"  # images without a mark open the first question

    schema: pa.Schema | None = field(default=None, repr=False)
    """Of the files, known once the shards have been seen (`prepare`)."""

    def prepare(self, out: str, shards: Sequence[Shard]) -> "ParquetExporter":
        schemas = storage.threaded(read_schema, shards)
        try:
            union = pa.unify_schemas([schema.remove_metadata() for schema in schemas], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(f"the shards' columns differ in type, and no type holds them all: {error}") from None
        kinds = set(storage.threaded(kind_of, shards))
        kind: Kind = "document" if "document" in kinds else "conversation" if "conversation" in kinds else "pair"
        columns = {"uid": pa.string(), **_COLUMNS[kind]}
        for told in union:
            if told.name not in _NOT_ROWS:
                columns[told.name] = pa.string() if pa.types.is_null(told.type) else told.type
        return replace(self, schema=with_features(pa.schema(columns)))

    def write(self, out: str, name: str, items: Iterator[Item]) -> None:
        assert self.schema is not None, "prepare it first"
        write_rows(storage.join(out, DATA, f"{name}.parquet"), self.schema, map(self._row, items))

    def _row(self, item: Item) -> tuple[dict[str, Any], int]:
        row = {**item.row, "uid": item.uid}
        size = sum(len(image.data) for image in item.images)
        if item.kind == "document":
            parts = list(document_parts(item))
            names = iter(name for name, _ in item.named_images())
            row["texts"] = [text for text, _, _ in parts]
            row["images"] = [None if image is None else struct(image, next(names)) for _, image, _ in parts]
            row["metadata"] = plain_json([known for _, _, known in parts])
        elif self.schema is not None and "images" in self.schema.names:
            row["images"] = [struct(image, name) for name, image in item.named_images()]
            row["conversations"] = item.llava()
        else:
            row["caption"] = item.caption
            row["image"] = next((struct(image, name) for name, image in item.named_images()), None)
        return row, size

    def finish(self, out: str, names: Sequence[str]) -> None:
        write_card(out)


def struct(image: EncodedImage, name: str) -> dict[str, Any]:
    """An image as `datasets` keeps it."""
    return {"bytes": image.data, "path": name}


def with_features(schema: pa.Schema) -> pa.Schema:
    """The schema with what `datasets` cannot tell by itself: which columns are images."""
    features: dict[str, Any] = {}
    for told in schema:
        if told.type == IMAGE:
            features[told.name] = {"_type": "Image"}
        elif told.type == pa.list_(IMAGE):
            features[told.name] = [{"_type": "Image"}]  # as its versions before 4 write lists, and all read
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write_rows(path: str, schema: pa.Schema, rows: Iterator[tuple[dict[str, Any], int]]) -> None:
    """Write rows, each with the bytes of its images, in row groups that a reader can hold.

    Raises ValueError, naming the column, for values that the schema does not hold.
    """
    with storage.atomic_write(path) as file, pq.ParquetWriter(file, schema, **storage.TABLE) as writer:
        waiting: list[dict[str, Any]] = []
        size = 0
        for row, more in rows:
            waiting.append(row)
            size += more
            if size >= GROUP_BYTES or len(waiting) >= 4096:
                writer.write_table(_table(waiting, schema))
                waiting, size = [], 0
        if waiting:
            writer.write_table(_table(waiting, schema))


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    columns = []
    for told in schema:
        values = [row.get(told.name) for row in rows]
        if pa.types.is_string(told.type):
            values = [plain_json(value) if isinstance(value, list | dict) else value for value in values]
        try:
            columns.append(pa.array(values, told.type))
        except (pa.ArrowException, TypeError, OverflowError) as error:
            said = f"column {told.name!r} is {told.type} in the shards' rows, and a sample's json says otherwise"
            raise ValueError(f"{said}: {error}") from None
    return pa.Table.from_arrays(columns, schema=schema)


def write_card(out: str, data: str = f"{DATA}/*.parquet") -> None:
    """The data set's card: which files are its data, whatever else lies in the folder."""
    text = f'---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: "{data}"\n---\n'
    storage.write_bytes(storage.join(out, CARD), text.encode())
