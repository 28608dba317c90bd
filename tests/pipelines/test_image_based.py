"""`mmcorpus image-based`: from embeddings and a target to a table that a selection reads."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from mmcorpus.curation.store.embeddings import write_embeddings
from mmcorpus.curation.store.scores import Origin, load_scores
from mmcorpus.pipelines.cli import app


@pytest.mark.usefixtures("ray_local")
def test_the_command_writes_what_a_selection_reads(tmp_path: Path) -> None:
    directions = np.eye(4, dtype=np.float16)
    schema = pa.schema({"uid": pa.string(), "image": pa.list_(pa.float16(), 4)})
    rows = {"uid": [f"{row:032x}" for row in range(40)], "image": [directions[row % 4] for row in range(40)]}
    origin = Origin(scorer="clip", version="1", model="tiny", fingerprint="0" * 16)
    write_embeddings(f"{tmp_path}/embeddings", "00000", pa.table(rows, schema=schema), origin)
    np.save(tmp_path / "target.npy", directions[[2]])
    arguments = ["image-based", f"{tmp_path}/embeddings", f"{tmp_path}/scores", "--target", f"{tmp_path}/target.npy"]
    result = CliRunner().invoke(app, [*arguments, "--set", "clusters=4", "--num-cpus", "2"])
    assert result.exit_code == 0, result.output
    assert "10 of 40 samples" in " ".join(result.output.split())
    kept = [row for row in load_scores(f"{tmp_path}/scores").to_pylist() if row["image_based.targets"] > 0]
    assert [int(row["uid"], 16) % 4 for row in kept] == [2] * 10


def test_a_wrong_setting_is_told(tmp_path: Path) -> None:
    arguments = ["image-based", f"{tmp_path}/e", f"{tmp_path}/s", "--target", "t.npy", "--set", "clusters=0"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "clusters is 0; give 1 or more" in " ".join(result.output.split())
