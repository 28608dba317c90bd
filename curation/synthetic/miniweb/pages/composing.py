"""Corrupted content: the text and pictures of a page, changed before it is laid out."""

from dataclasses import replace

from mmcorpus.curation.synthetic.miniweb.pages import content
from mmcorpus.curation.synthetic.miniweb.pages.content import Picture, Shown, Text
from mmcorpus.curation.synthetic.miniweb.pages.embed import foreign
from mmcorpus.curation.synthetic.miniweb.pages.prose import PROSE
from mmcorpus.curation.synthetic.miniweb.pages.templates import Desk


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
        *(content.paragraph(" ".join([PROSE["spam"]] * desk.rng.randint(4, 9))) for _ in range(4)),
    ]


def lorem(desk: Desk) -> None:
    first, *others = PROSE["lorem"]
    desk.draft.blocks = [
        content.paragraph(", ".join([first, *desk.rng.sample(others, 9)]) + ".")
        if isinstance(block, Text) and block.tag == "p" and number > 1
        else block
        for number, block in enumerate(desk.draft.blocks)
    ]


def lists_only(desk: Desk) -> None:
    keep = [replace(block, caption=None) for block in desk.draft.blocks if isinstance(block, Picture)]
    items = [f"{desk.rng.choice(('Sheet', 'Print', 'Folder'))} {desk.rng.randint(1, 999)}" for _ in range(70)]
    desk.draft.blocks = [content.heading(1, "All sheets"), *keep, content.listing(items)]


def no_pictures(desk: Desk) -> None:
    desk.draft.blocks = [block for block in desk.draft.blocks if isinstance(block, Text)]


def dead_pictures(desk: Desk) -> None:
    """Every picture has moved away."""
    draft = desk.draft
    draft.routes.clear()
    blocks: list[content.Block] = []
    for number, block in enumerate(draft.blocks):
        if isinstance(block, Picture):
            url = f"http://{draft.host}/gone/{draft.number}-{number}.jpg"
            gone = Shown(url=url, file=None, spoil="dead", expect_stage="download", expect_rule="http_404")
            block = replace(foreign(gone, "picture"), caption=block.caption)
        blocks.append(block)
    draft.blocks = blocks


def edited(desk: Desk) -> None:
    """A word here and there differs."""
    blocks: list[content.Block] = []
    for block in desk.draft.blocks:
        if isinstance(block, Text) and block.inner is None:
            text = block.text
            for old, new in PROSE["swaps"].items():
                text = text.replace(old, new, 1)
            block = replace(block, text=text)
        blocks.append(block)
    desk.draft.blocks = blocks


def robots(desk: Desk, *, directive: str) -> None:
    desk.draft.head.append(f'<meta name="robots" content="{directive}">')
