"""Every way in which a row goes wrong (or looks wrong and is fine), with the truth that it creates.

A spoiler changes a clean page in place. `SPOILERS` says of each what a sound pipeline should make of its rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from mmcorpus.curation.synthetic.miniweb.page import Page
from mmcorpus.curation.synthetic.miniweb.spoilers import answers, copies, pictures, words

__all__ = ["SPOILERS", "Spoiler"]

Spoil = Callable[[Page, Page | None], None]
"""Changes the first page; the second is the clean page that it copies from or swaps with, for those that need one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spoiler:
    """A spoiler and what its rows should meet under the demo's rules."""

    spoil: Spoil
    weight: int
    """Its share of the spoiled rows, relative to the others'."""
    stage: Literal["list", "download", "select"] | None = None
    """Where its rows should be dropped; None: nowhere."""
    rule: str = ""
    """The code that should drop them."""
    partner: Literal["", "copy", "repeat", "swap"] = ""
    """What it needs another row for: a clean one to copy, an earlier clean one to repeat, or one to exchange captions
    with."""
    waits: bool = False
    """It makes a client wait, so a site has few of it."""
    note: str = ""
    """For the reader of the truth."""


_CLUSTER: Final = "of a picture and its copies one survives, whichever the rule prefers; the others go"

SPOILERS: Final[dict[str, Spoiler]] = {
    "swapped_caption": Spoiler(
        spoil=words.swapped_caption,
        weight=10,
        partner="swap",
        note="plain rules keep it; only a judge that looks can tell",
    ),
    "boilerplate_caption": Spoiler(
        spoil=words.boilerplate_caption, weight=8, stage="select", rule="caption.is_boilerplate"
    ),
    "file_name_caption": Spoiler(spoil=words.file_name_caption, weight=8, stage="select", rule="caption.is_filename"),
    "url_caption": Spoiler(spoil=words.url_caption, weight=4, stage="select", rule="caption.is_url"),
    "markup_caption": Spoiler(spoil=words.markup_caption, weight=4, stage="select", rule="caption.has_markup"),
    "empty_caption": Spoiler(spoil=words.empty_caption, weight=3, stage="select", rule="caption.words"),
    "other_language": Spoiler(spoil=words.other_language, weight=12, stage="select", rule="language.en"),
    "exact_duplicate": Spoiler(
        spoil=copies.exact_duplicate, weight=6, stage="select", rule="same_image.rank", partner="copy", note=_CLUSTER
    ),
    "edited_duplicate": Spoiler(
        spoil=copies.edited_duplicate,
        weight=4,
        stage="select",
        rule="same_image.rank",
        partner="copy",
        note=_CLUSTER,
    ),
    "reencoded_duplicate": Spoiler(
        spoil=copies.reencoded_duplicate,
        weight=5,
        stage="select",
        rule="same_image.rank",
        partner="copy",
        note=_CLUSTER,
    ),
    "resized_duplicate": Spoiler(
        spoil=copies.resized_duplicate,
        weight=5,
        stage="select",
        rule="same_image.rank",
        partner="copy",
        note=_CLUSTER,
    ),
    "cropped_duplicate": Spoiler(
        spoil=copies.cropped_duplicate,
        weight=5,
        stage="select",
        rule="same_image.rank",
        partner="copy",
        note=_CLUSTER,
    ),
    "brightened_duplicate": Spoiler(
        spoil=copies.brightened_duplicate,
        weight=4,
        stage="select",
        rule="same_image.rank",
        partner="copy",
        note=_CLUSTER,
    ),
    "listed_twice": Spoiler(spoil=copies.listed_twice, weight=4, stage="list", rule="listed_twice", partner="repeat"),
    "icon": Spoiler(
        spoil=pictures.icon,
        weight=8,
        stage="select",
        rule="image.min_side",
        note="the words of its address give it away, too",
    ),
    "extreme_aspect": Spoiler(spoil=pictures.extreme_aspect, weight=5, stage="select", rule="image.aspect_ratio"),
    "blank": Spoiler(spoil=pictures.blank, weight=5, stage="select", rule="image.entropy"),
    "blurred": Spoiler(spoil=pictures.blurred, weight=5, stage="select", rule="image.blur"),
    "truncated": Spoiler(spoil=pictures.truncated, weight=5, stage="download", rule="truncated"),
    "empty_body": Spoiler(spoil=answers.empty_body, weight=4, stage="download", rule="empty_body"),
    "html_as_image": Spoiler(spoil=answers.html_as_image, weight=5, stage="download", rule="not_an_image"),
    "wrong_content_type": Spoiler(spoil=answers.wrong_content_type, weight=4),
    "http_404": Spoiler(spoil=answers.http_404, weight=12, stage="download", rule="http_404"),
    "http_410": Spoiler(spoil=answers.http_410, weight=3, stage="download", rule="http_410"),
    "http_403": Spoiler(spoil=answers.http_403, weight=3, stage="download", rule="http_403"),
    "http_500": Spoiler(spoil=answers.http_500, weight=3, stage="download", rule="http_500"),
    "transient_503": Spoiler(spoil=answers.transient_503, weight=4),
    "redirect": Spoiler(spoil=answers.redirect, weight=5),
    "redirect_loop": Spoiler(spoil=answers.redirect_loop, weight=3, stage="download", rule="redirect_loop"),
    "redirect_private": Spoiler(spoil=answers.redirect_private, weight=4, stage="download", rule="private_address"),
    "private_url": Spoiler(spoil=answers.private_url, weight=2, stage="download", rule="private_address"),
    "bad_url": Spoiler(spoil=answers.bad_url, weight=3, stage="list", rule="bad_url"),
    "slow": Spoiler(spoil=answers.slow, weight=2, waits=True),
    "drip": Spoiler(spoil=answers.drip, weight=2, stage="download", rule="total_time", waits=True),
    "endless": Spoiler(spoil=answers.endless, weight=2, stage="download", rule="too_many_bytes"),
    "reset": Spoiler(spoil=answers.reset, weight=3, stage="download", rule="connection"),
    "bomb": Spoiler(spoil=pictures.bomb, weight=2, stage="download", rule="too_many_pixels"),
    "exif_rotated": Spoiler(spoil=pictures.exif_rotated, weight=6, note="must come out upright"),
    "cmyk": Spoiler(spoil=pictures.cmyk, weight=3),
    "sixteen_bit": Spoiler(spoil=pictures.sixteen_bit, weight=3),
    "palette_transparent": Spoiler(spoil=pictures.palette_transparent, weight=4),
    "rgba": Spoiler(spoil=pictures.rgba, weight=4),
    "progressive": Spoiler(spoil=pictures.progressive, weight=3),
    "animated": Spoiler(spoil=pictures.animated, weight=4, stage="select", rule="image.frames"),
    "noai": Spoiler(spoil=answers.noai, weight=5, stage="download", rule="opt_out"),
    "noai_for_others": Spoiler(spoil=answers.noai_for_others, weight=2),
}
"""By name; the name is the truth's `spoil`."""
