"""Names, places and forms by which a secret is known: what `secrets.py` masks, as data."""

import re
from itertools import pairwise
from typing import Final
from urllib.parse import unquote, unquote_plus

_NAMES: Final = frozenset(
    {
        "password", "passwd", "passphrase", "passcode", "pwd", "secret", "apikey", "accesstoken", "refreshtoken",
        "idtoken", "authtoken", "sessiontoken", "securitytoken", "bearertoken", "hftoken",
        "authorization", "proxyauthorization",
        "secretkey", "secretaccesskey", "awssecretaccesskey", "awssessiontoken", "accesskey", "accesskeyid",
        "awsaccesskeyid", "accountkey", "sharedaccesskey", "sharedaccesssignature", "sastoken", "connectionstring",
        "clientsecret", "privatekey", "xapikey", "subscriptionkey", "jwt", "ossaccesskeyid", "googleaccessid",
        "keypairid", "xauthtoken", "privatetoken", "jobtoken", "githubtoken", "gitlabtoken", "wandbkey",
    }
)  # fmt: skip
"""Names of secrets, lower case and without `-`, `_` and `.`: in queries, options, headers and the keys of mappings."""
_WEAK_NAMES: Final = frozenset(
    {"token", "auth", "signature", "sig", "sas", "bearer", "credential", "credentials", "cookie", "authentication"}
)
"""Names that mean a secret there too, but before a colon in a sentence (`unexpected token: x`) only if the value looks
random."""
_SHORT_NAMES: Final = frozenset({"code", "ak", "sk", "ticket", "otp", "pin"})
"""Names of secrets in queries (OAuth's codes, access and secret keys, CAS's tickets) that name other things where their
values are short: `code=404`, `sk=asc`."""
_IN_QUERY: Final = (
    _NAMES | _WEAK_NAMES | _SHORT_NAMES
    | {"key", "pass", "pw", "sign", "md5", "cred", "tok", "rlkey", "resourcekey", "samlresponse", "samlrequest", "gda"}
)  # fmt: skip
_WITHIN_QUERY: Final = re.compile(
    r"secret|passw|passphrase|token(?!s|i[sz])|signature|credential|hmac|hdnea|hdnts|sessid|session|csrf|xsrf|nonce"
    r"|auth\Z|sig\Z|\Asid\Z|(?:user|login|db|ftp|http|basic)pass\Z"
    r"|(?:api|app|auth|access|private|license|subscription|shared?|account|consumer|secure|sign)key"
)
"""What the names of further secrets in queries have in them: `oauth_token`, `X-Plex-Token`, `wsSecret`, `PHPSESSID`."""
_WITHIN_KEY: Final = re.compile(r"(?:password|passwd|secret|apikey|accesskey|securitytoken|subscriptionkey)s?\Z")
"""What the names of further secrets in mappings and headers end with: `openai_api_key` of a scorer of one's own."""
_GUESSED_KEY: Final = re.compile(r"(?:token|key|pass|sas|bearer|auth|webhook|credential|cookie)s?\Z")
"""What the keys of values end with that are secrets if they look random: `my_token`, not `pad_token: <pad>`."""
_FILE_KEY: Final = re.compile(r"(?i)/|%2f|\.[a-z][a-z0-9]{1,7}\Z")
"""In the value of a parameter `key`: it is that of an object in a store (`key=lists/1.csv`), and tells lists apart."""
PREFIXES: Final = ("xamz", "xgoog", "xoss", "qsign", "qak", "qkeytime", "qheaderlist", "qurlparamlist", "qsignature")
"""Beginnings of the parameters of signed URLs: AWS, Google, Aliyun, Tencent."""
DATES: Final = frozenset({"xamzdate", "xamzexpires", "xgoogdate", "xgoogexpires", "xamzalgorithm", "xgoogalgorithm"})
"""Of these, those whose values are masked in their place alone: they are words of other messages too."""
SIGNATURES: Final = frozenset({"signature", "sig", "policy", "keypairid"})
"""Parameters that say that a URL is signed; those of WITH_SIGNATURE, which each signing makes anew, go with them."""
WITH_SIGNATURE: Final = frozenset(
    {
        "policy", "expires", "expiry", "se", "st", "sp", "sv", "sr", "ss", "srt", "spr", "sip", "sdd", "skoid",
        "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "scid", "ses", "date", "timestamp", "nonce",
    }
)  # fmt: skip
_HOLDERS: Final = re.compile(r"(?:env|envvars|environment|headers|cookies|storageoptions|clientkwargs)\Z")
"""The end of the keys of mappings all of whose values are masked."""
_NAMED_BY_USERS: Final = frozenset(
    {
        "sources", "scorers", "dedup", "select", "pack", "stages", "evaluate", "columns", "annotations", "mix",
        "mixgroups", "sizes", "upsample", "lists", "concepts", "heads", "sets", "connectto",
    }
)  # fmt: skip
"""Keys of mappings whose own keys are names that somebody chose: a source may be called `auth`."""
_COMMANDS: Final = re.compile(r"(?:args|command|cmd|options)\Z")
"""The end of the keys of command lines."""
AUTHORITY: Final = re.compile(
    r"((?<=:)//|(?<=:)\\/\\/|(?<=:)\\\\(?:\\\\)?|(?<=https:)/|(?<=http:)/|(?<=s3:)/|(?<=ftp:)/|(?<![\w\\/:.])//)([^\s/?#\\\"'<>]{1,4096})"
)
"""Also where a slash was lost, as in `https:/u:p@h` of a path that was made one of this machine."""
BROKEN_AUTHORITY: Final = re.compile(
    r"(?<=://)([^\s/?#:@\[\"'<>]{1,256}:)(?!:|\d*+(?:[/?#]|\Z))([^\s@\"'<>]{1,256})@(?=[^\s@\"'<>])"
)
"""A password with a `/`, `?` or `#` that is not percent-encoded: after a host comes a number."""
WORD: Final = re.compile(r"[^\s\"'<>]+")
PARAMETER: Final = re.compile(r"([?&;#]|&amp;|\\u0026)([^=&;?#]{1,128})=((?:[^&;#\\,)\]}]*[^&;#\\,)\]}:])?)")
"""A colon at its end is that of a sentence: `http://a/b?key=…: 403`."""
NESTED: Final = re.compile(r"(?i)[a-z][a-z0-9+.-]{0,15}%(?:25){0,3}3a(?:%(?:25){0,3}2f){2}[^\s/?&;=#\"'<>]{1,8192}")
"""A percent-encoded URL."""
PATH_PARTS: Final = re.compile(
    r"(?i)(/(?:[a-z][\w.-]{0,23})?(?:token|secret|api-?_?key|jwt|sig|signature|sas|auth|credentials|webhooks?/\d{6,24})[/=]"
    r"|/services/t\w{1,15}/b\w{1,15}/)([^/?#\s\"'<>&;,]{11,4096}[^/?#\s\"'<>&;,:])"
)
"""A name and what follows it in a path: `/token/…`, `/services/T…/B…/…`, `/webhooks/123456/…`. A colon at its end is a
sentence's."""
BOT: Final = re.compile(r"(/bot\d{6,12}:)([A-Za-z0-9_-]{20,64})")
"""Telegram's."""
BEARER: Final = re.compile(r"(?i)\b((?:bearer|basic)[ \t]{1,8})([A-Za-z0-9._~+/=-]{8,65536})")
HEADER: Final = re.compile(
    r"(?i)(?<![A-Za-z0-9])(?:(?:proxy-)?authorization"
    r"|(?:set-)?cookie(?=[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?[^\s=;,\"']{1,64}=))"
    r"[\"']?[ \t]{0,4}[:=][ \t]{0,4}([\"']?+)((?:(?:bearer|basic|token|apikey|key|negotiate)[ \t]{1,4})?+)(?=[^\s*\"'])"
)
"""A header's name, the quote of its value, and the scheme before a secret of one word."""
FORMS: Final = re.compile(
    r"(?<![A-Za-z0-9_-])(?:hf_[A-Za-z0-9]{16,256}|sk-[A-Za-z0-9_-]{32,256}|gh[pousr]_[A-Za-z0-9]{16,256}"
    r"|github_pat_[A-Za-z0-9_]{16,256}|gl(?:pat|rt|dt|ptt|cbt|soat)-[A-Za-z0-9_-]{16,256}"
    r"|xox[abeprs]-[A-Za-z0-9-]{10,256}|xapp-[A-Za-z0-9-]{16,256}|(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"
    r"|AIza[A-Za-z0-9_-]{30,64}|ya29\.[A-Za-z0-9_-]{16,512}|eyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,4096}"
    r"|[srp]k_(?:live|test)_[A-Za-z0-9]{16,256}|SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,128}|npm_[A-Za-z0-9]{30,64}"
    r"|pypi-[A-Za-z0-9_-]{32,512}|dckr_pat_[A-Za-z0-9_-]{20,64}|gsk_[A-Za-z0-9]{32,128}|r8_[A-Za-z0-9]{32,64}"
    r"|nvapi-[A-Za-z0-9_-]{32,128}|wandb_v\d_[A-Za-z0-9_]{16,128}|do[opr]_v1_[A-Za-z0-9]{32,128}|shp(?:at|ca|pa|ss)_[A-Za-z0-9]{16,64}"
    r"|AGE-SECRET-KEY-1[A-Za-z0-9]{16,64})"
)
"""Hugging Face, OpenAI, Anthropic, GitHub, GitLab, Slack, AWS, Google; JSON web tokens; Stripe, SendGrid, npm, PyPI,
Docker, Groq, Replicate, NVIDIA, Weights & Biases, DigitalOcean, Shopify, age."""
PRIVATE_KEY: Final = re.compile(r"(-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----)[^-]+")
NAMED: Final = re.compile(
    r"(?<![A-Za-z0-9_])(-{0,2})([A-Za-z][A-Za-z0-9_.-]{1,63})([\"']?[ \t]{0,4}[:=][ \t]{0,4}|[ \t]{1,4})"
)
VALUE: Final = re.compile(
    r"([\"']?)((?:(?:bearer|basic|digest)[ \t]{1,4})?)([^\s\"',;&<>()\[\]{}]{1,4096})", re.IGNORECASE
)
SPOKEN: Final = re.compile(
    r"(?i)\b((?:key|token|secret|passw(?:or)?d|passphrase|credentials?)\b[^A-Za-z0-9\n]{1,4}(?:(?:is|was|provided|given|used)\b"
    r"[^A-Za-z0-9\n]{1,4}){0,2})([A-Za-z0-9_+/=~-]{12,4096})"
)
"""`Incorrect API key provided: …`: a secret in a sentence, if it looks random."""
VARIABLE: Final = re.compile(
    r"(?i)secret|token(?!s|iz)|passw|api_?key|access_?key|credential|private_?key|storage_key|_sas\b"
)
"""Names of environment variables with a secret."""
ASSIGNED: Final = re.compile(r"[A-Z_][A-Z0-9_]*")
"""A variable before a `=` in a command line."""
OF_FILE: Final = ("_FILE", "_PATH", "_DIR", "_CREDENTIALS")
"""Ends of the names of variables that say where a secret lies."""

MIN_RANDOM: Final = 16
_RANDOM: Final = re.compile(r"[A-Za-z0-9_+/=~.-]*")
_HEX: Final = re.compile(r"[0-9a-fA-F]{32,}")


def simple(name: str) -> str:
    """A name in lower case, decoded, without what is put between its words."""
    return unquote_plus(name).lower().translate(dict.fromkeys(map(ord, "-_. "))).removeprefix("amp;")


def looks_random(value: str) -> bool:
    """Whether a text is like nothing that people write: cases and digits change all the time, or it is long hex.

    A name made of words, a date, a number, the name of a file are not.
    """
    value = unquote(value[:512])
    if len(value) < MIN_RANDOM or not _RANDOM.fullmatch(value) or _FILE_KEY.search(value[-9:]):
        return False
    if _HEX.fullmatch(plain := value.replace("-", "")):
        return not plain.isdigit() and not plain.isalpha()
    kinds = [0 if letter.islower() else 1 if letter.isupper() else 2 for letter in value if letter.isalnum()]
    return len(set(kinds)) == 3 and 3 * sum(one != other for one, other in pairwise(kinds)) >= len(kinds)


def is_secret_parameter(name: str, value: str) -> bool:
    """Whether a query's parameter, its name as `simple` gives it, is a secret."""
    if (name == "key" and _FILE_KEY.search(value)) or (name in _SHORT_NAMES and len(value) < 6):
        return False
    return name in _IN_QUERY or name.startswith(PREFIXES) or _WITHIN_QUERY.search(name) is not None


def is_short_name(name: str) -> bool:
    """Whether a parameter's name names other things too."""
    return name in _SHORT_NAMES


def is_secret_key(name: str, value: object = "") -> bool:
    """Whether a mapping's key, as `simple` gives it, names a secret. A number under `token` is that of a token."""
    weak = name in _WEAK_NAMES and not isinstance(value, int | float)
    return weak or name in _NAMES or _WITHIN_KEY.search(name) is not None


def is_guessed_key(name: str, value: str) -> bool:
    """Whether a mapping's key may name a secret and its value looks like one."""
    return _GUESSED_KEY.search(name) is not None and looks_random(value)


def is_holder(name: str) -> bool:
    """Whether all values of a mapping under this key are secrets: `env`, `headers`, `storage_options`."""
    return _HOLDERS.search(name) is not None


def is_named(name: str, dashes: str, between: str, value: str) -> bool:
    """Whether what follows a name in a sentence is a secret.

    name: as it is written. dashes: of an option (`--api-key`). between: `=`, `:`, or empty for a space.
    """
    plain = simple(name)
    if (
        plain in _NAMES
        or _WITHIN_KEY.search(plain)
        or (ASSIGNED.fullmatch(name) and "_" in name and VARIABLE.search(name))
    ):
        return bool(between or dashes)
    if plain in _WEAK_NAMES:
        return between == "=" or (bool(between or dashes) and looks_random(value))
    return False


def is_named_by_users(name: str) -> bool:
    """Whether the keys of a mapping under this key are names that somebody chose, and tell nothing of its values."""
    return name in _NAMED_BY_USERS


def is_place(key: str) -> bool:
    """Whether a mapping's key is a path or an address, of which the last word names no secret."""
    return "/" in key or "\\" in key


def is_command(name: str) -> bool:
    """Whether what stands under this key is a command line, or words of one."""
    return _COMMANDS.search(name) is not None
