"""Corrupted captions: about nothing, about something else, or in another language."""

from mmcorpus.curation.synthetic.miniweb.captions import LANGUAGES, PHRASES, describe
from mmcorpus.curation.synthetic.miniweb.page import Page


def swapped_caption(page: Page) -> None:
    """Two pages' captions exchanged: fluent, true of another picture."""
    page.caption = page.original().caption


def boilerplate_caption(page: Page) -> None:
    """A phrase of page chrome."""
    page.caption = page.rng.choice(PHRASES["boilerplate"])


def file_name_caption(page: Page) -> None:
    """A file name as cameras and phones give, mostly with the extension."""
    rng = page.rng
    stem: str = rng.choice(PHRASES["file_name_stems"])
    stem = stem.format(n=rng.randint(1, 9999), y=rng.randint(2005, 2024), m=rng.randint(1, 9), d=rng.randint(0, 9))
    page.caption = stem if rng.random() < 0.25 else stem + rng.choice(PHRASES["extensions"])


def url_caption(page: Page) -> None:
    """An address."""
    page.caption = page.rng.choice(PHRASES["urls"]).format(n=page.rng.randint(100, 99999))


def markup_caption(page: Page) -> None:
    """The caption with the tags around it that a careless extractor left."""
    page.caption = page.rng.choice(PHRASES["markup"]).format(n=page.rng.randint(100, 99999), caption=page.caption)


def empty_caption(page: Page) -> None:
    """No caption at all."""
    page.caption = ""


def other_language(page: Page) -> None:
    """The same facts in another language than English."""
    page.caption = describe(page.rendered.kind, page.rendered.facts, page.rng.choice(list(LANGUAGES)))
