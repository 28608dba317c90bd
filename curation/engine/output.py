"""A stage's output: a folder that says what it is made from, and is filled item by item.

output = Output(folder=out, holds="placed documents", made_from=MadeFrom(config=…, inputs={"documents": …}))
output.claim()                                            # go on, begin, replace what is stale, or refuse in words
ran = run_pending(make_work, shards, committed=…, …)      # engine/items.py: only what is not there yet
ran.failed                                                # by item, a Failure each
"""

import contextlib
import fnmatch
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from mmcorpus.curation.engine.made_from import MadeFrom, digest, plain
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.places import REFERENCES_FILE
from mmcorpus.curation.store.shards import list_shards

RECORD: Final = "made_from.json"
"""In an output's folder: what it is made from."""
_NUMBERED: Final = re.compile(r"\d{5,}(\.tar|\.parquet|_stats\.json|\.arrow)")
"""Shards, tables and work files, as every stage names them."""
_log = logging.getLogger(__name__)


OTHER: Final = "name another folder, or move this one away"
"""What to do with a folder that holds something else."""
RETURNS: Final = "`mmcorpus run` does, in the folder of a run whose run.json is there"
"""Who puts a record back (`engine/mend.py`), which a run without its own record cannot."""


_VOUCHED: set[str] = set()
"""Folders whose records are known to be this run's (`vouching`)."""


@contextlib.contextmanager
def vouching(folders: Iterable[str]) -> Iterator[None]:
    """Somebody vouches, during the block, for what these folders are made from: a claim to one renews its record.

    A stage of which something was damaged is run again with the contents that it was made from, as the runner knows.
    The folder's own record may tell of its inputs by what is not the same twice, such as the seconds of a download.
    """
    added = {storage.filesystem(folder)[1] for folder in folders} - _VOUCHED
    _VOUCHED.update(added)
    try:
        yield
    finally:
        _VOUCHED.difference_update(added)


class MadeOtherwise(ValueError):
    """A folder holds output that was made from something else, or that nobody knows the making of."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """A folder and what is to be made in it."""

    folder: str
    holds: str
    """Its content in words, for messages: `placed documents`."""
    made_from: MadeFrom
    owns: tuple[str, ...] = ()
    """Other folders that are made and cleared with it: views."""
    writes: tuple[str, ...] = ()
    """Patterns of the names that it gives, beside shards and numbered tables (`uses`, `decided-*`): it clears these
    alone. Below a folder of such a name, numbered files and these."""
    stale: Literal["refuse", "replace"] = "refuse"
    """What is proven to be made from something else is refused if anything is committed (downloads cost days), or
    replaced (what is made again in minutes)."""
    earlier: tuple[str, ...] = ()
    """Names of the records that earlier versions of the code kept in this folder."""

    @property
    def record(self) -> str:
        """The path of the record."""
        return storage.join(self.folder, RECORD)

    def claim(self, committed: bool | None = None) -> bool:
        """Make the folder this output's; returns whether it already was, so that what is committed can be kept.

        Nothing is written, and nothing removed, before it is certain that the folder is free, this output's, or stale.

        Args:
            committed: whether the folder holds anything that a record should speak of; None: whether it holds shards.

        Raises:
            MadeOtherwise: the folder holds something else; the message says what differs and what to do.
        """
        known = read_record(self.folder)
        if known is not None and (other := storage.read_json(self.record).get("holds")) != self.holds:
            raise MadeOtherwise(
                f"{self.folder} holds {other or 'something else'}, not {self.holds}; name another folder"
            )
        if known is not None and known.fingerprint == self.made_from.fingerprint:
            return True
        if known is not None and storage.filesystem(self.folder)[1] in _VOUCHED:
            self.write(storage.read_json(self.record).get("found", []))
            return True
        there = bool(list_shards(self.folder)) if committed is None else committed
        before = next((name for name in self.earlier if storage.exists(storage.join(self.folder, name))), None)
        if known is None and before is None and there:
            raise MadeOtherwise(
                f"{self.folder} holds {self.holds} without a record of what they are made from ({RECORD}); "
                f"put the record back ({RETURNS}), name another folder, or move this one away"
            )
        if there and self.stale == "refuse":
            differs = self._difference(known, before)
            raise MadeOtherwise(f"{self.folder} holds {self.holds} {differs}; {OTHER}")
        names = [name for name in storage.list_names(self.folder) if name != RECORD]
        found = storage.read_json(self.record).get("found", []) if known is not None else [] if before else names
        if known is not None or before is not None:
            # The record goes last, overwritten: a folder that is half cleared is still known to be stale.
            left = [path for folder in self.owns for path in _clear_below(folder, self.writes)]
            left += _clear(self.folder, (*self.writes, *self.earlier), found)
            if left:
                named = ", ".join(left[:5]) + (" …" if left[5:] else "")
                _log.warning("%s: %s are made anew; what is none of them stays: %s", self.folder, self.holds, named)
            found = sorted({*found, *(name for name in storage.list_names(self.folder) if name != RECORD)})
        self.write(found)
        return False

    def write(self, found: Sequence[str] = ()) -> None:
        """Write the record; `found` are names that were in the folder before it was claimed, never to be removed."""
        storage.write_json(self.record, {"holds": self.holds, "found": list(found), **self.made_from.as_dict()})

    def _difference(self, known: MadeFrom | None, before: str | None) -> str:
        if known is not None:
            return f"made from something else ({self.made_from.changes_from(known)})"
        return f"begun by an earlier version of mmcorpus (its {before}), which alone can go on with them"


def _clear(folder: str, writes: Collection[str], keep: Collection[str]) -> list[str]:
    """Remove what an output itself wrote into a folder, but the names in `keep`; returns what is not its own."""
    left = []
    for name in storage.list_names(folder):
        path = storage.join(folder, name)
        if name == RECORD or name in keep:
            continue
        if not (_NUMBERED.fullmatch(name) or any(fnmatch.fnmatchcase(name, pattern) for pattern in writes)):
            left.append(path)
        elif storage.list_names(path):
            left += _clear_below(path, writes)
        else:
            storage.remove(path)
    return left


def _clear_below(folder: str, writes: Collection[str]) -> list[str]:
    """As `_clear`, of a folder that is an output's own, with those in it; what becomes empty goes."""
    left = []
    for name in storage.list_names(folder):
        path = storage.join(folder, name)
        if storage.list_names(path):
            left += _clear_below(path, writes)
        elif name == RECORD or _NUMBERED.fullmatch(name) or any(fnmatch.fnmatchcase(name, own) for own in writes):
            storage.remove(path)
        else:
            left.append(path)
    if not left:
        storage.remove(folder)
    return left


def indexed_from(folder: str) -> str:
    """32 hex digits of the files and settings that a folder of references was indexed from: these are replaced once
    files have changed, and then others under the same names. Empty of other shards, which nothing replaces."""
    if not storage.exists(storage.join(folder, REFERENCES_FILE)):
        return ""
    record = read_record(folder)
    return digest({"config": plain(record.config), "inputs": dict(record.inputs)}) if record is not None else ""


def read_record(folder: str) -> MadeFrom | None:
    """What the output in a folder is made from; None if it does not say.

    Raises:
        ValueError: the record is damaged.
    """
    path = storage.join(folder, RECORD)
    if not storage.exists(path):
        return None
    try:
        stored: Any = storage.read_json(path)
        config, version, inputs = stored["config"], stored["version"], stored["inputs"]
        if not (isinstance(config, dict) and isinstance(version, str) and isinstance(inputs, dict)):
            raise TypeError("config, version or inputs is of another type")
        return MadeFrom(config=config, version=version, inputs=inputs)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not the record of an output ({error}); put it back ({RETURNS}), or move the folder away"
        ) from None
