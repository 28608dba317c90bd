"""Secrets masked in what people share: records, reports, logs and messages.

Masked are user names and passwords in URLs, signatures and keys in their queries, values under names like `password` or
`env` in configs, `Authorization` headers, tokens known by their form, and in messages, word for word, every secret of
the recipe and the environment that this process was told of (`remember_config`, `remember_environment`). The mask is
the same for all values, so that two configs that differ in a secret alone are one. Time is linear in the text.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

MASK: Final = "***"
MAX_DECODINGS: Final = 3
"""How often a URL may be percent-encoded that stands in a parameter of another."""
MIN_KNOWN: Final = 6
"""Characters of the shortest secret that is looked for word for word; shorter ones are parts of too many words."""

_NAMES: Final = frozenset(
    {
        "password", "passwd", "passphrase", "pwd", "secret", "apikey", "accesstoken", "refreshtoken", "idtoken",
        "authtoken", "sessiontoken", "securitytoken", "bearertoken", "hftoken", "authorization", "proxyauthorization",
        "secretkey", "secretaccesskey", "awssecretaccesskey", "awssessiontoken", "accesskey", "accesskeyid",
        "awsaccesskeyid", "accountkey", "sharedaccesskey", "sharedaccesssignature", "sastoken", "connectionstring",
        "clientsecret", "privatekey", "xapikey", "subscriptionkey", "jwt", "ossaccesskeyid", "googleaccessid",
        "keypairid", "xauthtoken", "privatetoken", "jobtoken",
    }
)  # fmt: skip
"""Names of secrets, lower case and without `-`, `_` and `.`: in queries, options, headers and the keys of mappings."""
_WEAK_NAMES: Final = frozenset({"token", "auth", "signature", "sig", "credential", "credentials", "cookie"})
"""Names that mean a secret there too, but not before a colon in a sentence (`unexpected token: x`)."""
_SHORT_NAMES: Final = frozenset({"code", "ak", "sk", "ticket"})
"""Names of secrets in queries (OAuth's codes, access and secret keys, CAS's tickets) that name other things where their
values are short: `code=404`, `sk=asc`."""
_IN_QUERY: Final = _NAMES | _WEAK_NAMES | _SHORT_NAMES | {"key", "pass", "pw", "sign", "md5", "bearer"}
_WITHIN_QUERY: Final = re.compile(
    r"secret|passw|passphrase|token(?!s|i[sz])|signature|credential|hmac|hdnea|hdnts|sessid|session|auth\Z|sig\Z|\Asid\Z"
    r"|(?:api|app|auth|access|private|license|subscription|shared|account|consumer)key"
)
"""What the names of further secrets in queries have in them: `oauth_token`, `X-Plex-Token`, `wsSecret`, `PHPSESSID`."""
_WITHIN_KEY: Final = re.compile(r"(?:password|passwd|secret|apikey|accesskey)\Z")
"""What the keys of further secrets in mappings end with: `openai_api_key` of a scorer of one's own."""
_FILE_KEY: Final = re.compile(r"(?i)/|%2f|\.[a-z][a-z0-9]{1,7}\Z")
"""In the value of a parameter `key`: it is that of an object in a store (`key=lists/1.csv`), and tells lists apart."""
_PREFIXES: Final = ("xamz", "xgoog", "xoss", "qsign", "qak", "qkeytime", "qheaderlist", "qurlparamlist", "qsignature")
"""Beginnings of the parameters of signed URLs: AWS, Google, Aliyun, Tencent."""
_DATES: Final = frozenset({"xamzdate", "xamzexpires", "xgoogdate", "xgoogexpires", "xamzalgorithm", "xgoogalgorithm"})
"""Of these, those whose values are masked in their place alone: they are words of other messages too."""
_SIGNATURES: Final = frozenset({"signature", "sig", "policy", "keypairid"})
"""Parameters that say that a URL is signed; those of _WITH_SIGNATURE, which each signing makes anew, go with them."""
_WITH_SIGNATURE: Final = frozenset(
    {
        "policy", "expires", "expiry", "se", "st", "sp", "sv", "sr", "ss", "srt", "spr", "sip", "sdd", "skoid",
        "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "scid", "ses", "date", "timestamp", "nonce",
    }
)  # fmt: skip
_HOLDERS: Final = frozenset({"env", "envvars", "headers", "storageoptions", "clientkwargs"})
"""Keys of mappings all of whose values are masked."""

_AUTHORITY: Final = re.compile(r"(:(?://|\\/\\/))([^\s/?#\\\"'<>]{1,4096})")
_WORD: Final = re.compile(r"[^\s\"'<>]+")
_PARAMETER: Final = re.compile(r"([?&;#]|&amp;|\\u0026)([^=&;?#]{1,128})=([^&;#\\,)\]}]*)")
_BEARER: Final = re.compile(r"(?i)\b((?:bearer|basic)[ \t]{1,8})([A-Za-z0-9._~+/=-]{8,65536})")
_FORMS: Final = re.compile(
    r"(?<![A-Za-z0-9_-])(?:hf_[A-Za-z0-9]{16,256}|sk-[A-Za-z0-9_-]{32,256}|gh[pousr]_[A-Za-z0-9]{16,256}"
    r"|github_pat_[A-Za-z0-9_]{16,256}|glpat-[A-Za-z0-9_-]{16,256}|xox[abprs]-[A-Za-z0-9-]{10,256}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])|AIza[A-Za-z0-9_-]{30,64}|ya29\.[A-Za-z0-9_-]{16,512}"
    r"|eyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,4096})"
)
"""Hugging Face, OpenAI, GitHub, GitLab, Slack, AWS, Google; JSON web tokens."""
_NAMED: Final = re.compile(
    r"(?<![A-Za-z0-9_])(-{0,2})([A-Za-z][A-Za-z0-9_.-]{1,63})([\"']?[ \t]{0,4}[:=][ \t]{0,4}|[ \t]{1,4})"
)
_VALUE: Final = re.compile(
    r"([\"']?)((?:(?:bearer|basic|digest)[ \t]{1,4})?)([^\s\"',;&<>()\[\]{}]{1,4096})", re.IGNORECASE
)
_VARIABLE: Final = re.compile(r"(?i)secret|token(?!s|iz)|passw|api_?key|access_?key|credential|private_?key|_sas\b")
"""Names of environment variables with a secret."""
_ASSIGNED: Final = re.compile(r"[A-Z_][A-Z0-9_]*")
"""A variable before a `=` in a command line."""
_OF_FILE: Final = ("_FILE", "_PATH", "_DIR", "_CREDENTIALS")

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
        if _VARIABLE.search(name) and not name.upper().endswith(_OF_FILE) and not value.isdigit()
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
    return _masked_named(_masked_forms(text))


def masked_messages(value: Any) -> Any:
    """JSON-able values, each text in them masked as a message (`masked_text`)."""
    if isinstance(value, str):
        return masked_text(value)
    if isinstance(value, Mapping):
        return {masked_messages(key): masked_messages(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [masked_messages(entry) for entry in value]
    return value


def _is_secret(name: str, value: str) -> bool:
    """Whether a query's parameter, its name as `_simple` gives it, is a secret."""
    if (name == "key" and _FILE_KEY.search(value)) or (name in _SHORT_NAMES and len(value) < MIN_KNOWN):
        return False
    return name in _IN_QUERY or name.startswith(_PREFIXES) or _WITHIN_QUERY.search(name) is not None


def _is_secret_key(name: str) -> bool:
    """Whether a mapping's key, as `_simple` gives it, names a secret."""
    return name in _NAMES or name in _WEAK_NAMES or _WITHIN_KEY.search(name) is not None


def _simple(name: str) -> str:
    return unquote_plus(name).lower().translate(dict.fromkeys(map(ord, "-_. "))).removeprefix("amp;")


def _masked_forms(text: str, decodings: int = MAX_DECODINGS) -> str:
    """`decodings`: how often what stands percent-encoded in a parameter may still be decoded."""
    if ":/" in text or ":\\/" in text:
        text = _AUTHORITY.sub(_masked_authority, text)
    if "=" in text and ("?" in text or "&" in text or ";" in text or "#" in text):
        text = _WORD.sub(lambda found: _masked_query(found[0], decodings), text)
    if "earer" in text or "EARER" in text or "asic " in text:
        text = _BEARER.sub(rf"\1{MASK}", text)
    return _FORMS.sub(MASK, text)


def _masked_authority(found: re.Match[str]) -> str:
    userinfo, _, host = found[2].rpartition("@")
    return f"{found[1]}{MASK}@{host}" if userinfo else found[0]


def _masked_query(word: str, decodings: int) -> str:
    if "=" not in word:
        return word
    parameters = [(_simple(parameter[2]), parameter[3]) for parameter in _PARAMETER.finditer(word)]
    names = {name for name, _ in parameters}
    secret = {name for name, value in parameters if _is_secret(name, value)}
    if secret & _SIGNATURES or names & _SIGNATURES or any(name.startswith(_PREFIXES) for name in secret):
        secret |= names & _WITH_SIGNATURE
    if not secret and "%" not in word:
        return word

    def hidden(found: re.Match[str]) -> str:
        value = MASK if found[3] and _simple(found[2]) in secret else _masked_within(found[3], decodings)
        return f"{found[1]}{found[2]}={value}"

    return _PARAMETER.sub(hidden, word)


def _masked_within(value: str, decodings: int) -> str:
    """A parameter's value, without the secrets of a URL that stands in it percent-encoded, once or more often."""
    for times, inner in enumerate(_decoded(value, decodings), start=1):
        found = _masked_forms(inner, decodings - times)
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
    """`--api-key VALUE`, `AccountKey=…`, `"password": "…"`, `Authorization: Bearer …`."""
    parts, at = [], 0
    for found in _NAMED.finditer(text):
        name, between = _simple(found[2]), found[3].strip(" \t\"'")
        strong = name in _NAMES
        if found.start() < at or not (strong or (name in _WEAK_NAMES and between == "=")):
            continue
        if not between and not found[1]:  # a value after a space is one of an option alone
            continue
        value = _VALUE.match(text, found.end())
        if (
            value is None
            or value[3].startswith(MASK)
            or value[3].isdigit()
            or value[3].lower() in ("none", "null", "true", "false")
        ):
            continue
        parts += [text[at : value.start(3)], MASK]
        at = value.end()
    return "".join(parts) + text[at:] if parts else text


def _masked_entry(key: str, entry: Any) -> Any:
    name = _simple(key)
    if isinstance(entry, Mapping) and name in _HOLDERS:
        return dict.fromkeys(entry, MASK)
    if isinstance(entry, str) and entry and _is_secret_key(name):
        return MASK
    return masked(entry)


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
        return option, equals, _simple(option) in _NAMES | _WEAK_NAMES
    return option, equals, bool(equals and _ASSIGNED.fullmatch(option) and _VARIABLE.search(option))


def _secrets_of(value: Any, key: str = "", *, held: bool = False) -> Iterator[str]:
    """The secrets in a config."""
    if isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _secrets_of(entry, str(name), held=held or _simple(key) in _HOLDERS)
    elif isinstance(value, list | tuple):
        hidden = False
        for word in value:
            option, equals, secret = _option(word)
            if hidden and isinstance(word, str):
                yield word
            elif secret and equals:
                yield word[len(option) + 1 :]
            else:
                yield from _secrets_of(word)
            hidden = secret and not equals
    elif isinstance(value, str):
        if held or _is_secret_key(_simple(key)):
            yield value
        if key == "key_variable":
            yield os.environ.get(value, "")
        yield from _secrets_in(value, MAX_DECODINGS)


def _secrets_in(text: str, decodings: int) -> Iterator[str]:
    """The secrets of the URLs in a text, and of those that stand percent-encoded in their parameters."""
    for authority in _AUTHORITY.finditer(text):
        userinfo, _, _ = authority[2].rpartition("@")
        user, _, password = userinfo.partition(":")
        yield from filter(None, (userinfo, password or user))
    for parameter in _PARAMETER.finditer(text):
        name, value = _simple(parameter[2]), parameter[3]
        if not _is_secret(name, value):
            for times, inner in enumerate(_decoded(value, decodings), start=1):
                yield from _secrets_in(inner, decodings - times)
        elif name not in _DATES and not (name in _SHORT_NAMES and value.isalpha()):  # a word of other messages too
            yield value
