"""Small ONNX networks, run by OpenCV."""

from typing import Any

from mmcorpus.filters.weights import local_copy


def read_network(weights: str) -> Any:
    """The network in a file or at a URL, for images of changing size.

    Its layers are not fused: OpenCV (4.14) fuses them again whenever the size changes, normalisations into weights that
    hold them already, so that every image of a new size would be judged by other weights.
    """
    import cv2

    network = cv2.dnn.readNetFromONNX(local_copy(weights))
    network.enableFusion(False)
    return network
