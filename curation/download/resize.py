"""img2dataset's resizer, fed only with what it reads right."""

import importlib.util
import io
import os
from collections.abc import Callable
from typing import Any, Final

from mmcorpus.curation.download.config import DownloadConfig
from mmcorpus.curation.download.images import EXTENSIONS, BadImage, ImageInfo, inspect, is_whole, upright

Resized = tuple[bytes | None, int | None, int | None, int | None, int | None, str | None]
"""img2dataset's: encoded image, width, height, original width, original height, error."""

_CODES: Final = {
    "image too small": "too_small", "image area too large": "too_large", "aspect ratio too large": "aspect_ratio"
}  # fmt: skip
"""Our codes of img2dataset's errors; any other is `undecodable`."""
MAX_SIDE: Final = {"jpg": 65_500, "webp": 16_383, "png": 1_000_000}
"""The longest side that the encoders of OpenCV (libjpeg-turbo, libwebp, libpng) write."""
MAX_READ_SIDE: Final = 1 << 20
"""The longest side that OpenCV reads."""
_OPTIONS: Final = (
    "image_size", "resize_mode", "resize_only_if_bigger", "upscale_interpolation", "downscale_interpolation",
    "encode_quality", "encode_format", "skip_reencode", "min_image_size", "max_image_area", "max_aspect_ratio",
)  # fmt: skip


class _BuiltOnce:
    """albumentations with each transform built once: img2dataset builds its transforms for every image, which takes a
    third as long as applying them."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._built: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def build(**options: Any) -> Any:
            key = f"{name} {options}"
            if key not in self._built:
                self._built[key] = getattr(self._module, name)(**options)
            return self._built[key]

        return build


def import_resizer() -> Any:
    """A copy of img2dataset's resizer module whose transforms are built once; the module itself stays as it is."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the internet for a newer version
    spec: Any = importlib.util.find_spec("img2dataset.resizer")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.A = _BuiltOnce(module.A)
    return module


class UprightResizer:
    """img2dataset's `Resizer` behind a check and a decoder of our own.

    A plain image goes to img2dataset as it is and comes out byte for byte as bare img2dataset would store it. Any other
    is decoded here, upright, 8 bits, on white, and handed over as a BMP, which costs a copy and loses nothing.
    """

    def __init__(self, config: DownloadConfig) -> None:
        self.config = config
        options = {name: getattr(config, name) for name in _OPTIONS}
        self._mode = "no" if config.disable_all_reencoding else config.resize_mode
        options["resize_mode"] = self._mode  # what cannot stay as it arrived keeps its size
        self._resizer = import_resizer().Resizer(**options)

    def __call__(self, data: bytes, content_type: str, facts: dict[str, Any]) -> Resized:
        """Resize and encode; what is learnt of the image goes into `facts` under the shard's column names.

        The extension to store it under goes there as `extension`.
        """
        facts["extension"] = self.config.encode_format
        try:
            info = inspect(data, self.config.max_pixels, content_type)
            facts.update(
                original_format=info.format,
                original_mode=info.mode,
                frames=info.frames,
                orientation=info.orientation,
                has_alpha=False,
            )
            if self.config.disable_all_reencoding:
                return self._as_arrived(data, info, facts)
            return self._resized(data, info, facts)
        except BadImage as error:
            return None, None, None, None, None, str(error)

    def _resized(self, data: bytes, info: ImageInfo, facts: dict[str, Any]) -> Resized:
        self._check(info)
        self._check_result(info)
        if info.plain and is_whole(data, info.format):
            try:
                return self._run(data, info)
            except BadImage as error:
                if error.code != "undecodable":
                    raise
        return self._run(self._bitmap(data, facts), info)

    def _as_arrived(self, data: bytes, info: ImageInfo, facts: dict[str, Any]) -> Resized:
        """`disable_all_reencoding`: the bytes themselves, checked, unless they would be shown rotated."""
        self._check(info)
        extension = EXTENSIONS.get(info.format)
        if info.orientation == 1 and extension is not None:
            if not info.plain or not is_whole(data, info.format):
                _, facts["has_alpha"] = upright(data, self.config.max_pixels)
            facts["extension"] = extension
            return data, info.width, info.height, info.width, info.height, None
        self._check_result(info)
        return self._run(self._bitmap(data, facts), info)

    def _check(self, info: ImageInfo) -> None:
        """img2dataset's three limits, which it forgets when nothing is re-encoded and else checks after decoding."""
        small, large = sorted((info.width, info.height))
        if small < self.config.min_image_size:
            raise BadImage("too_small", f"{info.width}x{info.height}")
        if small * large > self.config.max_image_area:
            raise BadImage("too_large", f"{info.width}x{info.height}")
        if large / small > self.config.max_aspect_ratio:
            raise BadImage("aspect_ratio", f"{info.width}x{info.height}")

    def _check_result(self, info: ImageInfo) -> None:
        """What resizing makes of an image, by its headers: at most `max_pixels`, before a crop too, and no side
        longer than its format can store."""
        size = f"{info.width}x{info.height}"
        if max(info.width, info.height) > MAX_READ_SIDE:
            raise BadImage("too_large", f"{size}; a side is at most {MAX_READ_SIDE}")
        width, height = self._scaled(info.width, info.height)
        if width * height > self.config.max_pixels:
            raise BadImage("too_many_pixels", f"{size}; resized it would be {width}x{height}")
        cropped = self._mode == "center_crop" and min(width, height) == self.config.image_size
        longest = self.config.image_size if cropped else max(width, height)
        form = self.config.encode_format
        if longest > MAX_SIDE[form]:
            raise BadImage("too_large", f"{size}; a side of a {form} is at most {MAX_SIDE[form]}")

    def _scaled(self, width: int, height: int) -> tuple[int, int]:
        """The size after img2dataset's scaling, before it crops or pads."""
        if self._mode == "no":
            return width, height
        side = min(width, height) if self._mode in ("keep_ratio", "center_crop") else max(width, height)
        if self.config.resize_only_if_bigger and side <= self.config.image_size:
            return width, height
        scale = self.config.image_size / side
        return max(1, round(width * scale)), max(1, round(height * scale))

    def _bitmap(self, data: bytes, facts: dict[str, Any]) -> bytes:
        import cv2

        pixels, facts["has_alpha"] = upright(data, self.config.max_pixels)
        return bytes(cv2.imencode(".bmp", pixels[:, :, ::-1])[1].tobytes())

    def _run(self, data: bytes, info: ImageInfo) -> Resized:
        result: Resized = self._resizer(io.BytesIO(data))
        error = result[5]
        if error is None:
            return result
        if error in _CODES:
            raise BadImage(_CODES[error], f"{info.width}x{info.height}")
        raise BadImage("undecodable", error)
