"""Letters, slides, reports, posters and timetables. Each function returns descriptions, the shortest first."""

import random
from typing import Final

from mmcorpus.curation.synthetic.render.canvas import ink_on
from mmcorpus.curation.synthetic.render.page import Page, letterhead, table, typst_color
from mmcorpus.curation.synthetic.render.people import (
    draw_date,
    draw_hour,
    draw_items,
    draw_later,
    draw_lines,
    draw_name,
    draw_street,
    draw_town,
    money,
)
from mmcorpus.curation.synthetic.render.words import listed, number

_FORMULAS: Final = (
    ("y = a x + b", "a line"), ("A = pi r^2", "the area of a circle"), ("a^2 + b^2 = c^2", "Pythagoras' theorem"),
    ("s = sqrt(1/n sum_(i=1)^n (x_i - macron(x))^2)", "a standard deviation"),
    ("macron(x) = 1/n sum_(i=1)^n x_i", "a mean"), ("v = s / t", "a speed"),
    ("integral_0^1 x^2 dif x = 1/3", "an integral"), ("e^(i pi) + 1 = 0", "Euler's identity"),
    ("x = (-b plus.minus sqrt(b^2 - 4 a c)) / (2 a)", "the quadratic formula"),
    ("K_n = K_0 (1 + p)^n", "compound interest"),
)  # fmt: skip
_SECTIONS: Final = ("Introduction", "Method", "Results", "Costs", "Outlook", "Summary", "Background", "Discussion")


def letter(rng: random.Random, page: Page) -> list[str]:
    """A letter of the firm."""
    who = page.who
    to, date = draw_name(rng), draw_date(rng)
    subject = rng.choice(who.words["events"])
    letterhead(rng, page)
    page.add(f"#{page.mark('recipient', to)} \\ #{page.say(draw_street(rng))} \\ #{page.say(draw_town(rng))}")
    page.add(f"#align(right, {page.mark('date', date)})")
    page.add(f"#{page.bold(f'{subject}')}")
    page.add(f"\n#{page.say(f'Dear {to},')}\n")
    lines = draw_lines(rng, who, rng.randint(2, 4))
    for line in lines:
        page.add(f"#{page.say(line)}" + ("\n" if rng.random() < 0.5 else ""))
    hour, day = draw_hour(rng), draw_later(rng, date)
    phone = f"{rng.randint(100, 999)} {rng.randint(1000, 9999)}"
    page.add(
        f"\n#{page.say(f'We meet on {day} at {hour}.')} #{page.say(f'If you have questions, please call {phone}.')}\n"
    )
    page.add(f"#{page.say(rng.choice(('Kind regards,', 'Yours sincerely,', 'With best wishes,')))} \\ #v(0.4em)")
    page.add(f'#text(style: "italic", {page.mark("signature", who.name)}) \\ #{page.say(who.job)}')
    page.ask("Who wrote the letter?", who.name)
    page.ask("To whom is the letter addressed?", to)
    page.ask("What is the letter about?", subject)
    page.ask("When was the letter written?", date)
    page.ask("Which phone number is given?", phone)
    page.ask("On what day do they meet?", day)
    page.ask("At what time do they meet?", hour)
    page.ask("What is the job of the writer?", who.job)
    return [
        f"a letter from {who.firm} to {to}",
        f"a letter from {who.name} of {who.firm} to {to} about the {subject.lower()}",
        f"a letter of {date} from {who.name}, {who.job} at {who.firm}, to {to} about the {subject.lower()}, "
        f"who meet on "
        f"{day} at {hour}. It says: {' '.join(lines)}",
    ]


def slide(rng: random.Random, page: Page) -> list[str]:
    """A slide with bullets, at times a big number."""
    who = page.who
    title = rng.choice(
        (
            f"{rng.choice(who.words['events'])}",
            f"Plans for {rng.randint(2000, 2030)}",
            f"News from {who.firm}",
            "How we work",
        )
    )
    align = rng.choice(("left", "center"))
    page.add(f"#align({align}, {page.bold(title, 1.9)})")
    page.add("#line(length: 100%, stroke: 2pt + accent)")
    bullets = (
        draw_lines(rng, who, rng.randint(1, 3))
        if rng.random() < 0.5
        else rng.sample(who.words["steps"], rng.randint(3, 6))
    )
    numbered = rng.random() < 0.4
    for bullet in bullets:
        page.add(f"{'+' if numbered else '-'} #text(size: 1.15em, {page.say(bullet)})")
    measure, (unit, low, high) = rng.choice(tuple(who.words["measures"].items()))
    figure = f"{rng.randint(low, high)} {unit}"
    big = rng.random() < 0.6
    if big:
        page.add(
            f'#align(center)[#text(size: 2.2em, weight: "bold", {page.mark(measure.lower(), figure)}) \\ '
            f"#{page.say(measure)}]"
        )
        page.ask(f"What figure is given for {measure.lower()}?", figure)
    count = str(rng.randint(2, 40))
    page.add(
        f"\n#v({rng.uniform(0.5, 6):.1f}em)\n#text(size: 0.75em)[#{page.say(who.name)} #h(1fr) "
        f"#{page.mark('page number', count)}]"
    )
    page.ask("What is the title of the slide?", title)
    page.ask("What is the number of the slide?", count)
    page.ask("Who presents?", who.name)
    page.ask("How many points are listed?", str(len(bullets)))
    page.ask("What is the first point?", bullets[0])
    page.ask("What is the last point?", bullets[-1])
    figured = f" and the figure {figure} for {measure.lower()}" if big else ""
    kind = "numbered" if numbered else "bulleted"
    points = f"{number(len(bullets))} {kind} {'point' if len(bullets) == 1 else 'points'}"
    return [
        f'a slide titled "{title}"',
        f'a slide titled "{title}" with {points}{figured}',
        f'slide {count}, by {who.name}, titled "{title}", with {points}{figured}: {"; ".join(bullets)}',
    ]


def report(rng: random.Random, page: Page) -> list[str]:
    """A page with sections, in one or two columns, with a formula or a table at times."""
    who = page.who
    title = (
        f"{rng.choice(('On', 'Notes on', 'A report on', 'Remarks on'))} "
        f"{rng.choice(tuple(who.words['measures'])).lower()}"
    )
    date, author = draw_date(rng), draw_name(rng)
    page.add(f"#align({rng.choice(('left', 'center'))})[#{page.bold(title, 1.6)} \\ "
             f"#{page.mark('author', author)}, #{page.mark('date', date)}]")  # fmt: skip
    sections = rng.sample(_SECTIONS, rng.randint(1, 4))
    columns = 2 if len(sections) > 1 and rng.random() < 0.4 else 1
    lines: list[str] = []
    if columns == 2:
        page.add("#grid(columns: (1fr, 1fr), gutter: 14pt, [")
    for count, section in enumerate(sections, start=1):
        if columns == 2 and count == 2:
            page.add("], [")
        page.add(f"\n#{page.bold(f'{count} {section}', 1.15)} \\")
        for line in draw_lines(rng, who, rng.randint(2, 4)):
            lines.append(line)
            page.add(f"#{page.say(line)}")
        page.ask(f"What is section {count} called?", section)
    if columns == 2:
        page.add("])")
    shown = []
    if rng.random() < 0.6:
        formula, meaning = rng.choice(_FORMULAS)
        page.add(f"\n$ {formula} $\n")
        shown.append(f"the formula of {meaning}")
    if rng.random() < 0.5:
        sign = rng.choice(("$", "€"))
        items = draw_items(rng, who, rng.randint(2, 4))
        rows = [(page.say(name), page.mark(f"cost of {name}", money(price, sign))) for name, price in items]
        table(rng, page, "1fr, auto", page.head("Item", "Cost"), rows)
        shown.append(f"a table of {number(len(items))} costs")
        name, price = rng.choice(items)
        page.ask(f"What is the cost of {name.lower()} in the table?", money(price, sign))
    page.ask("What is the title?", title)
    page.ask("Who is the author?", author)
    page.ask("What is the date?", date)
    page.ask("How many sections are there?", str(len(sections)))
    headed = f"{number(len(sections))} {'section' if len(sections) == 1 else 'sections'}"
    extra = f" and {listed(shown)}" if shown else ""
    return [
        f'a page titled "{title}"',
        f'a page titled "{title}" by {author}, with {headed}{extra}',
        f'a page in {"one column" if columns == 1 else "two columns"} titled "{title}" by {author} of {date}, with '
        f"{headed}, {listed(sections)}{extra}. It says: {' '.join(lines)}",
    ]


def poster(rng: random.Random, page: Page) -> list[str]:
    """An announcement in large letters."""
    who = page.who
    event, date, hour = rng.choice(who.words["events"]), draw_date(rng), draw_hour(rng)
    place, fee = draw_street(rng), f"{rng.choice(('$', '€', '£'))}{rng.randint(2, 40)}"
    stroke = rng.choice(("3pt + accent", '(dash: "dashed", paint: accent)', "none"))
    frame = f"inset: {rng.randint(10, 24)}pt, stroke: {stroke}, radius: {rng.choice((0, 8))}pt"
    bar = rng.random() < 0.4
    head = f'text(weight: "bold", size: 2.6em, {page.say(event)})'
    if not bar:
        head = f"text(fill: accent, {head})"
    page.add(f"#align(center, block(width: 100%, {frame})[")
    page.add(
        f"#block(width: 100%, inset: 8pt, fill: accent, text(fill: {typst_color(ink_on(page.style.rgb))}, {head}))"
        if bar
        else f"#{head}"
    )
    page.add(f"\n#{page.say(f'at {who.firm}')}\n")
    page.add(f"\n#text(size: 1.5em)[#{page.mark('date', date)} \\ #{page.mark('time', hour)}]\n")
    page.add(
        f"\n#{page.mark('place', place)}, #{page.say(who.town)} \\ #{page.say('Entry')} "
        f"#{page.mark('entry fee', fee)}\n"
    )
    parts = rng.sample(who.words["things"], rng.randint(0, 4))
    if parts:
        page.add("\n" + " #sym.bullet ".join(f"#{page.say(part)}" for part in parts) + "\n")
    page.add("])")
    page.ask("Which event is announced?", event)
    page.ask("On what date is the event?", date)
    page.ask("When does the event begin?", hour)
    page.ask("Where does the event take place?", place)
    page.ask("How much is the entry?", fee)
    page.ask("Who organises the event?", who.firm)
    return [
        f"a poster for the {event.lower()}",
        f"a poster for the {event.lower()} at {who.firm} on {date}",
        f"a poster for the {event.lower()} at {who.firm}, {place}, {who.town}, on {date} at {hour}; the entry is {fee}"
        + (f". It names {listed(parts)}" if parts else ""),
    ]


def timetable(rng: random.Random, page: Page) -> list[str]:
    """Days across, hours down."""
    who = page.who
    first = rng.randint(0, 2)
    days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")[first : first + rng.randint(2, 3)]
    hours = [f"{hour}:00" for hour in sorted(rng.sample(range(8, 19), rng.randint(3, 6)))]
    cells = {(hour, day): rng.choice(who.words["things"]) for hour in hours for day in days if rng.random() < 0.85}
    cells[hours[0], days[0]] = rng.choice(who.words["things"])
    page.add(f"#align(center)[#{page.bold(who.firm, 1.4)} \\ #{page.say('Timetable')}]")
    head = page.head("Time", *days)
    rows = [
        (
            page.say(hour),
            *(page.mark(f"{hour} on {day}", cells[hour, day]) if (hour, day) in cells else '""' for day in days),
        )
        for hour in hours
    ]
    table(rng, page, ", ".join(["auto", *["1fr"] * len(days)]), head, rows)
    for hour, day in rng.sample(sorted(cells), min(3, len(cells))):
        page.ask(f"What takes place on {day} at {hour}?", cells[hour, day])
    day = rng.choice(days)
    page.ask(f"How many entries are there on {day}?", str(sum(one == day for _, one in cells)))
    page.ask("At what time does the first entry of the timetable begin?", hours[0])
    page.ask("How many days are shown?", str(len(days)))
    page.ask("Whose timetable is it?", who.firm)
    said = "; ".join(
        f"on {day} " + listed([f"{cells[hour, day]} at {hour}" for hour in hours if (hour, day) in cells])
        for day in days
        if any(one == day for _, one in cells)
    )
    return [
        f"the timetable of {who.firm}",
        f"the timetable of {who.firm} for {listed(days)}",
        f"the timetable of {who.firm} with {number(len(hours))} hours: {said}",
    ]
