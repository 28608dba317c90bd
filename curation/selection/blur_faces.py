"""Blurring the faces of images that are written anew, from the boxes that the scorer `faces` has found.

The blur is that of ImageNet's obfuscation (Yang et al. 2021, "A Study of Face Obfuscation in ImageNet", appendix): each
box is widened by a tenth of its diagonal on every side, a Gaussian whose sigma is a tenth of the largest diagonal blurs
the image, and the boxes, their edges blurred likewise, say how much of the blur is taken.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import EncodedImage, Sample
from mmcorpus.filters.decode import DecodeFailure, decode_image

BLURRED: Final = "faces_blurred"
"""In the json of a sample: how many of its faces were blurred."""
_QUALITY: Final = 95
_WIDER: Final = 0.1
_SIGMA: Final = 0.1
_HASHES: Final = ("sha256", "sha512", "md5")

Boxes = Sequence[Sequence[float]]
"""Left, top, right and bottom of each, as fractions of the image's sides."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceBlurring:
    """Where the boxes are: the tables of a scorer `faces` for the shards that samples are taken from."""

    scores: str
    """The scorer's folder, e.g. `scores/web/faces`."""

    def boxes(self, shard: str) -> dict[str, Boxes]:
        """By uid, the boxes of the shard's samples; none where the image could not be scored, since it cannot be seen.

        Raises:
            FileNotFoundError: the shard was not scored.
        """
        path = storage.join(self.scores, f"{shard}.parquet")
        if not storage.exists(path):
            raise FileNotFoundError(f"faces cannot be blurred: there is no {path}; run the scorer faces first")
        table = storage.read_table(path, columns=["uid", "boxes"])
        pairs = zip(table["uid"].to_pylist(), table["boxes"].to_pylist(), strict=True)
        return {uid: json.loads(boxes) for uid, boxes in pairs if boxes is not None}


def blur_sample(sample: Sample, boxes: Mapping[str, Boxes]) -> Sample:
    """The sample with the faces of its image blurred; the same where there are none, to the byte.

    Raises:
        ValueError: the image has boxes and cannot be decoded, so that it is not the one that was scored.
    """
    found = boxes.get(sample.uid, ())
    if not found or not sample.images:
        return sample
    data = blur_image(sample.images[0].data, found)
    meta: dict[str, Any] = {**sample.meta, BLURRED: len(found)}
    for name in _HASHES:
        if meta.get(name):
            meta[name] = hashlib.new(name, data).hexdigest()
    images = (EncodedImage(extension="jpg", data=data), *sample.images[1:])
    return Sample(key=sample.key, uid=sample.uid, caption=sample.caption, images=images, meta=meta)


def blur_image(data: bytes, boxes: Boxes) -> bytes:
    """The image in `data` as JPEG, what lies within the boxes blurred."""
    import cv2
    from PIL import Image

    image = decode_image(data)
    if isinstance(image, DecodeFailure):
        raise ValueError(f"an image with faces cannot be decoded: {image.reason}")
    height, width = image.pixels.shape[:2]
    corners = np.array(boxes) * (width, height, width, height)
    diagonals = np.hypot(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    mask = np.zeros((height, width), np.float32)
    for (left, top, right, bottom), diagonal in zip(corners, diagonals, strict=True):
        wider = _WIDER * diagonal
        rows = slice(max(0, int(top - wider)), int(np.ceil(bottom + wider)))
        mask[rows, max(0, int(left - wider)) : int(np.ceil(right + wider))] = 1.0
    sigma = max(1.0, _SIGMA * float(diagonals.max()))
    pixels = image.pixels.astype(np.float32)
    blurred = cv2.GaussianBlur(pixels, (0, 0), sigma)
    share = np.maximum(cv2.GaussianBlur(mask, (0, 0), sigma), mask)[..., None]
    mixed = (pixels * (1.0 - share) + blurred * share).round().clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(mixed).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
