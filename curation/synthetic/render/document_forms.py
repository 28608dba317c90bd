"""Business papers: what each says, and what can be asked of it. Each returns descriptions, the shortest first."""

import random
from typing import Final

from mmcorpus.curation.synthetic.render.page import Page, letterhead, table
from mmcorpus.curation.synthetic.render.people import (
    draw_date,
    draw_hour,
    draw_items,
    draw_later,
    draw_month,
    draw_name,
    draw_street,
    draw_town,
    money,
)
from mmcorpus.curation.synthetic.render.words import article, listed, number

_SIGNS: Final = ("$", "€", "£")


def invoice(rng: random.Random, page: Page) -> list[str]:
    """A bill with its lines, tax and total."""
    who, sign = page.who, rng.choice(_SIGNS)
    code = f"{rng.choice(('INV', 'R', 'A', 'B'))}-{rng.randint(1000, 99999)}"
    customer, date = draw_name(rng), draw_date(rng)
    due = draw_later(rng, date)
    letterhead(rng, page)
    page.add(f"#{page.bold(rng.choice(('Invoice', 'INVOICE', 'Bill', 'Tax Invoice')), 1.5)}")
    page.add(
        f"#grid(columns: (auto, auto), gutter: 6pt, {page.say('Number:')}, {page.mark('invoice number', code)}, "
        f"{page.say('Date:')}, {page.mark('date', date)}, {page.say('Due:')}, "
        f"{page.mark('due date', due)})"
    )
    page.add(
        f"#{page.say('To')}: #{page.mark('customer', customer)} \\ #{page.say(draw_street(rng))} \\ "
        f"#{page.say(draw_town(rng))}"
    )
    lines = [(name, rng.randint(1, 12), price) for name, price in draw_items(rng, who, rng.randint(2, 6))]
    head = page.head("Item", "Qty", "Price", "Amount")
    rows = [
        (
            page.say(name),
            page.say(str(count)),
            page.say(money(price, sign)),
            page.mark(f"amount for {name}", money(price * count, sign)),
        )
        for name, count, price in lines
    ]
    table(rng, page, "1fr, auto, auto, auto", head, rows)
    net = sum(count * price for _, count, price in lines)
    rate = rng.choice((5, 7, 10, 19, 20))
    tax = round(net * rate / 100)
    page.add(
        f"#align(right, grid(columns: 2, gutter: 5pt, align: right, {page.say('Subtotal')}, "
        f"{page.mark('subtotal', money(net, sign))}, "
        f"{page.say(f'Tax {rate}%')}, {page.mark('tax', money(tax, sign))}, {page.bold('Total')}, "
        f"{page.mark('total', money(net + tax, sign))}))"
    )
    total = money(net + tax, sign)
    thanks = ("Thank you for your order.", "Please pay within the stated time.", "We appreciate your business.")
    page.add(f"#{page.say(rng.choice(thanks))}")
    first = rng.choice(lines)
    page.ask("What is the invoice number?", code)
    page.ask("What is the total?", total)
    page.ask("Who is the invoice for?", customer)
    page.ask("Which company sent the invoice?", who.firm)
    page.ask("When is the payment due?", due)
    page.ask("What is the invoice date?", date)
    page.ask("How much is the tax?", money(tax, sign))
    page.ask(f"What is the price of one {first[0].lower()}?", money(first[2], sign))
    page.ask(f"What quantity of {first[0].lower()} is billed?", str(first[1]))
    page.ask("How many different items are billed?", str(len(lines)))
    said = listed([f"{count} {name.lower()} at {money(price, sign)}" for name, count, price in lines])
    return [
        f"an invoice from {who.firm} to {customer}",
        f"an invoice from {who.firm} to {customer} over {total}",
        f"invoice {code} from {who.firm} to {customer}, dated {date} and due {due}, lists {said}, with {rate}% tax of "
        f"{money(tax, sign)} and a total of {total}",
    ]


def receipt(rng: random.Random, page: Page) -> list[str]:
    """A till's slip."""
    who, sign = page.who, rng.choice(_SIGNS)
    date, hour, till = draw_date(rng), draw_hour(rng), str(rng.randint(1, 9))
    page.add(f"#align(center)[#{page.bold(who.firm, 1.25)} \\ #{page.say(who.street)} \\ #{page.say(who.town)}]")
    page.add(f"#align(center, {page.bold(rng.choice(('Receipt', 'RECEIPT', 'Sales slip')), 1.1)})")
    page.add(f"#{page.mark('date', date)} #h(1fr) #{page.mark('time', hour)} \\ #{page.say('Till')} #{page.say(till)}")
    rule = '#line(length: 100%, stroke: (dash: "dashed"))'
    page.add(rule)
    items = draw_items(rng, who, rng.randint(2, 7))
    for name, price in items:
        page.add(f"#{page.say(name)} #h(1fr) #{page.mark(f'price of {name}', money(price, sign))} \\")
    page.add(rule)
    total = sum(price for _, price in items)
    given = -(-total // 1000) * 1000 + rng.choice((0, 1000, 2000))
    page.add(f"#{page.bold('TOTAL')} #h(1fr) #{page.mark('total', money(total, sign))} \\")
    cash = rng.random() < 0.5
    if cash:
        page.add(f"#{page.say('Cash')} #h(1fr) #{page.mark('cash given', money(given, sign))} \\")
        page.add(f"#{page.say('Change')} #h(1fr) #{page.mark('change', money(given - total, sign))} \\")
        page.ask("How much change was given?", money(given - total, sign))
    else:
        card = f"**** {rng.randint(1000, 9999)}"
        page.add(f"#{page.say('Card')} #h(1fr) #{page.mark('card number', card)} \\")
        page.ask("What are the last four digits of the card?", card[-4:])
    page.add(f"#align(center, {page.say(rng.choice(('Thank you!', 'See you soon!', 'Have a nice day!')))})")
    name, price = rng.choice(items)
    page.ask("What is the total?", money(total, sign))
    page.ask("What is the name of the shop?", who.firm)
    page.ask(f"How much is the {name.lower()}?", money(price, sign))
    page.ask("At what time was it printed?", hour)
    page.ask("What is the date on the receipt?", date)
    page.ask("How many items were bought?", str(len(items)))
    dearest = max(price for _, price in items)
    if sum(price == dearest for _, price in items) == 1:
        page.ask("Which item is the most expensive?", next(name for name, price in items if price == dearest))
    said = listed([f"{name.lower()} for {money(price, sign)}" for name, price in items])
    paid = f"paid in cash with {money(given, sign)}" if cash else "paid by card"
    return [
        f"a receipt from {who.firm}",
        f"a receipt from {who.firm} over {money(total, sign)}, {paid}",
        f"a receipt from {who.firm} in {who.town} of {date}, {hour}: {said}; in all {money(total, sign)}, {paid}",
    ]


def form(rng: random.Random, page: Page) -> list[str]:
    """A form with fields that are filled in and boxes that are ticked."""
    who = page.who
    title = rng.choice(("Registration form", "Application", "Order form", "Customer record", "Membership form"))
    page.add(f"#align({rng.choice(('left', 'center'))})[#{page.bold(title, 1.5)} \\ #{page.say(who.firm)}]")
    name = draw_name(rng)
    fields = [
        ("Name", name),
        ("Street", draw_street(rng)),
        ("Town", draw_town(rng)),
        ("Date of birth", draw_date(rng)),
        ("Phone", f"{rng.randint(100, 999)} {rng.randint(1000, 9999)}"),
        ("Occupation", rng.choice(who.words["jobs"])),
        ("Customer number", str(rng.randint(10000, 99999))),
        ("E-mail", f"{name.split()[0].lower()}@{who.town.lower()}.example"),
    ]
    shown = [fields[0], *rng.sample(fields[1:], rng.randint(3, 6))]
    boxed = rng.random() < 0.5
    hand = 'style: "italic", fill: blue.darken(30%), ' if rng.random() < 0.6 else ""
    for label, value in shown:
        said, filled = page.say(f"{label}:"), page.mark(label.lower(), value)
        frame = "stroke: 0.6pt + accent" if boxed else "stroke: (bottom: 0.6pt + accent)"
        page.add(
            f"#grid(columns: (35%, 1fr), align: horizon, {said}, box(width: 100%, inset: 4pt, {frame}, "
            f"text({hand}{filled})))"
        )
    choices = rng.sample(who.words["things"], 4)
    ticked = rng.sample(choices, rng.randint(1, 3))
    page.add(f"#{page.bold('Interested in')} \\")
    cells = []
    for choice in choices:
        box = "box(width: 0.8em, height: 0.8em, stroke: 0.7pt, " + (
            "align(center + horizon, text(size: 0.8em, [X])))" if choice in ticked else "none)"
        )
        cells.append(f"[#{box} #{page.say(choice)}]")
    page.add(f"#grid(columns: {rng.choice((2, 4))}, gutter: 8pt, {', '.join(cells)})")
    ordered = [choice for choice in choices if choice in ticked]
    for label, value in shown:
        page.ask(f"What is filled in for {label.lower()}?", value)
    page.ask("What kind of form is it?", title)
    page.ask("How many boxes are ticked?", str(len(ticked)))
    asked = rng.choice(choices)
    page.ask(f"Is the box for {asked} ticked?", "yes" if asked in ticked else "no")
    if len(ordered) == 1:
        page.ask("Which box is ticked?", ordered[0])
    said = listed([f"{label.lower()} {value}" for label, value in shown])
    return [
        f"{article(title.lower())} of {who.firm} filled in by {name}",
        f"{article(title.lower())} of {who.firm} filled in by {name}, who ticked {listed(ordered)}",
        f"{article(title.lower())} of {who.firm}: {said}. Of the boxes {listed(choices)}, {listed(ordered)} "
        f"{'is' if len(ordered) == 1 else 'are'} ticked",
    ]


def price_list(rng: random.Random, page: Page) -> list[str]:
    """Items with their prices, as on a menu."""
    who, sign = page.who, rng.choice(_SIGNS)
    title = rng.choice(("Price list", "Our prices", "Menu", "Catalogue"))
    page.add(f"#align({rng.choice(('left', 'center'))})[#{page.bold(title, 1.7)} \\ #{page.say(who.firm)}]")
    items = draw_items(rng, who, rng.randint(3, 8))
    if rng.random() < 0.5:
        rows = [(page.say(name), page.mark(f"price of {name}", money(price, sign))) for name, price in items]
        table(rng, page, "1fr, auto", page.head("Item", "Price"), rows)
    else:
        dots = rng.choice(("#h(1fr)", "#box(width: 1fr, repeat[.])"))
        for name, price in items:
            page.add(f"#{page.say(name)} {dots} #{page.mark(f'price of {name}', money(price, sign))} \\")
    month = f"{draw_month(rng)} {rng.randint(2000, 2026)}"
    page.add(f"#text(size: 0.8em)[#{page.say('Valid from')} #{page.mark('validity', month)}]")
    first, second = rng.sample(items, 2)
    page.ask(f"How much is the {first[0].lower()}?", money(first[1], sign))
    page.ask("From when are the prices valid?", month)
    page.ask("Whose prices are these?", who.firm)
    page.ask("How many items are listed?", str(len(items)))
    prices = [price for _, price in items]
    for word, most in (("cheapest", min(prices)), ("most expensive", max(prices))):
        if prices.count(most) == 1:
            page.ask(f"What is the {word} item?", items[prices.index(most)][0])
    if first[1] != second[1]:
        dearer, other = sorted((first, second), key=lambda item: -item[1])
        page.ask(
            f"How much more is the {dearer[0].lower()} than the {other[0].lower()}?", money(dearer[1] - other[1], sign)
        )
    said = listed([f"{name.lower()} {money(price, sign)}" for name, price in items])
    return [
        f"the prices of {who.firm}",
        f'a list titled "{title}" with {number(len(items))} prices of {who.firm}',
        f'a list titled "{title}" of {who.firm}, valid from {month}: {said}',
    ]
