"""Asking model servers over HTTP: retries by class of error, spread over endpoints."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from mmcorpus.filters import paced
from mmcorpus.filters.scorer import Unavailable
from mmcorpus.filters.serving.config import ClientConfig
from mmcorpus.filters.serving.endpoints import LONGEST_WAIT, Endpoint, Pool, pause

if TYPE_CHECKING:
    import aiohttp

Read = TypeVar("Read")

_NOT_NOW: Final = frozenset({408, 425, 429})
"""With every 5xx, the gateways' own (520, 529, …) included."""
_RESTING: Final = frozenset({502, 503, 504})
"""Those that speak of the whole server, which is then left alone for a while."""
_MISCONFIGURED: Final = frozenset({401, 402, 403, 404, 405, 407, 410})
"""Those that every request would get: a key without rights or credit, a model that is not or no longer served."""
_LOST: Final = 4
"""A request that is broken off so often is given up: it may be what kills the server."""
_TEXT_LIMIT: Final = 300


class NoAnswer(Exception):
    """A request failed at every attempt, for reasons that may pass."""


class Rejected(Exception):
    """The server read the request and refused it; asking again would not help."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Failure:
    """Why one attempt failed."""

    error: str
    counts: bool = True
    """Whether it is one of the request's attempts; else only the pool's patience bounds it."""
    wait: float | None = None
    """The wait that the server asked for, in seconds."""
    lost: bool = False
    """Whether the connection broke while the server was at work: this request, or one beside it, may have killed it."""


class ModelClient:
    """Sends requests to the pool's endpoints. An async context manager; it belongs to one event loop.

    Example:
        >>> async with ModelClient(pool, config, api_key=None) as client:
        ...     body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
        ...     await client.ask("chat/completions", body, read=lambda answer: answer["choices"][0])
    """

    def __init__(self, pool: Pool, config: ClientConfig, *, api_key: str | None) -> None:
        self._pool, self._config, self._key = pool, config, api_key
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        import aiohttp

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        timeout = aiohttp.ClientTimeout(total=self._config.timeout, sock_connect=self._config.connect_timeout)
        # The servers named in a recipe are asked themselves, whatever proxy the environment has for the web.
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=0),
            response_class=paced.response_class(answer=True),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(
        self, path: str, body: dict[str, Any], *, read: Callable[[Any], Read], prefer: Endpoint | None = None
    ) -> tuple[Read, Endpoint | None]:
        """The answer to one POST, as `read` makes it, and the endpoint that gave it.

        Args:
            path: below the endpoint's URL, e.g. `chat/completions`.
            read: takes the answer's JSON; a ValueError, KeyError, TypeError or IndexError means that it is malformed.
            prefer: where to go first: a server that has seen the image has its prefix cached.

        Raises:
            NoAnswer: every attempt failed for reasons that may pass.
            Rejected: the server refuses this request (400, 413, 422, …).
            Unavailable: no endpoint works, or they refuse everything (a wrong key, a model that is not served).
        """
        payload = json.dumps(body).encode()
        attempts = lost = 0
        while True:
            endpoint = await self._pool.acquire(prefer, alone=lost > 0)  # those beside it would suffer for it
            found = await self._attempt(endpoint, path, payload, read)
            if not isinstance(found, _Failure):
                return found, endpoint
            attempts += found.counts
            lost += found.lost
            if attempts >= self._config.attempts or lost >= _LOST:
                raise NoAnswer(f"{found.error} (after {max(attempts, lost)} attempts, at {endpoint.url} last)")
            if found.counts:
                await asyncio.sleep(min(found.wait or pause(attempts, self._config.backoff), LONGEST_WAIT))
            prefer = None

    async def _attempt(
        self, endpoint: Endpoint, path: str, payload: bytes, read: Callable[[Any], Read]
    ) -> Read | _Failure:
        import aiohttp

        assert self._session is not None, "use it as `async with ModelClient(…) as client`"
        url = f"{endpoint.url}/{path}"
        # A trial of an endpoint that is down says nothing of the request: the pool's patience bounds those.
        counts = not endpoint.failures
        try:
            async with self._session.post(url, data=payload, headers={"Content-Type": "application/json"}) as response:
                status, text = response.status, await response.read()
                wait = _seconds(response.headers.get("Retry-After"))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            self._pool.failed(endpoint, f"cannot connect: {error}")
            return _Failure(error=f"cannot connect: {error}", counts=False)
        except TimeoutError:
            late = f"timeout: no answer within {self._config.timeout:g} s"
            self._pool.timed_out(endpoint, late)
            return _Failure(error=late, counts=counts)
        except (aiohttp.ClientError, OSError) as error:
            self._pool.failed(endpoint, f"connection lost: {error}")
            return _Failure(error=f"connection lost: {error}", counts=counts, lost=True)
        except BaseException:  # cancelled: the endpoint must not seem busy for ever
            self._pool.released(endpoint)
            raise
        if status == 200:
            try:
                value = read(json.loads(text))
            except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
                self._pool.released(endpoint)
                return _Failure(error=f"malformed answer ({type(error).__name__}: {error}): {_shorten(text)}")
            self._pool.succeeded(endpoint)
            return value
        said = f"{status} {message(text)}"
        if status in _RESTING:
            self._pool.failed(endpoint, said, wait=wait)
            return _Failure(error=said, wait=wait, counts=counts)
        if status in _NOT_NOW or status >= 500:
            self._pool.released(endpoint)
            return _Failure(error=said, wait=wait)
        self._pool.succeeded(endpoint)
        if status in _MISCONFIGURED:
            raise Unavailable(f"{url} refuses every request: {said}. Check the endpoint, the model's name and the key")
        raise Rejected(said)


def ask_once(
    url: str, body: dict[str, Any] | None = None, *, key: str | None, seconds: float, proxies: bool = False
) -> tuple[int, bytes]:
    """Status and body of one GET, or of one POST of JSON, without retries.

    Args:
        key: sent as a bearer token, and to no other host that a redirect names.
        seconds: for all of the answer.
        proxies: go by the environment's proxies.

    Raises:
        OSError: no answer, or none that ends in time or within `paced.MOST_OF_AN_ANSWER` bytes.
    """
    import aiohttp

    async def ask() -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout, answers = aiohttp.ClientTimeout(total=seconds), paced.response_class(answer=True)
        async with (
            aiohttp.ClientSession(timeout=timeout, response_class=answers, trust_env=proxies) as session,
            session.request("GET" if body is None else "POST", url, json=body, headers=headers) as response,
        ):
            return response.status, await response.read()

    try:
        return run(ask())
    except TimeoutError:
        raise OSError(f"no whole answer within {seconds:g} s") from None
    except (aiohttp.ClientError, ValueError) as error:
        raise OSError(str(error) or type(error).__name__) from error


def run(coroutine: Coroutine[Any, Any, Read]) -> Read:
    """Run to the end, also where an event loop runs already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; its date form is not worth a clock."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None


def message(text: bytes) -> str:
    """The server's complaint, from the two usual shapes of an error."""
    try:
        data = json.loads(text)
        error = data.get("error", data)
        return str(error["message"] if isinstance(error, dict) else error)[:_TEXT_LIMIT]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _shorten(text)


def _shorten(text: bytes) -> str:
    return " ".join(text[:_TEXT_LIMIT].decode("utf-8", "replace").split())
