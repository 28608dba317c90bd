"""Opt-out signals: requests not to use a page or its images, and their words.

Four kinds of signals are applied, in this order; the first that opts out decides, and is quoted:

    blocklist    blocklist LIST: example.com                a list of one's own
    page         meta robots: noai                          `<meta name="robots">`, and tags that name a robot
    response     header x-robots-tag: noimageindex          of the page's response
    site         robots.txt: Disallow: /a (gptbot)          and ai.txt, where the crawl carries them

`noai`, and a reservation of text and data mining (`tdm-reservation: 1`, TDMRep), concern the page and its images,
`noindex` (and `none`, which contains it) the page, `noimageai` and `noimageindex` its images. Everything here is pure:
the first three are known while a page is extracted, the last when all of a crawl's files are (`decide_site`).
"""

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from mmcorpus.curation.crawl.optout.site_rules import SiteRules

PAGE_DIRECTIVES: Final = frozenset({"noai", "noindex", "tdm-reservation"})
IMAGE_DIRECTIVES: Final = frozenset({"noai", "noimageai", "noimageindex", "tdm-reservation"})
AI_AGENTS: Final = (
    "ai2bot", "amazonbot", "anthropic-ai", "applebot-extended", "bytespider", "ccbot", "claudebot", "cohere-ai",
    "cohere-training-data-crawler", "diffbot", "facebookbot", "google-extended", "gptbot", "imagesiftbot",
    "img2dataset", "laion-huggingface-processor", "laiondownloader", "meta-externalagent", "omgili", "omgilibot",
    "spawning-ai", "webzio-extended",
)  # fmt: skip
"""Robots that collect for training, by the tokens that their owners publish: a site that turns them away has said what
it thinks of training. Robots that answer a user's question or serve a search are not among them."""
OWN_AGENT: Final = "mmcorpus"
_OF_AI: Final = frozenset({"noai", "noimageai"})
_ROBOT: Final = re.compile(r"bot|crawl|spider|slurp|(?:^|[-_])ai(?:$|[-_])")
# Directives that take a value after a colon, and so are no robot's name.
_VALUED: Final = frozenset({"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"})


@dataclass(frozen=True, kw_only=True)
class OptOutConfig:
    """The opt-out signals that are applied. Others are not recorded either."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    directives: tuple[str, ...] = ("noai", "noimageai", "noindex", "noimageindex", "tdm-reservation")
    """Directives of meta tags and X-Robots-Tag headers that count, `tdm-reservation` too; empty ignores both."""
    agents: tuple[str, ...] = (OWN_AGENT, *AI_AGENTS)
    """Robots whose rules count as ours, besides the rules for everybody, by their tokens."""
    robots_txt: bool = True
    """Apply the robots.txt files that the crawl carries."""
    ai_txt: bool = True
    """Apply the ai.txt files that the crawl carries."""
    block_lists: tuple[str, ...] = ()
    """Files, local or remote, of domains (`example.com`) and starts of addresses not to be used, one a line."""

    def __post_init__(self) -> None:
        known = PAGE_DIRECTIVES | IMAGE_DIRECTIVES
        unknown = [name for name in self.directives if name not in known]
        if unknown:
            raise ValueError(f"opt_out.directives: unknown {unknown[0]!r}; there are {', '.join(sorted(known))}")
        odd = [name for name in self.agents if not re.fullmatch(r"[A-Za-z0-9_.-]+", name)]
        if odd:
            raise ValueError(
                f"opt_out.agents: {odd[0]!r} is no token of a robot; write it as robots.txt does, e.g. GPTBot, "
                "and leave out *, which always counts"
            )


def decide_site(url: str, sites: SiteRules, config: OptOutConfig) -> str | None:
    """The opt-out signal in the site's robots.txt or ai.txt for a page's or image's address; None if there is none."""
    if config.robots_txt and (line := sites.refusal(url, "robots.txt", config.agents)):
        return f"robots.txt: {line}"
    if config.ai_txt and (line := sites.refusal(url, "ai.txt", config.agents)):
        return f"ai.txt: {line}"
    return None


def _decider(
    metas: Iterable[tuple[str, str]],
    headers: Iterable[tuple[str, str]],
    sites: SiteRules,
    config: OptOutConfig,
    directives: frozenset[str],
) -> Callable[[str], str | None]:
    """What says of an address the opt-out signal, e.g. `meta robots: noai`; None if there is none.

    The address is absolute, of the page or of an image; a `data:` address has no site.

    Args:
        metas: name and content of the page's `<meta>` tags, all or those of robots, in order.
        headers: name and value of the headers of the page's response, all or some, in order.
    """
    stated = _stated(metas, headers, directives.intersection(config.directives), config)

    def decide(url: str) -> str | None:
        entry = sites.block_lists.refusal(url)
        return (entry and f"blocklist {entry}") or stated or decide_site(url, sites, config)

    return decide


page_decider = functools.partial(_decider, directives=PAGE_DIRECTIVES)
"""The opt-out signal of a page."""
image_decider = functools.partial(_decider, directives=IMAGE_DIRECTIVES)
"""The opt-out signal of each image that a page shows, be the page as it may: what the page states is read once."""


def decide_page(url: str, *signals: Any) -> str | None:
    """The opt-out signal of a page; `signals` as `page_decider` takes them."""
    return page_decider(*signals)(url)


def _stated(
    metas: Iterable[tuple[str, str]], headers: Iterable[tuple[str, str]], wanted: frozenset[str], config: OptOutConfig
) -> str | None:
    """The first wanted directive that a page's tags or headers state, with the words that state it."""
    if not wanted:
        return None
    ours = _names(config.agents)
    for name, content in metas:
        robot = name.strip().lower()
        if robot == "tdm-reservation":
            directive = "1" if content.strip() == "1" and robot in wanted else None
        elif robot == "x-robots-tag":  # `<meta http-equiv="X-Robots-Tag">`
            directive = _header_directive(content.lower(), ours, wanted)
        else:
            directive = _directive(content.lower().split(","), _applicable(robot, ours, wanted))
        if directive:
            return f"meta {robot}: {directive}"
    for name, value in headers:
        header = name.strip().lower()
        if header == "tdm-reservation" and header in wanted and value.strip() == "1":
            return f"header {header}: 1"
        if header == "x-robots-tag" and (directive := _header_directive(value.lower(), ours, wanted)):
            return f"header {header}: {directive}"
    return None


def _applicable(robot: str, ours: frozenset[str], wanted: frozenset[str]) -> frozenset[str]:
    """The wanted directives that count where they are addressed to a robot.

    What is addressed to another robot than ours counts where it speaks of AI, as no search engine's index is meant.
    """
    if robot == "robots" or robot in ours:
        return wanted
    return wanted & _OF_AI if _ROBOT.search(robot) else frozenset()


def _directive(parts: Iterable[str], wanted: frozenset[str]) -> str | None:
    """The first wanted directive."""
    for part in parts:
        directive = part.strip()
        if ("noindex" if directive == "none" else directive) in wanted:
            return directive
    return None


def _header_directive(value: str, ours: frozenset[str], wanted: frozenset[str]) -> str | None:
    """The first wanted directive of a header's value: `directive, …` or `robot: directive, …`, with its robot."""
    robot, applicable = "robots", wanted
    for part in value.split(","):
        name, colon, rest = (piece.strip() for piece in part.partition(":"))
        if colon and name in _VALUED:
            continue
        if colon:  # a robot's name holds for the directives that follow it, too
            robot, part, applicable = name, rest, _applicable(name, ours, wanted)
        if directive := _directive((part,), applicable):
            return directive if robot == "robots" else f"{robot}: {directive}"
    return None


@functools.cache
def _names(agents: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(str.lower, agents))
