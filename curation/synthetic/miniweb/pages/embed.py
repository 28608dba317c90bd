"""Embeds pictures in pages in the ways of embeddings.yaml: plain, relative, lazy, in several sizes, inline."""

import base64
import html
import posixpath
import random
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from mmcorpus.curation.synthetic.miniweb.pages.content import Draft, Picture, Shown
from mmcorpus.curation.synthetic.miniweb.site import Route, address
from mmcorpus.filters.yaml_data import read_data

WAYS: Final[dict[str, dict[str, Any]]] = read_data(__package__, "embeddings.yaml")
"""By name."""
FOLDERS: Final = ("pictures", "media", "uploads/2023/04", "wp-content/uploads/2024/02", "static/img", "files/large")
LARGEST_INLINE: Final = 24_000
"""Bytes of a picture that a page may carry as a `data:` URI."""


class _Address(NamedTuple):
    """An address as markup has it."""

    absolute: str
    page: str
    """The page's own, or its `<base>`."""

    @property
    def url(self) -> str:
        return html.escape(self.absolute)

    @property
    def path(self) -> str:
        return urlsplit(self.absolute).path

    @property
    def bare(self) -> str:
        return self.absolute.removeprefix("http:")

    @property
    def relative(self) -> str:
        return posixpath.relpath(self.path, posixpath.dirname(urlsplit(self.page).path))


class Embedder:
    """Puts pictures into pages, each in a way of its own."""

    def __init__(self, rng: random.Random, read: Callable[[str], bytes]) -> None:
        self._rng = rng
        self._read = read

    def embed(
        self, draft: Draft, shown: Shown, alt: str | None, *, caption: str | None = None, way: str | None = None
    ) -> Picture:
        """A clean picture on a page. way: a name of `WAYS`; drawn if None."""
        way = way or self._rng.choices(list(WAYS), [entry.get("weight", 1) for entry in WAYS.values()])[0]
        body = self._read(shown.file) if way == "inline" and shown.file is not None else b""
        entry = WAYS["plain" if way == "inline" and not 0 < len(body) <= LARGEST_INLINE else way]
        gaps: dict[str, Any] = {"attributes": self._attributes(shown, alt), "stem": _stem(shown)}
        urls = {
            name: self._publish(draft, shown, suffix, body) + entry.get("query", "")
            for name, suffix in entry["serve"].items()
        }
        gaps |= {name: _Address(url, draft.base or draft.url) for name, url in urls.items()}
        gaps |= {name: self._rng.choice(values) for name, values in entry.get("draw", {}).items()}
        candidates = [candidate.format(**gaps) for candidate in entry.get("candidates", ())]
        self._rng.shuffle(candidates)
        markup = entry["markup"].format(candidates=", ".join(candidates), **gaps)
        choices = tuple(urls[name] for name in entry.get("choices", urls))
        return Picture(url=choices[0], choices=choices, markup=markup, caption=caption)

    def _publish(self, draft: Draft, shown: Shown, suffix: str | None, body: bytes) -> str:
        """Serve the picture under another name on the page's host; returns the absolute address."""
        if suffix is None:
            return shown.url
        if suffix == "data:":
            return f"data:{shown.content_type};base64,{base64.b64encode(body).decode()}"
        name = _stem(shown) + suffix + ("" if "." in suffix else posixpath.splitext(shown.url)[1])
        url = f"http://{draft.host}/{FOLDERS[draft.number % len(FOLDERS)]}/{name}"
        draft.routes[address(url)] = Route(file=shown.file, content_type=shown.content_type)
        return url

    def _attributes(self, shown: Shown, alt: str | None) -> str:
        """`alt` and the like, with a blank before."""
        text = _alt(alt)
        if shown.size is not None and self._rng.random() < 0.5:
            text += f' width="{shown.size[0]}" height="{shown.size[1]}"'
        return text + self._rng.choice(("", ' loading="lazy"', ' class="img-fluid"', ' decoding="async"'))


def foreign(shown: Shown, alt: str | None) -> Picture:
    """A picture at its own address, with what is known to be wrong with it: dead, hostile, too small, refused."""
    return Picture(
        url=shown.url,
        choices=(shown.url,),
        markup=f'<img src="{shown.url}"{_alt(alt)}>',
        spoil=shown.spoil,
        expect_stage=shown.expect_stage,
        expect_rule=shown.expect_rule,
    )


def _alt(alt: str | None) -> str:
    return "" if alt is None else f' alt="{html.escape(alt)}"'


def _stem(shown: Shown) -> str:
    return posixpath.splitext(posixpath.basename(urlsplit(shown.url).path))[0]
