"""Personas: who writes a document or draws a chart, and the words of their trade."""

import random
from dataclasses import dataclass
from typing import Any, Final

from mmcorpus.filters.yaml_data import read_data

_PEOPLE: Final[dict[str, list[str]]] = read_data(__package__, "people.yaml")
TOPICS: Final[dict[str, dict[str, Any]]] = read_data(__package__, "topics.yaml")


@dataclass(frozen=True, kw_only=True, slots=True)
class Persona:
    """Somebody with a job, a firm and a subject."""

    name: str
    job: str
    firm: str
    street: str
    town: str
    topic: str

    @property
    def words(self) -> dict[str, Any]:
        """The topic's entry of `topics.yaml`."""
        return TOPICS[self.topic]

    def facts(self) -> dict[str, str]:
        return {"name": self.name, "job": self.job, "firm": self.firm}


def draw_persona(rng: random.Random) -> Persona:
    topic = rng.choice(tuple(TOPICS))
    words = TOPICS[topic]
    return Persona(
        name=draw_name(rng), job=rng.choice(words["jobs"]), firm=rng.choice(words["firms"]), street=draw_street(rng),
        town=draw_town(rng), topic=topic,
    )  # fmt: skip


def draw_name(rng: random.Random) -> str:
    """`Greta Fischer`."""
    return f"{rng.choice(_PEOPLE['first'])} {rng.choice(_PEOPLE['last'])}"


def draw_street(rng: random.Random) -> str:
    """`14 Mill Lane`."""
    return f"{rng.randint(1, 180)} {rng.choice(_PEOPLE['streets'])}"


def draw_town(rng: random.Random) -> str:
    return rng.choice(_PEOPLE["towns"])


def draw_month(rng: random.Random) -> str:
    return rng.choice(_PEOPLE["months"])


def draw_date(rng: random.Random) -> str:
    """`9 March 2021`."""
    return f"{rng.randint(1, 28)} {draw_month(rng)} {rng.randint(1995, 2026)}"


def draw_later(rng: random.Random, date: str) -> str:
    """A day of the month that follows a date."""
    _, month, year = date.split()
    months = _PEOPLE["months"]
    place = months.index(month) + 1
    return f"{rng.randint(1, 28)} {months[place % 12]} {int(year) + place // 12}"


def draw_hour(rng: random.Random) -> str:
    """`9:45`."""
    return f"{rng.randint(8, 20)}:{rng.choice(('00', '15', '30', '45'))}"


def money(cents: int, sign: str) -> str:
    """`€1,204.50`."""
    return f"{sign}{cents // 100:,}.{cents % 100:02d}"


def draw_items(rng: random.Random, persona: Persona, count: int) -> list[tuple[str, int]]:
    """So many of the topic's items, with prices in cents."""
    items = persona.words["items"]
    return [
        (name, rng.randint(items[name][0] * 20, items[name][1] * 20) * 5)
        for name in rng.sample(tuple(items), min(count, len(items)))
    ]


def draw_lines(rng: random.Random, persona: Persona, count: int) -> list[str]:
    """So many sentences of the topic."""
    words = persona.words
    return [
        line.format(
            item=rng.choice(tuple(words["items"])).lower(), event=rng.choice(words["events"]), number=rng.randint(2, 30)
        )
        for line in rng.sample(words["lines"], min(count, len(words["lines"])))
    ]
