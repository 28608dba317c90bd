"""Different pictures that look alike: of each kind, groups of one layout whose members differ in a part that matters.

    for picture in lookalikes("form", group=0, members=6): ...

Every picture follows from its kind, group and number alone. Drawn at twice the size and averaged, as drawings come.
"""

import random
from collections.abc import Callable
from typing import Final

from PIL import Image

from benchmarks.lookalikes import documents, further, graphics, things, unseen

Draw = Callable[[random.Random, random.Random, int], Image.Image]
"""From the group's chance, the picture's own, and its number in the group."""

TUNED: Final[dict[str, Draw]] = {
    "clock": things.clock,
    "form": documents.form,
    "chart": graphics.chart,
    "equation": documents.equation,
    "traffic light": things.traffic,
    "QR code": documents.qr,
    "slide": documents.slide,
    "flag": graphics.flag,
    "progress bar": graphics.progress,
    "dice": things.dice,
    "barcode": documents.barcode,
    "screenshot": documents.screenshot,
    "card": things.card,
    "moon": things.moon,
    "meme": documents.meme,
    "chess": things.chess,
    "calendar": documents.month,
    "map": graphics.map_,
    "speed sign": further.speed_sign,
    "pie": further.pie,
    "line chart": further.line_chart,
    "gauge": further.gauge,
    "sudoku": further.sudoku,
    "score": further.score,
    "face": further.face,
    "table": further.table,
    "plate": further.plate,
    "burst": further.burst,
}
"""The kinds by which the limits of `curation.dedup.same_picture` were chosen, or that were looked at for it."""
HELD_OUT: Final[dict[str, Draw]] = {
    "domino": unseen.domino,
    "display": unseen.display,
    "pin": unseen.pin,
    "departures": unseen.departures,
    "subtitle": unseen.subtitle,
    "thermometer": unseen.thermometer,
    "price": unseen.price,
    "crossword": unseen.crossword,
    "switches": unseen.switches,
    "arrow": unseen.arrow,
    "heatmap": unseen.heatmap,
    "go": unseen.go,
}
"""Kinds that were looked at only once the limits stood."""
KINDS: Final = TUNED | HELD_OUT


def lookalikes(kind: str, group: int, members: int) -> list[Image.Image]:
    """Pictures of one layout that differ, equal ones left out."""
    pictures: dict[bytes, Image.Image] = {}
    for number in range(members):
        image = KINDS[kind](random.Random(f"{kind} {group}"), random.Random(f"{kind} {group} {number}"), number)
        pictures.setdefault(image.tobytes(), image)
    return list(pictures.values())
