"""Published filters by name, as the clauses that select what they keep; profiles.yaml has them."""

import re
from dataclasses import dataclass
from typing import Final

from mmcorpus.filters.yaml_data import read_data


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A published filter: a sample is kept if every clause is true."""

    name: str
    """Its name in a recipe."""
    clauses: tuple[str, ...]
    """Expressions over `scorer.column`, in the order in which the paper gives them."""
    source: str
    """Paper and section."""

    @property
    def scorers(self) -> tuple[str, ...]:
        """The scorers whose columns the clauses read, in their order."""
        return tuple(dict.fromkeys(re.findall(r"\b([a-z]\w*)\.[a-z]", " ".join(self.clauses))))


MM1_USES: Final = 10
"""MM1, A.1: an image that stands in more places of the corpus goes. It counts addresses, which the list of a source's
images does before any download, and MD5s, which a pass of deduplication does (`by: bytes`, `copies <= 10`)."""

PROFILES: Final[dict[str, Profile]] = {
    name: Profile(name=name, clauses=tuple(entry["clauses"]), source=entry["source"])
    for name, entry in read_data(__package__, "profiles.yaml").items()
}
