"""Web pages by a headless browser: shops, dashboards, chats, settings, news; with the places of what is on them."""

import html
import io
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from PIL import Image

from mmcorpus.curation.synthetic.render import browser
from mmcorpus.curation.synthetic.render.canvas import COLORS, blend, hex_color, ink_on, jittered
from mmcorpus.curation.synthetic.render.engines import Mark
from mmcorpus.curation.synthetic.render.people import (
    Persona,
    draw_date,
    draw_hour,
    draw_items,
    draw_lines,
    draw_name,
    draw_persona,
    money,
)
from mmcorpus.curation.synthetic.render.placing import laid
from mmcorpus.curation.synthetic.render.rendered import Drawing, make_point
from mmcorpus.curation.synthetic.render.words import listed, number, sentence

_FONTS: Final = ("sans-serif", "sans-serif", "serif", "monospace")
_ACCENTS: Final = ("red", "orange", "green", "blue", "purple", "pink", "black", "brown")


@dataclass(kw_only=True, slots=True)
class _Site:
    """A page that is being written."""

    who: Persona
    body: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    questions: list[tuple[str, str]] = field(default_factory=list)

    def say(self, text: str, mark: str = "") -> str:
        """The text as HTML; it can be read from here on, and its place is noted under `mark`."""
        self.said.append(text)
        escaped = html.escape(text, quote=False)
        return f'<span data-mark="{html.escape(mark)}">{escaped}</span>' if mark else escaped

    def ask(self, question: str, answer: str) -> None:
        self.questions.append((question, answer))


def draw_page(rng: random.Random) -> Drawing:
    """A web page."""
    form = rng.choice(tuple(_FORMS))
    site = _Site(who=draw_persona(rng))
    described = _FORMS[form](rng, site)
    accent = rng.choice(_ACCENTS)
    code = _document(rng, site, accent)
    width = rng.randint(320, 420) if rng.random() < 0.4 else rng.randint(480, 760)
    scale = rng.uniform(0.6, 1.1)
    data, found = browser.running().picture(code, width)
    # Scaled here: at scales of its own a browser's pixels depend a little on what it showed before.
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)
    marks = [Mark(name, *(edge * scale for edge in box)) for name, *box in found]
    picture, marks, _ = laid(rng, picture, marks, desk=rng.random() < 0.15)
    captions = [f"a web page of {site.who.firm}", *described]
    captions.append(f"{described[-1]}. Its color is {accent}")
    facts = {
        "form": form, "accent": accent, "persona": site.who.facts(), "topic": site.who.topic,
        "text": "\n".join(site.said), "language": "html", "code": code,
    }  # fmt: skip
    points = [make_point(mark.name, *mark.center, picture.size) for mark in marks]
    return Drawing(picture, list(map(sentence, captions)), site.questions, points, facts)


def _document(rng: random.Random, site: _Site, accent: str) -> str:
    """The page with one of many looks."""
    dark = rng.random() < 0.2
    ground = jittered(rng, "black" if dark else "white", 3)
    if rng.random() < 0.7:
        ground = blend(ground, COLORS[rng.choice(tuple(COLORS))], rng.uniform(0.03, 0.3))
    color = jittered(rng, accent)
    card = blend(ground, (255, 255, 255), 0.12 if dark else 0.6)
    ink, strong = hex_color(ink_on(ground)), hex_color(blend(color, ink_on(ground), 0.35))
    gap, radius, line = rng.randint(6, 16), rng.choice((0, 4, 12)), rng.choice((0, 1, 2))
    style = (
        f"body{{margin:0;background:{hex_color(ground)};color:{ink};font:{rng.randint(13, 17)}px {rng.choice(_FONTS)}}}"
        f"header{{background:{hex_color(color)};color:{hex_color(ink_on(color))};padding:{gap + 4}px "
        f"{gap * 2}px;font-size:1.3em;"
        f"text-align:{rng.choice(('left', 'center'))}}}main{{padding:{gap}px "
        f"{gap * 2}px}}h2{{color:{strong};margin:.4em 0}}"
        f".cards{{display:grid;grid-template-columns:repeat(auto-fit,minmax({rng.randint(110, 200)}"
        f"px,1fr));gap:{gap}px}}"
        f".card{{background:{hex_color(card)};border:{line}px solid {strong};border-radius:{radius}px;padding:{gap}px}}"
        f"b{{color:{strong}}}button{{background:{hex_color(color)};color:{hex_color(ink_on(color))};border:0;"
        f"border-radius:{radius}px;padding:6px 12px;font:inherit}}"
        ".row{display:flex;justify-content:space-between;padding:6px 0;border-bottom:1px solid #8886}"
        f".me{{margin-left:25%;background:{hex_color(color)};color:{hex_color(ink_on(color))}}}.you{{margin-right:25%}}"
        f".card+.card{{margin-top:{gap if rng.random() < 0.5 else 0}px}}.cards .card{{margin-top:0}}"
        f".bar{{background:{hex_color(color)};height:12px}}small{{opacity:.75}}"
    )
    foot = (
        ""
        if rng.random() < 0.5
        else f"<main><small>{site.say(f'© {site.who.firm}, {site.who.street}, {site.who.town}')}</small></main>"
    )
    head = html.escape(site.who.firm)
    return (
        f"<!doctype html><html><head><meta charset='utf-8'><title>{head}</title><style>{style}</style></head><body>"
        f"{''.join(site.body)}{foot}</body></html>"
    )


def _header(site: _Site) -> None:
    site.body.append(f"<header>{site.say(site.who.firm, 'name of the site')}</header>")
    site.ask("Whose web page is this?", site.who.firm)


def _shop(rng: random.Random, site: _Site) -> list[str]:
    _header(site)
    sign = rng.choice(("$", "€", "£"))
    items = draw_items(rng, site.who, rng.randint(3, 6))
    button = rng.choice(("Buy", "Add to cart", "Order"))
    stock = {name: rng.randint(0, 30) for name, _ in items}
    cards = [
        f"<div class=card><h2>{site.say(name)}</h2><b>{site.say(money(price, sign), f'price of {name}')}</b><p>"
        f"{site.say(f'{stock[name]} left' if stock[name] else 'Sold out')}"
        f"</p><button>{site.say(button, f'button for {name}')}</button></div>"
        for name, price in items
    ]
    site.body.append(f"<main><div class=cards>{''.join(cards)}</div></main>")
    name, price = rng.choice(items)
    site.ask(f"How much is the {name.lower()}?", money(price, sign))
    site.ask("How many products are shown?", str(len(items)))
    site.ask("What is written on the buttons?", button)
    asked = rng.choice(items)[0]
    site.ask(f"Is the {asked.lower()} sold out?", "no" if stock[asked] else "yes")
    prices = [price for _, price in items]
    if prices.count(max(prices)) == 1:
        site.ask("Which product is the most expensive?", items[prices.index(max(prices))][0])
    said = listed([f"{name.lower()} for {money(price, sign)}" for name, price in items])
    return [f"the web shop of {site.who.firm}", f"the web shop of {site.who.firm} with {number(len(items))} products",
            f"the web shop of {site.who.firm} offers {said}"]  # fmt: skip


def _dashboard(rng: random.Random, site: _Site) -> list[str]:
    _header(site)
    measures = rng.sample(tuple(site.who.words["measures"].items()), rng.randint(2, 3))
    figures = {name: f"{rng.randint(low, high)} {unit}" for name, (unit, low, high) in measures}
    cards = [
        f"<div class=card><small>{site.say(name)}</small><h2>{site.say(value, name.lower())}</h2></div>"
        for name, value in figures.items()
    ]
    bars = {name: rng.randint(5, 100) for name in rng.sample(site.who.words["things"], rng.randint(3, 6))}
    rows = [
        f"<div class=row style='gap:8px'><span style='width:35%'>{site.say(name)}</span><span style='flex:1'>"
        f"<div class=bar "
        f"style='width:{share}%'></div></span><span>{site.say(f'{share}%', f'share of {name}')}</span></div>"
        for name, share in bars.items()
    ]
    site.body.append(
        f"<main><div class=cards>{''.join(cards)}</div><h2>{site.say('Goals reached')}</h2>{''.join(rows)}</main>"
    )
    name, value = rng.choice(tuple(figures.items()))
    site.ask(f"What figure is shown for {name.lower()}?", value)
    name, share = rng.choice(tuple(bars.items()))
    site.ask(f"How much of the goal has {name} reached?", f"{share}%")
    site.ask("How many bars are there?", str(len(bars)))
    shares = list(bars.values())
    if shares.count(max(shares)) == 1:
        site.ask("Which bar is the longest?", max(bars, key=bars.__getitem__))
    said = listed([f"{name} {share}%" for name, share in bars.items()])
    return [
        f"a dashboard of {site.who.firm}",
        f"a dashboard of {site.who.firm} with {number(len(bars))} bars",
        f"a dashboard of {site.who.firm}: "
        f"{listed([f'{name.lower()} {value}' for name, value in figures.items()])}. Goals reached: {said}",
    ]


def _chat(rng: random.Random, site: _Site) -> list[str]:
    other = draw_name(rng)
    site.body.append(f"<header>{site.say(other, 'name of the other person')}</header>")
    lines = draw_lines(rng, site.who, rng.randint(2, 4))
    hours = sorted((draw_hour(rng) for _ in lines), key=lambda hour: (int(hour.split(":")[0]), hour))
    mine = [rng.random() < 0.5 for _ in lines]
    bubbles = [
        f"<div class='card {'me' if own else 'you'}'>{site.say(line)}<br><small>{site.say(hour)}</small></div>"
        for line, hour, own in zip(lines, hours, mine, strict=True)
    ]
    site.body.append(f"<main>{'<p></p>'.join(bubbles)}<p><button>{site.say('Send', 'send button')}</button></p></main>")
    site.ask("With whom is the chat?", other)
    site.ask("How many messages are there?", str(len(lines)))
    site.ask("What does the last message say?", lines[-1])
    site.ask("When was the first message sent?", hours[0])
    site.ask("On which side is the first message?", "right" if mine[0] else "left")
    return [
        f"a chat with {other}",
        f"a chat with {other} of {number(len(lines))} messages",
        f"a chat with {other}: {' '.join(lines)}",
    ]


def _settings(rng: random.Random, site: _Site) -> list[str]:
    _header(site)
    names = rng.sample(
        ("Notifications", "Dark mode", "Sound", "Backup", "Location", "Auto update", "Newsletter", "Large text"),
        rng.randint(3, 6),
    )
    on = {name: rng.random() < 0.5 for name in names}
    rows = [
        f"<div class=row>{site.say(name, name.lower())}<input type=checkbox {'checked' if state else ''}></div>"
        for name, state in on.items()
    ]
    mail = f"{draw_name(rng).split()[0].lower()}@{site.who.town.lower()}.example"
    site.body.append(
        f"<main><h2>{site.say('Settings')}</h2>{''.join(rows)}<p>{site.say('E-mail:')} "
        f"{site.say(mail, 'e-mail address')}</p>"
        f"<button>{site.say('Save', 'save button')}</button></main>"
    )
    asked = rng.choice(names)
    ticked = [name for name in names if on[name]]
    site.ask(f'Is "{asked}" switched on?', "yes" if on[asked] else "no")
    site.ask("How many settings are switched on?", str(len(ticked)))
    site.ask("Which e-mail address is shown?", mail)
    site.ask("What is written on the button?", "Save")
    switched = f"{listed(ticked)} {'is' if len(ticked) == 1 else 'are'} on" if ticked else "nothing is on"
    return [f"the settings of {site.who.firm}", f"the settings of {site.who.firm} with {number(len(names))} boxes",
            f"the settings of {site.who.firm}, {listed(names)}; {switched}"]  # fmt: skip


def _news(rng: random.Random, site: _Site) -> list[str]:
    _header(site)
    event, author, date = rng.choice(site.who.words["events"]), draw_name(rng), draw_date(rng)
    lines = draw_lines(rng, site.who, rng.randint(2, 4))
    title = rng.choice((f"{event} announced", f"All about the {event.lower()}", f"{event}: what to know"))
    site.body.append(
        f"<main><h2>{site.say(title, 'headline')}</h2><small>{site.say(f'By {author}', 'author')} · "
        f"{site.say(date, 'date')}</small>"
        f"<p>{'</p><p>'.join(site.say(line) for line in lines)}"
        f"</p><button>{site.say('Read more', 'button')}</button></main>"
    )
    site.ask("What is the headline?", title)
    site.ask("Who wrote the article?", author)
    site.ask("When was the article published?", date)
    site.ask("What does the first paragraph say?", lines[0])
    return [f'news titled "{title}"', f'news of {site.who.firm} titled "{title}" by {author}',
            f'news of {site.who.firm} of {date} titled "{title}" by {author}: {" ".join(lines)}']  # fmt: skip


_FORMS: Final[dict[str, Callable[[random.Random, _Site], list[str]]]] = {
    "shop": _shop, "dashboard": _dashboard, "chat": _chat, "settings": _settings, "news": _news,
}  # fmt: skip
