"""Corrupted sending of a finished page: encodings, broken markup, headers, answers that are no page."""

import codecs
import gzip
import random
import re

from mmcorpus.curation.synthetic.miniweb.pages.content import Draft


def header(draft: Draft, rng: random.Random, *, value: str) -> None:
    draft.headers["X-Robots-Tag"] = value


def answer(
    draft: Draft, rng: random.Random, *, status: int, content_type: str, body: str, location: str | None = None
) -> None:
    """Something else is answered, a redirect perhaps; each character of the body is a byte."""
    draft.status, draft.body = status, body.encode("latin-1")
    draft.headers = {"Content-Type": content_type} | ({"Location": location} if location else {})


def cut_off_png(draft: Draft, rng: random.Random) -> None:
    draft.body = b"\x89PNG\r\n\x1a\n" + bytes(64)
    draft.headers = {"Content-Type": "image/png"}


def charset(
    draft: Draft,
    rng: random.Random,
    *,
    name: str,
    meta: str | None = None,
    header: str | None = None,
    bom: bool = False,
) -> None:
    """An encoding that only one of the page's three signs tells (a BOM beats the header, that the meta)."""
    text = draft.body.decode("utf-8")
    tag = "" if meta is None else f'<meta http-equiv="Content-Type" content="text/html; charset={meta}">'
    body = text.replace('<meta charset="utf-8">', tag, 1).encode(name, "xmlcharrefreplace")
    draft.body = codecs.BOM_UTF16_LE + body if bom else body
    draft.headers["Content-Type"] = "text/html" if header is None else f"text/html; charset={header}"


def soup(draft: Draft, rng: random.Random) -> None:
    """Markup as it was written by hand in 1999: no closing tags, capitals, bare attributes, strays."""
    text = draft.body.decode("utf-8")
    for closing in ("</p>", "</li>", "</td>", "</tr>", "</body>", "</html>", "</figcaption>"):
        text = text.replace(closing, "")
    text = re.sub(r"<(/?)(div|p|ul|h1|h2|table|tr|td)\b", lambda match: match[0].upper(), text)
    text = re.sub(r'(width|height)="(\d+)"', r"\1=\2", text)
    text = text.replace("<P>", "</B><FONT SIZE=2><P>", 3).replace("<!doctype html>", "")
    draft.body = text.replace("</DIV>", "</DIV></span>", 5).encode("utf-8")


def cut_off(draft: Draft, rng: random.Random) -> None:
    """The answer ended within the footer."""
    end = max(
        draft.body.rfind(b"<footer"), draft.body.rfind(b'<div id="footer"'), draft.body.rfind(b'<div class="c9z"')
    )
    draft.body = draft.body[: end + 30]


def deep(draft: Draft, rng: random.Random) -> None:
    body = draft.body.replace(b"<body>", b"<body>" + b"<div>" * 300, 1)
    draft.body = body.replace(b"</body>", b"</div>" * 300 + b"</body>", 1)


def xhtml(draft: Draft, rng: random.Random) -> None:
    head = b'<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x.dtd">'
    draft.body = draft.body.replace(b"<!doctype html>", head, 1)
    draft.headers["Content-Type"] = "application/xhtml+xml"


def zipped(draft: Draft, rng: random.Random) -> None:
    draft.body = gzip.compress(draft.body, mtime=0)
    draft.headers["Content-Encoding"] = "gzip"


def chunked(draft: Draft, rng: random.Random) -> None:
    pieces = [draft.body[start : start + 4000] for start in range(0, len(draft.body), 4000)]
    draft.body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    draft.headers["Transfer-Encoding"] = "chunked"


def entities(draft: Draft, rng: random.Random) -> None:
    """Half of the letters e in the text as numeric references."""
    text = draft.body.decode("utf-8")
    start = text.index("<body>")
    parts = re.split(r"(<script.*?</script>|<[^>]*>)", text[start:], flags=re.DOTALL)
    parts[::2] = [
        part.replace("e ", "&#101; ").replace("é", "&eacute;").replace(" – ", " &ndash; ") for part in parts[::2]
    ]
    draft.body = (text[:start] + "".join(parts)).encode("utf-8")
