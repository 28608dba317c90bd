"""What reading a file says of it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmcorpus.curation.engine.readable import unreadable


def test_a_selection_of_images_is_no_table_of_places(tmp_path: Path) -> None:
    """It is called `pages.images.parquet`, as the images of a shard of references are."""
    path = tmp_path / "pages.images.parquet"
    pq.write_table(pa.table({"uid": ["a"], "count": [1]}), path)
    assert not unreadable(str(path))
    (tmp_path / "references.json").write_text('{"roots": []}')
    assert "cannot be read" in unreadable(str(path))
