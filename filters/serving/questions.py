"""A batch's questions to model servers: answers kept and found again, what fails told apart."""

import asyncio
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mmcorpus.filters.scorer import REASON, Batch, Columns, Unavailable
from mmcorpus.filters.serving.client import ModelClient, NoAnswer
from mmcorpus.filters.serving.endpoints import Endpoint

if TYPE_CHECKING:
    from mmcorpus.filters.serving.scorer import ServedScorer

REJECTED: Final = "rejected"
"""The server read the request and refused it: the caption is longer than its context, say."""
NO_ANSWER: Final = "no_answer"
_SUSPICIOUS: Final = 16
"""This many samples in one batch, all rejected, are a matter of the server."""

Row = Mapping[str, Any]
"""One sample, by column: of the batch, or of the scorer, `reason` included."""
Read = TypeVar("Read")


class Questions(ABC):
    """The questions about each sample of a batch, in one event loop, a bounded number of samples at once.

    Args:
        identity: JSON-able; with what is asked it makes the key of a kept answer, so all that decides answers.
    """

    def __init__(self, scorer: "ServedScorer", client: ModelClient, identity: Any) -> None:
        self._client, self._config = client, scorer.client
        self._answers = scorer.connection().answers
        self._in_flight = asyncio.Semaphore(self._config.concurrency)
        self._identity = json.dumps(identity, sort_keys=True)
        self._kept: dict[str, Mapping[str, Any]] = {}

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
        key = hashlib.blake2b(f"{self._identity}\0{asked}".encode("utf-8", "replace"), digest_size=16).hexdigest()
        kept = self._kept.get(sample["shard"], {}).get(key)
        if kept is not None:
            return restore(kept), prefer
        answer, server = await self._client.ask(path, body, read=read, prefer=prefer)
        if self._answers is not None:
            self._answers.keep(sample["shard"], key, {"uid": sample["uid"], **save(answer)})
        return answer, server


def gravest(errors: Sequence[BaseException]) -> BaseException:
    """The one that matters for all: that there is no server rather than that a sample got no answer."""
    return next((error for error in errors if isinstance(error, Unavailable)), errors[0])
