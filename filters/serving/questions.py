"""A batch's questions to model servers: answers kept and found again, what fails told apart."""

import asyncio
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from mmcorpus.filters.scorer import REASON, Batch, Columns, Unavailable
from mmcorpus.filters.serving.client import ModelClient, NoAnswer
from mmcorpus.filters.serving.config import ClientConfig
from mmcorpus.filters.serving.endpoints import Endpoint

REJECTED: Final = "rejected"
"""The server read the request and refused it: the caption is longer than its context, say."""
NO_ANSWER: Final = "no_answer"
_WAIT: Final = 0.1
"""Seconds until one looks again whether another process has got its answer."""
_SUSPICIOUS: Final = 16
"""This many samples in one batch, all rejected, are a matter of the server."""

Row = Mapping[str, Any]
"""One sample, by column: of the batch, or of the scorer, `reason` included."""
Read = TypeVar("Read")


class Answers(Protocol):
    """A store of answers, so that a crash never pays for one twice (curation/scoring/servers/answers.py)."""

    def read(self, shard: str) -> Mapping[str, Any]:
        """The answers kept for a shard, by key."""

    def find(self, key: str) -> Mapping[str, Any] | None:
        """An answer that is kept for any other shard."""

    def reserve(self, key: str) -> bool:
        """Whether this process may ask, and then `find` knows all that is kept; False while another asks the same."""

    def give_up(self, key: str) -> None:
        """What was reserved got no answer: another process may ask."""

    def keep(self, shard: str, key: str, value: Mapping[str, Any]) -> None:
        """Keep one; at the latest once `flush` returns, it outlives the process."""

    def flush(self) -> None:
        """The batch is over."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """The runtime context of a scorer: its servers and the store of answers. The scores are the same with any other."""

    endpoints: tuple[str, ...]
    """Base URLs of OpenAI-compatible servers, `…/v1`."""
    api_key: str | None = field(default=None, repr=False)
    """Sent as a bearer token."""
    answers: Answers | None = None
    """The cache of answers, if the run keeps one."""


class Questions(ABC):
    """The questions about each sample of a batch, in one event loop, a bounded number of samples at once.

    Args:
        identity: JSON-able; with what is asked it makes the key of a kept answer, so all that decides answers.
        servers: whose kept answers are taken: endpoints, or a name for them. None where the run starts its servers
            itself, of which `identity` says all.
    """

    def __init__(
        self,
        connection: Connection,
        config: ClientConfig,
        client: ModelClient,
        identity: Any,
        servers: Sequence[str] | None = None,
    ) -> None:
        self._client, self._config, self._answers = client, config, connection.answers
        self._servers = servers
        self._in_flight = asyncio.Semaphore(self._config.concurrency)
        self._identity = json.dumps(identity, sort_keys=True)
        self._kept: dict[str, Mapping[str, Any]] = {}
        self._asking: dict[str, asyncio.Future[Any]] = {}
        """By what is asked, the requests under way."""

    @abstractmethod
    async def ask(self, sample: Row) -> Row:
        """The scorer's columns of one sample; may raise NoAnswer."""

    @abstractmethod
    def nothing(self, reason: str) -> Row:
        """The scorer's columns of a sample of which nothing is known."""

    async def all(self, batch: Batch) -> Columns:
        """The scorer's columns for a batch.

        Raises:
            Unavailable: samples got no answer for reasons that may pass; those that got one are kept for the rerun.
        """
        if self._answers is not None:
            self._kept = {shard: self._answers.read(shard) for shard in dict.fromkeys(batch["shard"])}
        silent: list[tuple[str, str]] = []

        async def ask(sample: Row) -> Row:
            async with self._in_flight:
                try:
                    return await self.ask(sample)
                except NoAnswer as error:
                    silent.append((sample["uid"], str(error)))
                    return self.nothing(f"{NO_ANSWER}: {error}")

        samples = (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(sample)) for sample in samples]
        except ExceptionGroup as errors:
            raise gravest(errors.exceptions) from None
        finally:
            if self._answers is not None:
                self._answers.flush()
        if silent and self._config.unanswered == "fail":
            uid, error = min(silent)
            raise Unavailable(
                f"{len(silent)} of {len(tasks)} samples got no answer, {uid} first: {error}. A rerun asks these alone"
            )
        rows = [task.result() for task in tasks]
        reasons = [row[name] or "" for row in rows for name in row if name.endswith(REASON)]
        if len(rows) >= _SUSPICIOUS and all(reason.startswith(REJECTED) for reason in reasons):
            raise Unavailable(f"the model server rejects all of {len(rows)} samples: {reasons[0]}")
        return {name: [row[name] for row in rows] for name in rows[0]}

    async def answer(
        self,
        sample: Row,
        asked: str,
        path: str,
        body: dict[str, Any],
        *,
        read: Callable[[Any], Read],
        save: Callable[[Read], Mapping[str, Any]],
        restore: Callable[[Mapping[str, Any]], Read],
        prefer: Endpoint | None = None,
    ) -> tuple[Read, Endpoint | None]:
        """The answer that is kept to what is `asked`, else a server's, which is kept; and the server to go on with."""
        keys = [self._key(asked, place) for place in ((None,) if self._servers is None else self._servers)]
        if (found := self._known(keys)) is not None:
            return restore(found), prefer
        # Samples that ask the same at the same time pay for it once.
        key = self._key(asked, None)
        if (other := self._asking.get(key)) is not None:
            answer, server, _ = await asyncio.shield(other)
            return restore(save(answer)), server

        async def ask() -> tuple[Read, Endpoint | None, bool]:
            if (found := await self._others(key, keys)) is not None:
                return restore(found), prefer, False
            try:
                return *await self._client.ask(path, body, read=read, prefer=prefer), True
            except BaseException:
                if self._answers is not None:
                    self._answers.give_up(key)
                raise

        self._asking[key] = asyncio.ensure_future(ask())
        try:
            answer, server, paid = await self._asking[key]
        finally:
            del self._asking[key]
        if self._answers is not None and paid:
            place = None
            if self._servers is not None:  # one name for all, or the endpoint that answered
                place = server.url if server is not None and server.url in self._servers else self._servers[0]
            self._answers.keep(sample["shard"], self._key(asked, place), {"uid": sample["uid"], **save(answer)})
        return answer, server

    async def _others(self, key: str, keys: Sequence[str]) -> Mapping[str, Any] | None:
        """The answer that another process is getting at this moment, or got since the batch began; None once it is for
        this one to ask."""
        if self._answers is None:
            return None
        while not self._answers.reserve(key):
            if (found := self._known(keys)) is not None:
                return found
            await asyncio.sleep(_WAIT)
        return self._known(keys)

    def _known(self, keys: Sequence[str]) -> Mapping[str, Any] | None:
        """The answer that is kept under one of some keys, for one of the batch's shards or for another."""
        if self._answers is None:
            return None
        for key in keys:
            here = (kept[key] for kept in self._kept.values() if key in kept)
            if (found := next(here, None) or self._answers.find(key)) is not None:
                return found
        return None

    def _key(self, asked: str, server: str | None) -> str:
        """The key of the answer to what is asked; of given servers, each has its own."""
        text = f"{self._identity}\0{asked}" + ("" if server is None else f"\0{server}")
        return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


def gravest(errors: Sequence[BaseException]) -> BaseException:
    """The one that matters for all: that there is no server rather than that a sample got no answer."""
    return next((error for error in errors if isinstance(error, Unavailable)), errors[0])
