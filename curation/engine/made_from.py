"""The origin of an output – config, code version, contents of the inputs – as a digest, and changes in words.

Equal `MadeFrom`, equal bytes: by it a stage knows whether what it finds is its own, and the runner whether a stage is
up to date.
"""

import dataclasses
import hashlib
import io
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow.parquet as pq

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.parquet_rows import column_chunk
from mmcorpus.filters.secrets import masked

WIDTH: Final = 80
"""Characters of a value shown in a message."""


def plain(value: Any, leave_out: Collection[str] = ()) -> Any:
    """A config as JSON-able values, secrets masked, without fields that change no output (`leave_out`, top level)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        value = {str(key): entry for key, entry in value.items() if key not in leave_out}
    return masked(json.loads(json.dumps(value, sort_keys=True, default=str)))


def digest(value: Any) -> str:
    """32 hex digits of a JSON-able value; equal values give equal digests, whatever the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def digest_of(*values: Any) -> str:
    """16 hex digits of JSON-able values, for names of work folders and fingerprints of tables."""
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8).hexdigest()


def file_digest(path: str) -> str:
    """32 hex digits of a file's bytes, local or remote."""
    state = hashlib.blake2b(digest_size=16)
    fs, inner = storage.filesystem(path)
    with fs.open(inner, "rb") as file:
        while chunk := file.read(1 << 20):
            state.update(chunk)
    return state.hexdigest()


def table_digest(path: str, state: Any = None) -> str:
    """The hex digest of a parquet file of ours as it would be without checksums of its pages (32 digits, or `state`'s).

    Earlier tables have none: one that is made again with the same content is the same to what was made from it.
    """
    state = hashlib.blake2b(digest_size=16) if state is None else state
    with storage.open_parquet(path) as table:
        if not _has_checksums(path, table):
            state.update(storage.read_bytes(path))
            return str(state.hexdigest())
        sink: Any = _Sink(state)
        plainly = {**storage.TABLE, "write_page_checksum": False}
        with pq.ParquetWriter(sink, table.schema_arrow, **plainly) as writer:
            for group in range(table.num_row_groups):
                rows = table.read_row_group(group).combine_chunks()
                writer.write_table(rows, row_group_size=max(1, rows.num_rows))
    return str(state.hexdigest())


class _Sink(io.RawIOBase):
    """Where written bytes go to be hashed."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._state.update(data)
        return memoryview(data).nbytes


def _has_checksums(path: str, table: pq.ParquetFile) -> bool:
    """Whether the first page's header has a fourth field, its CRC, after three numbers (Thrift's compact protocol)."""
    if not table.num_row_groups or not table.metadata.num_columns:
        return True  # no page, nothing that differs
    column = column_chunk(table, 0, 0)
    start = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
    header, place = storage.read_bytes(path, start, start + 64), 0
    for _ in range(3):
        place += 1  # the field's kind
        while header[place] & 0x80:
            place += 1
        place += 1
    return header[place] == _NEXT_INT32


_NEXT_INT32: Final = 0x15
"""The field after the last one, a whole number of 32 bits."""


@dataclass(frozen=True, kw_only=True)
class MadeFrom:
    """All that decides an output. Settings that only change speed are left out."""

    config: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able values."""
    version: str = "1"
    """Of the code: raised when the same config and inputs would give other output."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """By name, a digest of the content of each thing that is read."""

    @property
    def fingerprint(self) -> str:
        """32 hex digits."""
        return digest({"config": plain(self.config), "version": self.version, "inputs": dict(self.inputs)})

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"config": plain(self.config), "version": self.version, "inputs": dict(self.inputs)}

    def changes_from(self, before: "MadeFrom") -> str:
        """The differences from an earlier one, in words; of many changes of the config the first three."""
        changes = differences(before.config, plain(self.config))
        if changes:
            return "; ".join(changes[:3] + ([f"{len(changes) - 3} more"] if len(changes) > 3 else []))
        if before.version != self.version:
            return f"its output's version changed from {before.version} to {self.version}"
        changed = [name for name in self.inputs if before.inputs.get(name) != self.inputs[name]]
        gone = [name for name in before.inputs if name not in self.inputs]
        return f"{', '.join(name.replace('#', ' of ') for name in changed or gone)} changed"


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys; lists stay whole."""
    if isinstance(value, Mapping) and value:
        found: dict[str, Any] = {}
        for key, entry in value.items():
            found |= flatten(entry, f"{prefix}.{key}" if prefix else str(key))
        return found
    return {prefix: value}


def differences(before: Any, after: Any) -> list[str]:
    """The changes between two configs: `keep changed from 'a' to 'b'`, `same_image added`, `url removed`."""
    found = []
    if isinstance(before, Mapping) and isinstance(after, Mapping):  # what is new or gone as a whole is said once
        found += [f"{key} added" for key in sorted(after.keys() - before.keys()) if isinstance(after[key], Mapping)]
        found += [f"{key} removed" for key in sorted(before.keys() - after.keys()) if isinstance(before[key], Mapping)]
        before = {key: value for key, value in before.items() if f"{key} removed" not in found}
        after = {key: value for key, value in after.items() if f"{key} added" not in found}
    old, new = flatten(before), flatten(after)
    for key in sorted(old.keys() | new.keys()):
        name = key or "it"
        if key not in old:
            found.append(f"{name} added ({_short(new[key])})")
        elif key not in new:
            found.append(f"{name} removed")
        elif old[key] != new[key]:
            found.append(_change(name, old[key], new[key]))
    return found


def _change(name: str, before: Any, after: Any) -> str:
    if isinstance(before, list) and isinstance(after, list):
        gone = [_short(entry) for entry in before if entry not in after]
        come = [_short(entry) for entry in after if entry not in before]
        if gone and come:
            return f"{name} changed from {', '.join(gone)} to {', '.join(come)}"
        if gone or come:
            return f"{name} {'without' if gone else 'with'} {', '.join(gone or come)}"
    if isinstance(before, str) and isinstance(after, str) and len(before) > WIDTH and len(after) > WIDTH:
        same = next((i for i, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), WIDTH)
        start = max(0, same - WIDTH // 4)
        lead = "…" if start else ""
        before, after = lead + before[start : start + WIDTH], lead + after[start : start + WIDTH]
    return f"{name} changed from {_short(before)} to {_short(after)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= WIDTH + 4 else text[: WIDTH + 3] + "…"
