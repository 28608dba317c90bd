"""robots.txt (RFC 9309) and ai.txt (Spawning): the rule that decides about an address, word for word.

Parsers that ship elsewhere (protego, urllib's) answer yes or no; an opt-out must quote the line that decided, and rules
must bind the robots that they name alone (protego: those of `applebot` bind `applebot-extended`). Besides `Allow` and
`Disallow` it reads the preferences about training that sites write into the same file: Cloudflare's
`Content-Signal: ai-train=no` and the IETF draft's `Content-Usage: train-ai=n`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

MAX_BYTES: Final = 500 * 1024
"""Read of a file at most, as RFC 9309 §2.5 asks for at least."""
_Rank = tuple[int, bool, int]
_LEAST: Final[_Rank] = (-1, False, 0)
MAX_PATTERNS: Final = 2_000
"""Rules with `*` or `$` of a robot that count, in the file's order: each is tried with each address of the site."""
EVERYBODY: Final = "*"
NO_TRAINING: Final = frozenset({("ai-train", "no"), ("train-ai", "n"), ("train-ai", "no")})
"""Preferences in `Content-Signal` and `Content-Usage` by which a page may not be trained on."""
_TOKEN: Final = re.compile(r"\*|[a-z0-9_.-]+")
_STARS: Final = re.compile(r"\*+")
_ESCAPE: Final = re.compile(r"%([0-9a-fA-F]{2})")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A line of the file."""

    line: str
    """As it is written, e.g. `Disallow: /private`."""
    allows: bool
    length: int
    """Of the pattern: the longest that matches decides."""
    parts: tuple[str, ...]
    """Of the pattern, between its stars."""
    anchored: bool
    """It ends where the path does (`$`)."""

    def matches(self, path: str) -> bool:
        """Each part is taken where it first fits and never again, so that the time is linear in the path."""
        first, *others = self.parts
        if not others:
            return path == first if self.anchored else path.startswith(first)
        if not path.startswith(first):
            return False
        at = len(first)
        for part in others[:-1]:
            at = path.find(part, at)
            if at < 0:
                return False
            at += len(part)
        if self.anchored:
            return len(path) - len(others[-1]) >= at and path.endswith(others[-1])
        return path.find(others[-1], at) >= 0


@dataclass(slots=True)
class _Group:
    """The lines below some `User-agent` lines."""

    rules: list[Rule] = field(default_factory=list)
    reserved: str | None = None
    """The line that reserves training, if one does."""


class _Rules:
    """The rules of a robot, from all the groups that name it, ready to be asked."""

    def __init__(self, groups: Iterable[_Group]) -> None:
        self.reserved: str | None = None
        # Of the rules that match the one of the highest rank decides: the longest, `Allow`, the first.
        self._prefixes: dict[str, tuple[_Rank, Rule]] = {}
        patterns: list[tuple[_Rank, Rule]] = []
        number = 0
        for group in groups:
            self.reserved = self.reserved or group.reserved
            for rule in group.rules:
                number -= 1
                ranked = (rule.length, rule.allows, number), rule
                prefix = rule.parts[0]
                if rule.anchored or rule.length != len(prefix):
                    patterns.append(ranked)
                elif prefix not in self._prefixes or self._prefixes[prefix][0] < ranked[0]:
                    self._prefixes[prefix] = ranked
        self._lengths = sorted({len(prefix) for prefix in self._prefixes}, reverse=True)
        self._patterns = sorted(patterns[:MAX_PATTERNS], key=lambda ranked: ranked[0], reverse=True)

    def decides(self, path: str) -> Rule | None:
        """The rule that decides about a path; None if none matches."""
        known = (self._prefixes.get(path[:length]) for length in self._lengths if length <= len(path))
        best, found = next((ranked for ranked in known if ranked is not None), (_LEAST, None))
        for rank, rule in self._patterns:
            if rank < best:
                break
            if rule.matches(path):
                return rule
        return found


class RobotsTxt:
    """The rules of one file. Never raises, whatever the text; reading takes a time linear in it."""

    def __init__(self, text: str) -> None:
        self._groups: list[_Group] = []
        self._named: dict[str, dict[int, None]] = {}
        """By robot, the numbers of its groups in order."""
        self._ready: dict[tuple[int, ...], _Rules] = {}
        naming = False  # the previous line was a User-agent line, so that the next one joins it
        for raw in text.removeprefix("\ufeff").splitlines():
            line = raw.partition("#")[0].strip()
            key, colon, value = (part.strip() for part in line.partition(":"))
            if not colon:
                continue
            if key.lower() == "user-agent":
                if not naming:
                    self._groups.append(_Group())
                naming = True
                if token := _TOKEN.match(value.lower()):
                    self._named.setdefault(token[0], {})[len(self._groups) - 1] = None
                continue
            naming = naming and key.lower() not in ("allow", "disallow", "content-signal", "content-usage")
            if self._groups:
                _add(self._groups[-1], key.lower(), value, f"{key}: {value}")

    def refusal(self, path: str, agents: Iterable[str]) -> tuple[str, str] | None:
        """The rule that forbids a path to one of some agents, its line and whom it addresses; None if there is none.

        Of each agent the group that names it speaks, else that for everybody (`*`); in a group the longest matching
        pattern decides, `Allow` where two are as long (RFC 9309 §2.2.2).

        Args:
            path: from the `/` on, with the query.
        """
        normal = _normal(path)
        asked = set()
        for agent in map(str.lower, agents):
            name = agent if agent in self._named else EVERYBODY
            key = tuple(self._named.get(name, ()))
            if not key or key in asked:
                continue
            asked.add(key)
            rules = self._ready.get(key) or self._ready.setdefault(key, _Rules(self._groups[each] for each in key))
            rule = rules.decides(normal)
            if rule and not rule.allows:
                return rule.line, name
            if rules.reserved:
                return rules.reserved, name
        return None


def _add(group: _Group, key: str, value: str, line: str) -> None:
    """Put a line into a group."""
    if key in ("allow", "disallow") and value:
        pattern = _normal(value if value[0] in "/*" else f"/{value}")
        anchored = pattern.endswith("$")
        # Stars in a row mean what one does, and one at the end nothing.
        parts = _STARS.split(pattern.removesuffix("$") if anchored else pattern.rstrip("*"))
        group.rules.append(
            Rule(line=line, allows=key == "allow", length=len(pattern), parts=tuple(parts), anchored=anchored)
        )
    elif key in ("content-signal", "content-usage"):
        signals = {tuple(part.replace(" ", "").lower().split("=", 1)) for part in re.split(r"[,;]", value)}
        if signals & NO_TRAINING and group.reserved is None:
            group.reserved = line


def _normal(path: str) -> str:
    """A path or pattern with one spelling: escapes in upper case, only where they are needed (RFC 9309 §2.2.2)."""

    def unescape(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if character in _UNRESERVED else match[0].upper()

    plain = _ESCAPE.sub(unescape, path)
    if plain.isascii():
        return plain
    return quote(plain.encode("utf-8", "surrogatepass"), safe="!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~ ")
