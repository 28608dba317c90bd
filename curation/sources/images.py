"""Images as their rows tell of them, found: each one's bytes or place, size and hash, or why it cannot be had."""

import base64
import binascii
import contextlib
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from mmcorpus.curation.engine.guard import SetAside, guarded
from mmcorpus.curation.sources.downloaded import Downloaded
from mmcorpus.curation.sources.found import (
    BAD_IMAGE,
    IMAGE_URL,
    MISSING_IMAGE,
    NO_IMAGE,
    OUTSIDE_ROOT,
    BadSample,
    FoundImage,
    Where,
)
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.members import storable
from mmcorpus.curation.store.named_files import Outside, path_below, read_range, state_of
from mmcorpus.curation.store.tars import MAX_MEMBER_BYTES
from mmcorpus.filters.decode import Unreadable, open_image

_EXTENSIONS: Final = {"jpeg": "jpg", "tiff": "tif", "jpeg2000": "jp2"}
_ADDRESS: Final = re.compile(r"(?:https?|s3|gs)://", re.IGNORECASE)
_DATA: Final = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_BASE64: Final = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR", "Qk", "AAAA", "SUkq", "TU0AK")
"""How the base64 of JPEG, PNG, GIF, WebP, BMP, AVIF and TIFF begins."""
_URL_SAFE: Final = str.maketrans("-_", "+/")
"""Base64's other alphabet."""
_PATH_LENGTH: Final = 1024
"""Characters; longer ones are no path."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownImage:
    """An image that a sample can have."""

    extension: str
    width: int
    height: int
    sha256: str | None
    """None if its bytes were not looked at."""
    where: Where | None
    data: bytes | None
    """To be copied, as it lies nowhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finder:
    """Finds the images of rows."""

    root: str
    """The folder that was named."""
    folder: str = ""
    """The one in it below which paths are looked for."""
    strip: str = ""
    downloaded: Downloaded | None = None
    """Where images at addresses are looked for."""

    def find(self, images: Sequence[FoundImage], *, key: str, hashed: bool) -> list[KnownImage]:
        """The images of a row.

        Args:
            key: of the sample, for the guard.
            hashed: whether the bytes are hashed, and so read, where all else is known.

        Raises:
            BadSample: one of them cannot be had.
        """
        if self.downloaded is not None:
            images = [self._fetched(image, self.downloaded) for image in images]
        addresses = [image.name for image in images if image.name and self.is_address(image.name)]
        if addresses:
            others = f" and {len(addresses) - 1} more" if len(addresses) > 1 else ""
            raise BadSample(IMAGE_URL, addresses[0] + others)
        return [self._known(image, f"{key}.{number}", hashed) for number, image in enumerate(images)]

    def is_address(self, name: str) -> bool:
        """Whether a row's name of an image is an address, and no path."""
        return bool(_ADDRESS.match(name.removeprefix(self.strip)))

    def _fetched(self, image: FoundImage, downloaded: Downloaded) -> FoundImage:
        """The image that was downloaded from the address that a row has in its place; itself where there is none."""
        if image.read is not None or not image.name or not self.is_address(image.name):
            return image
        return downloaded.find(image.name) or image

    def _known(self, image: FoundImage, key: str, hashed: bool) -> KnownImage:
        if image.read is None:
            image = self._named(image)
            assert image.read is not None
        if image.width and image.height and image.where is not None and not hashed:
            return KnownImage(
                extension=image.extension, width=image.width, height=image.height, sha256=None, where=image.where,
                data=None,
            )  # fmt: skip
        data = image.read()
        if image.where is not None and image.where.size is not None and len(data) != image.where.size:
            raise BadSample(BAD_IMAGE, "its file ends before it does")
        extension, width, height = measured(data, key)
        digest = hashlib.sha256(data).hexdigest() if hashed else None
        return KnownImage(
            extension=extension, width=width, height=height, sha256=digest, where=image.where,
            data=data if image.where is None else None,
        )  # fmt: skip

    def _named(self, image: FoundImage) -> FoundImage:
        """An image that a row calls by a path, or holds in base64."""
        name = image.name
        if not name:
            raise BadSample(NO_IMAGE, "the row says that there is one, and not which")
        inline = _DATA.match(name)
        if inline is None and name[:5].lower() == "data:":
            raise BadSample(BAD_IMAGE, f"a data URL that is no base64: {name[:80]!r}")
        if inline or (len(name) > 64 and name.startswith(_BASE64)):
            try:
                text = "".join(name[inline.end() if inline else 0 :].split())  # encoders break lines
                data = base64.b64decode(text.translate(_URL_SAFE), validate=True)
            except (binascii.Error, ValueError) as error:
                raise BadSample(BAD_IMAGE, f"it is no base64: {error}") from None
            return FoundImage(read=lambda: data)
        if len(name) > _PATH_LENGTH:
            raise BadSample(BAD_IMAGE, f"neither a path nor base64: {name[:80]!r}")
        try:
            return self._at(name)
        except BadSample as error:
            if error.code != MISSING_IMAGE:
                raise
            # Windows' separators, and an address's escapes.
            for other in dict.fromkeys((name.replace("\\", "/"), unquote(name), unquote(name.replace("\\", "/")))):
                if other != name:
                    with contextlib.suppress(BadSample):
                        return self._at(other)
            raise

    def _at(self, name: str) -> FoundImage:
        """The image of a path below the root."""
        root = self.root
        file = name.removeprefix("file://").removeprefix("./").removeprefix(self.strip)
        try:
            base = path_below(root, self.folder) if self.folder else root
            path = path_below(base, file)
            # As it is below the real folder, also where it was given whole; a link out of that keeps its own name.
            whole = (path_below(root, "") if storage.is_local(root) else root).rstrip("/")
            if path.startswith(f"{whole}/"):
                file = path.removeprefix(f"{whole}/")
            else:
                inside, name = os.path.split(os.path.join(base, file))
                file = os.path.relpath(os.path.join(path_below(root, inside), name), whole)
            state = state_of(path)
        except Outside as error:
            raise BadSample(OUTSIDE_ROOT, error) from None
        except (FileNotFoundError, NotADirectoryError, ValueError):
            raise BadSample(MISSING_IMAGE, f"{name} is not below {base}") from None
        except OSError as error:
            raise BadSample(MISSING_IMAGE, f"{file}: {error.strerror or error}") from None
        if state.size > MAX_MEMBER_BYTES:
            raise BadSample(BAD_IMAGE, f"{file} has {state.size:,} bytes; at most {MAX_MEMBER_BYTES:,} are read")

        def read() -> bytes:
            try:
                return read_range(path, 0, state.size)
            except OSError as error:
                raise BadSample(MISSING_IMAGE, f"{file}: {error.strerror or error}") from None

        where = Where(root=root, file=file, state=state, offset=0, size=state.size)
        return FoundImage(read=read, where=where if storable(file) == file else None)


def measured(data: bytes, key: str) -> tuple[str, int, int]:
    """Extension, width and height of an image as it is shown, by its headers. Raises BadSample for what is none."""
    try:
        return guarded("measure", key, _measure, data)
    except SetAside as aside:
        raise BadSample(BAD_IMAGE, aside) from None
    except Unreadable as error:
        raise BadSample(BAD_IMAGE, error) from None


def _measure(data: bytes) -> tuple[str, int, int]:
    opened = open_image(data)
    width, height = opened.image.size
    if opened.orientation >= 5 and opened.format != "tiff":
        width, height = height, width
    opened.image.close()
    return _EXTENSIONS.get(opened.format, opened.format), width, height
