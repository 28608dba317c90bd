"""Published filters by name, as the clauses that select what they keep."""

import re
from dataclasses import dataclass
from typing import Final


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
    profile.name: profile
    for profile in (
        Profile(
            name="datacomp_basic",
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
            clauses=(
                "image.aspect_ratio <= 2.0",  # between 1/2 and 2 either way
                "image.min_side >= 100",
                "image.max_side <= 10000",
                "url.matches == 0",  # the words: filters/url.py
                # Repeats are no matter of one image: MM1_USES, and `repeats` in curation/documents/config.py.
            ),
            source="MM1 (McKinzie et al. 2024, arXiv:2403.09611), appendix A.1",
        ),
        Profile(
            name="obelics_images",
            clauses=(
                'image.format in ("jpeg", "png", "webp")',
                "image.min_side >= 150",
                "image.max_side <= 20000",
                "image.aspect_ratio <= 2.0",
            ),
            source="OBELICS (Laurençon et al. 2023, arXiv:2306.16527), 'Filtering Multimodal Web Documents'",
        ),
        Profile(
            name="mm1_documents",
            clauses=("document.images >= 1", "document.images <= 30"),
            source="MM1 (McKinzie et al. 2024, arXiv:2403.09611), appendix A.1",
        ),
        Profile(
            name="mm1_text",
            clauses=(
                'language.code == "en"',
                "language.probability >= 0.5",  # CCNet (Wenzek et al. 2019, arXiv:1911.00359), 3.2
                "caption.characters >= 300",  # CCNet's code: documents that are shorter are left out
                "obelics.flagged_words <= 0.01",  # OBELICS; MM1 says 'profanity' and gives no number
            ),
            source="MM1 (2024, arXiv:2403.09611), A.2: 'length, profanity and quality', by the papers it follows",
        ),
        Profile(
            name="obelics_paragraphs",
            clauses=(
                "obelics.words >= 4",
                "obelics.words <= 1000",
                "obelics.character_repetition <= 0.1",
                "obelics.word_repetition <= 0.1",
                "obelics.special_characters <= 0.3",
                "obelics.stop_words >= 0.3",
                "obelics.flagged_words <= 0.01",
                "obelics.punctuation >= 0.001 or obelics.tokens < 12",
                "obelics.common_words >= 0.8",
                "obelics.spam_words < 0.12",
            ),
            source="OBELICS (2023, arXiv:2306.16527), A.2.3 and its code's configuration; spam words: its last step",
        ),
        Profile(
            name="obelics_documents",
            clauses=(
                "document.images >= 1",
                "document.images <= 30",
                "obelics.words >= 10",
                "obelics.words <= 2000",
                "obelics.character_repetition <= 0.1",
                "obelics.word_repetition <= 0.2",
                "obelics.special_characters <= 0.275",
                "obelics.stop_words >= 0.35",
                "obelics.flagged_words <= 0.01",
                "obelics.punctuation >= 0.03",
                "obelics.common_words >= 0.9",
                'language.code == "en"',
                "language.probability >= 0.8",
            ),
            source="OBELICS (2023, arXiv:2306.16527), A.2.3 and its code; with a kenlm model add `kenlm.ppl <= 1500`",
        ),
        Profile(
            name="gopher_quality",
            clauses=(
                "gopher_quality.words >= 50",
                "gopher_quality.words <= 100000",
                "gopher_quality.mean_word_length >= 3",
                "gopher_quality.mean_word_length <= 10",
                "gopher_quality.hashes <= 0.1",
                "gopher_quality.ellipses <= 0.1",
                "gopher_quality.bullet_lines <= 0.9",
                "gopher_quality.ellipsis_lines <= 0.3",
                "gopher_quality.alphabetic_words >= 0.8",
                "gopher_quality.stop_words >= 2",
            ),
            source="Gopher (Rae et al. 2021, arXiv:2112.11446), A.1.1 'Quality Filtering'",
        ),
        Profile(
            name="gopher_repetition",
            clauses=(
                "gopher_repetition.duplicate_paragraphs <= 0.3",
                "gopher_repetition.duplicate_paragraph_characters <= 0.2",
                "gopher_repetition.duplicate_lines <= 0.3",
                "gopher_repetition.duplicate_line_characters <= 0.2",
                "gopher_repetition.top_2gram <= 0.2",
                "gopher_repetition.top_3gram <= 0.18",
                "gopher_repetition.top_4gram <= 0.16",
                "gopher_repetition.duplicate_5gram <= 0.15",
                "gopher_repetition.duplicate_6gram <= 0.14",
                "gopher_repetition.duplicate_7gram <= 0.13",
                "gopher_repetition.duplicate_8gram <= 0.12",
                "gopher_repetition.duplicate_9gram <= 0.11",
                "gopher_repetition.duplicate_10gram <= 0.1",
            ),
            source="Gopher (2021, arXiv:2112.11446), table A1",
        ),
        Profile(
            name="c4",
            clauses=(
                "not c4.lorem_ipsum",
                "not c4.curly_bracket",
                "c4.sentences >= 5",
                "c4.flagged_words == 0",
            ),
            source="C4 (Raffel et al. 2020, arXiv:1910.10683), 2.2: the rules for pages",
        ),
        Profile(
            name="c4_paragraphs",
            clauses=("c4.kept_lines == c4.lines",),
            source="C4 (2020, arXiv:1910.10683), 2.2: the rules for lines; what loses one of its lines goes",
        ),
        Profile(
            name="fineweb",
            clauses=(
                "fineweb.line_punctuation >= 0.12",
                "fineweb.short_lines <= 0.67",
                "fineweb.duplicate_line_characters <= 0.01",
                "fineweb.line_breaks <= 0.3",
            ),
            source="FineWeb (Penedo et al. 2024, arXiv:2406.17557), 3.6; line breaks by its code in datatrove",
        ),
    )
}
