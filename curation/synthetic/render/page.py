"""A document that is being written: its source in Typst, what it says in reading order, and what is asked of it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from mmcorpus.curation.synthetic.render.canvas import Color, hex_color, ink_on
from mmcorpus.curation.synthetic.render.people import Persona


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """How a document looks."""

    font: str
    serif: bool
    size: float
    """Of its letters, in points."""
    accent: str
    rgb: Color
    paper: Color
    ink: Color
    width: int
    """In points."""
    margins: tuple[int, int, int, int]
    """Top, right, bottom and left, in points."""
    decoration: str
    """What is printed under the text, as Typst."""
    leading: float

    @property
    def set_in(self) -> str:
        """`a serif font with red lines`."""
        kind = "a typewriter font" if "Mono" in self.font else f"{'a serif' if self.serif else 'a sans serif'} font"
        return f"{kind} with {self.accent} as its color"


@dataclass(kw_only=True, slots=True)
class Page:
    """A document by somebody."""

    who: Persona
    style: Style
    lines: list[str] = field(default_factory=list)
    """Typst."""
    said: list[str] = field(default_factory=list)
    """Every text that can be read, in the order of reading."""
    questions: list[tuple[str, str]] = field(default_factory=list)

    def add(self, line: str) -> None:
        self.lines.append(line)

    def ask(self, question: str, answer: str) -> None:
        self.questions.append((question, answer))

    def say(self, text: str) -> str:
        """The text as a Typst expression; it can be read from here on."""
        self.said.append(text)
        return literal(text)

    def mark(self, name: str, text: str) -> str:
        """The same, with its place noted under `name`."""
        return f"mark({literal(name)}, {self.say(text)})"

    def bold(self, text: str, size: float = 1.0, fill: str = "accent") -> str:
        """The same in bold, at so many times the size of the document's letters."""
        return f'text(weight: "bold", size: {size:.2f}em, fill: {fill}, {self.say(text)})'

    def head(self, *texts: str) -> str:
        """The cells of a table's header on the accent."""
        ink = typst_color(ink_on(self.style.rgb))
        cells = ", ".join(f"table.cell(fill: accent, {self.bold(text, fill=ink)})" for text in texts)
        return f"table.header({cells})"


def letterhead(rng: random.Random, page: Page) -> None:
    """The firm with its address, left, right or in the middle, and a rule."""
    who = page.who
    place = rng.choice(("left", "right", "center"))
    name, address = page.bold(who.firm, 1.3), page.say(f"{who.street}, {who.town}")
    page.add(f"#align({place})[#{name} \\ #text(size: 0.85em, {address})]")
    page.add(rng.choice((
        "#line(length: 100%, stroke: 0.8pt + accent)", "#v(0.6em)", "#line(length: 40%, stroke: 2pt + accent)",
    )))  # fmt: skip


def table(rng: random.Random, page: Page, columns: str, head: str, rows: Sequence[Sequence[str]]) -> None:
    """A table; its head and the rows' cells are Typst expressions already."""
    look = rng.choice((
        "stroke: 0.5pt + luma(150)", "stroke: none, fill: (_, y) => if calc.even(y) { accent.transparentize(88%) }",
        "stroke: (x: none, y: 0.4pt + luma(140))",
    ))  # fmt: skip
    body = ",\n  ".join(", ".join(row) for row in rows)
    page.add(f"#table(columns: ({columns}), inset: {rng.uniform(3, 6):.1f}pt, {look},\n  {head},\n  {body})")


def literal(text: str) -> str:
    """A text as a Typst string, in which nothing is markup."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def typst_color(color: Color) -> str:
    """A colour as Typst writes it."""
    return f'rgb("{hex_color(color)}")'
