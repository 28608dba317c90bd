"""Errors of packs that cannot be read."""

from typing import Final

MEND: Final = (
    "`mmcorpus verify` of its run lists what is damaged, and the run's command makes it again; of a pack by itself, "
    "PackReader.verify() does, and `mmcorpus pack` writes what you moved away (a .tar with its .index.parquet) anew"
)


class PackError(ValueError):
    """A pack that is missing, unfinished or damaged; the message names the file and what to do."""
