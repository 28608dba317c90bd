"""Documents with images, written as the extract stage writes them, and their images, as the download stage does."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from mmcorpus.curation.download import DownloadConfig
from mmcorpus.curation.download.resize import UprightResizer
from mmcorpus.curation.download.writer import SampleWriter, keys_of, shard_name
from mmcorpus.curation.html.nodes import ImageNode, Node, TextNode, to_json
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.curation.store.shards import Shard
from mmcorpus.curation.store.uid import document_uid

DOWNLOAD = DownloadConfig(image_size=64, number_sample_per_shard=4)
COLUMNS = pa.schema(
    {
        **dict.fromkeys(("key", "uid", "status", "error_message", "url", "domain", "date", "file"), pa.string()),
        "offset": pa.int64(),
        "length": pa.int64(),
        **dict.fromkeys(("charset", "language", "title", "opt_out", "nodes"), pa.string()),
        **dict.fromkeys(("texts", "images", "words"), pa.int32()),
    }
)


def picture(seed: int, width: int = 40, height: int = 30, image_format: str = "JPEG") -> bytes:
    """An encoded image of its own noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format)
    return buffer.getvalue()


def text(words: str, tag: str = "p") -> TextNode:
    return TextNode(text=words, tag=tag)


def image(name: str, **more: Any) -> ImageNode:
    return ImageNode(url=name if ":" in name else f"http://img.test/{name}", **more)


def page(url: str, *nodes: Node, **more: Any) -> dict[str, Any]:
    """A row of extracted documents."""
    return {
        "uid": document_uid(url, more.pop("digest", "")),
        "status": "success",
        "url": url,
        "domain": url.split("/")[2],
        "date": "2024-01-01T00:00:00Z",
        "nodes": to_json(nodes),
        "texts": sum(isinstance(node, TextNode) for node in nodes),
        "images": sum(isinstance(node, ImageNode) for node in nodes),
        **more,
    }


def write_documents(root: str, shards: Sequence[Sequence[Mapping[str, Any]]]) -> None:
    """`root/000000000.parquet …` with their stats."""
    for number, pages in enumerate(shards):
        shard = Shard(root=root, name=f"{number:09d}")
        rows = [{**row, "key": f"{shard.name}{place:05d}"} for place, row in enumerate(pages)]
        storage.write_table(shard.parquet, pa.Table.from_pylist(rows, schema=COLUMNS))
        good = sum(row["status"] == "success" for row in rows)
        storage.write_json(shard.stats, {"count": len(rows), "successes": good, "status_dict": {"success": good}})


def write_captures(scores: str, shard: str, ranks: Sequence[tuple[str, int | None]]) -> None:
    """The table `capture` of a shard: uid and rank, in the shard's order."""
    table = pa.table({"uid": [uid for uid, _ in ranks], "rank": pa.array([rank for _, rank in ranks], pa.int32())})
    write_scores(scores, shard, table, Origin(scorer="capture", version="1", fingerprint=repr(ranks)))


def fetch(listed: str, out: str, bodies: Mapping[str, bytes | str], config: DownloadConfig = DOWNLOAD) -> None:
    """The download of a list: `bodies` gives the response or the error of an address; the rest is 404."""
    names = [name for name in storage.list_names(listed) if name.endswith(".parquet")]
    rows = [row for name in names for row in storage.read_table(storage.join(listed, name)).to_pylist()]
    assert rows == sorted(rows, key=lambda row: row["uid"])
    resize = UprightResizer(config)
    size = config.number_sample_per_shard
    fields = [("uid", pa.string()), ("url", pa.string()), ("pages", pa.int64()), ("places", pa.int64()),
              *((name, pa.string()) for name in ("key", "status", "error_message")),
              *((name, pa.int32()) for name in ("width", "height", "original_width", "original_height")),
              ("sha256", pa.string())]  # fmt: skip
    for number, start in enumerate(range(0, len(rows), size)):
        part = rows[start : start + size]
        shard = Shard(root=out, name=shard_name(number))
        writer = SampleWriter(shard, pa.schema(fields))
        for key, row in zip(keys_of(number, range(len(part)), size), part, strict=True):
            body = bodies.get(row["url"], "http_404: Not Found")
            data, meta = None, {**row, "key": key, "status": "failed_to_download", "error_message": body}
            facts: dict[str, Any] = {"final_url": row["url"]}
            if isinstance(body, bytes):
                data, width, height, original_width, original_height, error = resize(body, "", facts)
                meta |= {"width": width, "height": height, "original_width": original_width}
                meta |= {"original_height": original_height, "sha256": hashlib.sha256(body).hexdigest()}
                meta |= {"status": "failed_to_resize" if error else "success", "error_message": error}
                facts["original_bytes"] = len(body)
            writer.write(data, {**meta, **facts})
        writer.close()
        stats = storage.read_json(shard.stats)  # made by the same bytes each time, whatever the clock says
        storage.write_json(shard.stats, stats | {"duration": 0.0, "start_time": 0.0, "end_time": 0.0})


def rows_of(root: str) -> list[dict[str, Any]]:
    """All rows of the shards under a folder, in order."""
    names = [name for name in storage.list_names(root) if name.endswith(".parquet")]
    return [row for name in names for row in storage.read_table(storage.join(root, name)).to_pylist()]


def nodes_of(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    return json.loads(row["nodes"])


def ledger_of(path: str) -> dict[str, tuple[str | None, str | None]]:
    """By uid, the rule and the value."""
    return {row["uid"]: (row["rule"], row["value"]) for row in storage.read_table(path).to_pylist()}
