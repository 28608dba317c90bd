"""Who answers: a checkpoint in this process, or an OpenAI-compatible server."""

import dataclasses
import io
import json
import os
from collections.abc import Sequence
from typing import Any, Final, Protocol

from mmcorpus.curation.engine.made_from import file_digest
from mmcorpus.curation.store import storage
from mmcorpus.filters.decode import DecodeFailure, decode_image
from mmcorpus.filters.mllm.images import data_url, image_bytes
from mmcorpus.filters.scorer import Unavailable
from mmcorpus.filters.secrets import masked_text
from mmcorpus.filters.serving.client import ModelClient, NoAnswer, Rejected, ask_once, message, run
from mmcorpus.filters.serving.config import ClientConfig
from mmcorpus.filters.serving.endpoints import Pool
from mmcorpus.packing.layout import PerImage
from mmcorpus.packing.turns import IMAGE_MARK
from mmcorpus.training.evaluation.asking import Asked

_GREY: Final = 128
_SIDE: Final = 64
_SECONDS: Final = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Unanswered:
    """Why there is no answer: it costs the question."""

    reason: str


class Model(Protocol):
    """Something that answers."""

    name: str
    """What tables call it."""

    def identity(self) -> dict[str, Any]:
        """What decides its answers, JSON-able."""

    def answer(self, asked: Sequence[Asked], longest: int, batch_size: int) -> list[str | Unanswered]:
        """The greedy answers, at most `longest` tokens each."""


def grey() -> bytes:
    """A blank image: PNG, mid-grey all over."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (_SIDE, _SIDE), (_GREY,) * 3).save(file, "PNG")
    return file.getvalue()


class Checkpoint:
    """A checkpoint of ours, loaded when it is first asked."""

    def __init__(self, path: str, device: str | None = None) -> None:
        self.path, self.device = path, device
        self.name = path
        self._layout: PerImage | None = None
        self._generator: Any = None

    def load(self, layout: PerImage | None = None) -> None:
        """`layout`: what an image becomes, if another than in training; a warning says what that costs. Raises
        ValueError for one that the model has no weights for."""
        from mmcorpus.training.generation import Generator

        if self._generator is None or layout != self._layout:
            self._generator = Generator.load(self.path, self.device, layout)
            self._layout = layout

    def identity(self) -> dict[str, Any]:
        """Its weights and tokenizer by their bytes, what it is prompted as, and how the model is built."""
        from mmcorpus.training.checkpoint import chat_template_of, read_state, resolve_checkpoint

        self.path = resolve_checkpoint(self.path)
        state, words = read_state(self.path), storage.join(self.path, "tokenizer")
        weights = [name for name in storage.list_names(self.path) if name.startswith("model")]
        return {
            "weights": {name: file_digest(storage.join(self.path, name)) for name in weights},
            "tokenizer": {name: file_digest(storage.join(words, name)) for name in storage.list_names(words)},
            "kind": state["kind"],
            "chat_template": chat_template_of(state),
            "model": state["model"],
        }

    def answer(self, asked: Sequence[Asked], longest: int, batch_size: int) -> list[str | Unanswered]:
        """In this process, on its device. Raises ValueError for a layout of demonstrations that it cannot have."""
        from mmcorpus.training.generation import Prompt

        if self._generator is None:
            self.load()
        room = getattr(self._generator.model.language.config, "max_position_embeddings", None)
        layouts = {id(layout): layout for one in asked for layout in one.layouts if layout is not None}
        for layout in layouts.values():
            self._generator.model.check_beside(layout)
        found: list[Any] = []
        for one in asked:
            try:
                piece = self._generator.prepare(Prompt(turns=one.turns, images=one.images, layouts=one.layouts))
                if room is not None and len(piece.input_ids) + longest > room:
                    raise ValueError(f"{len(piece.input_ids)} positions and an answer are more than its {room}")
                found.append(piece)
            except (ValueError, OSError) as error:
                found.append(Unanswered(str(error)))
        pieces = [piece for piece in found if not isinstance(piece, Unanswered)]
        said = iter(self._generator.continued(pieces, longest, batch_size=batch_size))
        return [piece if isinstance(piece, Unanswered) else next(said) for piece in found]


class Server:
    """A model behind an OpenAI-compatible API (vLLM's, SGLang's, a vendor's)."""

    def __init__(self, url: str, model: str | None = None, client: ClientConfig | None = None) -> None:
        """`url` ends before `/chat/completions`, mostly with `/v1`; `model` None takes the only one that it serves."""
        self.url, self.client = url.rstrip("/"), client or ClientConfig()
        self.model = model or self._served()
        self.name = masked_text(f"{self.model} at {self.url}")

    def identity(self) -> dict[str, Any]:
        """Its address and the model's name: what it serves under that name is for the user to know."""
        return {"server": self.url, "model": self.model}

    def answer(self, asked: Sequence[Asked], longest: int, batch_size: int) -> list[str | Unanswered]:
        """Over HTTP, so many at once as the client's concurrency. Raises Unavailable if the server is of no use."""
        if any(one.layouts for one in asked):
            raise ValueError(
                "demonstration_layout is for checkpoints: a server lays images out as it does; leave it out"
            )
        return run(self._all(asked, longest))

    async def _all(self, asked: Sequence[Asked], longest: int) -> list[str | Unanswered]:
        import asyncio

        pool = Pool([self.url], patience=self.client.patience, backoff=self.client.backoff)
        room = asyncio.Semaphore(self.client.concurrency)
        async with ModelClient(pool, self.client, api_key=self._key) as client:

            async def one(question: Asked) -> str | Unanswered:
                async with room:
                    try:
                        body = {"model": self.model, "messages": messages(question), "temperature": 0.0,
                                "max_tokens": longest}  # fmt: skip
                        said, _ = await client.ask("chat/completions", body, read=_said)
                    except NoAnswer as error:
                        raise Unavailable(f"{error}; a rerun goes on here") from None
                    except (Rejected, ValueError, OSError) as error:
                        return Unanswered(str(error))
                    return said

            return await asyncio.gather(*(one(question) for question in asked))

    @property
    def _key(self) -> str | None:
        return os.environ.get(self.client.key_variable) if self.client.key_variable else None

    def _served(self) -> str:
        try:
            status, text = ask_once(f"{self.url}/models", key=self._key, seconds=_SECONDS)
            if status != 200:
                raise OSError(f"{status} {message(text)}")
            names = [str(one["id"]) for one in json.loads(text)["data"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise Unavailable(f"{self.url}/models does not say what is served: {error}; is the server up?") from None
        if len(names) != 1:
            raise ValueError(f"{self.url} serves {', '.join(names) or 'nothing'}; name one by --model")
        return names[0]


def messages(asked: Asked) -> list[dict[str, Any]]:
    """A prompt as messages of the chat API, images where their marks stand. Raises ValueError, OSError for bad ones."""
    images = iter(asked.images)
    made: list[dict[str, Any]] = []
    for role, text in asked.turns:
        if role != "user":
            made.append({"role": role, "content": text})
            continue
        first, *rest = text.split(IMAGE_MARK)
        parts: list[dict[str, Any]] = [{"type": "text", "text": first}] if first.strip() else []
        for part in rest:
            image = next(images, None)
            if image is None:
                parts.append({"type": "text", "text": IMAGE_MARK + part})
                continue
            parts.append({"type": "image_url", "image_url": {"url": _sent(image)}})
            parts += [{"type": "text", "text": part.removeprefix("\n")}] if part.strip() else []
        made.append({"role": role, "content": parts})
    return made


def _sent(image: bytes | str) -> str:
    data = storage.read_bytes(image) if isinstance(image, str) else image
    decoded = decode_image(data)
    if isinstance(decoded, DecodeFailure):
        raise ValueError(f"{image if isinstance(image, str) else 'the image'} cannot be decoded as an image")
    return data_url(*image_bytes(data, decoded, None))


def _said(answer: Any) -> str:
    content = answer["choices"][0]["message"]["content"]
    return str(content or "").strip()
