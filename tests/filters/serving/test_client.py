"""Asking servers: what is tried again, what is not, and endpoints that die."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from mmcorpus.filters.scorer import Unavailable
from mmcorpus.filters.serving import ClientConfig, ModelClient, NoAnswer, Pool, Rejected, run
from tests.filters.serving.protocol import completion, serving

QUICK = ClientConfig(attempts=4, backoff=0.01, timeout=5.0, connect_timeout=2.0, patience=1.0)
BODY = {"model": "m", "messages": []}


def ask(
    urls: list[str],
    config: ClientConfig = QUICK,
    *,
    times: int = 1,
    api_key: str | None = None,
    pool: Pool | None = None,
) -> list[Any]:
    """The texts of so many answers, or the exceptions in their place, asked all at once."""
    pool = pool or Pool(urls, patience=config.patience, backoff=config.backoff)

    async def main() -> list[Any]:
        async with ModelClient(pool, config, api_key=api_key) as client:
            asked = (client.ask("chat/completions", BODY, read=text_of) for _ in range(times))
            found = await asyncio.gather(*asked, return_exceptions=True)
        return [one if isinstance(one, BaseException) else one[0] for one in found]

    return run(main())


def text_of(data: Any) -> str:
    text = data["choices"][0]["message"]["content"]
    assert isinstance(text, str)
    return text


def says(text: str) -> web.Response:
    return web.json_response(completion(text))


def after(failures: int, failure: Callable[[], web.StreamResponse]) -> Callable[[Any, int], Awaitable[Any]]:
    """Fails so often, then answers."""

    async def handler(_: Any, number: int) -> web.StreamResponse:
        return failure() if number < failures else says("ok")

    return handler


def lost() -> web.StreamResponse:
    raise ConnectionResetError


@pytest.mark.parametrize(
    "failure",
    [
        lambda: web.Response(status=429),
        lambda: web.Response(status=500, text="engine"),
        lambda: web.Response(status=503),
        lambda: web.Response(status=502, text="<html>bad gateway</html>"),
        lambda: web.Response(status=529, text="overloaded"),
        lambda: web.Response(text="<html>hello</html>"),
        lambda: web.Response(text='{"choices": []}'),
        lambda: web.Response(text="{"),
        lost,
    ],
)
def test_what_may_pass_is_tried_again(failure: Callable[[], web.StreamResponse]) -> None:
    with serving(after(3, failure)) as server:
        assert ask([server.url]) == ["ok"]
        assert len(server.bodies) == 4


def test_an_outage_longer_than_the_attempts_is_waited_for() -> None:
    config = ClientConfig(attempts=3, backoff=0.01, timeout=5.0, patience=60.0)
    with serving(after(10, lambda: web.Response(status=502))) as gateway:
        assert ask([gateway.url], config, times=4) == ["ok"] * 4


def test_a_request_that_kills_its_server_costs_itself_alone() -> None:
    """Each time it is asked the server dies, with all that is in flight, and is back after a moment."""
    in_flight: set[asyncio.Task[Any]] = set()
    deaths = 0

    async def handler(body: dict[str, Any], _: int) -> web.StreamResponse:
        nonlocal deaths
        task = asyncio.current_task()
        assert task is not None
        in_flight.add(task)
        try:
            await asyncio.sleep(0.05)
            if body["messages"]:
                deaths += 1
                for other in in_flight - {task}:
                    other.cancel()
                raise asyncio.CancelledError
            await asyncio.sleep(0.05)
            return says("ok")
        finally:
            in_flight.discard(task)

    config = ClientConfig(attempts=20, backoff=0.01, timeout=20.0, patience=20.0)
    with serving(handler) as server:
        pool = Pool([server.url], patience=20.0, backoff=0.01)

        async def main() -> list[Any]:
            async with ModelClient(pool, config, api_key=None) as client:
                bodies = [{**BODY, "messages": ["poison"] if number == 3 else []} for number in range(8)]
                asked = (client.ask("chat/completions", body, read=text_of) for body in bodies)
                return await asyncio.gather(*asked, return_exceptions=True)

        found = run(main())
    assert [one[0] for one in found[:3] + found[4:]] == ["ok"] * 7
    assert isinstance(found[3], NoAnswer)
    assert "connection lost" in str(found[3])
    assert deaths <= 4


def test_attempts_are_bounded_and_told() -> None:
    with serving(after(99, lambda: web.Response(status=429, text="slow down"))) as server:
        (error,) = ask([server.url])
        assert len(server.bodies) == 4
    assert isinstance(error, NoAnswer)
    assert "429 slow down (after 4 attempts" in str(error)


def test_a_refused_request_is_not_made_again() -> None:
    said = {"error": {"message": "too many tokens", "code": 400}}
    with serving(after(99, lambda: web.json_response(said, status=400))) as server:
        (error,) = ask([server.url])
        assert len(server.bodies) == 1
    assert isinstance(error, Rejected)
    assert str(error) == "400 too many tokens"


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_wrong_key_or_model_concerns_every_request(status: int) -> None:
    with serving(after(99, lambda: web.json_response({"message": "no such model"}, status=status))) as server:
        (error,) = ask([server.url])
    assert isinstance(error, Unavailable)
    assert f"refuses every request: {status} no such model" in str(error)


def test_a_server_may_say_when_to_come_back() -> None:
    times: list[float] = []

    async def handler(_: Any, number: int) -> web.StreamResponse:
        times.append(time.monotonic())
        return says("ok") if number else web.Response(status=429, headers={"Retry-After": "0.5"})

    with serving(handler) as server:
        assert ask([server.url]) == ["ok"]
    assert times[1] - times[0] >= 0.5


def test_slow_answers_are_given_up_and_asked_elsewhere() -> None:
    async def asleep(_: Any, number: int) -> web.StreamResponse:
        await asyncio.sleep(60)
        return says("late")

    config = ClientConfig(attempts=4, backoff=0.01, timeout=0.3, patience=5.0)
    with serving(asleep) as slow, serving(after(0, lost)) as quick:
        assert ask([slow.url, quick.url], config, times=12) == ["ok"] * 12
        (error,) = ask([slow.url], config)
    assert isinstance(error, NoAnswer | Unavailable)
    assert "no answer within 0.3 s" in str(error)


def test_an_endpoint_that_is_down_costs_no_attempts_and_is_used_again_once_it_is_back() -> None:
    with serving(after(0, lost)) as first:
        port = first.port
    with serving(after(0, lost)) as other:
        pool = Pool([f"http://127.0.0.1:{port}/v1", other.url], patience=5.0, backoff=0.01)
        assert ask([], pool=pool, times=20) == ["ok"] * 20
        assert len(other.bodies) == 20
        dead = pool.endpoints[0]
        assert dead.failures
        with serving(after(0, lost), port) as back:
            deadline = time.monotonic() + 30
            while not back.bodies and time.monotonic() < deadline:
                ask([], pool=pool, times=4)
            assert back.bodies
            assert not dead.failures


def test_with_no_endpoint_left_patience_bounds_the_wait_and_later_requests_do_not_wait_again() -> None:
    with serving(after(0, lost)) as gone:
        pass
    pool = Pool([gone.url], patience=0.5, backoff=0.01)
    start = time.monotonic()
    errors = ask([], pool=pool, times=5)
    assert 0.5 <= time.monotonic() - start < 20
    assert all(isinstance(error, Unavailable) for error in errors)
    assert "no model server has answered for 0 s" in str(errors[0])
    assert gone.url in str(errors[0])


def test_a_server_that_is_back_after_the_patience_is_found_by_the_next_batch() -> None:
    async def handler(_: Any, number: int) -> web.StreamResponse:
        await asyncio.sleep(0.5)  # long enough for the rest of the batch to lose patience
        return says("ok")

    with serving(handler) as gone:
        port = gone.port
    pool = Pool([gone.url], patience=0.2, backoff=0.01)
    assert all(isinstance(error, Unavailable) for error in ask([], pool=pool, times=3))
    pool.endpoints[0].retry_at = 0.0
    with serving(handler, port):
        assert ask([], pool=pool, times=3) == ["ok"] * 3


def test_the_key_is_sent_and_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serving(after(0, lost)) as server:
        assert ask([server.url], api_key="secret") == ["ok"]
        assert server.headers[0]["Authorization"] == "Bearer secret"


def test_requests_are_spread_and_stay_where_they_are_preferred() -> None:
    async def handler(_: Any, number: int) -> web.StreamResponse:
        await asyncio.sleep(0.01)
        return says("ok")

    with serving(handler) as one, serving(handler) as two:
        assert ask([one.url, two.url], times=40) == ["ok"] * 40
        assert min(len(one.bodies), len(two.bodies)) >= 10

        async def stay() -> set[str]:
            async with ModelClient(Pool([one.url, two.url], patience=1.0), QUICK, api_key=None) as client:
                _, server = await client.ask("chat/completions", BODY, read=text_of)
                found = [await client.ask("chat/completions", BODY, read=text_of, prefer=server) for _ in range(5)]
            return {server.url, *(endpoint.url for _, endpoint in found)}

        assert len(run(stay())) == 1


def test_it_runs_where_an_event_loop_runs_already() -> None:
    with serving(after(0, lost)) as server:

        async def notebook() -> list[Any]:
            return ask([server.url])

        assert asyncio.run(notebook()) == ["ok"]


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="concurrency is 0"):
        ClientConfig(concurrency=0)
    with pytest.raises(ValueError, match="timeout is 0"):
        ClientConfig(timeout=0)
    with pytest.raises(ValueError, match="there are no endpoints"):
        Pool([], patience=1.0)
