"""One image under several captions: which of a source's samples have them, and what they say (Molmo, arXiv 2409.17146).

The table has `uid` and `captions` (list<string>, the sample's own first); a pass of deduplication with
`annotations: true` writes one, `dedup/NAME/annotations.parquet`. A sample that it names says these captions, each an
annotation of its image, in place of its row's.
"""

import copy
from collections.abc import Iterable, Iterator
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.store import storage
from mmcorpus.packing.inputs import uid_bytes
from mmcorpus.packing.verdicts import FittedRows, SourceVerdicts

CAPTIONS: Final = pa.field("captions", pa.list_(pa.string()))
"""One column more of a plan with annotations: what a sample says, null for its row's caption."""
_SCHEMA: Final = pa.schema([pa.field("uid", pa.string()), CAPTIONS])


class Annotations:
    """The captions of those of a source's selected samples that the table names; what else it holds takes no memory."""

    def __init__(self, given: pa.Table | str, verdicts: SourceVerdicts, source: str) -> None:
        """Raises ValueError if the table is not there, lacks a column or has a uid twice."""
        where = f"the annotations of source {source!r}"
        uids: list[npt.NDArray[np.bytes_]] = [np.zeros(0, dtype="S32")]
        captions: list[pa.ChunkedArray] = []
        for table in _tables(given, where):
            table = table.filter(pc.equal(pc.binary_length(table["uid"]), 32))
            own = uid_bytes(table["uid"])
            selected = verdicts.wanted(own)
            uids.append(own[selected])
            captions.append(table["captions"].take(pa.array(selected)))
        together = np.concatenate(uids)
        self._rows = np.argsort(together, kind="stable")
        self._uids = together[self._rows]
        self._captions = pa.chunked_array([chunk for column in captions for chunk in column.chunks], CAPTIONS.type)
        if (self._uids[1:] == self._uids[:-1]).any():
            raise ValueError(f"{where} name a uid twice; give each image one row with all its captions")

    def part(self, uids: npt.NDArray[np.bytes_]) -> Self:
        """The captions of these alone."""
        there = np.isin(self._uids, uids)
        own = copy.copy(self)
        own._uids = self._uids[there]
        own._captions = self._captions.take(pa.array(self._rows[there]))
        own._rows = np.arange(len(own._uids))
        return own

    def of(self, uids: npt.NDArray[np.bytes_]) -> list[tuple[str, ...]]:
        """For each uid its captions; none for a sample that says what its row says."""
        found: list[tuple[str, ...]] = [()] * len(uids)
        if len(self._uids):
            places = np.minimum(np.searchsorted(self._uids, uids), len(self._uids) - 1)
            for number in np.flatnonzero(self._uids[places] == uids).tolist():
                captions = self._captions[int(self._rows[places[number]])].as_py() or ()
                found[number] = tuple(caption for caption in captions if caption and caption.strip())
        return found


def with_captions(table: pa.Table, fitted: Iterable[tuple[str, FittedRows]]) -> pa.Table:
    """A plan's rows with the column CAPTIONS, from the (source, rows) that they are made of."""
    said = {
        (source, uid.decode()): captions
        for source, rows in fitted
        for uid, captions in zip(rows.uids.tolist(), rows.captions, strict=True)
        if captions
    }
    keys = zip(table["source"].to_pylist(), table["uid"].to_pylist(), strict=True)
    return table.append_column(CAPTIONS, pa.array([said.get(key) for key in keys], CAPTIONS.type))


def captions_of(rows: pa.Table) -> list[tuple[str, ...]]:
    """What each row of a plan says instead of its caption; empty for that caption."""
    if CAPTIONS.name not in rows.column_names:
        return [()] * rows.num_rows
    return [tuple(captions or ()) for captions in rows[CAPTIONS.name].to_pylist()]


def _tables(given: pa.Table | str, where: str) -> Iterator[pa.Table]:
    """The two columns, of a file some thousands of rows at a time."""
    if isinstance(given, pa.Table):
        yield _typed(given, where)
        return
    fs, inner = storage.filesystem(given)
    if not fs.exists(inner):
        raise ValueError(
            f"{where}: there is nothing at {given}; a pass of deduplication with `annotations: true` writes "
            "dedup/NAME/annotations.parquet"
        )
    with storage.open_parquet(given) as parquet:
        columns = [name for name in _SCHEMA.names if name in parquet.schema_arrow.names]
        for batch in parquet.iter_batches(columns=columns):
            yield _typed(pa.Table.from_batches([batch]), where)


def _typed(table: pa.Table, where: str) -> pa.Table:
    try:
        return table.select(_SCHEMA.names).cast(_SCHEMA)
    except (KeyError, pa.ArrowException) as error:
        raise ValueError(f"{where} need the columns uid (string) and captions (list of strings): {error}") from None
