"""Documents set by Typst: invoices, receipts, letters, forms, slides, articles, posters, price lists, timetables.

After PixMo-Docs (Molmo, §3), whose language models wrote code for a persona; here rules write it, so that every answer
is known. All answers stand in the document as they are given.
"""

import random
from collections.abc import Callable, Sequence
from typing import Final

from mmcorpus.curation.synthetic.render import document_forms as forms
from mmcorpus.curation.synthetic.render import document_texts as texts
from mmcorpus.curation.synthetic.render.canvas import COLORS, blend, ink_on, jittered
from mmcorpus.curation.synthetic.render.engines import MARKED, draw_typst
from mmcorpus.curation.synthetic.render.page import Page, Style, literal, typst_color
from mmcorpus.curation.synthetic.render.people import draw_persona
from mmcorpus.curation.synthetic.render.placing import laid
from mmcorpus.curation.synthetic.render.rendered import Drawing, make_point
from mmcorpus.curation.synthetic.render.words import article, sentence

FORMS: Final[dict[str, Callable[[random.Random, Page], Sequence[str]]]] = {
    "invoice": forms.invoice, "receipt": forms.receipt, "letter": texts.letter, "form": forms.form,
    "slide": texts.slide, "report": texts.report, "poster": texts.poster, "price list": forms.price_list,
    "timetable": texts.timetable,
}  # fmt: skip
"""What is drawn, by what it is called."""
_PLAIN: Final = {"form": "a filled-in form", "slide": "a presentation slide", "report": "a page of text"}
_SERIF: Final = ("Libertinus Serif", "New Computer Modern", "DejaVu Serif", "STIXGeneral")
_SANS: Final = ("DejaVu Sans", "DejaVu Sans", "DejaVu Sans Mono")
_ACCENTS: Final = ("red", "orange", "green", "blue", "purple", "pink", "black", "brown")
_CORNERS: Final = ("top + left", "top + right", "bottom + left", "bottom + right", "center + horizon")
_WIDTHS: Final = {"receipt": (190, 260), "slide": (420, 560), "poster": (300, 420)}


def draw_document(rng: random.Random) -> Drawing:
    """A document."""
    form = rng.choice(tuple(FORMS))
    page = Page(who=draw_persona(rng), style=_draw_style(rng, form))
    described = FORMS[form](rng, page)
    source = _preamble(page.style) + MARKED + "\n".join(page.lines) + "\n"
    # 60 to 110 pixels an inch: from hardly legible to sharp.
    picture, marks = draw_typst(source, rng.uniform(60, 110))
    picture, marks, ground = laid(rng, picture, marks, desk=rng.random() < 0.5)
    ground_said = f", on {ground}" if ground else ""
    captions = [sentence(_PLAIN.get(form, article(form))), *map(sentence, described)]
    captions.append(f"{sentence(described[-1])} It is set in {page.style.set_in}{ground_said}.")
    facts = {
        "form": form, "persona": page.who.facts(), "topic": page.who.topic, "font": page.style.font,
        "accent": page.style.accent, "text": "\n".join(page.said), "language": "typst", "code": source,
    }  # fmt: skip
    points = [make_point(mark.name, *mark.center, picture.size) for mark in marks]
    return Drawing(picture, captions, page.questions, points, facts)


def _draw_style(rng: random.Random, form: str) -> Style:
    serif = rng.random() < 0.5
    accent = rng.choice(_ACCENTS)
    rgb = jittered(rng, accent)
    paper = jittered(rng, "white", 3)
    if rng.random() < 0.5:
        paper = blend(
            paper, COLORS[rng.choice(("beige", "yellow", "blue", "pink", "green", "gray"))], rng.uniform(0.05, 0.3)
        )
    if form in ("slide", "poster") and rng.random() < 0.4:
        paper = blend(COLORS[accent], (0, 0, 0), rng.uniform(0.3, 0.65))
        rgb = blend(rgb, ink_on(paper), 0.7)  # the accent stands out from its own dark shade
    margins = [rng.randint(14, 60) for _ in range(4)]
    return Style(
        font=rng.choice(_SERIF if serif else _SANS), serif=serif, size=round(rng.uniform(8.5, 12.0), 1), accent=accent,
        rgb=rgb, paper=paper, ink=ink_on(paper), width=rng.randint(*_WIDTHS.get(form, (320, 460))),
        margins=(margins[0], margins[1], margins[2], margins[3]),
        decoration=_draw_decoration(rng, accent), leading=round(rng.uniform(0.5, 0.85), 2),
    )  # fmt: skip


def _draw_decoration(rng: random.Random, accent: str) -> str:
    """What is printed under the text, as Typst: bands, circles, stripes, frames of colours; at times nothing."""
    parts = []
    for kind in rng.sample(("band", "circle", "frame", "stripes", "wedge"), rng.choice((0, 1, 1, 2, 2, 3))):
        name = rng.choice((accent, rng.choice(tuple(COLORS))))
        faint = f"{typst_color(jittered(rng, name, 20))}.transparentize({rng.randint(70, 90)}%)"
        side, corner = rng.choice(("top", "bottom", "left", "right")), rng.choice(_CORNERS)
        if kind == "band":
            across = f"height: {rng.randint(8, 40)}%" if side in ("top", "bottom") else f"width: {rng.randint(6, 40)}%"
            across += ", width: 100%" if side in ("top", "bottom") else ", height: 100%"
            parts.append(f"place({side}, rect({across}, fill: {faint}))")
        elif kind == "circle":
            offset = f"dx: {rng.randint(-60, 60)}pt, dy: {rng.randint(-60, 60)}pt"
            parts.append(f"place({corner}, {offset}, circle(radius: {rng.randint(25, 130)}pt, fill: {faint}))")
        elif kind == "frame":
            inset = rng.randint(3, 11)
            parts.append(
                f"place(center + horizon, rect(width: 100% - {2 * inset}pt, height: 100% - {2 * inset}pt, "
                f"stroke: {rng.uniform(0.5, 5):.1f}pt + {faint}, radius: {rng.choice((0, 0, 12))}pt))"
            )
        elif kind == "stripes":
            for step in range(rng.randint(2, 6)):
                parts.append(
                    f"place(top, dy: {step * rng.randint(14, 25)}%, rect(width: 100%, height: 6%, fill: {faint}))"
                )
        else:
            corners = rng.sample(("(0%, 0%)", "(100%, 0%)", "(100%, 100%)", "(0%, 100%)", "(50%, 0%)", "(0%, 50%)"), 3)
            parts.append(f"place(polygon(fill: {faint}, {', '.join(corners)}))")
    return " ".join(f"#{part}" for part in parts)


def _preamble(style: Style) -> str:
    return (
        f"#set page(width: {style.width}pt, height: auto, fill: {typst_color(style.paper)}, "
        f"margin: (top: {style.margins[0]}pt, right: {style.margins[1]}pt, bottom: {style.margins[2]}pt, "
        f"left: {style.margins[3]}pt), background: [{style.decoration}])\n"
        f"#set text(font: {literal(style.font)}, size: {style.size}pt, fill: {typst_color(style.ink)}, "
        f"hyphenate: false)\n"
        f"#set par(leading: {style.leading}em)\n"
        f"#let accent = {typst_color(style.rgb)}\n"
    )
