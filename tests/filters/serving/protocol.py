"""A tiny server that speaks as much of OpenAI's protocol as a client needs, and misbehaves on request."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

Handler = Callable[[dict[str, Any], int], Awaitable[web.StreamResponse]]
"""A request's body and how many came before it to the response."""


def completion(text: str, tokens: list[tuple[str, list[tuple[str, float]]]] | None = None) -> dict[str, Any]:
    """A chat completion's JSON."""
    content = [
        {"token": token, "logprob": tops[0][1], "top_logprobs": [{"token": t, "logprob": p} for t, p in tops]}
        for token, tops in tokens or [(character, [(character, 0.0)]) for character in text]
    ]
    return {
        "choices": [
            {
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
                "logprobs": {"content": content},
            }
        ]
    }


class Running:
    """A server that runs in a thread of its own."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.port = 0
        self.loop = asyncio.new_event_loop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        return await self.handler(body, len(self.bodies) - 1)


@contextmanager
def serving(handler: Handler, port: int = 0) -> Iterator[Running]:
    """The server while the block runs, on a free port of loopback, or on one that is given."""
    running = Running(handler)
    started = threading.Event()

    async def main() -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/{path:.*}", running.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        running.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        running.stop = asyncio.Event()  # type: ignore[attr-defined]
        started.set()
        await running.stop.wait()  # type: ignore[attr-defined]
        await runner.cleanup()

    thread = threading.Thread(target=lambda: running.loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        yield running
    finally:
        running.loop.call_soon_threadsafe(running.stop.set)  # type: ignore[attr-defined]
        thread.join(30)
        running.loop.close()
