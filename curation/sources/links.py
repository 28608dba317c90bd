"""Symbolic links among the files of a folder that was named: which of them are followed."""

import os
import re
from collections.abc import Sequence
from typing import Final

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.members import IMAGE_EXTENSIONS
from mmcorpus.curation.store.named_files import Outside, path_below

_CACHED: Final = re.compile(r"/(?:datasets|models|spaces)--[^/]+/(?:blobs|refs)/")
"""What the Hugging Face cache keeps beside a repository's snapshots, whose files are links to blobs."""


def leads_out(root: str, name: str) -> bool:
    """Whether a file below a folder lies elsewhere: see `path_below`."""
    if not storage.is_local(root):
        return False
    try:
        path_below(root, name)
    except Outside:
        return True
    return False


def followed(root: str, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Of some files below a folder those to read, in order; and the links that lead elsewhere, or to nothing.

    A file that has several names is read by one, but for images, each of which may be another sample's. Blobs of the
    Hugging Face cache have the names that its snapshots give them.
    """
    if not storage.is_local(root):
        return sorted(names), []
    inner = storage.filesystem(root)[1]
    base = os.path.realpath(inner)
    links = {name for name in names if os.path.islink(os.path.join(inner, name))}
    kept: dict[str, str] = {}
    elsewhere: list[str] = []
    for name in sorted(names, key=lambda name: (name in links, name)):
        cached = _CACHED.search(os.path.join(base, name))
        if cached and cached.end() > len(base) + 1:
            continue
        try:
            real = path_below(root, name)
        except Outside:
            elsewhere.append(name)
            continue
        if name in links and not os.path.isfile(real):
            if not os.path.isdir(real):  # the files of a folder are found where they are
                elsewhere.append(name)
            continue
        kept.setdefault(name if name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS else real, name)
    return sorted(kept.values()), sorted(elsewhere)
