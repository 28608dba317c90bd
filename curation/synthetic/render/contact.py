"""A contact sheet: many rendered pictures on one, to look at what a configuration gives."""

from collections.abc import Sequence

from PIL import Image

from mmcorpus.curation.synthetic.render.config import BASIC_KINDS, render

_GAP = 8
_GROUND = (228, 230, 234)


def contact_sheet(
    kinds: Sequence[str] = BASIC_KINDS, *, first_seed: int = 0, width: int = 1200, height: int = 150, rows: int = 2
) -> Image.Image:
    """`rows` rows of each kind, `height` pixels high and filled to `width`; the seeds count up from `first_seed`."""
    lines: list[list[Image.Image]] = []
    for kind in kinds:
        seed = first_seed
        for _ in range(rows):
            line: list[Image.Image] = []
            used = _GAP
            while used + (picture := _scaled(kind, seed, height)).width + _GAP <= width:
                line.append(picture)
                used += picture.width + _GAP
                seed += 1
            lines.append(line)
    sheet = Image.new("RGB", (width, _GAP + len(lines) * (height + _GAP)), _GROUND)
    for number, line in enumerate(lines):
        # What a line lacks to the full width is spread between its pictures.
        slack = (width - 2 * _GAP - sum(picture.width for picture in line)) / max(1, len(line) - 1)
        x = float(_GAP)
        for picture in line:
            sheet.paste(picture, (round(x), _GAP + number * (height + _GAP)))
            x += picture.width + slack
    return sheet


def _scaled(kind: str, seed: int, height: int) -> Image.Image:
    picture = render(kind, seed).image
    return picture.resize((round(picture.width * height / picture.height), height), Image.Resampling.LANCZOS)
