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
EVERYBODY: Final = "*"
NO_TRAINING: Final = frozenset({("ai-train", "no"), ("train-ai", "n"), ("train-ai", "no")})
"""Preferences in `Content-Signal` and `Content-Usage` by which a page may not be trained on."""
_TOKEN: Final = re.compile(r"\*|[a-z0-9_.-]+")
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
    matches: re.Pattern[str]


@dataclass(slots=True)
class _Group:
    rules: list[Rule] = field(default_factory=list)
    reserved: str | None = None
    """The line that reserves training, if one does."""


class RobotsTxt:
    """The rules of one file. Never raises, whatever the text."""

    def __init__(self, text: str) -> None:
        self._groups: dict[str, _Group] = {}
        names: list[str] = []
        naming = False  # the previous line was a User-agent line, so that the next one joins it
        for raw in text.removeprefix("\ufeff").splitlines():
            line = raw.partition("#")[0].strip()
            key, colon, value = (part.strip() for part in line.partition(":"))
            if not colon:
                continue
            if key.lower() == "user-agent":
                token = _TOKEN.match(value.lower())
                names = [*(names if naming else []), *([token[0]] if token else [])]
                naming = True
                for name in names:
                    self._groups.setdefault(name, _Group())
                continue
            naming = naming and key.lower() not in ("allow", "disallow", "content-signal", "content-usage")
            for name in names:
                _add(self._groups[name], key.lower(), value, f"{key}: {value}")

    def refusal(self, path: str, agents: Iterable[str]) -> tuple[str, str] | None:
        """The rule that forbids a path to one of some agents, its line and whom it addresses; None if there is none.

        Of each agent the group that names it speaks, else that for everybody (`*`); in a group the longest matching
        pattern decides, `Allow` where two are as long (RFC 9309 §2.2.2).

        Args:
            path: from the `/` on, with the query.
        """
        found = {(agent if agent in self._groups else EVERYBODY): None for agent in map(str.lower, agents)}
        normal = _normal(path)
        for name in found:
            group = self._groups.get(name)
            rule = group and max(
                (rule for rule in group.rules if rule.matches.match(normal)),
                key=lambda rule: (rule.length, rule.allows),
                default=None,
            )
            if rule and not rule.allows:
                return rule.line, name
            if group and group.reserved:
                return group.reserved, name
        return None


def _add(group: _Group, key: str, value: str, line: str) -> None:
    """Put a line into a group."""
    if key in ("allow", "disallow") and value:
        pattern = _normal(value if value[0] in "/*" else f"/{value}")
        group.rules.append(Rule(line=line, allows=key == "allow", length=len(pattern), matches=_pattern(pattern)))
    elif key in ("content-signal", "content-usage"):
        signals = {tuple(part.replace(" ", "").lower().split("=", 1)) for part in re.split(r"[,;]", value)}
        if signals & NO_TRAINING and group.reserved is None:
            group.reserved = line


def _pattern(text: str) -> re.Pattern[str]:
    """A path pattern as a regular expression: `*` is anything, `$` at the end is the end."""
    anchored = text.endswith("$")
    # Stars in a row mean what one does, and one at the end nothing; each costs time where nothing matches.
    parts = [re.escape(part) for part in re.split(r"\*+", text.removesuffix("$") if anchored else text.rstrip("*"))]
    # Each part is taken where it first fits and never again: matching takes a time linear in the stars.
    body = parts[0] + "".join(f"(?>.*?{part})" for part in parts[1:-1])
    if len(parts) > 1:
        body += f".*{parts[-1]}" if anchored else f".*?{parts[-1]}"
    return re.compile(body + (r"\Z" if anchored else ""), re.DOTALL)


def _normal(path: str) -> str:
    """A path or pattern with one spelling: escapes in upper case, only where they are needed (RFC 9309 §2.2.2)."""

    def unescape(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if character in _UNRESERVED else match[0].upper()

    plain = _ESCAPE.sub(unescape, path)
    if plain.isascii():
        return plain
    return quote(plain.encode("utf-8", "surrogatepass"), safe="!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~ ")
