"""Who answers a question about a picture: a checkpoint in this process, or a model server."""

import dataclasses
import json
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from mmcorpus.filters.serving.client import ask_once, message

if TYPE_CHECKING:
    from mmcorpus.filters.decode import DecodedImage

TIMEOUT: Final = 600.0
"""Seconds that a server may take for an answer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """A question about a picture."""

    encoded: bytes
    """The picture's file."""
    image: "DecodedImage"
    prompt: str
    max_new_tokens: int
    temperature: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answerer:
    """A model that can be asked."""

    name: str
    """What the page calls it."""
    about: str
    """One line more."""
    answer: Callable[[Question], str]
    """Raises ValueError where the question is to blame, RuntimeError where the model or its server is."""


def checkpoint(path: str, device: str | None = None) -> Answerer:
    """A checkpoint (or a training folder's latest), loaded into this process; it answers one question at a time."""
    from PIL import Image

    from mmcorpus.training import Generator
    from mmcorpus.training.checkpoint import resolve_checkpoint

    found = resolve_checkpoint(path)
    generator, turn = Generator.load(found, device), threading.Lock()
    about = "answers questions" if generator.chat_template is not None else "pretrained: it goes on with a caption"

    def answer(question: Question) -> str:
        with turn:
            return generator.generate(
                Image.fromarray(question.image.pixels),
                question.prompt,
                max_new_tokens=question.max_new_tokens,
                temperature=question.temperature,
            )

    return Answerer(name=found, about=about, answer=answer)


def server(url: str, model: str | None = None, key: str | None = None) -> Answerer:
    """A server that speaks OpenAI's protocol, at its base URL (`http://127.0.0.1:8000/v1`).

    Args:
        model: the model to ask, of those that it serves; None for its first.
        key: sent as a bearer token.

    Raises RuntimeError if it does not answer, ValueError if it serves no such model.
    """
    from mmcorpus.filters.mllm.images import data_url, image_bytes

    url = url.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url} is no address of a server; give one such as http://127.0.0.1:8000/v1")
    try:
        served = [str(one["id"]) for one in _ask(f"{url}/models", None, key)["data"]]
    except (KeyError, TypeError) as error:
        raise RuntimeError(f"{url} does not say which models it serves: is it the base URL, ending in /v1?") from error
    name = model if model is not None else next(iter(served), "")
    if name not in served:
        raise ValueError(f"{url} serves {', '.join(served) or 'no model'}, not {name!r}")

    def answer(question: Question) -> str:
        picture = data_url(*image_bytes(question.encoded, question.image, None))
        said = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": question.prompt}]
        body = {
            "model": name,
            "messages": [{"role": "user", "content": said}],
            "max_tokens": question.max_new_tokens,
            "temperature": question.temperature,
        }
        try:
            return str(_ask(f"{url}/chat/completions", body, key)["choices"][0]["message"]["content"] or "")
        except (KeyError, TypeError, IndexError) as error:
            raise RuntimeError(f"the server's answer is malformed: {type(error).__name__}: {error}") from error

    return Answerer(name=name, about=f"served at {url}", answer=answer)


def _ask(url: str, body: dict[str, Any] | None, key: str | None) -> Any:
    """The JSON that a server answers; ValueError where it refuses the question, RuntimeError where it fails."""
    try:
        status, text = ask_once(url, body, key=key, seconds=TIMEOUT, proxies=True)
        answer = json.loads(text) if status == 200 else None
    except (OSError, ValueError, RecursionError) as error:
        raise RuntimeError(f"{url} does not answer: {error}") from error
    if 400 <= status < 500:
        raise ValueError(f"the server refuses it: {status} {message(text)}")
    if status != 200:
        raise RuntimeError(f"the server fails: {status} {message(text)}")
    return answer
