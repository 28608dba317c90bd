"""A sample as exports write it: its images, and its caption, turns, or texts and images in order."""

import itertools
import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.store.places import MISSING_IMAGE, lost_images
from mmcorpus.curation.store.shards import SUCCESS, EncodedImage, Sample, Shard, read_rows, read_samples, read_schema
from mmcorpus.curation.store.views import Nodes, read_kept
from mmcorpus.packing.turns import IMAGE_MARK, count_marks, parse_conversation, with_marks

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

Kind = Literal["pair", "conversation", "document", "text"]
LLAVA_ROLES: Final = {"user": "human", "assistant": "gpt", "system": "system"}
BAD_CONVERSATION: Final = "bad_conversation"
_OF_SHARDS: Final = frozenset({"uid", "key", "caption", "conversations", "nodes", "status", "error_message", "copy"})
"""Of a sample's row, what is told in another place, or is of its shard alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A copy of a sample."""

    uid: str
    copy: int
    """From 0."""
    kind: Kind
    images: tuple[EncodedImage, ...]
    caption: str | None = None
    """Of a pair or text."""
    turns: tuple[tuple[str, str], ...] = ()
    """Of a conversation: role (`user`, `assistant`, `system`) and what is said, `<image>` where an image stands."""
    nodes: Nodes = field(default_factory=list)
    """Of a document, in page order: texts, and images by `image`, their place among `images`."""
    row: Mapping[str, Any] = field(default_factory=dict)
    """What else is known of it: `url`, `width`, `sha256`, …"""

    @property
    def key(self) -> str:
        """Its name: the uid, and of a second copy which it is."""
        return f"{self.uid}-{self.copy}" if self.copy else self.uid

    def named_images(self) -> Iterator[tuple[str, EncodedImage]]:
        """Each image with the name of its file: `uid.jpg`; of several `uid.000.jpg`, …"""
        for number, image in enumerate(self.images):
            place = f".{number:03d}" if len(self.images) > 1 or self.kind == "document" else ""
            yield f"{self.key}{place}.{image.extension}", image

    def llava(self) -> list[dict[str, str]]:
        """The turns as LLaVA writes them: where none marks the images, these open the first question, as they are
        packed. A caption is the answer to its image."""
        if self.kind == "conversation":
            turns = list(self.turns)
            marked = turns if count_marks(turns) else with_marks(turns, len(self.images))
            return [{"from": LLAVA_ROLES[role], "value": text} for role, text in marked]
        asked = "\n".join([IMAGE_MARK] * len(self.images))
        return [{"from": "human", "value": asked}, {"from": "gpt", "value": self.caption or ""}]


def kind_of(shard: Shard) -> Kind:
    """The kind of a shard's samples, by its columns: pairs where nothing else is said. A column `conversations`
    without any is what tables of several sources have of pairs."""
    schema = read_schema(shard)
    if "nodes" in schema.names:
        return "document"
    if "conversations" not in schema.names or pa.types.is_null(schema.field("conversations").type):
        return "pair"
    turns = read_rows(shard, ["conversations"])["conversations"]
    return "conversation" if turns.null_count < len(turns) else "pair"


def read_items(shard: Shard, counts: Mapping[str, int]) -> Iterator[Item | tuple[str, str]]:
    """The copies of a shard's samples, in its order; in place of one that cannot be exported its uid and a code.

    Args:
        counts: by uid, how many copies.

    Raises:
        tarfile.ReadError: the shard's tar is damaged.
        OSError: the tar lacks samples that the rows promise.
    """
    has_nodes = "nodes" in read_schema(shard).names
    nodes = {row["uid"]: found for row, found in read_kept(shard, counts)} if has_nodes else {}
    rows = _rows(shard, counts)
    left = dict(counts)
    for sample in read_samples(shard, set(rows)):
        times = left.pop(sample.uid, 0)  # a uid that stands twice in a tar is taken once
        if not times:
            continue
        if shard.references and lost_images(sample.meta, len(sample.images)):
            yield sample.uid, MISSING_IMAGE
            continue
        try:
            fields = _fields(sample, nodes)
        except ValueError:  # the plan of such a source says what is wrong with it
            yield sample.uid, BAD_CONVERSATION
            continue
        told = rows.get(sample.uid, sample.meta)
        row = {name: _finite(value) for name, value in told.items() if name not in _OF_SHARDS}
        for copy in range(times):
            yield Item(uid=sample.uid, copy=copy, row=row, **fields)
    if left:
        raise OSError(f"{shard.tar} lacks {len(left):,} samples of its rows, e.g. {next(iter(left))}")


def _rows(shard: Shard, uids: Collection[str]) -> dict[str, dict[str, Any]]:
    """By uid, the shard's rows, whose values have types that a json has no words for."""
    rows = read_rows(shard)
    kept = pc.and_(
        pc.equal(rows["status"], SUCCESS), pc.is_in(rows["uid"], value_set=pa.array(list(uids), pa.string()))
    )
    return {row["uid"]: row for row in rows.filter(kept).to_pylist()}


def _finite(value: Any) -> Any:
    """JSON has no word for what is no number, or infinite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _fields(sample: Sample, nodes: Mapping[str, Nodes]) -> dict[str, Any]:
    if sample.uid in nodes:
        numbers = itertools.count()
        ordered = [{**node, "image": next(numbers)} if "image" in node else node for node in nodes[sample.uid]]
        kept = [node for node in ordered if "text" in node or "image" in node]
        return {"kind": "document", "images": sample.images, "nodes": kept}
    if (turns := sample.meta.get("conversations")) is not None:
        return {"kind": "conversation", "images": sample.images, "turns": tuple(parse_conversation(turns))}
    return {"kind": "pair" if sample.images else "text", "images": sample.images, "caption": sample.caption}


def document_parts(item: Item) -> Iterator[tuple[str | None, EncodedImage | None, dict[str, Any]]]:
    """Of each node of a document its text or its image, and what is known of it."""
    for node in item.nodes:
        if "text" in node:
            yield node["text"], None, {"tag": node["tag"]} if "tag" in node else {}
        else:
            yield None, item.images[node["image"]], {name: node[name] for name in sorted(node) if name != "image"}


def plain_json(value: Any) -> str:
    """JSON text, lone surrogates as `?`."""
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace").decode()
