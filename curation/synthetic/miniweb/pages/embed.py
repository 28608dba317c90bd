"""The ways in which web pages embed pictures: plain, relative, lazy, in several sizes, with fallbacks, inline."""

import base64
import html
import posixpath
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from mmcorpus.curation.synthetic.miniweb.pages.content import Draft, Picture, Shown
from mmcorpus.curation.synthetic.miniweb.site import Route, address

FOLDERS: Final = ("pictures", "media", "uploads/2023/04", "wp-content/uploads/2024/02", "static/img", "files/large")
LAZY: Final = ("data-src", "data-original", "data-lazy-src", "data-lazy", "data-url")
BLANK: Final = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
"""The one transparent pixel that lazy pages begin with."""
LARGEST_INLINE: Final = 24_000
"""Bytes of a picture that a page may carry as a `data:` URI."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Embedding:
    markup: str
    choices: tuple[str, ...]


@dataclass(kw_only=True, slots=True)
class _Task:
    """What a way of embedding needs."""

    shown: Shown
    draft: Draft
    rng: random.Random
    attributes: str
    """`alt` and the like, with a blank before."""
    body: bytes
    folder: str

    @property
    def stem(self) -> str:
        return posixpath.splitext(posixpath.basename(urlsplit(self.shown.url).path))[0]

    @property
    def extension(self) -> str:
        return posixpath.splitext(self.shown.url)[1]

    def publish(self, suffix: str = "", extension: str | None = None, host: str | None = None) -> str:
        """Serve the picture under another name on the page's host; returns the absolute address."""
        url = f"http://{host or self.draft.host}/{self.folder}/{self.stem}{suffix}{extension or self.extension}"
        self.draft.routes[address(url)] = Route(file=self.shown.file, content_type=self.shown.content_type)
        return url

    def relative(self, url: str) -> str:
        """A url of the page's host as the page's own folder (or its `<base>`) sees it."""
        start = posixpath.dirname(urlsplit(self.draft.base or self.draft.url).path)
        return posixpath.relpath(urlsplit(url).path, start)

    def rooted(self, url: str) -> str:
        return urlsplit(url).path


def _plain(task: _Task) -> _Embedding:
    url = task.publish()
    return _Embedding(markup=f'<img src="{url}"{task.attributes}>', choices=(url,))


def _rooted(task: _Task) -> _Embedding:
    url = task.publish()
    return _Embedding(markup=f'<img{task.attributes} src="{task.rooted(url)}">', choices=(url,))


def _relative(task: _Task) -> _Embedding:
    url = task.publish()
    return _Embedding(markup=f"<img src='{task.relative(url)}'{task.attributes} />", choices=(url,))


def _elsewhere(task: _Task) -> _Embedding:
    """From another host, without the scheme."""
    url = task.shown.url
    return _Embedding(markup=f'<img src="{url.removeprefix("http:")}"{task.attributes}>', choices=(url,))


def _query(task: _Task) -> _Embedding:
    url = f"{task.publish()}?w=1024&h=768&fit=max"
    return _Embedding(markup=f'<img src="{html.escape(url)}"{task.attributes}>', choices=(url,))


def _lazy(task: _Task) -> _Embedding:
    url = task.publish()
    holder = task.rng.choice((f'src="{BLANK}" ', 'src="/static/spacer.gif" ', "", 'src="#" '))
    name = task.rng.choice(LAZY)
    return _Embedding(
        markup=f'<img class="lazyload" {holder}{name}="{task.rooted(url)}"{task.attributes}>', choices=(url,)
    )


def _srcset(task: _Task) -> _Embedding:
    large, middle, small = (task.publish(suffix) for suffix in ("-1024w", "-640w", "-320w"))
    candidates = [f"{task.rooted(small)} 320w", f"{task.rooted(middle)} 640w", f"{task.rooted(large)} 1024w"]
    task.rng.shuffle(candidates)
    markup = (
        f'<img src="{task.rooted(small)}" srcset="{", ".join(candidates)}" sizes="(max-width: 640px) 100vw, 640px"'
        f"{task.attributes}>"
    )
    return _Embedding(markup=markup, choices=(large, middle, small))


def _density(task: _Task) -> _Embedding:
    double, single = task.publish("@2x"), task.publish()
    markup = f'<img src="{single}" srcset="{single} 1x,\n    {double} 2x"{task.attributes}>'
    return _Embedding(markup=markup, choices=(double, single))


def _lazy_srcset(task: _Task) -> _Embedding:
    large, small = task.publish("-1200x900"), task.publish("-300x225")
    sizes = f"{small} 300w, {large} 1200w"
    markup = f'<img class="lazy" src="{BLANK}" data-src="{small}" data-srcset="{sizes}"{task.attributes}>'
    return _Embedding(markup=markup, choices=(large, small))


def _picture(task: _Task) -> _Embedding:
    large, small, fallback = task.publish("-large", ".webp"), task.publish("-small", ".webp"), task.publish()
    markup = (
        f'<picture><source type="image/webp" srcset="{task.rooted(large)} 1024w, {task.rooted(small)} 480w">'
        f'<img src="{task.rooted(fallback)}"{task.attributes}></picture>'
    )
    return _Embedding(markup=markup, choices=(large, fallback, small))


def _noscript(task: _Task) -> _Embedding:
    url = task.publish()
    markup = (
        f'<img class="lozad" src="{BLANK}" data-lazy-src="{url}"{task.attributes}>'
        f'<noscript><img src="{url}"{task.attributes}></noscript>'
    )
    return _Embedding(markup=markup, choices=(url,))


def _noscript_only(task: _Task) -> _Embedding:
    """A script would put the picture in; without one there is only what `noscript` holds."""
    url = task.publish()
    markup = (
        f'<span class="js-image" data-id="{task.stem}"></span><noscript><img src="{url}"{task.attributes}></noscript>'
    )
    return _Embedding(markup=markup, choices=(url,))


def _inline(task: _Task) -> _Embedding:
    if not task.body or len(task.body) > LARGEST_INLINE:
        return _plain(task)
    url = f"data:{task.shown.content_type};base64,{base64.b64encode(task.body).decode()}"
    return _Embedding(markup=f'<img src="{url}"{task.attributes}>', choices=(url,))


def _linked(task: _Task) -> _Embedding:
    """A preview that links to the full size, as galleries and wikis have it; what the page shows is the preview."""
    full, preview = task.publish(), task.publish("-preview")
    markup = f'<a href="{task.rooted(full)}" class="image"><img src="{task.rooted(preview)}"{task.attributes}></a>'
    return _Embedding(markup=markup, choices=(preview, full))


WAYS: Final[dict[str, Callable[[_Task], _Embedding]]] = {
    "plain": _plain,
    "rooted": _rooted,
    "relative": _relative,
    "elsewhere": _elsewhere,
    "query": _query,
    "lazy": _lazy,
    "srcset": _srcset,
    "density": _density,
    "lazy_srcset": _lazy_srcset,
    "picture": _picture,
    "noscript": _noscript,
    "noscript_only": _noscript_only,
    "inline": _inline,
    "linked": _linked,
}
"""By name."""
_WEIGHTS: Final = {"plain": 4, "rooted": 3, "inline": 0.4, "noscript_only": 0.5}


class Embedder:
    """Puts pictures into pages, each in a way of its own."""

    def __init__(self, rng: random.Random, read: Callable[[str], bytes]) -> None:
        self._rng = rng
        self._read = read
        self._weights = [_WEIGHTS.get(name, 1.0) for name in WAYS]

    def embed(
        self, draft: Draft, shown: Shown, alt: str | None, *, caption: str | None = None, way: str | None = None
    ) -> Picture:
        """A clean picture on a page. way: a name of `WAYS`; drawn if None."""
        way = way or self._rng.choices(list(WAYS), self._weights)[0]
        body = self._read(shown.file) if way == "inline" and shown.file is not None else b""
        task = _Task(
            shown=shown, draft=draft, rng=self._rng, attributes=self._attributes(shown, alt), body=body,
            folder=FOLDERS[draft.number % len(FOLDERS)],
        )  # fmt: skip
        made = WAYS[way](task)
        return Picture(url=made.choices[0], choices=made.choices, markup=made.markup, caption=caption)

    def _attributes(self, shown: Shown, alt: str | None) -> str:
        text = "" if alt is None else f' alt="{html.escape(alt)}"'
        if shown.size is not None and self._rng.random() < 0.5:
            text += f' width="{shown.size[0]}" height="{shown.size[1]}"'
        return text + self._rng.choice(("", ' loading="lazy"', ' class="img-fluid"', ' decoding="async"'))


def foreign(shown: Shown, alt: str | None) -> Picture:
    """A picture at its own address, with what is known to be wrong with it: dead, hostile, too small, refused."""
    text = "" if alt is None else f' alt="{html.escape(alt)}"'
    return Picture(
        url=shown.url,
        choices=(shown.url,),
        markup=f'<img src="{shown.url}"{text}>',
        spoil=shown.spoil,
        expect_stage=shown.expect_stage,
        expect_rule=shown.expect_rule,
    )
