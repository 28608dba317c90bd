"""vLLM's engine in the scoring process itself, asked as a server is: for one machine, without a server to keep."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from mmcorpus.filters.scorer import Unavailable
from mmcorpus.filters.serving import Endpoint, ModelClient, Rejected
from mmcorpus.filters.serving.client import Read

_SAMPLING = ("temperature", "max_tokens", "seed", "top_p", "top_k", "stop")
"""Keys of a request's body that are vLLM's sampling parameters by the same name."""
_CHAT = ("add_generation_prompt", "continue_final_message", "chat_template_kwargs", "mm_processor_kwargs")
"""Those that `LLM.chat` takes."""

Asked = tuple[dict[str, Any], asyncio.Future[Any]]


class InProcessClient(ModelClient):
    """Stands where a `ModelClient` does. What is asked at the same time goes through the engine as one batch."""

    def __init__(self, model_name: str, revision: str | None, arguments: Mapping[str, Any]) -> None:
        """Raises RuntimeError if vLLM is not installed in this environment."""
        try:
            from vllm import LLM
        except ImportError as error:
            raise RuntimeError(
                f"in_process needs vLLM in the environment that runs, which cannot import it ({error}); use a server"
            ) from None
        self._engine = LLM(model=model_name, revision=revision, **arguments)
        self._waiting: list[Asked] = []
        self._working: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._working, self._waiting = None, []  # what a batch that failed has left is nobody's any more

    async def ask(
        self, path: str, body: dict[str, Any], *, read: Callable[[Any], Read], prefer: Endpoint | None = None
    ) -> tuple[Read, None]:
        """The answer to one chat, as `read` makes it; raises `Rejected` if the engine refuses it."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((body, future))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return read(await future), None

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(0.005)  # whoever was just answered asks on in the meantime
            asked, self._waiting = self._waiting, []
            kinds: dict[str, list[Asked]] = {}
            for body, future in asked:
                kinds.setdefault(repr([body.get(name) for name in _CHAT]), []).append((body, future))
            for same in kinds.values():
                await asyncio.to_thread(self._answer, same, asyncio.get_running_loop())

    def _answer(self, asked: Sequence[Asked], loop: asyncio.AbstractEventLoop) -> None:
        """Runs in a thread: one batch, or, if the engine refuses that, one by one."""
        try:
            answers: list[Any] = [_completion(output) for output in self._chat([body for body, _ in asked])]
        except ValueError as error:
            if len(asked) > 1:
                for one in asked:
                    self._answer([one], loop)
                return
            answers = [Rejected(f"the engine refuses it: {error}")]
        except Exception as error:
            answers = [Unavailable(f"vLLM's engine failed: {type(error).__name__}: {error}")] * len(asked)
        for (_, future), answer in zip(asked, answers, strict=True):
            loop.call_soon_threadsafe(_settle, future, answer)

    def _chat(self, bodies: Sequence[Mapping[str, Any]]) -> list[Any]:
        from vllm import SamplingParams

        sampling = [
            SamplingParams(
                logprobs=body.get("top_logprobs"), **{name: body[name] for name in _SAMPLING if name in body}
            )
            for body in bodies
        ]
        settings = {name: bodies[0][name] for name in _CHAT if name in bodies[0]}
        outputs: list[Any] = self._engine.chat([b["messages"] for b in bodies], sampling, use_tqdm=False, **settings)
        return outputs


def _settle(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():
        return  # whoever waited has been cancelled
    settle = future.set_exception if isinstance(answer, Exception) else future.set_result
    settle(answer)


def _completion(output: Any) -> dict[str, Any]:
    """The engine's output as a server would tell it."""
    said = output.outputs[0]
    content = []
    for token, tops in zip(said.token_ids, said.logprobs or (), strict=False):
        alternatives = [{"token": one.decoded_token or "", "logprob": one.logprob} for one in tops.values()]
        content.append({"token": tops[token].decoded_token or "", "top_logprobs": alternatives})
    message = {"role": "assistant", "content": said.text}
    return {"choices": [{"message": message, "finish_reason": said.finish_reason, "logprobs": {"content": content}}]}
