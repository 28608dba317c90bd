"""Pages to break: every kind of markup that the extraction looks at, by number."""

import random
import re

WORDS = re.findall(
    r"\S+",
    "mill river bridge stone water wind old town council plans burnt night people house größe 水車 мельница",
)
TAGS = re.findall(
    r"\S+",
    "div p span b i a ul ol li table tr td th pre code blockquote figure figcaption section article h1 h2"
    " h3 dl dt dd form",
)
NAMES = [
    "content",
    "main",
    "article",
    "comments",
    "sidebar",
    "nav",
    "share",
    "related",
    "post-123",
    "caption",
    "menu",
    "entry-content",
    "userinfo",
    "hero",
]
IMAGES = (
    '<img src="{0}.jpg" alt="{0}">',
    '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" data-src="{0}.jpg"><noscript><img src="{0}.jpg"></noscript>',
    '<picture><source srcset="{0}.webp 800w, {0}-s.webp 300w"><img src="{0}.jpg"></picture>',
    '<figure><img srcset="{0}.jpg 1x, {0}-2.jpg 2x" width=640 height="480px"><figcaption>{0}</figcaption></figure>',
    '<video poster="{0}.png"></video>',
    '<svg><title>{0}</title><image href="x"/></svg>',
)


def write_page(number: int) -> str:
    """A page of random nesting; the same for the same number."""
    random_ = random.Random(number)
    parts = [
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{_words(random_, 4)}</title>"
        f'<meta name="robots" content="noai"><base href="/base/"></head><body class="{random_.choice(NAMES)}">'
    ]
    opened: list[str] = []
    for _ in range(random_.randint(10, 80)):
        choice = random_.random()
        if choice < 0.35:
            tag = random_.choice(TAGS)
            parts.append(f'<{tag} class="{random_.choice(NAMES)}" id=x{random_.randint(0, 99)} href="/{number}">')
            opened.append(tag)
        elif choice < 0.6 and opened:
            parts.append(f"</{opened.pop()}>")
        elif choice < 0.7:
            parts.append(random_.choice(IMAGES).format(random_.choice(WORDS)))
        elif choice < 0.75:
            parts.append("<br><hr>&amp;&nbsp;&#x1f600;&bogus;<!-- c --><script>if (a < b) {}</script>")
        else:
            parts.append(_words(random_, random_.randint(1, 60)))
    return "".join(parts)


def mutate(page: bytes, other: bytes, seed: int) -> bytes:
    """A page with a few things broken: bytes flipped, stretches cut, doubled, shuffled, or put in from another page."""
    random_ = random.Random(seed)
    data = bytearray(page)
    for _ in range(random_.randint(1, 8)):
        kind, place = random_.randrange(8), random_.randrange(len(data) + 1)
        end = min(len(data), place + random_.randint(1, 200))
        if kind == 0:
            for _ in range(20):
                if data:
                    data[random_.randrange(len(data))] = random_.randrange(256)
        elif kind == 1:
            del data[place:end]
        elif kind == 2:
            data[place:place] = data[place:end] * random_.randint(1, 20)
        elif kind == 3:
            start = random_.randrange(len(other))
            data[place:place] = other[start : start + random_.randint(1, 400)]
        elif kind == 4:
            tags = bytes(data).split(b"<")
            random_.shuffle(tags)
            data = bytearray(b"<".join(tags))
        elif kind == 5:
            token = random_.choice(
                [b"<", b">", b"\0", b'"', b"<!--", b"]]>", b"<table>", b"</p>", b"<svg>", b"&#0;", b"\xff\xfe"]
            )
            data[place:place] = token * random_.randint(1, 50)
        elif kind == 6:
            del data[place:]
        else:
            data[place:place] = bytes(random_.randrange(256) for _ in range(30))
    return bytes(data)


def _words(random_: random.Random, count: int) -> str:
    return " ".join(random_.choice(WORDS) for _ in range(count)) + random_.choice([". ", ", ", " ", "? "])
