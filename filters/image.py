"""Image rules: sizes as published, and what the pixels say: sharpness, blankness, perceptual and exact identity."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa

from mmcorpus.filters.decode import DecodedImage
from mmcorpus.filters.scorer import Batch, Columns, Scorer

PHASH_SIDE: Final = 32
PHASH_FREQUENCIES: Final = 8


@dataclass(frozen=True, kw_only=True)
class ImageScorer(Scorer):
    """Columns of one image.

    As published (from `meta`, as the download recorded it; from the file in the shard where it did not):
      width, height: pixels, upright. min_side, max_side: of these. aspect_ratio: max_side / min_side, >= 1.
      bytes_per_pixel: encoded bytes / pixels. frames: of an animation, 1 for a still. has_alpha: any transparent pixel.
      format: lower case, `jpeg`, `png`, `webp`, ….

    Of the image in the shard:
      stored_width, stored_height: pixels. blur: variance of the 3x3 Laplacian of 8-bit luma, >= 0, low means blurred
      (Pech-Pacheco et al., ICPR 2000). entropy: of the luma histogram, 0-8 bits. std: of luma, 0-127.5.
      phash: see `perceptual_hashes`. pixel_hash: 32 hex digits, SHA-256 of size and RGB pixels, cut to 128 bits.
    """

    name: ClassVar[str] = "image"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("image", "meta")

    def schema(self) -> pa.Schema:
        columns: dict[str, pa.DataType] = {name: pa.int32() for name in ("width", "height", "min_side", "max_side")}
        columns |= {"aspect_ratio": pa.float64(), "stored_width": pa.int32(), "stored_height": pa.int32()}
        columns |= dict.fromkeys(("bytes_per_pixel", "blur", "entropy", "std"), pa.float64())
        columns |= {"frames": pa.int32(), "has_alpha": pa.bool_()}
        return pa.schema(columns | dict.fromkeys(("format", "phash", "pixel_hash"), pa.string()))

    def load(self) -> Callable[[Batch], Columns]:
        import cv2

        names = self.schema().names

        def judge(batch: Batch) -> Columns:
            rows, thumbnails = [], np.empty((len(batch["image"]), PHASH_SIDE, PHASH_SIDE), np.float64)
            for position, (image, meta) in enumerate(zip(batch["image"], batch["meta"], strict=True)):
                luma = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
                thumbnails[position] = area_thumbnail(luma)
                std, entropy = histogram_statistics(luma)
                rows.append(
                    {
                        **published(image, meta),
                        "stored_width": image.width,
                        "stored_height": image.height,
                        "blur": laplacian_variance(luma),
                        "entropy": entropy,
                        "std": std,
                        "pixel_hash": pixel_hash(image.pixels),
                    }
                )
            for row, phash in zip(rows, perceptual_hashes(thumbnails), strict=True):
                row["phash"] = phash
            return {name: [row[name] for row in rows] for name in names}

        return judge


def published(image: DecodedImage, meta: Mapping[str, Any] | None) -> dict[str, Any]:
    """Columns of the image as published, before the download resized or re-encoded it."""
    known = meta or {}
    width, height = known.get("original_width"), known.get("original_height")
    nbytes = known.get("original_bytes")
    if not width or not height:
        width, height, nbytes = image.width, image.height, image.nbytes
    elif not nbytes:
        # The published file's size is lost; the stored one's, over its own pixels, is the nearest to it.
        nbytes = image.nbytes / (image.width * image.height) * (width * height)
    low, high = min(width, height), max(width, height)
    frames, has_alpha = known.get("frames"), known.get("has_alpha")
    return {
        "width": int(width),
        "height": int(height),
        "min_side": int(low),
        "max_side": int(high),
        "aspect_ratio": high / low,
        "bytes_per_pixel": nbytes / (width * height),
        "frames": image.frames if frames is None else int(frames),
        "has_alpha": image.has_alpha if has_alpha is None else bool(has_alpha),
        "format": known.get("original_format") or image.format,
    }


def histogram_statistics(luma: np.ndarray) -> tuple[float, float]:
    """Standard deviation and entropy (bits) of 8-bit values [H, W], from their histogram."""
    import cv2

    counts = np.zeros(256, np.int64)
    rows = max(1, (1 << 24) // luma.shape[1])  # calcHist counts in 32-bit floats, exact up to 2**24
    for top in range(0, luma.shape[0], rows):
        counts += cv2.calcHist([luma[top : top + rows]], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    total = int(counts.sum())
    levels = np.arange(256, dtype=np.int64)
    first, second = int(counts @ levels), int(counts @ (levels * levels))
    shares = counts[counts > 0] / total
    # Rounded, because the last digits of numpy's logarithm differ between processors.
    entropy = round(abs(float(shares @ np.log2(shares))), 9)
    return math.sqrt(total * second - first * first) / total, entropy


def laplacian_variance(luma: np.ndarray) -> float:
    """Variance of the 3x3 Laplacian (kernel 0 1 0 / 1 -4 1 / 0 1 0, edges mirrored) of 8-bit luma [H, W]."""
    import cv2

    # 16 bits hold the Laplacian of 8-bit values exactly, and integer sums are the same on every machine.
    edges = cv2.Laplacian(luma, cv2.CV_16S)
    first, second = round(cv2.sumElems(edges)[0]), round(cv2.norm(edges, cv2.NORM_L2SQR))
    return (edges.size * second - first * first) / edges.size**2


def area_thumbnail(luma: np.ndarray, side: int = PHASH_SIDE) -> np.ndarray:
    """The mean of luma [H, W] in each cell of a grid over it, float64 [side, side]; cells may cut through pixels.

    From the integral image, linear between its points: five times faster than OpenCV's area resampling, and the same
    to the last bit on every machine.
    """
    import cv2

    sums = cv2.integral(luma, sdepth=cv2.CV_64F)
    for axis in (0, 1):
        length = luma.shape[axis]
        edges = np.arange(side + 1) * (length / side)
        below = np.minimum(edges.astype(np.int64), length - 1)
        part = (edges - below).reshape((-1, 1) if axis == 0 else (1, -1))
        sums = np.take(sums, below, axis) * (1 - part) + np.take(sums, below + 1, axis) * part
    return np.diff(np.diff(sums, axis=0), axis=1) * (side * side / luma.size)


def pixel_hash(pixels: np.ndarray) -> str:
    """32 hex digits of the size and the RGB pixels [H, W, 3]: equal for equal pictures in different files."""
    digest = hashlib.sha256(f"{pixels.shape[1]}x{pixels.shape[0]}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()[:32]


def perceptual_hashes(thumbnails: np.ndarray) -> list[str]:
    """The 64-bit DCT hashes of 32x32 luma thumbnails [N, 32, 32], 16 hex digits each.

    The standard pHash (Zauner 2010, §3.2.1): orthonormal DCT-II, the 8x8 lowest frequencies row by row, each bit set if
    its coefficient is greater than the median of the 64; the first is the most significant. The thumbnail is an area
    average of the luma. Hamming distance <= 10 of 64 is the usual mark of a near duplicate; a blank image gives
    8000000000000000.
    """
    return dct_hashes(thumbnails, PHASH_FREQUENCIES)


def dct_hashes(thumbnails: np.ndarray, frequencies: int) -> list[str]:
    """Hex digits of luma thumbnails [N, side, side], a bit for each of their frequencies x frequencies lowest."""
    side = thumbnails.shape[-1]
    frequency, position = np.arange(frequencies)[:, None], np.arange(side)[None, :]
    basis = np.cos(np.pi * frequency * (2 * position + 1) / (2 * side)) * math.sqrt(2 / side)
    basis[0] /= math.sqrt(2)
    # Rounding makes zero of what is zero but for the last digit, which differs between machines.
    low = np.round(basis @ thumbnails @ basis.T, 6).reshape(len(thumbnails), -1)
    bits = low > np.median(low, axis=1, keepdims=True)
    return [packed.tobytes().hex() for packed in np.packbits(bits, axis=1)]
