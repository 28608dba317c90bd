"""The folder of a checkpoint: whole or not there, written by one process or by several together.

A local folder is written beside its place and renamed into it; a remote one is complete once its `state.json` is there,
which is uploaded last.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mmcorpus.curation.store import storage

STATE: Final = "state.json"


def shard_name(kind: str, rank: int, ranks: int) -> str:
    """The file in which a process's part of `model` or `optimizer` lies; `rank` from 0."""
    return f"{kind}-{rank + 1:05d}-of-{ranks:05d}.safetensors"


@contextlib.contextmanager
def new_folder(path: str) -> Iterator[str]:
    """A local folder that becomes `path` when the block ends; nothing is there if it raises.

    What is at `path` before gives way: a local folder when the block ends, a remote one, whose files would be replaced
    one after the other, at its beginning. So that is for the caller to refuse where it is worth something.
    """
    clear(path)
    try:
        with part_of_folder(path) as folder:
            yield folder
        commit(path)
    except BaseException:
        abandon(path)
        raise


@contextlib.contextmanager
def part_of_folder(path: str) -> Iterator[str]:
    """A local folder for files that will be in `path` once it is committed; several processes may each give their part.

    Of a local `path` it is the one beside it, so all parts lie there; of a remote one it is a folder of this process's
    own, uploaded when the block ends, `state.json` last. A full disk becomes an OSError that says what was written.
    """
    if storage.is_local(path):
        with storage.naming_full_disk(storage.filesystem(path)[1]):
            os.makedirs(_temporary(path), exist_ok=True)
            yield _temporary(path)
        return
    with storage.naming_full_disk(tempfile.gettempdir()), tempfile.TemporaryDirectory() as temporary:
        yield temporary
        names = [str(file.relative_to(temporary)) for file in Path(temporary).rglob("*") if file.is_file()]
        for name in sorted(names, key=lambda name: (name == STATE, name)):
            storage.upload(os.path.join(temporary, name), storage.join(path, name))


def commit(path: str) -> None:
    """Put a local folder whose parts are all there in its place; a remote one is there with its `state.json`."""
    if storage.is_local(path):
        inner = storage.filesystem(path)[1]
        with storage.naming_full_disk(inner):
            remove_folder(inner)
            os.replace(_temporary(path), inner)


def abandon(path: str) -> None:
    """Remove the parts of a local folder that will not be committed."""
    if storage.is_local(path):
        shutil.rmtree(_temporary(path), ignore_errors=True)


def clear(path: str) -> None:
    """Remove what a kill left of writing `path`, maybe by another number of processes."""
    if storage.is_local(path):
        storage.remove(_temporary(path))
    else:
        remove_folder(path)


def remove_folder(path: str) -> None:
    """Remove a checkpoint, or what a kill left of removing it."""
    storage.remove(storage.join(path, STATE))  # first: without it, what is left is no checkpoint
    storage.remove(path)


def _temporary(path: str) -> str:
    return storage.filesystem(path)[1] + storage.TEMPORARY_SUFFIX
