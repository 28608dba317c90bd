"""Views: shards without tars whose rows are the nodes of placed documents, or the documents as they were trimmed."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.documents.locate import image_fields
from mmcorpus.curation.download import DownloadConfig
from mmcorpus.curation.engine.items import threaded
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import SUCCESS, VIEW_FILE, Level, Shard, list_shards, read_rows

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

_NODE_FIELDS: Final[list[Any]] = [
    *((name, pa.string()) for name in ("key", "uid", "status", "error_message", "document")),
    ("node", pa.int32()),
    *((name, pa.string()) for name in ("domain", "url", "caption")),
]
PARAGRAPHS: Final = pa.schema([*_NODE_FIELDS, ("tag", pa.string())])


def images_schema(download: DownloadConfig) -> pa.Schema:
    """The columns of the view of images: `image` is its number in the tar, `address` the uid of its address."""
    own: list[Any] = [("alt", pa.string()), ("address", pa.string()), ("image", pa.int32())]
    return pa.schema([*_NODE_FIELDS, *own, *image_fields(download)])


def view_root(placed: str, name: str) -> str:
    """The folder of a view of the documents in `placed`."""
    return f"{placed.rstrip('/')}.{name}"


def node_key(key: str, number: int) -> str:
    """The key of a node's row: of its document's key and its number in the document."""
    return f"{key}-{number:05d}"


def write_view_file(root: str, of: str, level: Level, **says: Any) -> None:
    """Say that the folder is a view of the folder `of`, which lies beside it."""
    if root.rstrip("/").rpartition("/")[0] != of.rstrip("/").rpartition("/")[0]:
        raise ValueError(f"{root} does not lie beside {of}, whose view it is to be")
    name = of.rstrip("/").rpartition("/")[2]
    storage.write_json(storage.join(root, VIEW_FILE), {"of": f"../{name}", "level": level, **says})


def write_rows(shard: Shard, rows: Sequence[dict[str, Any]], schema: pa.Schema) -> dict[str, Any]:
    """Commit a shard's parquet and the stats that count it; returns the stats."""
    storage.write_table(shard.parquet, pa.Table.from_pylist(list(rows), schema=schema))
    statuses = Counter(str(row["status"]) for row in rows)
    codes = Counter((row["error_message"] or SUCCESS).partition(":")[0] for row in rows)
    stats = {
        "count": len(rows),
        "successes": statuses.pop(SUCCESS, 0),
        "failed_to_download": statuses.pop("failed_to_download", 0),
        "failed_to_resize": statuses.pop("failed_to_resize", 0),
        **dict(sorted(statuses.items())),
        "status_dict": dict(sorted(codes.items())),
    }
    storage.write_json(shard.stats, stats)
    return stats


def count_codes(root: str) -> Counter[str]:
    """The rows of all committed shards by the code of their error, `success` for those without."""
    total: Counter[str] = Counter()
    for stats in threaded(lambda shard: storage.read_json(shard.stats), list_shards(root)):
        total.update(stats["status_dict"])
    return total


def download_ledger(root: str) -> pa.Table:
    """The ledger's stage `download` of the view of images: a row for each image node."""
    tables = threaded(lambda shard: read_rows(shard, ["uid", "error_message"]), list_shards(root))
    if not tables:
        return ledger.SCHEMA.empty_table()
    return ledger.verdicts_of(pa.concat_tables(tables), "download")
