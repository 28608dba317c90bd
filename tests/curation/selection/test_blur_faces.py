"""Faces are blurred where a selection is written anew: they alone, and in the images that have some alone."""

import hashlib
import io
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from PIL import Image, ImageFilter

from mmcorpus.curation.selection.blur_faces import BLURRED, FaceBlurring, blur_image
from mmcorpus.curation.selection.reshard import OutputShard, plan_outputs, reshard, write_output
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter, read_rows, read_samples
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.filters import decode_image, judge_batch
from mmcorpus.filters.faces import FacesScorer

PORTRAIT = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
UIDS = [pair_uid(f"http://site/{n}.jpg", "a caption") for n in range(3)]


def pixels(data: bytes) -> npt.NDArray[np.float32]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float32)


def sharpness(data: bytes, box: tuple[float, float, float, float]) -> float:
    """How much of the detail within a box (fractions of the sides) a small blur would take."""
    image = Image.open(io.BytesIO(data)).convert("L")
    area = image.crop(tuple(int(x * side) for x, side in zip(box, [*image.size] * 2, strict=True)))  # type: ignore[arg-type]
    smooth = area.filter(ImageFilter.GaussianBlur(2))
    return float(np.abs(np.asarray(area, np.float32) - np.asarray(smooth, np.float32)).mean())


@pytest.fixture
def scored(tmp_path: Path) -> tuple[str, str]:
    """Shards of a portrait, a plain picture and one that cannot be decoded, and the folder of their faces' scores."""
    plain = io.BytesIO()
    Image.new("RGB", (60, 40), (10, 120, 90)).save(plain, "PNG")
    images = [PORTRAIT.read_bytes(), plain.getvalue(), b"no image"]
    root, scores = str(tmp_path / "shards"), str(tmp_path / "scores")
    with ShardWriter(Shard(root=root, name="00000")) as writer:
        for number, (uid, data) in enumerate(zip(UIDS, images, strict=True)):
            meta = {"url": f"http://site/{number}.jpg", "sha256": hashlib.sha256(data).hexdigest()}
            extension = "png" if number == 1 else "jpg"
            image = EncodedImage(extension=extension, data=data)
            writer.write(Sample(key=f"0000{number}", uid=uid, caption="a caption", images=(image,), meta=meta))
    scorer = FacesScorer()
    table = judge_batch(scorer, scorer.load(), {"image": [decode_image(data) for data in images]})
    write_scores(scores, "00000", table.add_column(0, "uid", pa.array(UIDS)), Origin.of(scorer))
    return root, storage.join(scores, "faces")


def outputs(root: str, out: str) -> list[OutputShard]:
    selection = pa.table({"uid": UIDS, "count": pa.array([2, 1, 1], pa.int32())})
    return plan_outputs(root, selection, out, 100)[0]


def test_faces_alone_are_blurred(scored: tuple[str, str], tmp_path: Path) -> None:
    root, faces = scored
    for out in ("one", "two"):
        for output in outputs(root, str(tmp_path / out)):
            write_output(output, FaceBlurring(scores=faces))
    written = [list(read_samples(Shard(root=str(tmp_path / out), name="00000"))) for out in ("one", "two")]
    first, copy, plain, broken = written[0]
    assert written[0] == written[1]
    before = PORTRAIT.read_bytes()
    after = first.images[0].data
    assert copy.images[0].data == after != before
    assert sharpness(after, (0.4, 0.25, 0.6, 0.5)) < 0.3 * sharpness(before, (0.4, 0.25, 0.6, 0.5))
    assert sharpness(after, (0.1, 0.75, 0.9, 1.0)) > 0.9 * sharpness(before, (0.1, 0.75, 0.9, 1.0))
    assert first.meta[BLURRED] == 1
    assert first.meta["sha256"] == hashlib.sha256(after).hexdigest()
    assert first.meta["url"] == "http://site/0.jpg"
    # What has no face, or cannot be seen, keeps its bytes.
    assert [sample.images[0].data for sample in (plain, broken)] == [
        sample.images[0].data for sample in list(read_samples(Shard(root=root, name="00000")))[1:]
    ]
    assert BLURRED not in plain.meta
    assert read_rows(Shard(root=str(tmp_path / "one"), name="00000")).num_rows == 4


def test_shards_that_were_not_searched_for_faces_are_not_written(scored: tuple[str, str], tmp_path: Path) -> None:
    (output,) = outputs(scored[0], str(tmp_path / "out"))
    with pytest.raises(FileNotFoundError, match="run the scorer faces first"):
        write_output(output, FaceBlurring(scores=str(tmp_path / "nothing")))
    assert not list((tmp_path / "out").glob("*.tar"))


def test_a_folder_of_unblurred_shards_is_not_gone_on_with(scored: tuple[str, str], tmp_path: Path) -> None:
    selection = pa.table({"uid": UIDS, "count": pa.array([1, 1, 1], pa.int32())})
    reshard(scored[0], selection, str(tmp_path / "out"), workers=0)
    with pytest.raises(ValueError, match="made from something else"):
        reshard(scored[0], selection, str(tmp_path / "out"), blur=FaceBlurring(scores=scored[1]))


def test_the_edges_of_a_blur_are_soft_and_the_rest_is_the_same() -> None:
    stripes = np.zeros((200, 200, 3), np.uint8)
    stripes[:, ::4] = 255
    file = io.BytesIO()
    Image.fromarray(stripes).save(file, "PNG")
    after = pixels(blur_image(file.getvalue(), [[0.4, 0.4, 0.6, 0.6]]))
    assert after[90:110, 90:110].std() < 15 < 80 < after[:40, :40].std()
    with pytest.raises(ValueError, match="cannot be decoded"):
        blur_image(b"nothing", [[0, 0, 1, 1]])
