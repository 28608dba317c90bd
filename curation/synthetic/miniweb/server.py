"""Serves a site on loopback over real HTTP/1.1, with the faults that its routes ask for.

One asyncio loop in one thread: a misbehaving response is a sleeping task, so that hundreds of clients and dozens of
never-ending responses cost no threads. Clients reach it under the site's own host names by connecting elsewhere than
the names say, as with `curl --connect-to`.
"""

import asyncio
import contextlib
import http.client
import os
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Final

from mmcorpus.curation.synthetic.miniweb.site import Route, Site, read_site

_HEAD_LIMIT: Final = 64 * 1024
_IDLE_SECONDS: Final = 60.0
_ENDLESS_PIECE: Final = bytes(64 * 1024)
_SLOW_PIECES: Final = 4
_NOT_FOUND: Final = Route(status=404, content_type="text/html")
_MISDIRECTED: Final = Route(status=421)
_BAD_REQUEST: Final = Route(status=400)
_NOT_ALLOWED: Final = Route(status=405, headers={"Allow": "GET, HEAD"})


class RunningSite:
    """A site being served; made by `serve_site`."""

    def __init__(self, site: Site, port: int) -> None:
        self.site = site
        self.port = port
        """The port on 127.0.0.1."""
        self.connect_to = dict.fromkeys(site.hosts, f"127.0.0.1:{port}")
        """The address to connect to for each host name: `{"images.miniweb.test": "127.0.0.1:41234"}`."""
        self.requests: Counter[str] = Counter()
        """The number of requests for each address (`host/path`) so far; `requests.total()` for all."""


@contextlib.contextmanager
def serve_site(site_dir: str, port: int = 0) -> Iterator[RunningSite]:
    """Serve the site in a folder on 127.0.0.1 until the block ends.

    port: 0 takes a free one. Raises `FileNotFoundError` if the folder holds no complete site, `OSError` if the
    port is taken.
    """
    site = read_site(site_dir)
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
        running = RunningSite(site, listener.getsockname()[1])
        server = _Server(running, listener)
        server.start()
        try:
            yield running
        finally:
            server.stop()


class _Server:
    """The loop, its thread, and the open connections."""

    def __init__(self, running: RunningSite, listener: socket.socket) -> None:
        self._running = running
        self._listener = listener
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="miniweb", daemon=True)
        self._connections: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._started.set()
            self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, sock=self._listener, limit=_HEAD_LIMIT, backlog=1024)
        self._started.set()
        await self._stopping.wait()
        server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._answer_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            pass  # the client left, or sent what is no request: nobody is there to be told
        except asyncio.CancelledError:
            pass  # the server stops
        finally:
            self._connections.discard(task)
            writer.transport.abort() if self._stopping.is_set() else writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer the connection's next request; False when the connection is to be closed."""
        async with asyncio.timeout(_IDLE_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        method, key, keep_alive = _parse(head)
        if method not in ("GET", "HEAD"):
            route = _BAD_REQUEST if not method else _NOT_ALLOWED
            keep_alive = False
        else:
            self._running.requests[key] += 1
            route = self._route(key)
        return await _respond(writer, self._running.site.root, route, method == "HEAD", keep_alive)

    def _route(self, key: str) -> Route:
        site = self._running.site
        if key.partition("/")[0] not in self._running.connect_to:
            return _MISDIRECTED
        route = site.routes.get(key, _NOT_FOUND)
        if route.behaviour == "transient" and self._running.requests[key] == 1:
            return Route(status=503, headers={"Retry-After": "0"})
        return route


def _parse(head: bytes) -> tuple[str, str, bool]:
    """(method, host/path, keep the connection) of a request's head; the method is empty if it is no HTTP/1 request."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return "", "", False
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    host = headers.get("host", "").lower().partition(":")[0]
    path = words[1].partition("?")[0]
    close = headers.get("connection", "").lower() == "close" or words[2] == "HTTP/1.0"
    return words[0], host + path, not close


async def _respond(writer: asyncio.StreamWriter, root: str, route: Route, head_only: bool, keep_alive: bool) -> bool:
    body = b""
    if route.file is not None:
        with open(os.path.join(root, route.file), "rb") as file:
            body = file.read()
    if route.behaviour == "reset" and not body:
        _reset(writer)
        return False
    chunked = route.behaviour in ("drip", "endless")
    writer.write(_head(route, None if chunked else len(body), keep_alive and not chunked))
    if head_only:
        pass
    elif route.behaviour == "reset":
        writer.write(body[: len(body) // 2])
        await writer.drain()
        await asyncio.sleep(0.05)  # lets the bytes leave: a reset throws away what is still queued
        _reset(writer)
        return False
    elif route.behaviour == "slow":
        size = max(1, -(-len(body) // _SLOW_PIECES))
        for start in range(0, len(body), size):
            await asyncio.sleep(route.seconds / _SLOW_PIECES)
            writer.write(body[start : start + size])
            await writer.drain()
    elif chunked:
        await _send_for_ever(writer, route, body)
    else:
        writer.write(body)
    await writer.drain()
    return keep_alive and not chunked


async def _send_for_ever(writer: asyncio.StreamWriter, route: Route, body: bytes) -> None:
    """Chunks without end: the body's bytes (repeated) one by one, or the body and then zeros at full speed."""
    position, piece = 0, body or _ENDLESS_PIECE
    while True:
        if route.behaviour == "drip":
            piece = body[position % len(body) : position % len(body) + 1] if body else b"\0"
            position += 1
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
        if route.behaviour == "drip":
            await asyncio.sleep(route.seconds)
        else:
            piece = _ENDLESS_PIECE
            await asyncio.sleep(0)


def _head(route: Route, length: int | None, keep_alive: bool) -> bytes:
    reason = http.client.responses.get(route.status, "")
    headers = {"Server": "miniweb", "Content-Type": route.content_type, **route.headers}
    headers["Connection"] = "keep-alive" if keep_alive else "close"
    if length is None:
        headers["Transfer-Encoding"] = "chunked"
    else:
        headers["Content-Length"] = str(length)
    lines = [f"HTTP/1.1 {route.status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN (SO_LINGER with a zero timeout)."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
