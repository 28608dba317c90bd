"""The interface of a deduplication method: it says which samples are duplicates, and nothing of files or workers.

One driver (`curation/dedup/run.py`) finds the duplicates for every method:

    keys      of each shard's rows; rows that agree in a key of the same table are candidates
    pairs     of candidates, each once, and what both sides are compared by
    same      which of them are duplicates, where the method verifies
    images    which of those are once their files are seen, where the method compares images
    clusters  what duplicates link, over all sources, and the survivor of each
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmcorpus.curation.engine.partitions import Hashes, Indices

Bools = npt.NDArray[np.bool_]
Learned = Mapping[str, npt.NDArray[Any]]
"""What a method learned from a sample of the corpus (the centroids of k-means, say), by name; empty for most."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keys:
    """Keys by which the rows of one shard are found. N rows, T tables."""

    keys: Hashes
    """[N, T]. Two rows are candidates if they agree in a column of this array; columns are not compared with each
    other. Hash what is hashed well (all 64 bits count): rows that agree by accident are compared in vain, or, where
    nothing is verified, merged in error."""
    known: Bools
    """[N]. False: there is nothing to compare (no text, no picture). Such a row is nobody's duplicate, its keys are
    ignored, and its score columns are null."""
    identity: Hashes | None = None
    """[N], or None. A hash of all that `same` compares: rows that agree in a key and in this are duplicates without a
    comparison, so that a hundred thousand copies of one text cost as many steps. Rows of one identity must have the
    same keys. Where nothing is verified, rows must agree in it too to be duplicates: the other 64 bits of a 128-bit
    hash."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """One way to tell duplicates. Subclasses are frozen dataclasses whose fields are the recipe's parameters.

    All methods see a table of rows: `columns()` in that order and nothing else, nulls where a row has no value. They
    are pure: the same rows give the same answer, whatever rows stand beside them and whatever process asks.
    """

    version: ClassVar[str] = "1"
    """Raised whenever the same parameters would give other answers."""
    chains: ClassVar[bool] = True
    """True: a cluster is all that duplicates link (a ~ b ~ c are one, a ~ c or not). False: every sample of a cluster
    is a duplicate of its survivor, as pictures need, which resemble each other until they have nothing in common."""
    bucketwise: ClassVar[bool] = False
    """True: the driver calls `near` with all the rows of a key, instead of `same` with pairs. For few, large buckets in
    which all are compared with all by a matrix product; rows of one identity are there once."""
    bucket_limit: ClassVar[int] = 64
    """Rows that share a key, after those of one identity count once, are compared all with all up to this many. In a
    larger bucket each is compared with half as many rows before it and with the half as many first rows, so that the
    pairs grow with the rows and not with their square; a pair that only meets in larger buckets may be missed."""
    survivor: ClassVar[str] = ""
    """The expression whose largest value survives where the pass names none; empty: the lowest uid."""

    @property
    def verifies(self) -> bool:
        """Whether candidates are compared by `same` (or `near`). False: agreeing in a key suffices."""
        return self.bucketwise

    @property
    def compares_images(self) -> bool:
        """Whether what `same` calls duplicates goes through `same_images` too. Only with `same`."""
        return False

    @property
    def learns_from(self) -> int:
        """How many rows `learn` wants, chosen by a hash of their uids; 0: nothing is learned."""
        return 0

    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads: of the shard's parquet (`caption`, `url`, `sha256`, `text`), of scores
        (`image.phash`), or `embeddings.<scorer>.<image|text>` (a fixed-size list of float16)."""

    @abstractmethod
    def keys(self, table: pa.Table, learned: Learned) -> Keys:
        """The keys of a shard's rows.

        Args:
            table: N rows, all that the shard holds with status `success`, in key order.
            learned: what `learn` returned; empty if `learns_from` is 0.

        Raises:
            ValueError: a column is not what the method needs. It costs that shard.
        """

    def same(self, rows: pa.Table, first: Indices, second: Indices) -> Bools:
        """[P]: which candidates are duplicates. Rows stand in the table once however many pairs they are in.

        Args:
            rows: some rows of any shards.
            first, second: [P], positions in `rows`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not compare pairs")

    def same_images(self, rows: pa.Table, first: Indices, second: Indices) -> Bools:
        """[P]: which pairs that `same` accepted are duplicates; as `same`, with one more column of the rows.

        Args:
            rows: the last column, `image` (binary), is the encoded file, null where its shard's images are gone.
        """
        raise NotImplementedError(f"{type(self).__name__} does not compare images")

    def near(self, rows: pa.Table) -> tuple[Indices, Indices]:
        """The pairs of duplicates, as positions in `rows`, among all the rows of one key (for `bucketwise`)."""
        raise NotImplementedError(f"{type(self).__name__} does not compare buckets")

    def learn(self, sample: pa.Table) -> Learned:
        """What is learned once, in one process, and kept: from a sample of about `learns_from` rows of all sources."""
        return {}

    def parameters(self) -> dict[str, Any]:
        """The parameters as JSON-able values: with `version` and the type's name they decide the answers."""
        return dataclasses.asdict(self)
