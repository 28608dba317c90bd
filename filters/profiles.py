"""Published filters by name, as the clauses that select what they keep."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A published filter: a sample is kept if every clause is true."""

    name: str
    """How a recipe names it."""
    scorers: tuple[str, ...]
    """The scorers whose columns the clauses read."""
    clauses: tuple[str, ...]
    """Expressions over `scorer.column`, in the order in which the paper gives them."""
    source: str
    """Paper and section."""


PROFILES: Final[dict[str, Profile]] = {
    profile.name: profile
    for profile in (
        Profile(
            name="datacomp_basic",
            scorers=("language", "caption", "image"),
            clauses=(
                'language.code == "en"',
                "caption.words > 2",
                "caption.characters > 5",
                "image.min_side >= 200",
                "image.aspect_ratio <= 3.0",
            ),
            source="DataComp (Gadre et al. 2023, arXiv:2304.14108), §4.1 'Basic filtering' and appendix",
        ),
        Profile(
            name="mm1_images",
            scorers=("image", "url"),
            clauses=(
                "image.aspect_ratio <= 2.0",  # between 1/2 and 2 either way
                "image.min_side >= 100",
                "image.max_side <= 10000",
                "url.matches == 0",
            ),
            source="MM1 (McKinzie et al. 2024, arXiv:2403.09611), appendix A.1",
        ),
        Profile(
            name="obelics_images",
            scorers=("image",),
            clauses=(
                'image.format in ("jpeg", "png", "webp")',
                "image.min_side >= 150",
                "image.max_side <= 20000",
                "image.aspect_ratio <= 2.0",
            ),
            source="OBELICS (Laurençon et al. 2023, arXiv:2306.16527), 'Filtering Multimodal Web Documents'",
        ),
    )
}
