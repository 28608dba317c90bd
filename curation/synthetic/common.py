"""Helpers of all generators: random streams, pictures as bytes, data files beside the code."""

import functools
import hashlib
import importlib.resources
import io
import random
from typing import Any

import yaml
from PIL import Image


@functools.cache
def read_data(package: str, name: str) -> Any:
    """The content of a YAML file in a package; one object for all that ask, so not to be changed."""
    text = importlib.resources.files(package).joinpath(name).read_text("utf-8")
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def stream(*purpose: object) -> random.Random:
    """A random stream that depends on its arguments alone, in every process and on every machine."""
    digest = hashlib.blake2b("\0".join(map(str, purpose)).encode(), digest_size=16).digest()
    return random.Random(int.from_bytes(digest, "little"))


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    """The picture as a file in a format of Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()
