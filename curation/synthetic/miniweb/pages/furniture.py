"""What surrounds the content of web pages: menus, banners, related pages, comments, share bars, scripts, footers."""

import html
import io
import random
from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw

from mmcorpus.curation.synthetic.miniweb.pages.content import Draft, Shown
from mmcorpus.curation.synthetic.miniweb.pages.frames import PEOPLE, PLACES
from mmcorpus.curation.synthetic.miniweb.site import Route, body_file

TRACKER: Final = "stats.miniweb.test"
ADVERTS: Final = "ads.miniweb.test"
_MENU: Final = (
    "Home", "About", "Archive", "Contact", "Shop", "Members", "Events", "Press", "Jobs", "Help", "Weather", "Sport",
    "Culture", "Opinion", "Science", "Travel", "Video", "Podcasts", "Letters", "Log in",
)  # fmt: skip
_TAGS: Final = ("paper", "ink", "shapes", "prints", "walls", "light", "letters", "folders", "clocks", "numbers")
_STYLE: Final = "<style>body{margin:0;font:16px/1.5 sans-serif}.hidden{display:none}nav ul{list-style:none}</style>"
_SCRIPT: Final = (
    "<script>window.dataLayer=window.dataLayer||[];function track(){dataLayer.push(arguments)}"
    'if(document.cookie.indexOf("seen")<0){track("visit","<img src=\\"/never.jpg\\">")}</script>'
)
_COMMENTS: Final = (
    "Great pictures, thank you for sharing!", "First!!!", "I do not agree with the second paragraph at all.",
    "Does anybody know where I can buy a frame like that?", "My grandmother had one just like it.",
    "This page takes ages to load on my phone.", "Please write more about this.", "Who made the photographs?",
)  # fmt: skip


def static_files(host: str) -> dict[str, tuple[Route, bytes]]:
    """The furniture's pictures that a host serves: a logo, icons, a spacer, an avatar, smileys; by url."""
    shapes = {
        "/static/logo.png": (180, 48),
        "/static/icons/share-mail.png": (24, 24),
        "/static/icons/share-post.png": (24, 24),
        "/static/spacer.gif": (1, 1),
        "/static/avatars/none.png": (48, 48),
        "/static/smile.png": (16, 16),
        "/static/badge.png": (88, 31),
    }
    return {f"http://{host}{path}": _drawing(f"http://{host}{path}", size) for path, size in shapes.items()}


def outside_files() -> dict[str, tuple[Route, bytes]]:
    """What pages fetch from others: a tracking pixel and advertisements; by url."""
    urls = {f"http://{TRACKER}/pixel.gif": (1, 1), f"http://{ADVERTS}/banner-728x90.png": (728, 90),
            f"http://{ADVERTS}/box-300x250.png": (300, 250)}  # fmt: skip
    return {url: _drawing(url, size) for url, size in urls.items()}


def _drawing(url: str, size: tuple[int, int]) -> tuple[Route, bytes]:
    image = Image.new("RGB", size, (40 + len(url) * 37 % 180, 90, 160))
    if min(size) > 8:
        ImageDraw.Draw(image).ellipse((2, 2, size[1] - 3, size[1] - 3), (240, 240, 240))
    buffer = io.BytesIO()
    image.save(buffer, "gif" if url.endswith(".gif") else "png")
    kind = "image/gif" if url.endswith(".gif") else "image/png"
    return Route(file=body_file(url), content_type=kind), buffer.getvalue()


class Furniture:
    """The furniture of one page; the same host is furnished alike, and no two hosts quite alike."""

    def __init__(self, draft: Draft, rng: random.Random, others: Sequence[Shown]) -> None:
        """others: pictures that the page's related links show."""
        self._draft = draft
        self._rng = rng
        self._others = others
        self._style = sum(draft.host.encode()) % 3  # 0: HTML5 elements, 1: telling classes, 2: names that tell nothing

    def head(self) -> str:
        """Everything of the page's head but its charset."""
        title = html.escape(self._draft.title)
        base = f'<base href="{self._draft.base}">' if self._draft.base else ""
        return (
            f"<title>{title} | {self._draft.host.partition('.')[0].capitalize()}</title>{base}"
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta property="og:title" content="{title}"><link rel="stylesheet" href="/static/site.css">'
            f'<link rel="icon" href="/static/favicon.ico">{"".join(self._draft.head)}{_STYLE}{_SCRIPT}'
            f'<script type="application/ld+json">{{"@type": "WebPage", "name": "{title}"}}</script>'
        )

    def header(self) -> str:
        """The site's name and menu."""
        rng = self._rng
        links = "".join(f'<li><a href="/{name.lower().replace(" ", "-")}">{name}</a></li>' for name in self._menu())
        logo = '<a href="/"><img src="/static/logo.png" alt="Home" width="180" height="48"></a>'
        search = '<form action="/search"><input name="q" placeholder="Search"><button>Search</button></form>'
        skip = '<a class="skip-link" href="#content">Skip to content</a>' if rng.random() < 0.4 else ""
        if self._style == 0:
            return f"{skip}<header>{logo}<nav><ul>{links}</ul></nav>{search}</header>"
        if self._style == 1:
            return (
                f'{skip}<div id="header">{logo}{search}</div><div class="main-navigation menu"><ul>{links}</ul></div>'
            )
        return f'{skip}<div class="c1f">{logo}<ul class="k9">{links}</ul>{search}</div>'

    def _menu(self) -> list[str]:
        start = sum(self._draft.host.encode()) % 7
        return list(_MENU[start : start + 12])

    def cookies(self) -> str:
        """A cookie banner, on most pages."""
        if self._rng.random() < 0.3:
            return ""
        text = (
            "We use cookies and similar techniques to offer you a better experience and to measure how our pages are"
            " used. By clicking on accept you agree to the use of all cookies."
        )
        name = self._rng.choice(
            ('id="cookie-banner" class="consent"', 'class="cc-window" role="dialog"', 'class="gdpr"')
        )
        return f'<div {name}><p>{text}</p><button>Accept all</button> <a href="/privacy">Privacy policy</a></div>'

    def crumbs(self) -> str:
        """Where the page stands in the site."""
        parts = [part for part in self._draft.path.split("/")[1:-1] if part]
        links = "".join(f' &raquo; <a href="/{part}">{part}</a>' for part in parts)
        return f'<div class="breadcrumbs"><a href="/">Home</a>{links}</div>' if self._rng.random() < 0.6 else ""

    def byline(self, person: str) -> str:
        """Who wrote it and when."""
        day = self._draft.date[:10]
        author = f'<a rel="author" href="/author">{person}</a>'
        return f'<div class="byline meta">By {author} | <time>{day}</time> | 4 min read</div>'

    def share(self) -> str:
        """Buttons for passing the page on."""
        icons = "".join(
            f'<a href="{target}"><img src="/static/icons/share-{name}.png" width="24" height="24" alt="{label}"></a>'
            for name, label, target in (
                ("mail", "Share by mail", "mailto:?body=page"),
                ("post", "Share this", "http://social.test/share?u=page"),
            )
        )
        return f'<div class="share social-links"><span>Share this page</span>{icons}</div>'

    def advert(self) -> str:
        """An advertisement among the content."""
        if self._rng.random() < 0.5:
            return ""
        return (
            '<div class="ad advertisement"><span>Advertisement</span><a href="http://ads.miniweb.test/click">'
            f'<img src="http://{ADVERTS}/box-300x250.png" alt="Buy now" width="300" height="250"></a></div>'
        )

    def sidebar(self) -> str:
        """Recent pages, tags, a newsletter."""
        rng = self._rng
        recent = "".join(f'<li><a href="/p/{rng.randint(100, 999)}">{_teaser(rng)}</a></li>' for _ in range(5))
        tags = " ".join(f'<a href="/tag/{tag}">{tag}</a>' for tag in rng.sample(_TAGS, 6))
        inside = (
            f"<h3>Recent posts</h3><ul>{recent}</ul><h3>Tags</h3><div>{tags}</div><h3>Newsletter</h3>"
            "<p>Get our best stories in your inbox every Friday.</p>"
            "<form><input type=email><button>Subscribe</button></form>"
            '<img src="/static/badge.png" alt="">'
        )
        return ("<aside>%s</aside>", '<div id="sidebar" class="widget-area">%s</div>', '<div class="c3q">%s</div>')[
            self._style
        ] % inside

    def related(self) -> str:
        """Other pages, each with a picture."""
        if not self._others:
            return ""
        cards = "".join(
            f'<li><a href="/p/{number}"><img src="{shown.url}" alt="" width="120">'
            f"<span>{_teaser(self._rng)}</span></a></li>"
            for number, shown in enumerate(self._others)
        )
        name = ('class="related-posts"', 'class="related"', 'class="z7 rec"')[self._style]
        return f"<div {name}><h3>You may also like</h3><ul>{cards}</ul></div>"

    def comments(self) -> str:
        """What readers left."""
        rng = self._rng
        if rng.random() < 0.3:
            return ""
        said = "".join(
            f'<li class="comment"><img class="avatar" src="/static/avatars/none.png" width="48" height="48" alt="">'
            f'<b>{rng.choice(PEOPLE)}</b> <small>2 days ago</small><p>{text}</p><a href="#reply">Reply</a></li>'
            for text in rng.sample(_COMMENTS, rng.randint(1, 4))
        )
        form = "<form><label>Leave a comment</label><textarea>Your text</textarea><button>Send</button></form>"
        said = f'<ol class="comment-list">{said}</ol>'
        return f'<div id="comments" class="comments-area"><h3>Comments</h3>{said}{form}</div>'

    def footer(self) -> str:
        """The end of the page, with the pixel that counts it."""
        links = "".join(f'<a href="/{name.lower()}">{name}</a> ' for name in ("Imprint", "Privacy", "Terms", "Sitemap"))
        text = f"<p>&copy; {self._draft.date[:4]} {html.escape(self._draft.host)}. All rights reserved.</p>{links}"
        pixel = f'<img src="http://{TRACKER}/pixel.gif?page={self._draft.number}" width="1" height="1" alt="">'
        end = ("<footer>%s</footer>", '<div id="footer" class="site-info">%s</div>', '<div class="c9z">%s</div>')
        return end[self._style] % text + pixel + '<script src="/static/site.js" async></script>'


def _teaser(rng: random.Random) -> str:
    return rng.choice(
        (
            f"{rng.randint(3, 30)} things to see in {rng.choice(PLACES)}",
            f"{rng.choice(PEOPLE)} opens a new studio",
            f"What became of the archive of {rng.choice(PLACES)}?",
            f"How to frame a picture in {rng.randint(5, 50)} minutes",
        )
    )
