"""robots.txt and ai.txt: which line decides."""

import random

import pytest
from protego import Protego

from mmcorpus.curation.crawl.optout.robots_txt import RobotsTxt

FILE = """
# a comment
User-agent: *
Disallow: /private   # here too
Allow: /private/open
Disallow: /*.pdf$
Disallow: /search?q=

User-Agent: GPTBot
User-agent: CCBot/2.0
Crawl-delay: 5
Disallow: /

User-agent: mmcorpus
Disallow:
"""


@pytest.mark.parametrize(
    ("path", "agents", "expected"),
    [
        ("/", ["other"], None),
        ("/private", ["other"], ("Disallow: /private", "*")),
        ("/private/a", ["other"], ("Disallow: /private", "*")),
        ("/private/open/a", ["other"], None),  # the longer pattern decides
        ("/a/b.pdf", ["other"], ("Disallow: /*.pdf$", "*")),
        ("/a/b.pdf?x", ["other"], None),
        ("/search?q=1", ["other"], ("Disallow: /search?q=", "*")),
        ("/a", ["GPTBot"], ("Disallow: /", "gptbot")),
        ("/a", ["ccbot"], ("Disallow: /", "ccbot")),
        ("/private", ["mmcorpus"], None),  # its own group speaks, not that for everybody
        ("/a", ["mmcorpus", "gptbot"], ("Disallow: /", "gptbot")),
        ("/private", [], None),
    ],
)
def test_refusal(path: str, agents: list[str], expected: tuple[str, str] | None) -> None:
    assert RobotsTxt(FILE).refusal(path, agents) == expected


def test_allow_wins_where_patterns_are_as_long() -> None:
    assert RobotsTxt("User-agent: *\nDisallow: /ab\nAllow: /ab").refusal("/ab", ["x"]) is None


def test_groups_of_one_robot_are_one() -> None:
    file = RobotsTxt("User-agent: a\nDisallow: /x\nUser-agent: b\nDisallow: /y\nUser-agent: A\nDisallow: /z")
    assert [file.refusal(path, ["a"]) is not None for path in ("/x", "/y", "/z")] == [True, False, True]


@pytest.mark.parametrize(
    ("pattern", "path"),
    [("/caf%c3%a9", "/café"), ("/café", "/caf%C3%A9"), ("/%7Ejoe", "/~joe"), ("/a%2fb", "/a%2Fb"), ("a", "/a")],
)
def test_spellings_of_one_path(pattern: str, path: str) -> None:
    assert RobotsTxt(f"User-agent: *\nDisallow: {pattern}").refusal(path, ["x"]) == (f"Disallow: {pattern}", "*")


def test_a_reserved_byte_is_not_its_escape() -> None:
    assert RobotsTxt("User-agent: *\nDisallow: /a%2Fb").refusal("/a/b", ["x"]) is None


@pytest.mark.parametrize(
    ("line", "reserved"),
    [
        ("Content-Signal: search=yes, ai-train=no", True),
        ("content-usage: train-ai=n", True),
        ("Content-Signal: search=yes,ai-train=yes", False),
        ("Content-Signal: ai-input=no", False),
    ],
)
def test_preferences_about_training(line: str, reserved: bool) -> None:
    file = RobotsTxt(f"User-agent: *\n{line}\nAllow: /")
    assert file.refusal("/a", ["x"]) == ((line, "*") if reserved else None)


def test_ai_txt_speaks_of_kinds_of_files() -> None:
    file = RobotsTxt("# Spawning AI\nUser-Agent: *\nDisallow: *.jpg\nDisallow: *.png\nAllow: *.txt\nAllow: /\n")
    assert file.refusal("/img/a.jpg", ["x"]) == ("Disallow: *.jpg", "*")
    assert file.refusal("/img/a.webp", ["x"]) is None


@pytest.mark.parametrize(
    "text", ["", "\ufeff", "<html>", "Disallow: /", ":\n::\nUser-agent:\nDisallow: /", "\x00\udc80: /"]
)
def test_what_is_no_rule_forbids_nothing(text: str) -> None:
    assert RobotsTxt(text).refusal("/a", ["x"]) is None


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert RobotsTxt("\ufeffUser-agent: *\nDisallow: /").refusal("/a", ["x"]) is not None


def test_hostile_patterns_take_no_time() -> None:
    file = RobotsTxt(f"User-agent: *\nDisallow: /{'*a' * 500}b$\nDisallow: /{'a*' * 500}c")
    assert file.refusal("/" + "a" * 20_000, ["x"]) is None


def test_decisions_are_protegos() -> None:
    draw = random.Random(0)
    pieces = ["/", "/a", "/b", "/a/b", "*", "*.pdf", "$", "?q=", "/c*d", "%61"]
    for _ in range(400):
        lines = []
        for agent in draw.sample(["*", "one", "two"], 2):
            lines.append(f"User-agent: {agent}")
            for _ in range(draw.randint(0, 4)):
                pattern = draw.choice(["/", "*"]) + "".join(draw.choices(pieces, k=draw.randint(0, 2)))
                lines.append(f"{draw.choice(['Allow', 'Disallow'])}: {pattern}")
        text = "\n".join(lines)
        ours, theirs = RobotsTxt(text), Protego.parse(text)
        for _ in range(10):
            path = "/" + "".join(draw.choices(["a", "b", "/", "c", "d", ".pdf", "?q=1"], k=draw.randint(0, 5)))
            agent = draw.choice(["one", "two", "three"])
            allowed = theirs.can_fetch(f"https://example.org{path}", agent)
            assert (ours.refusal(path, [agent]) is None) == allowed, (text, path, agent)
