"""Corrupted answers: the faults of servers and of the addresses in lists."""

from dataclasses import replace
from typing import Any, Final

from PIL import Image

from mmcorpus.curation.synthetic.miniweb.encode import encode
from mmcorpus.curation.synthetic.miniweb.page import Page
from mmcorpus.curation.synthetic.miniweb.site import Route

_PRIVATE: Final = ("http://10.0.0.1/", "http://127.0.0.1:1/", "http://169.254.169.254/latest/meta-data/",
                   "http://192.168.1.1/photo.jpg", "http://[::1]:1/", "http://172.16.0.9/a.png")  # fmt: skip


def answer(page: Page, *, status: int, body: str, as_picture: bool = False) -> None:
    """Text in place of the picture, as HTML or as if it were the picture."""
    page.answer(status, body.encode(), content_type=page.route.content_type if as_picture else "text/html")


def route(page: Page, **fields: Any) -> None:
    """The right picture, sent otherwise; nobody has it of an answer that never ends."""
    page.route = replace(page.route, **fields)
    if page.route.behaviour in ("drip", "endless"):
        page.upright = None


def wrong_content_type(page: Page) -> None:
    """The right picture under a wrong content type."""
    route(page, content_type=page.rng.choice(("text/html", "text/plain", "application/octet-stream")))


def http_403(page: Page) -> None:
    """Forbidden, with a picture that says so: an error's body is no sample."""
    notice = Image.new("RGB", (320, 240), (200, 200, 205))
    page.answer(403, encode(notice, "png"), content_type="image/png")


def redirect(page: Page) -> None:
    """Moved once or twice, to the right picture."""
    host = page.url.split("/")[2]
    target = f"http://{host}/moved/{page.url.rpartition('/')[2]}"
    page.others[target] = (page.route, page.body)
    upright = page.upright
    if page.rng.random() < 0.5:
        halfway = f"http://{host}/old/{page.number}"
        page.others[halfway] = (_moved(target), b"")
        target = halfway
    status = page.rng.choice((301, 302, 303, 307, 308))
    page.redirect(status, target if page.rng.random() < 0.5 else target.removeprefix(f"http://{host}"))
    page.upright = upright


def redirect_loop(page: Page) -> None:
    """Moved to an address that moved back."""
    other = f"http://{page.url.split('/')[2]}/loop/{page.number}"
    page.others[other] = (_moved(page.url), b"")
    page.redirect(302, other)


def redirect_private(page: Page) -> None:
    """Moved into a private network: a client must refuse without connecting."""
    page.redirect(page.rng.choice((301, 302, 307)), page.rng.choice(_PRIVATE))


def private_url(page: Page) -> None:
    """Listed at a private address."""
    page.url = f"http://192.168.{page.rng.randint(0, 255)}.{page.rng.randint(1, 254)}/photos/{page.number}.jpg"
    page.listed_elsewhere, page.upright = True, None


def bad_url(page: Page) -> None:
    """No address at all, or not one of the web."""
    form = page.rng.choice(
        ("ftp://images.miniweb.test/{}.jpg", "images/{}.jpg", "data:image/png;base64,{}", "http:///{}.jpg")
    )
    page.url = form.format(page.number)
    page.listed_elsewhere, page.upright = True, None


def slow(page: Page) -> None:
    """Slow, but within reason."""
    route(page, behaviour="slow", seconds=round(page.rng.uniform(1.0, 2.0), 1))


def reset(page: Page) -> None:
    """The connection is reset, at once or half-way through the body."""
    page.route = replace(page.route, behaviour="reset")
    page.upright = None
    if page.rng.random() < 0.5:
        page.body = b""


def noai(page: Page) -> None:
    """The owner opts out of training, by header."""
    directive = page.rng.choice(("noai", "noimageai", "noai, noimageai", "noindex", "none"))
    route(page, headers={"X-Robots-Tag": directive})


def _moved(location: str) -> Route:
    return Route(status=302, content_type="text/html", headers={"Location": location})
