"""The contract of every judge: a batch of columns in, a batch of columns out (DESIGN §2).

A scorer is a frozen dataclass: its fields are its parameters, and their hash goes into the score table, so that scores
made with other parameters are never mixed in. `load` builds what judging needs (a model, compiled patterns) once per
worker and returns the function that judges batches. A scorer opens no files of the corpus and knows nothing of Ray.
"""

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

import pyarrow as pa

Batch = Mapping[str, Sequence[Any]]
"""Columns of equal length, by name. Those a scorer may ask for are in INPUTS."""

Columns = dict[str, Sequence[Any]]
"""What judging gives: the scorer's own columns, each as long as the batch; None for null."""

INPUTS: Final[dict[str, str]] = {
    "uid": "str, 32 hex digits",
    "url": "str or None, where the image came from",
    "caption": "str or None",
    "image": "filters.decode.DecodedImage; rows whose image could not be decoded are not shown (filters/judging.py)",
    "meta": "dict, the sample's other columns (original_width, original_height, … as the download stage recorded them)",
}

REASON: Final = "reason"
"""The column every score table has: null where the sample was scored, else why it could not be."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scorer(ABC):
    """One judge. Subclasses set the class variables, add their parameters as fields, and define two methods."""

    name: ClassVar[str]
    """Its folder under `scores/` and its prefix in expressions: `image` gives `image.min_side`."""
    version: ClassVar[str]
    """Raised whenever the same parameters would give other values."""
    inputs: ClassVar[tuple[str, ...]]
    """The columns of the batch that it reads, from INPUTS."""

    @abstractmethod
    def schema(self) -> pa.Schema:
        """Its columns, nullable, without `uid` and `reason`."""

    @abstractmethod
    def load(self) -> Callable[[Batch], Columns]:
        """The judging function. It returns the columns of `schema` and may return `reason` (None where scored)."""

    def model(self) -> str:
        """The model's name and revision; empty for a rule."""
        return ""

    def parameters(self) -> dict[str, Any]:
        """The parameters as JSON-able values."""
        return dataclasses.asdict(self)

    def fingerprint(self) -> str:
        """16 hex digits of name, version, model and parameters: equal fingerprints mean equal scores."""
        identity = {
            "name": self.name,
            "version": self.version,
            "model": self.model(),
            "parameters": self.parameters(),
        }
        return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=8).hexdigest()
