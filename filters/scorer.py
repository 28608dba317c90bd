"""The contract of every judge: a batch of columns in, a batch of columns out (DESIGN §2).

A scorer is a frozen dataclass: its fields are its parameters, and their hash goes into the score table, so that scores
made with other parameters are never mixed in. `load` builds what judging needs (a model, compiled patterns) once per
worker and returns the function that judges batches. A scorer opens no files of the corpus and knows nothing of Ray.
"""

import copy
import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, Self

import pyarrow as pa

from mmcorpus.filters.secrets import masked

Batch = Mapping[str, Sequence[Any]]
"""Columns of equal length, by name. Those a scorer may ask for are in INPUTS."""

Columns = dict[str, Sequence[Any]]
"""The result of judging: the scorer's own columns, each as long as the batch; None for null."""

INPUTS: Final[dict[str, str]] = {
    "uid": "str, 32 hex digits",
    "shard": "str, the name of the shard that it lies in",
    "url": "str or None, where the image came from",
    "caption": "str or None",
    "image": "filters.decode.DecodedImage; rows whose image could not be decoded are not shown (filters/run_scorer.py)",
    "encoded": "bytes, the image file as the shard holds it; empty where there is none",
    "meta": "dict, the sample's other columns (original_width, original_height, … as the download stage recorded them)",
    "scores": "dict, the columns of other scorers' tables that the scorer `reads`, by `SCORER.column`",
}


class Unavailable(RuntimeError):
    """A judge cannot judge now, for reasons that are not the samples' (no model server answers).

    Nobody tries the batch's rows one by one: the table is not written, and a rerun tries the shard again.
    """


REASON: Final = "reason"
"""The column every score table has: null where the sample was scored, else why it could not be."""


def columns_of(names: Sequence[str], rows: Sequence[Mapping[str, Any] | str]) -> Columns:
    """The columns `names` and `reason` of rows, each the values by column, or the reason why there are none."""
    columns: Columns = {name: [None if isinstance(row, str) else row[name] for row in rows] for name in names}
    return {**columns, REASON: [row if isinstance(row, str) else None for row in rows]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scorer(ABC):
    """One judge. Subclasses set the class variables, add their parameters as fields, and define two methods."""

    name: ClassVar[str]
    """Its folder under `scores/` and its prefix in expressions: `image` gives `image.min_side`. `named` changes it."""
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

    def embeddings(self) -> pa.Schema | None:
        """The vectors that it gives besides its columns, fixed-size lists of float16; None if it saves none.

        `load`'s function returns them as columns too; the run keeps them in files of their own, by uid.
        """
        return None

    def reads(self) -> tuple[str, ...]:
        """The columns of other scorers' tables that it needs, as `SCORER.column`: those scorers come before it."""
        return ()

    def reading(self, tables: Mapping[str, str]) -> Self:
        """The same scorer, told the fingerprints of the tables that it reads, by scorer: its own depends on them."""
        other = copy.copy(self)
        object.__setattr__(other, "_tables", dict(sorted(tables.items())))
        return other

    def check(self) -> None:  # noqa: B027 (most scorers need nothing)
        """Raise ValueError if what it needs is not there (a package, a file). Cheap: recipes are checked with it."""

    def on(self, device: Literal["cpu", "cuda"]) -> Self:
        """The same scorer with what it leaves to the machine settled, so that scores of both are never mixed."""
        return self

    def named(self, name: str) -> Self:
        """The same scorer under another name, so that one run can hold several with different parameters."""
        other = copy.copy(self)
        object.__setattr__(other, "name", name)
        return other

    def placed(self, places: Mapping[str, str]) -> Self:
        """The same scorer, told the names of folders, by folder: its scores are known by these, so that they outlive
        moving what it reads there."""
        other = copy.copy(self)
        object.__setattr__(other, "_places", dict(places))
        return other

    def known_as(self, text: str) -> str:
        """A text that begins with a folder which has a name (`placed`), with that instead; any other as it is."""
        places: Mapping[str, str] = getattr(self, "_places", {})
        return next((name + text[len(folder) :] for folder, name in places.items() if text.startswith(folder)), text)

    def model(self) -> str:
        """The model's name and revision; empty for a rule."""
        return ""

    def parameters(self) -> dict[str, Any]:
        """The parameters as JSON-able values."""
        return dataclasses.asdict(self)

    def kind(self) -> str:
        """The name of its class where it is called otherwise; else empty, as its name then tells what it is."""
        own = type(self).name
        return own if own != self.name else ""

    def fingerprint(self) -> str:
        """16 hex digits of name, class, version, model and parameters: equal fingerprints mean equal scores."""
        return fingerprint_of(self, self.parameters())


def origin_of(scorer: Scorer, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The model and the parameters as scores are known by them: without secrets, named folders by their names."""
    named = {key: scorer.known_as(value) if isinstance(value, str) else value for key, value in parameters.items()}
    return scorer.known_as(scorer.model()), masked(named)


def fingerprint_of(scorer: Scorer, parameters: Mapping[str, Any]) -> str:
    """`Scorer.fingerprint` with the parameters that decide, for scorers of which not all do."""
    model, told = origin_of(scorer, parameters)
    identity = {
        "name": scorer.name,
        "version": scorer.version,
        "model": model,
        "parameters": told,
        **({"kind": kind} if (kind := scorer.kind()) else {}),
        **({"reads": tables} if (tables := getattr(scorer, "_tables", None)) else {}),
    }
    return hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=8).hexdigest()
