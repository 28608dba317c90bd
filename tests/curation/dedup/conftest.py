"""Sources made of rows alone: what deduplication reads of a shard is its parquet."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmcorpus.curation.dedup.sources import Source
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.uid import pair_uid

Write = Callable[..., Source]


@pytest.fixture
def write_source(tmp_path: Path) -> Write:
    """`write(name, captions, per_shard=…, **columns)`: a source with those captions, cut into shards."""

    def write(name: str, captions: Sequence[Any], *, per_shard: int = 50, root: str = "", **columns: Any) -> Source:
        at = root or str(tmp_path)
        source = Source(name=name, shards=storage.join(at, "shards", name), scores=storage.join(at, "scores", name))
        for number, start in enumerate(range(0, max(1, len(captions)), per_shard)):
            rows = range(start, min(start + per_shard, len(captions)))
            table = {
                "uid": [pair_uid(f"{name}/{row}", str(captions[row])) for row in rows],
                "key": [f"{row:09d}" for row in rows],
                "status": ["success" for _ in rows],
                "url": [f"http://{name}.test/{row}" for row in rows],
                "caption": pa.array([captions[row] for row in rows], pa.string()),
                **{column: pa.array([values[row] for row in rows]) for column, values in columns.items()},
            }
            storage.write_table(storage.join(source.shards, f"{number:05d}.parquet"), pa.table(table))
            storage.write_json(storage.join(source.shards, f"{number:05d}_stats.json"), {"successes": len(rows)})
        return source

    return write
