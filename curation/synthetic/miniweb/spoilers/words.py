"""Spoiled captions: about nothing, about something else, or in another language."""

from mmcorpus.curation.synthetic.miniweb import captions
from mmcorpus.curation.synthetic.miniweb.languages import LANGUAGES, describe
from mmcorpus.curation.synthetic.miniweb.page import Page, the


def swapped_caption(page: Page, partner: Page | None) -> None:
    """Two pages' captions exchanged: fluent, true of another picture."""
    page.caption = the(partner).caption


def boilerplate_caption(page: Page, partner: Page | None) -> None:
    """Page furniture for a caption."""
    page.caption = captions.boilerplate(page.rng)


def file_name_caption(page: Page, partner: Page | None) -> None:
    """A camera's file name for a caption."""
    page.caption = captions.file_name(page.rng)


def url_caption(page: Page, partner: Page | None) -> None:
    """An address for a caption."""
    page.caption = captions.url(page.rng)


def markup_caption(page: Page, partner: Page | None) -> None:
    """The caption with tags left in it."""
    page.caption = captions.markup(page.rng, page.caption)


def empty_caption(page: Page, partner: Page | None) -> None:
    """No caption at all."""
    page.caption = ""


def other_language(page: Page, partner: Page | None) -> None:
    """The same facts in another language than English."""
    page.caption = describe(page.kind, page.facts, page.rng.choice(tuple(LANGUAGES)))
