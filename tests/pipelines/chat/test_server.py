"""The chat's page and questions: answered, or refused in words; shown as text; for this machine's own page alone."""

import base64
import http.client
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

import pytest
from aiohttp import web
from PIL import Image

from mmcorpus.pipelines.chat import answerers
from mmcorpus.pipelines.chat.answerers import Answerer, Question
from mmcorpus.pipelines.chat.server import MOST_BYTES, ChatServer, is_local
from tests.filters.serving.protocol import completion, serving


def png(color: tuple[int, int, int] = (9, 8, 7)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (12, 8), color).save(file, "PNG")
    return file.getvalue()


def told(**changes: Any) -> dict[str, Any]:
    question = {"image": base64.b64encode(png()).decode(), "prompt": "What?", "max_new_tokens": 8, "temperature": 0}
    return {**question, **changes}


class Page:
    """A chat server that runs, and a browser's requests to it."""

    def __init__(self, server: ChatServer) -> None:
        self.port = server.server_address[1]

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        return self.send("GET", path, None, **headers)

    def ask(self, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, _, answer = self.send("POST", "/answer", data, **{"Content-Type": "application/json", **headers})
        found: dict[str, Any] = json.loads(answer)
        return status, found

    def send(self, method: str, path: str, body: bytes | None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), data


@contextmanager
def chatting(answer: Callable[[Question], str], name: str = "<b>m</b>") -> Iterator[Page]:
    with ChatServer(Answerer(name=name, about="a test", answer=answer)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield Page(server)
        finally:
            server.shutdown()
            thread.join()


def test_a_question_is_answered() -> None:
    asked = list[Question]()

    def answer(question: Question) -> str:
        asked.append(question)
        return "<script>alert(1)</script>"

    with chatting(answer) as page:
        status, found = page.ask(told(prompt="Was ist das? 猫", temperature=0.5))
    assert (status, found["answer"]) == (200, "<script>alert(1)</script>")
    (question,) = asked
    assert (question.prompt, question.max_new_tokens, question.temperature) == ("Was ist das? 猫", 8, 0.5)
    assert question.encoded == png()
    assert tuple(question.image.pixels[0, 0]) == (9, 8, 7)


def test_the_page_loads_nothing_and_shows_text_as_text() -> None:
    with chatting(lambda _: "") as page:
        status, headers, data = page.get("/")
        _, _, again = page.get("/")
        about = json.loads(page.get("/about")[2])
    assert status == 200
    (nonce,) = set(re.findall(r'nonce="([^"]+)"', data.decode()))
    assert f"script-src 'nonce-{nonce}'" in headers["Content-Security-Policy"]
    assert nonce not in again.decode()
    assert about["name"] == "<b>m</b>", "which the page sets as text"
    source = resources.files("mmcorpus.pipelines.chat").joinpath("page.html").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|https?:|src=|href=", source)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "cannot be read: JSONDecodeError"),
        (b"[1]", 400, "cannot be read: TypeError"),
        (told(image="!!!"), 400, "cannot be read: Error"),
        (told(image=base64.b64encode(b"no picture").decode()), 400, "the picture cannot be decoded: "),
        (told(max_new_tokens=10**9), 400, "1 to 4,096 tokens"),
        (told(temperature=-1), 400, "temperature is 0 to 10"),
        (told(prompt="x" * 20_001), 400, "20,000 characters"),
        ({"prompt": "What?"}, 400, "cannot be read: KeyError: 'max_new_tokens'"),
    ],
)
def test_what_cannot_be_asked_is_said(body: Any, status: int, message: str) -> None:
    with chatting(lambda _: "never") as page:
        found = page.ask(body)
    assert found[0] == status
    assert message in found[1]["error"]


def test_a_question_that_is_too_large_is_not_read() -> None:
    with chatting(lambda _: "never") as page:
        status, _, data = page.send(
            "POST", "/answer", b"", **{"Content-Type": "application/json", "Content-Length": str(MOST_BYTES + 1)}
        )
        assert status == 413
        assert "50,331,649 bytes" in json.loads(data)["error"]
        missing = page.send("POST", "/answer", None, **{"Content-Type": "application/json", "Content-Length": "x"})
        assert missing[0] == 411


def test_other_sites_pages_cannot_ask() -> None:
    """Neither by a form or a plain fetch, nor under a name of their own that leads here."""
    with chatting(lambda _: "never") as page:
        assert page.ask(told(), **{"Content-Type": "text/plain"})[0] == 415
        assert page.ask(told(), Origin="https://evil.example")[0] == 403
        assert page.ask(told(), Host=f"evil.example:{page.port}")[0] == 403
        assert page.get("/", Host="evil.example")[0] == 403
        assert page.ask(told(), Host=f"localhost:{page.port}", Origin=f"http://localhost:{page.port}")[0] == 200
        assert page.get("/../server.py")[0] == 404
    assert [is_local(host) for host in ("127.0.0.1", "::1", "[::1]", "localhost", "0.0.0.0", "a.local")] == [
        True, True, True, True, False, False,
    ]  # fmt: skip


def test_a_model_that_fails_is_told_and_the_page_goes_on() -> None:
    errors: list[Exception] = [ValueError("too long"), RuntimeError("it is gone")]

    def answer(_: Question) -> str:
        if errors:
            raise errors.pop(0)
        return "back"

    with chatting(answer) as page:
        assert page.ask(told()) == (400, {"error": "too long"})
        assert page.ask(told()) == (502, {"error": "it is gone"})
        assert page.ask(told())[1]["answer"] == "back"


def test_a_model_server_is_asked_as_any_client_asks_it() -> None:
    async def handler(body: dict[str, Any], number: int) -> web.StreamResponse:
        if number == 1:
            return web.json_response({"error": {"message": "longer than the context"}}, status=400)
        return web.json_response(completion("a cat"))

    with serving(handler) as running, pytest.MonkeyPatch.context() as patch:
        models = {"data": [{"id": "first"}, {"id": "second"}]}
        ask = answerers._ask
        patch.setattr(
            answerers, "_ask", lambda url, body, key: models if url.endswith("/models") else ask(url, body, key)
        )
        answerer = answerers.server(running.url + "/", "second", "secret")
        with pytest.raises(ValueError, match="serves first, second, not 'third'"):
            answerers.server(running.url, "third")
        with chatting(answerer.answer) as page:
            assert page.ask(told())[1]["answer"] == "a cat"
            status, found = page.ask(told())
    assert status == 400
    assert "longer than the context" in found["error"]
    body, headers = running.bodies[0], running.headers[0]
    image, text = body["messages"][0]["content"]
    assert headers["Authorization"] == "Bearer secret"
    assert (body["model"], body["max_tokens"], text["text"]) == ("second", 8, "What?")
    assert base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,")) == png()


def test_a_server_that_is_not_there_is_said() -> None:
    with pytest.raises(RuntimeError, match=r"http://127\.0\.0\.1:9/v1/models does not answer"):
        answerers.server("http://127.0.0.1:9/v1")
    with pytest.raises(ValueError, match="is no address of a server"):
        answerers.server("gpu1:8000")
