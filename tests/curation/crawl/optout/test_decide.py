"""Opt-outs: who is heard, in which order, and what is written down."""

from pathlib import Path

import pytest

from mmcorpus.curation.crawl.optout.decide import OptOutConfig, decide_page, decide_site, image_decider
from mmcorpus.curation.crawl.optout.site_rules import BlockLists, SiteFile, SiteRules

NONE = SiteRules()
URL = "https://a.org/page"
IMAGE = "https://img.org/1.jpg"


@pytest.mark.parametrize(
    ("name", "content", "page", "image"),
    [
        ("robots", "noai", "noai", "noai"),
        ("ROBOTS", "index, NoAI", "noai", "noai"),
        ("robots", "noimageai", None, "noimageai"),
        ("robots", "noindex,follow", "noindex", None),
        ("robots", "none", "none", None),
        ("robots", "noimageindex", None, "noimageindex"),
        ("robots", "max-image-preview:large, noai", "noai", "noai"),
        ("robots", "index, follow, nofollow, noarchive", None, None),
        ("robots", "", None, None),
        ("GPTBot", "noindex", "noindex", None),  # one of the agents that count
        ("googlebot", "noindex", None, None),  # of a search engine's index
        ("googlebot", "noai, noimageai", "noai", "noai"),  # of AI, whoever is told
        ("mmcorpus", "noimageindex", None, "noimageindex"),
        ("description", "noai", None, None),
        ("keywords", "noindex", None, None),
        ("tdm-reservation", "1", "1", "1"),
        ("tdm-reservation", "0", None, None),
        ("X-Robots-Tag", "gptbot: noindex", "gptbot: noindex", None),  # as `http-equiv`
    ],
)
def test_meta_tags(name: str, content: str, page: str | None, image: str | None) -> None:
    metas = [("viewport", "width=device-width"), (name, content)]
    said = f"meta {name.lower()}: "
    assert decide_page(URL, metas, [], NONE, OptOutConfig()) == (page and said + page)
    assert image_decider(metas, [], NONE, OptOutConfig())(IMAGE) == (image and said + image)


@pytest.mark.parametrize(
    ("value", "page", "image"),
    [
        ("noindex", "noindex", None),
        ("noimageai, nofollow", None, "noimageai"),
        ("otherbot: noindex, noindex", None, None),  # both for the other robot
        ("otherbot: noai", "otherbot: noai", "otherbot: noai"),
        ("gptbot: noindex", "gptbot: noindex", None),
        ("max-snippet: 10, noindex", "noindex", None),
        ("unavailable_after: 25 Jun 2030 15:00:00 PST", None, None),
        ("all", None, None),
    ],
)
def test_headers(value: str, page: str | None, image: str | None) -> None:
    headers = [("Content-Type", "text/html"), ("X-Robots-Tag", value)]
    said = "header x-robots-tag: "
    assert decide_page(URL, [], headers, NONE, OptOutConfig()) == (page and said + page)
    assert image_decider([], headers, NONE, OptOutConfig())(IMAGE) == (image and said + image)


def test_a_header_reserves_mining() -> None:
    assert decide_page(URL, [], [("TDM-Reservation", "1")], NONE, OptOutConfig()) == "header tdm-reservation: 1"


def test_the_first_that_objects_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a.org\n")
    robots = SiteFile(host="a.org", kind="robots.txt", date="d", text="User-agent: GPTBot\nDisallow: /p")
    ai = SiteFile(host="img.org", kind="ai.txt", date="d", text="User-Agent: *\nDisallow: *.jpg")
    lists = BlockLists([str(path)])
    metas, headers = [("robots", "noai")], [("x-robots-tag", "noindex")]
    every = SiteRules([robots, ai], lists)
    sites = SiteRules([robots, ai])
    config = OptOutConfig()
    assert decide_page(URL, metas, headers, every, config) == f"blocklist {path}: a.org"
    assert decide_page(URL, metas, headers, sites, config) == "meta robots: noai"
    assert decide_page(URL, [], headers, sites, config) == "header x-robots-tag: noindex"
    assert decide_page(URL, [], [], sites, config) == "robots.txt: Disallow: /p (gptbot)"
    assert decide_page("https://a.org/", [], [], sites, config) is None
    assert image_decider([], [], sites, config)(IMAGE) == "ai.txt: Disallow: *.jpg (*)"
    assert image_decider([], [], every, config)("data:image/gif;base64,R0") is None
    assert decide_site(URL, sites, config) == "robots.txt: Disallow: /p (gptbot)"


def test_what_does_not_count_is_not_recorded(tmp_path: Path) -> None:
    robots = SiteFile(host="a.org", kind="robots.txt", date="d", text="User-agent: *\nDisallow: /")
    ai = SiteFile(host="a.org", kind="ai.txt", date="d", text="User-agent: *\nDisallow: /")
    sites = SiteRules([robots, ai])
    assert decide_page(URL, [("robots", "noindex")], [], NONE, OptOutConfig(directives=("noai",))) is None
    assert decide_page(URL, [("gptbot", "noindex")], [], NONE, OptOutConfig(agents=())) is None
    assert decide_site(URL, sites, OptOutConfig(robots_txt=False)) == "ai.txt: Disallow: / (*)"
    assert decide_site(URL, sites, OptOutConfig(robots_txt=False, ai_txt=False)) is None
    assert decide_site(URL, sites, OptOutConfig(agents=("mmcorpus",))) == "robots.txt: Disallow: / (*)"


def test_a_site_that_lets_everybody_but_trainers_in() -> None:
    text = "User-agent: *\nAllow: /\n\nUser-agent: CCBot\nUser-agent: Google-Extended\nDisallow: /"
    sites = SiteRules([SiteFile(host="a.org", kind="robots.txt", date="d", text=text)])
    assert decide_site(URL, sites, OptOutConfig()) == "robots.txt: Disallow: / (ccbot)"
    assert decide_site(URL, sites, OptOutConfig(agents=("mmcorpus",))) is None


def test_a_bad_config_says_so() -> None:
    with pytest.raises(ValueError, match=r"opt_out.directives: unknown 'nofollow'; there are noai, noimageai"):
        OptOutConfig(directives=("nofollow",))
    with pytest.raises(ValueError, match=r"opt_out.agents: '\*' is no token"):
        OptOutConfig(agents=("*",))
