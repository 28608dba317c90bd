"""Settings of a source that say nothing, because what it is made of does not read them."""

from collections.abc import Iterable
from typing import Any, Final

_EVERY: Final = frozenset({"kind"})
_HERE: Final = frozenset({"columns", "image_root", "strip", "downloaded", "published"})
_READ: Final[dict[str, frozenset[str]]] = {
    "urls": frozenset({"download", "published"}),
    "pages": frozenset({"download", "extract", "images", "place", "opt_out"}),
    "shards": _HERE,
    "parquet": _HERE,
    "json": _HERE,
    "written": frozenset(),
    "reselect": frozenset(),
}
"""By the key that says what a source is made of, the others that are read then."""


def unused(sources: Any) -> Iterable[tuple[tuple[str, ...], str]]:
    """What is wrong with a recipe's `sources`, as they are written: an empty `download: {}` promises one as well."""
    told = sources if isinstance(sources, dict) else {}
    for name, given in ((name, one) for name, one in told.items() if isinstance(one, dict)):
        made_of = next((key for key in _READ if given.get(key) is not None), None)
        if made_of is None:
            continue
        for key in given:
            if given[key] is None or key in (made_of, *_EVERY, *_READ[made_of]):
                continue
            if readers := [f"`{one}`" for one, keys in _READ.items() if key in keys]:
                whose = " and ".join(readers)
                yield ("sources", name, key), f"is of {whose}; a source with `{made_of}` does not read it: leave it out"
