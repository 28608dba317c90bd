"""The page and its questions over HTTP, for the one who runs it.

It listens on this machine alone unless told otherwise. No other site's page can ask through the reader's browser: a
question is JSON, must come from this page's own address, and to a name that is this machine's. What the model says is
shown as text, whatever it is, and the page may load nothing from anywhere.
"""

import base64
import binascii
import ipaddress
import json
import secrets
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, Final

from mmcorpus.filters.decode import DecodeFailure, decode_image
from mmcorpus.pipelines.chat.answerers import Answerer, Question

MOST_BYTES: Final = 48 << 20
"""A question with its picture, which base64 makes a third longer."""
MOST_CHARACTERS: Final = 20_000
"""Of a prompt."""
MOST_TOKENS: Final = 4096
"""Of an answer."""
_PATIENCE: Final = 30.0
"""Seconds in which a browser must have sent its question."""
_WAITING: Final = 8
"""Questions in work or waiting at once; further ones are told to come again."""
_POLICY: Final = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Refused(Exception):
    """A request that is not answered, and how it is told."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class ChatServer(ThreadingHTTPServer):
    """Serves until `shutdown`; `url` is its address."""

    daemon_threads = True

    def __init__(self, answerer: Answerer, host: str = "127.0.0.1", port: int = 0) -> None:
        """`port` 0 takes a free one. Raises OSError if the address cannot be had."""
        self.answerer = answerer
        self.free = threading.Semaphore(_WAITING)
        super().__init__((host, port), _Handler)
        self.local = is_local(host)
        name = host if ":" not in host else f"[{host}]"
        self.url = f"http://{name}:{self.server_address[1]}/"


def is_local(host: str) -> bool:
    """Whether nobody but this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer
    server_version, sys_version = "mmcorpus", ""
    timeout = _PATIENCE

    def do_GET(self) -> None:
        self._guarded({"/": self._page, "/about": self._about})

    def do_POST(self) -> None:
        self._guarded({"/answer": self._answer})

    def _guarded(self, places: dict[str, Any]) -> None:
        try:
            self._check_address()
            if self.path not in places:
                raise Refused(HTTPStatus.NOT_FOUND, "there is nothing here")
            places[self.path]()
        except Refused as refused:
            self.close_connection = True  # what it still sends is not read
            self._json({"error": str(refused)}, refused.status)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _check_address(self) -> None:
        """Raise Refused for what another site's page sends through the reader's browser."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if self.server.local and not is_local(host.rpartition(":")[0] or host):
            raise Refused(HTTPStatus.FORBIDDEN, "the page is at localhost and nowhere else")
        if origin is not None and origin != f"http://{host}":
            raise Refused(HTTPStatus.FORBIDDEN, "questions come from the page itself")

    def _page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        page = resources.files(__package__).joinpath("page.html").read_text("utf-8").replace("NONCE", nonce)
        self._send(page.encode(), "text/html; charset=utf-8", policy=_POLICY.format(nonce=nonce))

    def _about(self) -> None:
        answerer = self.server.answerer
        self._json({"name": answerer.name, "about": answerer.about, "most_bytes": MOST_BYTES * 3 // 4})

    def _answer(self) -> None:
        question = self._question()
        if not self.server.free.acquire(blocking=False):
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many questions at once; ask again in a moment")
        began = time.monotonic()
        try:
            said = self.server.answerer.answer(question)
        except ValueError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from error
        except RuntimeError as error:
            raise Refused(HTTPStatus.BAD_GATEWAY, str(error)) from error
        finally:
            self.server.free.release()
        self._json({"answer": said, "seconds": round(time.monotonic() - began, 2)})

    def _question(self) -> Question:
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a question is JSON")
        try:
            length = int(self.headers["Content-Length"])
        except (TypeError, ValueError):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "say how long the question is (Content-Length)") from None
        if not 0 <= length <= MOST_BYTES:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the question has {length:,} bytes; the picture may have {MOST_BYTES * 3 // 4:,}",
            )
        try:
            told = json.loads(self.rfile.read(length))
            prompt, tokens, heat = str(told["prompt"]), int(told["max_new_tokens"]), float(told["temperature"])
            encoded = base64.b64decode(told["image"], validate=True)
        except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
            raise Refused(
                HTTPStatus.BAD_REQUEST, f"the question cannot be read: {type(error).__name__}: {error}"
            ) from error
        if len(prompt) > MOST_CHARACTERS or not 1 <= tokens <= MOST_TOKENS or not 0.0 <= heat <= 10.0:
            raise Refused(
                HTTPStatus.BAD_REQUEST,
                f"a prompt has {MOST_CHARACTERS:,} characters at most, an answer 1 to {MOST_TOKENS:,} tokens, "
                "temperature is 0 to 10",
            )
        image = decode_image(encoded)
        if isinstance(image, DecodeFailure):
            raise Refused(HTTPStatus.BAD_REQUEST, f"the picture cannot be decoded: {image.reason}")
        return Question(encoded=encoded, image=image, prompt=prompt, max_new_tokens=tokens, temperature=heat)

    def _json(self, value: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def _send(self, data: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, *, policy: str = "") -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            "Content-Security-Policy": policy or "default-src 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """The terminal stays free: the page shows what goes wrong."""
