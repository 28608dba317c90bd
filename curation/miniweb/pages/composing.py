"""Spoiled content: what a page says and shows, changed before it is laid out."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from curation.miniweb.pages import content
from curation.miniweb.pages.content import Picture, Text
from curation.miniweb.pages.templates import Desk

_SPAM: Final = "cheap prints buy prints online best prints cheap frames buy frames free shipping best price"
_LOREM: Final = (
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et dolore"
    " magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo."
)


def shorten(desk: Desk) -> None:
    first = next(block for block in desk.draft.blocks if isinstance(block, Picture))
    desk.draft.blocks = [
        content.heading(1, desk.draft.title),
        replace(first, caption=None),
        content.paragraph("More soon."),
    ]


def not_found(desk: Desk) -> None:
    desk.draft.title = "Page not found"
    desk.draft.blocks = [
        content.heading(1, "Page not found"), content.paragraph("Sorry, we could not find what you were looking for.")
    ]  # fmt: skip


def empty(desk: Desk) -> None:
    desk.draft.blocks = []


def spam(desk: Desk) -> None:
    keep = [block for block in desk.draft.blocks if isinstance(block, Picture)]
    desk.draft.blocks = [
        content.heading(1, "Cheap prints, best prints"),
        *keep,
        *(content.paragraph(" ".join([_SPAM] * desk.rng.randint(4, 9))) for _ in range(4)),
    ]


def lorem(desk: Desk) -> None:
    blocks = desk.draft.blocks
    desk.draft.blocks = [
        content.paragraph(_LOREM) if isinstance(block, Text) and block.tag == "p" and number > 1 else block
        for number, block in enumerate(blocks)
    ]


def lists_only(desk: Desk) -> None:
    keep = [replace(block, caption=None) for block in desk.draft.blocks if isinstance(block, Picture)]
    items = [f"{desk.rng.choice(('Sheet', 'Print', 'Folder'))} {desk.rng.randint(1, 999)}" for _ in range(70)]
    desk.draft.blocks = [content.heading(1, "All sheets"), *keep, content.listing(items)]


def no_pictures(desk: Desk) -> None:
    desk.draft.blocks = [block for block in desk.draft.blocks if isinstance(block, Text)]


def many_pictures(desk: Desk) -> None:
    """Every picture again and again under other addresses, over 30 of them."""
    closing = desk.draft.blocks.pop()
    pictures = [
        replace(desk.picture(desk.shown[number % len(desk.shown)], caption=False, way="query"), caption=None)
        for number in range(36)
    ]
    numbered = [
        replace(picture, url=url, choices=(url,), markup=picture.markup.replace("fit=max", f"n={number}"))
        for number, picture in enumerate(pictures)
        for url in (picture.url.replace("fit=max", f"n={number}"),)
    ]
    desk.draft.blocks += [*numbered, closing]


def dead_pictures(desk: Desk) -> None:
    desk.draft.routes.clear()
    desk.draft.blocks = [
        replace(block, spoil="dead", expect_stage="download", expect_rule="http_404")
        if isinstance(block, Picture) else block
        for block in desk.draft.blocks
    ]  # fmt: skip


def edited(desk: Desk) -> None:
    """A word here and there differs."""
    swaps = (("collection", "set"), ("began", "started"), ("pictures", "images"), ("without a pause", "at once"))
    blocks: list[content.Block] = []
    for block in desk.draft.blocks:
        if isinstance(block, Text) and block.inner is None:
            text = block.text
            for old, new in swaps:
                text = text.replace(old, new, 1)
            block = replace(block, text=text)
        blocks.append(block)
    desk.draft.blocks = blocks


def robots(directive: str) -> Callable[[Desk], None]:
    def opt_out(desk: Desk) -> None:
        desk.draft.head.append(f'<meta name="robots" content="{directive}">')

    return opt_out
