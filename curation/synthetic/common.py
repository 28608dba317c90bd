"""Helpers of all generators: random streams, pictures as bytes."""

import hashlib
import io
import random
from typing import Any

from PIL import Image


def stream(*purpose: object) -> random.Random:
    """A random stream that depends on its arguments alone, in every process and on every machine."""
    digest = hashlib.blake2b("\0".join(map(str, purpose)).encode(), digest_size=16).digest()
    return random.Random(int.from_bytes(digest, "little"))


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    """The picture as a file in a format of Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()
