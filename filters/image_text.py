"""Text in an image: how many lines, and how much of the image they cover, to find screenshots, documents and memes.

The detector is PP-OCRv4's small one (PaddleOCR; a differentiable-binarisation network, Liao et al. 2020), as the
package `rapidocr-onnxruntime` ships it, run by OpenCV. It finds where text stands and does not read it.
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

_INSIDE: Final = 0.3
"""A pixel of the network's map above this belongs to text; so does the next figure decide over a whole box."""
_CERTAIN: Final = 0.5
_UNCLIP: Final = 1.6
"""The map shows the core of each line: a box grows on every side by this times its area over its perimeter. All three
are PP-OCR's own settings."""
_THIN: Final = 3.0
"""Pixels of the searched image: a core that is thinner is no text."""


@dataclass(frozen=True, kw_only=True)
class ImageTextScorer(DetectorScorer):
    """count: lines of text found. area_ratio: the share of the image that their boxes cover, 0-1, what overlaps counted
    once. tallest: the height of the tallest line as a share of the image's. boxes: JSON text,
    `[[left, top, right, bottom], …]`, upright, fractions of the image's width and height, from top to bottom.
    """

    max_side: int = 736
    """Larger images are searched scaled down to this longest side, in pixels; letters below some 8 pixels are lost."""

    name: ClassVar[str] = "image_text"
    version: ClassVar[str] = "2"
    package: ClassVar[str] = "rapidocr-onnxruntime"
    file: ClassVar[str] = "models/ch_PP-OCRv4_det_infer.onnx"
    needs: ClassVar[str] = "PP-OCR's detector"

    def schema(self) -> pa.Schema:
        return pa.schema(
            {"count": pa.int32(), "area_ratio": pa.float32(), "tallest": pa.float32(), "boxes": pa.string()}
        )

    def load(self) -> Callable[[Batch], Columns]:
        network = self.read_network()

        def judge(batch: Batch) -> Columns:
            found = [find_text(network, image.pixels, self.max_side) for image in batch["image"]]
            return {
                "count": [len(boxes) for boxes, _ in found],
                "area_ratio": [covered for _, covered in found],
                "tallest": [float((boxes[:, 3] - boxes[:, 1]).max(initial=0.0)) for boxes, _ in found],
                "boxes": [json.dumps(boxes.round(4).tolist()) for boxes, _ in found],
            }

        return judge


def find_text(network: Any, pixels: npt.NDArray[np.uint8], max_side: int) -> tuple[npt.NDArray[np.float64], float]:
    """Boxes of lines of text, N×4, left, top, right and bottom as fractions of the sides, from top to bottom; and the
    share of the image that they cover.

    pixels: uint8 H×W×3, RGB.
    """
    import cv2

    width, height = input_size(pixels, max_side)
    # PP-OCR was trained on BGR with ImageNet's mean and deviation, one for all channels here: no box moves for it.
    network.setInput(cv2.dnn.blobFromImage(pixels, 1 / 57.6, (width, height), (114.75,) * 3, swapRB=True))
    chances = np.asarray(network.forward())[0, 0]
    cores, _ = cv2.findContours((chances > _INSIDE).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cover = np.zeros((height, width), np.uint8)
    boxes = []
    for core in cores:
        center, (long, short), angle = cv2.minAreaRect(core)
        if min(long, short) < _THIN:
            continue
        left, top, wide, high = cv2.boundingRect(core)
        inside = np.zeros((high, wide), np.uint8)
        cv2.fillPoly(inside, [core - (left, top)], 1)
        if cv2.mean(chances[top : top + high, left : left + wide], inside)[0] < _CERTAIN:
            continue
        growth = 2 * _UNCLIP * long * short / (2 * (long + short))
        corners = cv2.boxPoints((center, (long + growth, short + growth), angle))
        cv2.fillPoly(cover, [corners.round().astype(np.int32)], 1)
        edges = np.concatenate([corners.min(axis=0), corners.max(axis=0)]) / (width, height, width, height)
        boxes.append(edges.clip(0.0, 1.0))
    boxes.sort(key=lambda box: (float(box[1]), float(box[0])))
    return np.array(boxes, np.float64).reshape(-1, 4), float(cover.mean())
