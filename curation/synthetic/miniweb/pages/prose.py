"""Prose about pictures: true sentences from the renderers' facts, in a story of people and places."""

import random
from typing import Any, Final

from mmcorpus.curation.synthetic.miniweb.captions import describe
from mmcorpus.curation.synthetic.miniweb.pages.content import Shown
from mmcorpus.curation.synthetic.render.words import capital
from mmcorpus.filters.yaml_data import read_data

PROSE: Final[dict[str, Any]] = read_data(__package__, "prose.yaml")
PEOPLE: Final[list[str]] = PROSE["people"]
PLACES: Final[list[str]] = PROSE["places"]
ENGLISH: Final = "en"


class Teller:
    """Writes about pictures in one language; no sentence of the story comes twice on a page."""

    def __init__(self, language: str, rng: random.Random) -> None:
        self.language = language
        self._rng = rng
        self.person, self.other = rng.sample(PEOPLE, 2)
        self.place = rng.choice(PLACES)
        self.year = rng.randint(1988, 2023)
        self._frame: dict[str, Any] | None = PROSE["frames"].get(language)
        self._asides = list((self._frame or PROSE)["asides"])
        rng.shuffle(self._asides)
        self._looks = rng.sample(PROSE["looks"], len(PROSE["looks"]))
        self._answers = rng.sample(PROSE["answers"], len(PROSE["answers"]))
        self._shown = 0

    def title(self, shown: Shown) -> str:
        """A headline that names the picture."""
        if self._frame:
            return self._fill(self._frame["title"])
        return capital(self._fill(self._rng.choice(PROSE["titles"]), thing=self._thing(shown)))

    def heading(self, shown: Shown) -> str:
        """A subheading that names the picture."""
        thing = self._thing(shown)
        if self._frame:
            return thing
        heading: str = self._rng.choice(PROSE["headings"])
        return heading.format(thing=thing, Thing=capital(thing), place=self.place, year=self.year)

    def _thing(self, shown: Shown) -> str:
        """The picture in a noun phrase: its shortest caption."""
        return self.caption(shown).rstrip(".。") if self._frame else _uncapital(shown.captions[0].rstrip("."))

    def caption(self, shown: Shown) -> str:
        """One true sentence, not the shortest: on many pages that one would be the same."""
        return describe(shown.kind, shown.facts, self.language) if self._frame else shown.captions[1]

    def opening(self) -> str:
        """The sentences that a page begins with."""
        opening = self._frame["opening"] if self._frame else self._rng.choice(PROSE["openings"])
        return f"{self._fill(opening)} {self.aside()}".strip()

    def closing(self) -> str:
        """The sentences that a page ends with."""
        aside = self.aside()
        closing = self._frame["closing"] if self._frame else self._rng.choice(PROSE["closings"])
        return f"{aside} {self._fill(closing)}".strip()

    def aside(self) -> str:
        """A sentence of the story; empty once all are told."""
        return self._fill(self._asides.pop()) if self._asides else ""

    def about(self, shown: Shown, *, sentences: int = 3) -> str:
        """A paragraph on the next picture of the page: what it shows, and `sentences` of the story around that."""
        ordinal = PROSE["ordinals"][min(self._shown, len(PROSE["ordinals"]) - 1)]
        self._shown += 1
        if self._frame:
            parts = [self.caption(shown)]
        else:
            fact = self._rng.choice(shown.captions[2:])
            look = self._looks[self._shown % len(self._looks)]
            parts = [self._fill(look, ordinal=ordinal, fact=_uncapital(fact), Fact=fact)]
            if shown.qa and self._answers:
                question, answer = self._rng.choice(shown.qa)
                parts.append(self._fill(self._answers.pop(), question=question, answer=answer))
        parts += [self.aside() for _ in range(sentences)]
        if self._rng.random() < 0.5:
            parts[0], parts[1:] = parts[0], self._rng.sample(parts[1:], len(parts) - 1)
        return " ".join(part for part in parts if part)

    def _fill(self, template: str, **more: str) -> str:
        return template.format(
            person=self.person, other=self.other, place=self.place, year=self.year, n=self._rng.randint(3, 60), **more
        )


def _uncapital(text: str) -> str:
    return text[0].lower() + text[1:]
