"""From a page's bytes to text, as browsers do it: BOM, HTTP header, `meta`, a guess (WHATWG Encoding, HTML §13.2.3)."""

import re
from functools import lru_cache
from typing import Final

_META: Final = re.compile(rb"<meta[^>]{0,500}?charset\s*+=\s*+(?:[\"']\s*+)?([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)
_LATE: Final = 100_000
"""Bytes in which a later `meta` still counts, which makes browsers parse again."""
_CONTRADICTED: Final = 0.02
"""Share of characters that a declared encoding cannot read from which on it is not believed."""
_SAMPLE: Final = 200_000
"""Bytes that a guess looks at."""


def decode_html(data: bytes, http_charset: str | None = None, *, tld: str | None = None) -> tuple[str, str]:
    """The text of a page and the WHATWG name of its encoding; never raises, what cannot be read becomes U+FFFD.

    In this order: byte order mark; the header's charset; `meta`; a guess from the bytes (as Chromium and Firefox do,
    chardetng). A declaration is passed over where the bytes contradict it: all of them are UTF-8 (beyond ASCII), or
    the declared encoding cannot read more than 2 % of them.

    Args:
        http_charset: of the response's Content-Type header, any label of the standard; None or nonsense: not used.
        tld: the host's last label (`jp`, `ru`), a hint for the guess.
    """
    if data.startswith(b"\xef\xbb\xbf"):
        return data[3:].decode("utf-8", "replace"), "utf-8"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        name = "utf-16le" if data[0] == 0xFF else "utf-16be"
        return data[2:].decode(name, "replace"), name
    declared = _resolve(http_charset)
    if declared in ("utf-16le", "utf-16be"):
        return data.decode(declared, "replace"), declared
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        # ISO-2022-JP is ASCII to the eye; everything else that is UTF-8 as a whole is UTF-8, whatever was declared.
        if b"\x1b" not in data:
            return text, "utf-8" if declared is None or not text.isascii() else declared
    for label in (declared, _declared_by_meta(data)):
        if label is not None:
            text = _decode(data, label)
            if text.count("\ufffd") <= _CONTRADICTED * len(text):
                return text, label
    guessed = _guess(data, tld)
    return _decode(data, guessed), guessed


def _declared_by_meta(data: bytes) -> str | None:
    for found in _META.finditer(data, 0, _LATE):
        name = _resolve(found[1].decode("ascii"))
        if name is not None:
            # A page whose meta could be read is no UTF-16 (HTML §13.2.3.3).
            return "utf-8" if name.startswith("utf-16") else name
    return None


@lru_cache(1024)
def _resolve(label: str | None) -> str | None:
    """The standard's name for a label, lower case; None if it knows none or gives it up (`replacement`)."""
    import turbohtml

    if label is None:
        return None
    try:
        found = turbohtml.parse(b"", encoding=label.strip(" \t\r\n\f\"'")).encoding
    except (LookupError, ValueError):
        return None
    return None if found is None or found == "replacement" else found.lower()


def _decode(data: bytes, name: str) -> str:
    import turbohtml.detect  # noqa: F401  # registers the standard's decoders, which differ from Python's

    return data.decode(f"whatwg-{name}", "replace")


def _guess(data: bytes, tld: str | None) -> str:
    from turbohtml.detect import Detection, detect

    try:
        options = Detection(tld=tld)
    except ValueError:
        options = Detection()
    # What it declares is not believed any more.
    return (detect(_META.sub(b"", data[:_SAMPLE]), options).encoding or "windows-1252").lower()
