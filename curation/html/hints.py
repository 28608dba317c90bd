"""Hints of an element's tag, class, id and role at boilerplate or content."""

import re
from functools import lru_cache
from itertools import pairwise
from typing import Final

from mmcorpus.curation.html.parse import Attributes, names
from mmcorpus.filters.yaml_data import read_data

_LISTS: Final = read_data(__package__, "words.yaml")

NONE: Final = 0
BOILERPLATE: Final = 1
"""Its name says so; goes unless most of the page is in it."""
TALK: Final = 2
"""Readers' comments; go if there is something else on the page."""
NEVER: Final = 3
"""Hidden, or a part of the interface."""
CONTENT: Final = 4
"""Its name says that it holds the content."""

_BOILERPLATE_TAGS: Final = frozenset(["nav", "footer", "aside", "menu", "form"])
_NEVER_TAGS: Final = frozenset(["input", "label", "legend", "progress", "meter", "output", "option", "optgroup"])
_READ: Final = frozenset(["class", "id", "hidden", "role", "aria-hidden", "style", "itemprop", "aria-modal"])
TELLING: Final = _BOILERPLATE_TAGS | _NEVER_TAGS | {"main", "article"}
"""Tags that say something without attributes."""
_ANCHORED: Final = frozenset(["h1", "h2", "h3", "h4", "h5", "h6", "span", "a", "dt", "p", "li"])
"""Their ids are made from their words, for links to them."""
_CONTENT_TAGS: Final = frozenset(["main", "article"])
_SHOWN: Final = frozenset(["span", "i", "img", "figure", "picture", "a", "p", "td", "em", "b", "code", "pre"])
"""Shown though `aria-hidden`: formulas and icons are hidden from screen readers, not from readers."""
_BOILERPLATE_ROLES: Final = names(
    "navigation banner contentinfo search complementary menu menubar toolbar tablist tooltip status alert log"
    " form doc-toc doc-pagelist"
)
_NEVER_ROLES: Final = names("dialog alertdialog button switch checkbox radio slider spinbutton listbox combobox")

_NAMES: Final = 500
_STYLE: Final = 1_000
"""Characters of an attribute that are looked at."""
_NAME: Final = re.compile(r"[a-z]+|[0-9]+")
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")

_NEVER: Final = re.compile(
    r"(?:^|\s)(?:[\w-]*(?:sr-only|visually-?hidden|screen-?reader(?:-text)?|skip-?(?:link|nav|to)[\w-]*|mw-jump-link|mw-editsection[\w-]*|"
    r"noprint|navbox[\w-]*|headerlink|no-?display|edit-?section|anchorjs-link|heading-anchor|anchor-link|hidden-print|print-?only))(?=\s|$)",
    re.IGNORECASE,
)
_TALK: Final = re.compile(
    r"(?<![a-z])(?:comments?|commentlist|comment-?list|comments?-?(?:area|section|wrap(?:per)?|container|block|box|form|thread)|disqus(?:_thread)?|"
    r"respond|replies|livefyre|fb-comments|discussion|facebook-?comments|remarks|komentar\w*|kommentar\w*|commentaires?)(?![a-z])",
    re.IGNORECASE,
)
_WORDS: Final = names(_LISTS["boilerplate_words"])
_PAIRS: Final = names(_LISTS["boilerplate_pairs"])
_HEADERS: Final = names(
    "site-header page-header main-header global-header header masthead top-header siteheader pageheader headerwrap"
)
_NEUTRAL: Final = names("no with has without layout page body hide show enable enabled disabled is open closed")
_PICTURE: Final = frozenset(["image", "images", "img", "photo", "picture", "gallery", "figure"])
_CONTENT: Final = re.compile(
    r"(?:^|[\s_-])(?:article-?body|article-?content|article-?text|post-?body|post-?content|entry-?content|story-?body|story-?content|main-?content|"
    r"page-?content|content-?body|body-?content|body-?text|mw-parser-output|mw-content-text|markdown-body|hentry|article__body|rich-?text|prose|articletext|"
    r"newsbody|news-?content|textcontent|instapaper_body|postarea|content|article|main|post|story|entry|document)(?=[\s_-]|$)",
    re.IGNORECASE,
)


def hint(tag: str, attributes: Attributes) -> int:
    """The hint of an element's own tag and attributes: one of the constants above."""
    if tag in _BOILERPLATE_TAGS:
        return BOILERPLATE
    if tag in _NEVER_TAGS:
        return NEVER
    given, role, prop = "", "", ""
    for name, value in attributes:
        if name not in _READ:
            continue
        if name == "class" or (name == "id" and tag not in _ANCHORED):
            if value:
                given = f"{given} {value}" if given else value
        elif name == "hidden":
            if value != "until-found":
                return NEVER
        elif name == "role":
            role = (value or "").strip().lower()
        elif name == "aria-hidden":
            if value == "true" and tag not in _SHOWN:
                return NEVER
        elif name == "style":
            if value and hides(value[:_STYLE]):
                return NEVER
        elif name == "itemprop":
            prop = value or ""
        elif name == "aria-modal":
            return NEVER
    if role:
        if role in _BOILERPLATE_ROLES:
            return BOILERPLATE
        if role in _NEVER_ROLES and tag != "a":
            return NEVER
        if role in ("main", "article"):
            return CONTENT
    if prop and ("articlebody" in prop.lower() or prop == "text"):
        return CONTENT
    if given and (found := name_hint(given[:_NAMES])):
        return found
    return CONTENT if tag in _CONTENT_TAGS else NONE


@lru_cache(4096)
def hides(style: str) -> bool:
    """True if an inline style hides its element."""
    plain = style.replace(" ", "").lower()
    return "display:none" in plain or "visibility:hidden" in plain


@lru_cache(20_000)
def name_hint(given: str) -> int:
    """The hint of classes and ids, separated by blanks."""
    if _NEVER.search(given):
        return NEVER
    content = boilerplate = NONE
    for token in given.split():
        plain = _CAMEL.sub("-", token).lower()
        words = _NAME.findall(plain)
        if not words or _NEUTRAL.intersection(words):
            continue
        if _TALK.search(plain):
            return TALK
        if _PICTURE.intersection(words):
            continue
        if (
            words[-1] in _WORDS
            or words[0] in _WORDS
            or "-".join(words) in _HEADERS
            or any(f"{a}-{b}" in _PAIRS or f"{a}{b}" in _WORDS for a, b in pairwise(words))
        ):
            boilerplate = BOILERPLATE
        elif _CONTENT.search(plain):
            content = CONTENT
    return boilerplate or content
