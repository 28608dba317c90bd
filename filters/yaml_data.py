"""YAML files beside the code: word lists, patterns, prompts, published numbers."""

import functools
import importlib.resources
from typing import Any

import yaml


@functools.cache
def read_data(package: str, name: str) -> Any:
    """The content of a YAML file in a package; one object for all that ask, so not to be changed."""
    text = importlib.resources.files(package).joinpath(name).read_text("utf-8")
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
