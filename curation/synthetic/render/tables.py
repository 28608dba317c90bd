"""Tables with a header, striped or ruled, whose cells can be looked up (after PixMo-Docs; Molmo, §3)."""

import itertools
import random
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

from mmcorpus.curation.synthetic.render.canvas import Canvas, Color, blend, fit_text, ink_on, jittered, text_width
from mmcorpus.curation.synthetic.render.rendered import Drawing, make_point
from mmcorpus.curation.synthetic.render.words import article, listed, number, sentence
from mmcorpus.filters.yaml_data import read_data

_THEMES: Final[dict[str, dict[str, Any]]] = read_data(__package__, "tables.yaml")
_STYLES: Final = ("zebra", "lines", "grid", "plain")
_HEADERS: Final = ("blue", "green", "red", "orange", "purple", "black", "pink", "yellow")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Table:
    title: str
    titled: bool
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    style: str
    header: str
    background: str
    centered: bool
    """Whether numbers stand in the middle of their column; else at its right."""

    def column(self, index: int) -> tuple[str, ...]:
        return tuple(row[index] for row in self.rows)

    def numeric(self, index: int) -> bool:
        return all(cell.isdigit() for cell in self.column(index))


def draw_table(rng: random.Random, size: tuple[int, int]) -> Drawing:
    """A table."""
    table = _draw_facts(rng, size)
    image, edges_x, edges_y, header = _draw(rng, table, size)
    asked = [(rng.randrange(len(table.rows)), rng.randrange(1, len(table.columns))) for _ in range(2)]
    points = []
    for row, column in dict.fromkeys(asked):
        middle = ((edges_x[column] + edges_x[column + 1]) / 2, (edges_y[row + 1] + edges_y[row + 2]) / 2)
        points.append(make_point(f"{table.columns[column]} of {table.rows[row][0]}", *middle, size))
    facts = {
        "title": table.title if table.titled else None, "columns": list(table.columns),
        "rows": [list(row) for row in table.rows], "style": table.style, "header": table.header,
        "background": table.background, "rgb": {"header": list(header)},
        "edges_x": [round(edge, 1) for edge in edges_x], "edges_y": [round(edge, 1) for edge in edges_y],
    }  # fmt: skip
    return Drawing(image, _captions(rng, table), _questions(rng, table, asked[0]), points, facts)


def _draw_facts(rng: random.Random, size: tuple[int, int]) -> _Table:
    title = rng.choice(tuple(_THEMES))
    theme = _THEMES[title]
    fields = theme["columns"]
    most_columns = max(1, min(len(fields), size[0] // 62 - 1))
    most_rows = max(2, min(6, size[1] // 32 - 2))
    chosen = rng.sample(tuple(fields), rng.randint(1 if most_columns < 2 else 2, most_columns))
    row_count = rng.randint(2, most_rows)
    columns = [_cells(rng, fields[name], row_count) for name in chosen]
    return _Table(
        title=title,
        titled=rng.random() < 0.6,
        columns=(theme["first"], *chosen),
        rows=tuple(zip(rng.sample(theme["names"], row_count), *columns, strict=True)),
        style=rng.choice(_STYLES),
        header=rng.choice(_HEADERS),
        background=rng.choice(("white", "white", "beige", "gray")),
        centered=rng.random() < 0.5,
    )


def _cells(rng: random.Random, column: list[str] | dict[str, int], count: int) -> list[str]:
    """Values of a column; numbers without repeats, so that the highest and the lowest are one row each."""
    if isinstance(column, list):
        return rng.choices(column, k=count)
    if "from" in column:
        return list(map(str, rng.sample(range(column["from"], column["to"] + 1), count)))
    hours = range(column["from_hour"], column["to_hour"] + 1)
    return rng.choices([f"{hour}:{minute:02d}" for hour in hours for minute in range(0, 60, 5)], k=count)


def _draw(
    rng: random.Random, table: _Table, size: tuple[int, int]
) -> tuple[Image.Image, list[float], list[float], Color]:
    """The picture, the edges of columns and rows (header first) in pixels, and the header's colour."""
    width, height = size
    ground, header = jittered(rng, table.background, 3), jittered(rng, table.header)
    canvas = Canvas(size, ground)
    ink = ink_on(ground)
    lines = len(table.rows) + 1 + (1.3 if table.titled else 0)
    margin = 0.04 * min(size)
    letter = min(20.0, (height - 2 * margin) / lines / 1.55)
    needed = [max(text_width(cell, 16) for cell in (name, *table.column(i))) / 16 + 1.1
              for i, name in enumerate(table.columns)]  # fmt: skip
    letter = max(6.0, min(letter, (width - 2 * margin) / sum(needed)))
    row_height = min((height - 2 * margin) / lines, letter * rng.uniform(1.6, 2.3))
    stretch = min(width - 2 * margin, letter * sum(needed) * rng.uniform(1.0, 1.7)) / sum(needed)
    left = margin + rng.uniform(0.2, 0.8) * (width - 2 * margin - stretch * sum(needed))
    top = margin + rng.uniform(0.2, 0.8) * (height - 2 * margin - row_height * lines)
    if table.titled:
        title_size = fit_text([table.title], letter * 1.2, width - 2 * margin)
        half = text_width(table.title, title_size) / 2
        middle = min(max(left + stretch * sum(needed) / 2, margin + half), width - margin - half)
        canvas.text((middle, top + row_height * 0.6), table.title, title_size, ink)
        top += row_height * 1.3
    edges_x = list(itertools.accumulate((share * stretch for share in needed), initial=left))
    edges_y = [top + row_height * index for index in range(len(table.rows) + 2)]
    _rules(canvas, table, edges_x, edges_y, header, ground, ink)
    for index, cells in enumerate((table.columns, *table.rows)):
        y = edges_y[index] + row_height / 2
        color = ink_on(header) if index == 0 else ink
        for column, cell in enumerate(cells):
            start, end = edges_x[column], edges_x[column + 1]
            if column and table.numeric(column) and not table.centered:
                canvas.text((end - letter * 0.45, y), cell, letter, color, "rm")
            elif column and table.centered:
                canvas.text(((start + end) / 2, y), cell, letter, color)
            else:
                canvas.text((start + letter * 0.45, y), cell, letter, color, "lm")
    return canvas.finish(), edges_x, edges_y, header


def _rules(
    canvas: Canvas, table: _Table, edges_x: list[float], edges_y: list[float], header: Color, ground: Color, ink: Color
) -> None:
    """Header bar, stripes and lines."""
    left, right, bottom = edges_x[0], edges_x[-1], edges_y[-1]
    faint = blend(ground, ink, 0.3)
    if table.style == "zebra":
        for index in range(2, len(edges_y) - 1, 2):
            canvas.rectangle((left, edges_y[index], right, edges_y[index + 1]), blend(ground, header, 0.16))
    canvas.rectangle((left, edges_y[0], right, edges_y[1]), header)
    if table.style in ("lines", "grid"):
        for y in edges_y[2:]:
            canvas.line([(left, y), (right, y)], faint)
    if table.style == "grid":
        for x in edges_x:
            canvas.line([(x, edges_y[1]), (x, bottom)], faint)


def _row_in_words(table: _Table, index: int) -> str:
    """`Ann has Age 31 and City Oslo`."""
    row = table.rows[index]
    return f"{row[0]} has {listed([f'{name} {cell}' for name, cell in zip(table.columns[1:], row[1:], strict=True)])}"


def _captions(rng: random.Random, table: _Table) -> list[str]:
    shape = f"{number(len(table.rows))} rows and {number(len(table.columns))} columns"
    looks = f"{article(table.header)} header"
    titled = f' titled "{table.title}"' if table.titled else ""
    ground = f"{article(table.background)} background"
    names = listed(table.columns)
    first = rng.randrange(len(table.rows))
    rows = "; ".join(_row_in_words(table, index) for index in range(len(table.rows)))
    return [
        sentence(f"a table with {shape}"),
        sentence(f"a table{titled} with {looks}, {shape}"),
        sentence(f"a table{titled} with {looks} and the columns {names}"),
        sentence(f"a table of {listed(table.column(0))} with {looks}. {_row_in_words(table, first)}"),
        sentence(f"a table{titled} on {ground} with {looks}, {shape}: {names}. {rows}"),
    ]


def _questions(rng: random.Random, table: _Table, asked: tuple[int, int]) -> list[tuple[str, str]]:
    row, column = asked
    questions = [
        (f"What is the {table.columns[column]} of {table.rows[row][0]}?", table.rows[row][column]),
        ("How many rows are there below the header?", str(len(table.rows))),
        ("How many columns are there?", str(len(table.columns))),
        ("What color is the header?", table.header),
        ("What is in the first row?", table.rows[0][0]),
    ]
    numeric = [index for index in range(1, len(table.columns)) if table.numeric(index)]
    if numeric:
        chosen = rng.choice(numeric)
        numbers = [int(cell) for cell in table.column(chosen)]
        word, best = rng.choice((("highest", max(numbers)), ("lowest", min(numbers))))
        name = table.columns[chosen]
        questions.append((f"Which has the {word} {name}?", table.rows[numbers.index(best)][0]))
    if table.titled:
        questions.append(("What is the title of the table?", table.title))
    return questions
