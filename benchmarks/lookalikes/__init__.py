"""Different pictures that look alike: of each kind, groups of one layout whose members differ in a part that matters.

    for picture in lookalikes("form", group=0, members=6): ...

Every picture follows from its kind, group and number alone. Drawn at twice the size and averaged, as drawings come.
"""

import random
from collections.abc import Callable
from typing import Final

from PIL import Image

from benchmarks.lookalikes import apart, documents, further, graphics, kept, looked_at, marked, things

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
    "domino": looked_at.domino,
    "display": looked_at.display,
    "pin": looked_at.pin,
    "departures": looked_at.departures,
    "subtitle": looked_at.subtitle,
    "thermometer": looked_at.thermometer,
    "price": looked_at.price,
    "crossword": looked_at.crossword,
    "switches": looked_at.switches,
    "arrow": looked_at.arrow,
    "heatmap": looked_at.heatmap,
    "go": looked_at.go,
    "game": kept.game,
    "weather": kept.weather,
    "road sign": kept.road_sign,
    "battery": marked.battery,
    "sliders": marked.sliders,
    "banknote": marked.banknote,
    "licence": marked.licence,
    "keyboard": marked.keyboard,
    "metro": marked.metro,
    "captcha": marked.captcha,
    "mines": marked.mines,
    "stamp": marked.stamp,
    "crossing": marked.crossing,
    "bar labels": marked.bar_labels,
    "bingo": marked.bingo,
    "warning": marked.warning,
    "editor": apart.editor,
}
"""The kinds by which the limits of `curation.dedup.same_picture` were chosen, or that were looked at for it."""
HELD_OUT: Final[dict[str, Draw]] = {
    "receipt": kept.receipt,
    "ticket": kept.ticket,
    "circuit": kept.circuit,
    "molecule": kept.molecule,
    "seats": kept.seats,
    "piano": kept.piano,
    "abacus": kept.abacus,
    "scatter": kept.scatter,
    "frets": kept.frets,
    "street": apart.street,
    "compass": apart.compass,
    "checklist": apart.checklist,
    "lottery": apart.lottery,
    "formation": apart.formation,
    "element": apart.element,
    "spreadsheet": apart.spreadsheet,
    "resistor": apart.resistor,
    "matrix": apart.matrix,
    "organisation": apart.organisation,
    "lift": apart.lift,
    "blister": apart.blister,
    "runner": apart.runner,
    "candles": apart.candles,
    "puzzle": apart.puzzle,
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
