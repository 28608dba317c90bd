"""Secrets masked in what people share: records, reports, logs and messages.

Masked are user names and passwords in URLs, signatures and keys in their queries, values under names like `password` or
`env` in configs, `Authorization` headers, tokens known by their form (`secret_forms.py`), and in messages, what looks
random in a URL's query and, word for word, every secret of the recipe and the environment that this process was told of
(`remember_config`, `remember_environment`). The mask is the same for all values, so that two configs that differ in a
secret alone are one. Time is linear in the text.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote

from mmcorpus.filters import secret_forms as forms

MASK: Final = "***"
MAX_DECODINGS: Final = 3
"""How often a URL may be percent-encoded that stands in a parameter of another."""
MIN_KNOWN: Final = 6
"""Characters of the shortest secret that is looked for word for word; shorter ones are parts of too many words."""

_known: set[str] = set()
_known_pattern: re.Pattern[str] | None = None


def remember(values: Iterable[str]) -> None:
    """Mask these from now on wherever they stand in a message, also percent-encoded."""
    global _known_pattern
    before = len(_known)
    for value in values:
        _known.update(form for form in (value, quote(value, safe=""), quote_plus(value), unquote(value))
                      if len(form) >= MIN_KNOWN)  # fmt: skip
    if len(_known) != before:
        _known_pattern = re.compile("|".join(map(re.escape, sorted(_known, key=len, reverse=True))))


def known() -> frozenset[str]:
    """What `remember` was told, in each of its forms."""
    return frozenset(_known)


def remember_config(value: Any) -> None:
    """Mask the secrets of a recipe or config from now on, wherever they stand in a message."""
    remember(_secrets_of(value))


def remember_environment() -> None:
    """Mask the values of environment variables whose names speak of a secret: `HF_TOKEN`, `AWS_SECRET_ACCESS_KEY`."""
    remember(
        value
        for name, value in os.environ.items()
        if forms.VARIABLE.search(name) and not name.upper().endswith(forms.OF_FILE) and not value.isdigit()
    )


def masked(value: Any) -> Any:
    """JSON-able values without the secrets that show by their place or form; the rest as it is.

    The result depends on the value alone, so that fingerprints can be made of it.
    """
    if isinstance(value, str):
        return _masked_forms(value)
    if isinstance(value, Mapping):
        return {masked(key): _masked_entry(str(key), entry) for key, entry in value.items()}
    if isinstance(value, list):
        return _masked_words(value)
    if type(value) is tuple:
        return tuple(_masked_words(value))
    return value


def masked_text(text: str) -> str:
    """A message without the secrets that are known, or that show by their form or the name before them."""
    if _known_pattern is not None:
        text = _known_pattern.sub(MASK, text)
    return _masked_named(_masked_forms(text, guess=True))


def masked_messages(value: Any) -> Any:
    """JSON-able values, each text in them masked as a message (`masked_text`)."""
    if isinstance(value, str):
        return masked_text(value)
    if isinstance(value, Mapping):
        return {masked_messages(key): masked_messages(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [masked_messages(entry) for entry in value]
    return value


def _masked_forms(text: str, decodings: int = MAX_DECODINGS, *, guess: bool = False) -> str:
    """`decodings`: how often what stands percent-encoded in a parameter may still be decoded.

    `guess`: any parameter of a URL that looks random is masked, too; it may be what tells one list from another.
    """
    if "//" in text or ":/" in text or ":\\" in text:
        text = forms.AUTHORITY.sub(_masked_authority, text)
        text = forms.BROKEN_AUTHORITY.sub(rf"{MASK}@", text)
        text = forms.BOT.sub(rf"\1{MASK}", forms.PATH_PARTS.sub(_masked_part, text))
    if "%" in text:
        text = forms.NESTED.sub(lambda found: _masked_within(found[0], decodings, guess), text)
    if "=" in text and ("?" in text or "&" in text or ";" in text or "#" in text):
        text = forms.WORD.sub(lambda found: _masked_query(found[0], decodings, guess), text)
    if "earer" in text or "EARER" in text or "asic " in text:
        text = forms.BEARER.sub(rf"\1{MASK}", text)
    if "-----BEGIN" in text:
        text = forms.PRIVATE_KEY.sub(rf"\1{MASK}", text)
    return forms.FORMS.sub(MASK, text)


def _masked_authority(found: re.Match[str]) -> str:
    userinfo, _, host = found[2].rpartition("@")
    return f"{found[1]}{MASK}@{host}" if userinfo else found[0]


def _masked_part(found: re.Match[str]) -> str:
    return f"{found[1]}{MASK}" if forms.looks_random(found[2]) else found[0]


def _masked_query(word: str, decodings: int, guess: bool) -> str:
    if "=" not in word:
        return word
    parameters = [(forms.simple(parameter[2]), parameter[3]) for parameter in forms.PARAMETER.finditer(word)]
    names = {name for name, _ in parameters}
    secret = {name for name, value in parameters
              if forms.is_secret_parameter(name, value) or (guess and forms.looks_random(value))}  # fmt: skip
    if secret & forms.SIGNATURES or names & forms.SIGNATURES or any(name.startswith(forms.PREFIXES) for name in secret):
        secret |= names & forms.WITH_SIGNATURE
    if not secret and "%" not in word:
        return word

    def hidden(found: re.Match[str]) -> str:
        is_secret = found[3] and forms.simple(found[2]) in secret
        return f"{found[1]}{found[2]}={MASK if is_secret else _masked_within(found[3], decodings, guess)}"

    return forms.PARAMETER.sub(hidden, word)


def _masked_within(value: str, decodings: int, guess: bool) -> str:
    """A percent-encoded text, without the secrets of a URL that stands in it, encoded once or more often."""
    for times, inner in enumerate(_decoded(value, decodings), start=1):
        found = _masked_forms(inner, decodings - times, guess=guess)
        if found != inner:
            for _ in range(times):
                found = quote(found, safe="*")
            return found
    return value


def _decoded(value: str, most: int) -> Iterator[str]:
    """A percent-encoded value decoded once, twice, … as long as that changes it, `most` times at most."""
    for _ in range(most):
        before, value = value, unquote(value) if "%" in value else value
        if value == before:
            return
        yield value


def _masked_named(text: str) -> str:
    """`--api-key VALUE`, `AccountKey=…`, `"password": "…"`, `Authorization: Bearer …`, `the key is …`."""
    text = _masked_headers(text)
    parts, at = [], 0
    for found in forms.NAMED.finditer(text):
        if found.start() < at or (value := forms.VALUE.match(text, found.end())) is None:
            continue
        if not forms.is_named(found[2], found[1], found[3].strip(" \t\"'"), value[3]):
            continue
        if value[3].startswith(MASK) or value[3].isdigit() or value[3].lower() in ("none", "null", "true", "false"):
            continue
        parts += [text[at : value.start(3)], MASK]
        at = value.end()
    text = "".join(parts) + text[at:] if parts else text
    return forms.SPOKEN.sub(lambda found: f"{found[1]}{MASK}" if forms.looks_random(found[2]) else found[0], text)


def _masked_headers(text: str) -> str:
    """`Authorization: Digest …`, `Cookie: …`: to the end of the line, or of the text in quotes, or of the one word."""
    parts, at = [], 0
    for found in forms.HEADER.finditer(text):
        if found.start() < at:
            continue
        ends = re.compile(rf"[\r\n{found[1]}]" if found[1] or not found[2] else r"[\s\"',}\]]")
        end = ends.search(text, found.end())
        parts += [text[at : found.end()], MASK]
        at = end.start() if end else len(text)
    return "".join(parts) + text[at:] if parts else text


def _masked_entry(key: str, entry: Any) -> Any:
    if forms.is_place(key):
        return masked(entry)
    name = forms.simple(key)
    if forms.is_named_by_users(name) and isinstance(entry, Mapping):
        return {masked(own): masked(value) for own, value in entry.items()}
    if forms.is_holder(name) and isinstance(entry, Mapping | list | tuple):
        return _hidden(entry)
    if forms.is_secret_key(name, entry):
        return _hidden(entry)
    if isinstance(entry, str) and forms.is_guessed_key(name, entry):
        return MASK
    if isinstance(entry, list) and any(isinstance(word, str) and forms.is_guessed_key(name, word) for word in entry):
        return _hidden(entry)
    if forms.is_command(name) and isinstance(entry, str):
        return _masked_named(masked(entry))
    if forms.is_command(name) and isinstance(entry, list):
        return [_masked_named(word) if isinstance(word, str) else word for word in _masked_words(entry)]
    return masked(entry)


def as_key(name: str) -> str:
    """A name that somebody chose as the key of a mapping that `masked` does not take for a secret: itself, or, of one
    that is called as secrets are, with a slash before it."""
    simple = forms.simple(name)
    return f"/{name}" if forms.is_holder(simple) or forms.is_secret_key(simple) else name


def _hidden(value: Any) -> Any:
    """A value under a secret's name: all texts and numbers in it masked, its form as it is."""
    if isinstance(value, Mapping):
        return {key: _hidden(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(entry) for entry in value]
    return value if value is None or value == "" or isinstance(value, bool) else MASK


def _masked_words(words: Iterable[Any]) -> list[Any]:
    """A list's entries; in a command line the word after `--api-key`, or after its `=`, is a secret too.

    So is the value of a variable whose name speaks of one (`env HF_TOKEN=… vllm`).
    """
    found: list[Any] = []
    hidden = False
    for word in words:
        option, equals, secret = _option(word)
        found.append(
            MASK if hidden and isinstance(word, str) else f"{option}={MASK}" if secret and equals else masked(word)
        )
        hidden = secret and not equals
    return found


def _option(word: Any) -> tuple[str, str, bool]:
    """A command line's word up to its `=`, the `=` if there is one, and whether what comes after is a secret."""
    if not isinstance(word, str):
        return "", "", False
    option, equals, _ = word.partition("=")
    if word.startswith("-"):
        return option, equals, forms.is_secret_key(forms.simple(option))
    return option, equals, bool(equals and forms.ASSIGNED.fullmatch(option) and forms.VARIABLE.search(option))


def _secrets_of(value: Any, key: str = "", *, held: bool = False) -> Iterator[str]:
    """The secrets in a config."""
    if isinstance(value, Mapping):
        free = forms.is_named_by_users(forms.simple(key))
        for name, entry in value.items():
            yield from _secrets_of(
                entry,
                "" if free or forms.is_place(str(name)) else str(name),
                held=held or forms.is_holder(forms.simple(key)) or forms.is_secret_key(forms.simple(key)),
            )
    elif isinstance(value, list | tuple):
        hidden = False
        for word in value:
            option, equals, secret = _option(word)
            if hidden and isinstance(word, str):
                yield word
            elif secret and equals:
                yield (found := word[len(option) + 1 :])
                yield from found.split()[:1]  # a whole command in one word
            else:
                yield from _secrets_of(word, key, held=held or forms.is_secret_key(forms.simple(key)))
            hidden = secret and not equals
    elif isinstance(value, str):
        if forms.is_command(forms.simple(key)) and len(words := value.split()) > 1:
            yield from _secrets_of(words, key, held=held)
        if held or forms.is_secret_key(name := forms.simple(key)) or forms.is_guessed_key(name, value):
            yield value
        if key == "key_variable":
            yield os.environ.get(value, "")
        yield from _secrets_in(value, MAX_DECODINGS)


def _secrets_in(text: str, decodings: int) -> Iterator[str]:
    """The secrets of the URLs in a text, and of those that stand percent-encoded in their parameters."""
    for authority in forms.AUTHORITY.finditer(text):
        userinfo, _, _ = authority[2].rpartition("@")
        user, _, password = userinfo.partition(":")
        yield from filter(None, (userinfo, password or user))
    for broken in forms.BROKEN_AUTHORITY.finditer(text):
        yield broken[2]
    for part in forms.PATH_PARTS.finditer(text):
        if forms.looks_random(part[2]):
            yield part[2]
    for bot in forms.BOT.finditer(text):
        yield bot[2]
    for nested in forms.NESTED.finditer(text):
        for times, inner in enumerate(_decoded(nested[0], decodings), start=1):
            yield from _secrets_in(inner, decodings - times)
    for parameter in forms.PARAMETER.finditer(text):
        name, value = forms.simple(parameter[2]), parameter[3]
        if forms.looks_random(value):
            yield value
        elif not forms.is_secret_parameter(name, value):
            for times, inner in enumerate(_decoded(value, decodings), start=1):
                yield from _secrets_in(inner, decodings - times)
        elif name not in forms.DATES and not (
            forms.is_short_name(name) and value.isalpha()
        ):  # a word of other messages too
            yield value
