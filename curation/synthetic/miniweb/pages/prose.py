"""Prose about pictures: true sentences from the renderers' facts, in a story of people and places."""

import random
from typing import Final

from mmcorpus.curation.synthetic.miniweb.languages import describe
from mmcorpus.curation.synthetic.miniweb.pages.content import Shown
from mmcorpus.curation.synthetic.miniweb.pages.frames import (
    ANSWERS,
    ASIDES,
    CLOSINGS,
    FRAMES,
    LOOKS,
    OPENINGS,
    ORDINALS,
    PEOPLE,
    PLACES,
    TITLES,
)

ENGLISH: Final = "en"
LANGUAGES: Final = (ENGLISH, *FRAMES)


class Teller:
    """Writes about pictures in one language; no sentence of the frame comes twice on a page."""

    def __init__(self, language: str, rng: random.Random) -> None:
        self.language = language
        self._rng = rng
        self.person, self.other = rng.sample(PEOPLE, 2)
        self.place = rng.choice(PLACES)
        self.year = rng.randint(1988, 2023)
        frame = FRAMES.get(language)
        self._asides = list(frame[2:-1] if frame else ASIDES)
        rng.shuffle(self._asides)
        self._looks = rng.sample(LOOKS, len(LOOKS))
        self._answers = rng.sample(ANSWERS, len(ANSWERS))
        self._shown = 0

    def title(self, shown: Shown) -> str:
        """A headline that names the picture."""
        if self.language != ENGLISH:
            return self._fill(FRAMES[self.language][0])
        return _capital(self._fill(self._rng.choice(TITLES), thing=self.thing(shown)))

    def heading(self, shown: Shown) -> str:
        """A subheading that names the picture."""
        if self.language != ENGLISH:
            return self.caption(shown).rstrip(".。")
        place, thing = self.place, self.thing(shown)
        return self._rng.choice((f"{_capital(thing)}, {place}", f"About {thing} of {self.year}", f"{place}: {thing}"))

    def thing(self, shown: Shown) -> str:
        """The picture in a noun phrase: its shortest caption."""
        if self.language != ENGLISH:
            return self.caption(shown).rstrip(".。")
        text = shown.captions[0].rstrip(".")
        return text[0].lower() + text[1:]

    def caption(self, shown: Shown) -> str:
        """One true sentence, not the shortest: on many pages that one would be the same."""
        if self.language != ENGLISH:
            return describe(shown.kind, shown.facts, self.language)
        return shown.captions[1]

    def opening(self) -> str:
        """The sentences that a page begins with."""
        frame = FRAMES.get(self.language)
        return f"{self._fill(frame[1] if frame else self._rng.choice(OPENINGS))} {self.aside()}".strip()

    def closing(self) -> str:
        """The sentences that a page ends with."""
        frame = FRAMES.get(self.language)
        return f"{self.aside()} {self._fill(frame[-1] if frame else self._rng.choice(CLOSINGS))}".strip()

    def aside(self) -> str:
        """A sentence of the story; empty once all are told."""
        return self._fill(self._asides.pop()) if self._asides else ""

    def about(self, shown: Shown, *, sentences: int = 3) -> str:
        """A paragraph on the next picture of the page: what it shows, and `sentences` of the story around that."""
        ordinal = ORDINALS[min(self._shown, len(ORDINALS) - 1)]
        self._shown += 1
        if self.language != ENGLISH:
            parts = [describe(shown.kind, shown.facts, self.language)]
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


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _uncapital(text: str) -> str:
    return text[0].lower() + text[1:]
