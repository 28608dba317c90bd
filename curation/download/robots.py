"""Opt-outs that a server states in its X-Robots-Tag header."""

from collections.abc import Iterable
from typing import Final

DEFAULT_DIRECTIVES: Final = ("noai", "noimageai", "noindex", "noimageindex")
"""Those that img2dataset honours by default."""


def opt_out(headers: Iterable[str], directives: Iterable[str], agents: Iterable[str]) -> str | None:
    """The first disallowed directive among X-Robots-Tag header values that is meant for everyone or for us, or None.

    A value is `directive, directive` or `agent: directive, directive`; `none` stands for `noindex, nofollow`.

    >>> opt_out(["otherbot: noindex", "noai"], ["noai"], ["mmcorpus"])
    'noai'
    """
    disallowed = {directive.strip().lower() for directive in directives}
    names = {agent.strip().lower() for agent in agents}
    for value in headers:
        applies = True
        for part in value.lower().split(","):
            agent, colon, rest = part.partition(":")
            directive = (rest if colon else part).strip()
            if colon:  # an agent's name holds for the directives that follow it, too
                applies = agent.strip() in names
            if applies and (directive in disallowed or (directive == "none" and "noindex" in disallowed)):
                return directive
    return None
