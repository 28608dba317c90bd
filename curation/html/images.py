"""An image's tag to its address, its words and the kind of page chrome that it may be."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from mmcorpus.curation.html.config import ExtractConfig
from mmcorpus.curation.html.described import is_described
from mmcorpus.curation.html.nodes import ImageNode, Node
from mmcorpus.curation.html.parse import Attributes
from mmcorpus.curation.html.urls import absolute_url
from mmcorpus.filters.yaml_data import read_data

IMAGES: Final = frozenset(["img", "amp-img", "amp-anim"])

_SETS: Final = ("data-srcset", "data-lazy-srcset", "data-original-set", "data-src-set", "srcset", "nitro-lazy-srcset")
_LAZY: Final = read_data(__package__, "words.yaml")["lazy_attributes"].split()
"""Attributes in which scripts that load images late keep the address, the most telling first."""
_ADDRESS: Final = re.compile(r"\.(?:jpe?g|png|webp|gif|avif|bmp|tiff?)(?:[?#!@]|$)", re.IGNORECASE)
_PLACEHOLDER: Final = re.compile(
    r"(?:^|[/_.\-])(?P<word>blank|spacer|placeholder|transparent|pixel|lazy(?:load(?:er|ing)?)?|loading|loader|gr[ae]y|empty|dummy|1x1|"
    r"grey-placeholder|preload|spaceball|trans|clear|default-image|img-placeholder)(?:[_\-.\d]*)\.(?:gif|png|svg|jpe?g|webp)",
    re.IGNORECASE,
)
_TEMPLATE: Final = re.compile(r"[{|]|%7[bc]", re.IGNORECASE)
"""Characters that no address has unescaped: a script fills in `{width}` or `|vw|`."""
_CANDIDATE: Final = re.compile(r"[\s,]*(\S+)")

_WORD: Final = (
    ("tracking", r"pixel|beacon|tracker|tracking|analytics|webbug|counter|statcounter"),
    ("spacer", r"spacer|blank|transparent|1x1|shim|separator|divider"),
    ("placeholder", r"placeholder|loader|spinner"),
    (
        "avatar",
        r"avatars?|gravatar|userpic|user-?photo|user-?image|profile-?(?:pic|photo|image)s?|headshot|author-?(?:image|photo)|mugshot",
    ),
    ("emoji", r"emojis?|emoticons?|smil(?:ey|ies|eys|e)|wp-smiley|twemoji"),
    ("logo", r"logos?|logotype|brandmark|masthead"),
    (
        "icon",
        r"icons?|ico|favicon|sprites?|glyph|arrows?|bullets?|caret|chevron|btns?|buttons?|flags?|stars?|thumbs-?up",
    ),
    ("badge", r"badges?|shield|ribbon|seal"),
)
_WORDS: Final = re.compile(
    "|".join(f"(?P<{reason}>(?<![a-z0-9])(?:{words})(?![a-z]))" for reason, words in _WORD), re.IGNORECASE
)
_TRACKERS: Final = re.compile(
    r"//(?:[\w.-]*\.)?(?:doubleclick\.net|google-analytics\.com|googletagmanager\.com|scorecardresearch\.com|quantserve\.com|"
    r"facebook\.com/tr|pixel\.wp\.com|stats\.wp\.com|b\.scorecardresearch|sb\.scorecard|mc\.yandex\.ru|counter\.yadro\.ru|"
    r"top-fwz1\.mail\.ru|hm\.baidu\.com|c\.statcounter|feeds\.feedburner\.com/~|metrics\.|ping\.)|/(?:b/ss|pixel(?!-)|piwik\.php|matomo\.php)\b",
    re.IGNORECASE,
)
_PIXELS: Final = re.compile(r"\s*+(\d{1,5})(?:\.\d*+)?\s*+(?:px\s*+)?\Z")
_STYLE: Final = re.compile(r"(?:^|[;\s])(width|height)\s*:\s*(\d{1,5})(?:\.\d*)?px")
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")

TINY: Final = 32
"""In CSS pixels; no side is longer than that of an icon."""
REPEATED: Final = 3
"""As often as that on a page, an image is page chrome."""
THIN: Final = 16
"""In CSS pixels; an image as thin as that is a rule or a spacer."""


class ImageReader:
    """Reads image tags of one page."""

    def __init__(self, base: str, config: ExtractConfig) -> None:
        self.base, self.config = base, config

    def read(
        self,
        attributes: Attributes,
        sources: Iterable[Attributes] = (),
        caption: Callable[[], str] = lambda: "",
    ) -> ImageNode | None:
        """The image of a tag (and of the `<source>`s before it in its `<picture>`); None if it names no address.

        The kind of page chrome that its words and sizes say it is stands in `decorative`; a word in the file's name
        says nothing if the alt text, or the caption, describes a picture.
        """
        values = {name: value for name, value in attributes if value}
        url, placeholder = self._address(values, list(sources))
        if url is None:
            return None
        width, height = _sizes(values)
        if placeholder and (found := _PLACEHOLDER.search(url)) and not _TEMPLATE.search(url):
            placeholder = not _is_described(found["word"], url, values, caption)
        return ImageNode(
            url=url,
            alt=_words(values.get("alt")),
            title=_words(values.get("title")),
            width=width,
            height=height,
            decorative="placeholder" if placeholder else _decorative(url, values, width, height, caption),
        )

    def poster(self, attributes: Attributes) -> ImageNode | None:
        """The picture that stands for a video before it plays."""
        values = {name: value for name, value in attributes if value}
        url = absolute_url(self.base, values.get("poster") or values.get("data-poster") or "")
        return None if url is None else ImageNode(url=url, title=_words(values.get("title")))

    def _address(self, values: dict[str, str], sources: list[Attributes]) -> tuple[str | None, bool]:
        """An address, and whether it is a placeholder's: there was no other."""
        fallback = None
        for address in self._candidates(values, sources):
            url = self._absolute(address)
            if url is None:
                continue
            if not _is_placeholder(url, self.config.min_data_uri):
                return url, False
            fallback = fallback or url
        # A placeholder in a data: URI shows nothing and has nothing to fetch.
        return (None, False) if fallback is None or fallback.startswith("data:") else (fallback, True)

    def _candidates(self, values: dict[str, str], sources: list[Attributes]) -> Iterator[str]:
        sets = [value for name in _SETS if (value := values.get(name))]
        for source in sources:
            given = dict(source)
            sets += [value for name in _SETS if (value := given.get(name))]
        yield from self._by_size(sets)
        for name in _LAZY:
            if value := values.get(name):
                yield value
        if value := values.get("src"):
            yield value
        for name, value in values.items():
            if name.startswith("data-") and _ADDRESS.search(value) and not value.lstrip().startswith(("{", "[", "<")):
                yield value

    def _by_size(self, sets: list[str]) -> list[str]:
        """The candidates of srcsets: the widest that is not too wide first, then wider ones, the least first."""
        sized = []
        for value in sets:
            for address, size in parse_srcset(value):
                limit = self.config.max_image_width if size > 10 else 3.0  # pixels, or device pixels per CSS pixel
                sized.append((size > limit, size if size > limit else -size, address))
        return [address for *_, address in sorted(sized, key=lambda item: item[:2])]

    def _absolute(self, address: str) -> str | None:
        address = address.strip()
        if address[:5].lower() == "data:":
            kind, comma, _ = address[5:100].partition(",")
            fits = len(address) <= self.config.max_data_uri
            return f"data:{address[5:]}" if fits and comma and kind.lower().startswith("image/") else None
        return absolute_url(self.base, address)


def mark_repeated(nodes: Sequence[Node]) -> list[Node]:
    """The nodes, with an image that stands in them three times or more marked: a bullet, a rank, an arrow."""
    often = Counter(node.url for node in nodes if isinstance(node, ImageNode))
    return [
        replace(node, decorative="repeated")
        if isinstance(node, ImageNode) and node.decorative is None and often[node.url] >= REPEATED
        else node
        for node in nodes
    ]


def parse_srcset(value: str) -> Iterator[tuple[str, float]]:
    """Address and size of each candidate: its width in pixels (`w`), else its density (`x`, 1 if none is given).

    As browsers read it (HTML §4.8.4.3.10): addresses end at white space, so they may hold commas.

    >>> list(parse_srcset("a,b.jpg 320w, c.jpg 2x"))
    [('a,b.jpg', 320.0), ('c.jpg', 2.0)]
    """
    place, value = 0, value[:50_000]
    while found := _CANDIDATE.match(value, place):
        address, place, descriptors = found[1], found.end(), ""
        if address.endswith(","):
            address = address.rstrip(",")
        else:
            comma = value.find(",", place)
            end = len(value) if comma < 0 else comma
            descriptors, place = value[place:end], end + 1
        size = 1.0
        for descriptor in descriptors.split():
            if descriptor[-1] in "wx" and _NUMBER.fullmatch(descriptor[:-1]):
                size = float(descriptor[:-1])
        if address:
            yield address, size


def _is_placeholder(url: str, least: int) -> bool:
    if url.startswith("data:"):
        return len(url) < least or url.startswith("data:image/svg")
    return _PLACEHOLDER.search(url) is not None or _TEMPLATE.search(url) is not None


def _sizes(values: dict[str, str]) -> tuple[int | None, int | None]:
    sizes: dict[str, int] = {}
    if "style" in values:
        sizes = {name: int(number) for name, number in _STYLE.findall(values["style"][:1_000])}
    for name in ("width", "height"):
        if found := _PIXELS.match(values.get(name, "")):
            sizes[name] = int(found[1])
    return sizes.get("width"), sizes.get("height")


def _decorative(
    url: str,
    values: dict[str, str],
    width: int | None,
    height: int | None,
    caption: Callable[[], str],
) -> str | None:
    sides = [side for side in (width, height) if side is not None]
    if sides and max(sides) <= 3:
        return "tracking"
    if sides and max(sides) <= TINY:
        return "icon"
    if sides and min(sides) <= THIN:
        return "spacer"
    if url.startswith("data:"):
        return None
    if _TRACKERS.search(url):
        return "tracking"
    if values.get("role") in ("presentation", "none") or values.get("aria-hidden") == "true":
        return "presentation"
    alt = values.get("alt", "")[:30]
    # "Star" is what stands in for an icon; "three red stars" is a picture's own description.
    named = alt if len(alt.split()) <= 2 else ""
    file = _file(url)
    for words in (values.get("class", "")[:300], values.get("id", "")[:300], file, named):
        if words and _WORDS.search(words):
            # A large picture may be of a badge, and one named in passing is content.
            if sides and min(sides) >= 200:
                return None
            for found in _WORDS.finditer(words):
                folder = words is file and "/" in file[found.end() :]
                declared = words is not file and words is not named
                if declared or not _is_described(found[0], url, values, caption, folder=folder):
                    return found.lastgroup
    return None


def _is_described(
    word: str, url: str, values: dict[str, str], caption: Callable[[], str], *, folder: bool = False
) -> bool:
    return is_described(values.get("alt") or caption(), _file(url), word.lower(), folder=folder)


def _file(url: str) -> str:
    """The last parts of the path."""
    return "/".join(url.partition("?")[0].rstrip("/").split("/")[3:][-3:])


def _words(text: str | None) -> str | None:
    return (" ".join(text.split()) or None) if text else None
