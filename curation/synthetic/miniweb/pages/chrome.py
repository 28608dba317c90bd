"""The boilerplate around the content of web pages: menus, banners, related pages, comments, share bars, footers."""

import html
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from PIL import Image, ImageDraw

from mmcorpus.curation.synthetic.common import saved
from mmcorpus.curation.synthetic.miniweb.encode import CONTENT_TYPES
from mmcorpus.curation.synthetic.miniweb.pages.content import Draft, Shown
from mmcorpus.curation.synthetic.miniweb.pages.prose import PEOPLE, PLACES, PROSE
from mmcorpus.curation.synthetic.miniweb.site import Route, body_file
from mmcorpus.filters.yaml_data import read_data

_CHROME: Final[dict[str, Any]] = read_data(__package__, "chrome.yaml")


def static_files(host: str) -> dict[str, tuple[Route, bytes]]:
    """The boilerplate's pictures that a host serves: a logo, icons, a spacer, an avatar, smileys; by url."""
    return _drawings({f"http://{host}{path}": size for path, size in _CHROME["static_files"].items()})


def outside_files() -> dict[str, tuple[Route, bytes]]:
    """The pictures that pages fetch from others: a tracking pixel and advertisements; by url."""
    return _drawings(_CHROME["outside_files"])


def _drawings(sizes: Mapping[str, Sequence[int]]) -> dict[str, tuple[Route, bytes]]:
    drawings = {}
    for url, (width, height) in sizes.items():
        image = Image.new("RGB", (width, height), (40 + len(url) * 37 % 180, 90, 160))
        if min(width, height) > 8:
            ImageDraw.Draw(image).ellipse((2, 2, height - 3, height - 3), (240, 240, 240))
        extension = url.rpartition(".")[2]
        route = Route(file=body_file(url), content_type=CONTENT_TYPES[extension])
        drawings[url] = (route, saved(image, extension.upper()))
    return drawings


def join_lines(markup: str) -> str:
    """Markup that is wrapped and indented in a data file as one line, without white space between its lines."""
    return "".join(line.strip() for line in markup.splitlines())


class Chrome:
    """The boilerplate of one page; pages of a host have the same, and no two hosts quite the same."""

    def __init__(self, draft: Draft, rng: random.Random, others: Sequence[Shown]) -> None:
        """others: pictures that the page's related links show."""
        self.rng = rng
        self._draft = draft
        self._others = others
        self._host_number = sum(draft.host.encode())

    def fill(self, markup: str, /, **parts: str) -> str:
        """The markup with its gaps filled from first to last: by parts, else by the method of that name."""
        return join_lines(markup).format_map(_Gaps(parts, lambda name: getattr(self, name)()))

    def _piece(self, name: str, /, **parts: object) -> str:
        """A piece of markup in this host's style, its gaps filled."""
        markup = _CHROME[name]
        if isinstance(markup, list):
            markup = markup[self._host_number % len(markup)]
        return join_lines(markup).format(**parts)

    def page(self, body: str, language: str) -> bytes:
        """The whole page around its body. language: an attribute of `<html>`, or nothing."""
        return (self._piece("page", head=self._head(), body=body, language=language) + "\n").encode()

    def _head(self) -> str:
        """Everything of the page's head but its charset."""
        return self._piece(
            "head",
            title=html.escape(self._draft.title),
            site=self._draft.host.partition(".")[0].capitalize(),
            base=f'<base href="{self._draft.base}">' if self._draft.base else "",
            more="".join(self._draft.head),
        )

    def header(self) -> str:
        """The site's name and menu."""
        start = self._host_number % 7
        names = _CHROME["menu"][start : start + 12]
        links = "".join(self._piece("link", path=name.lower().replace(" ", "-"), name=name) for name in names)
        skip = _CHROME["skip"] if self.rng.random() < 0.4 else ""
        return self._piece("header", skip=skip, links=links, logo=_CHROME["logo"], search=_CHROME["search"])

    def cookies(self) -> str:
        """A cookie banner, on most pages."""
        if self.rng.random() < 0.3:
            return ""
        return self._piece("cookies", name=self.rng.choice(_CHROME["cookies_names"]))

    def crumbs(self) -> str:
        """The page's place in the site."""
        parts = [part for part in self._draft.path.split("/")[1:-1] if part]
        links = "".join(_CHROME["crumb"].format(part=part) for part in parts)
        return self._piece("crumbs", links=links) if self.rng.random() < 0.6 else ""

    def byline(self) -> str:
        """The page's author and day."""
        return self._piece("byline", person=self.rng.choice(PEOPLE), day=self._draft.date[:10])

    def share(self) -> str:
        """Buttons for passing the page on."""
        return self._piece("share")

    def advert(self) -> str:
        """An advertisement among the content."""
        return "" if self.rng.random() < 0.5 else self._piece("advert")

    def sidebar(self) -> str:
        """Recent pages, tags, a newsletter."""
        rng = self.rng
        recent = "".join(self._piece("post", number=rng.randint(100, 999), teaser=_teaser(rng)) for _ in range(5))
        tags = " ".join(self._piece("tag", tag=tag) for tag in rng.sample(_CHROME["tags"], 6))
        return self._piece("sidebar", aside=self._piece("aside", recent=recent, tags=tags))

    def related(self) -> str:
        """Other pages, each with a picture."""
        if not self._others:
            return ""
        cards = [
            self._piece("card", number=number, url=shown.url, teaser=_teaser(self.rng))
            for number, shown in enumerate(self._others)
        ]
        return self._piece("related", cards="".join(cards))

    def comments(self) -> str:
        """Readers' comments, on most pages."""
        if self.rng.random() < 0.3:
            return ""
        said = self.rng.sample(_CHROME["said"], self.rng.randint(1, 4))
        comments = [self._piece("comment", person=self.rng.choice(PEOPLE), text=text) for text in said]
        return self._piece("comments", comments="".join(comments))

    def footer(self) -> str:
        """The end of the page, with the pixel that counts it."""
        legal = self._piece("legal", year=self._draft.date[:4], host=html.escape(self._draft.host))
        return self._piece("footer", legal=legal) + self._piece("footer_end", number=self._draft.number)


class _Gaps(dict[str, str]):
    """Values for `str.format_map` that are made when their turn comes: chrome draws its choices in page order."""

    def __init__(self, parts: Mapping[str, str], make: Callable[[str], str]) -> None:
        super().__init__(parts)
        self._make = make

    def __missing__(self, name: str) -> str:
        return self._make(name)


def _teaser(rng: random.Random) -> str:
    drawn: dict[str, Any] = {
        "things": rng.randint(3, 30),
        "place": rng.choice(PLACES),
        "person": rng.choice(PEOPLE),
        "elsewhere": rng.choice(PLACES),
        "minutes": rng.randint(5, 50),
    }
    teaser: str = rng.choice(PROSE["teasers"])
    return teaser.format(**drawn)
