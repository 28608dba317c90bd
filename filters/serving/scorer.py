"""Scorers that ask a model server: the model, its servers, and the runtime context of a run."""

import copy
import os
import shutil
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

from mmcorpus.filters.scorer import Batch, Columns, Scorer
from mmcorpus.filters.serving.client import ModelClient, run
from mmcorpus.filters.serving.config import FORBID, ClientConfig, ServerConfig
from mmcorpus.filters.serving.endpoints import Pool
from mmcorpus.filters.serving.questions import Questions
from mmcorpus.filters.weights import weights_identity


class Answers(Protocol):
    """A store of answers, so that a crash never pays for one twice (curation/scoring/servers/answers.py)."""

    def read(self, shard: str) -> Mapping[str, Any]:
        """The answers kept for a shard, by key."""

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


@dataclass(frozen=True, kw_only=True)
class ServedScorer(Scorer):
    """A scorer whose model runs in a server: one that the run starts, or one that is there.

    `scoring.servers.served` starts what has to be started and hands each scorer its connection; with `endpoints` given
    it also works alone.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    model_name: str
    """The model's name in requests: a Hugging Face id, a folder, or the name under which given endpoints serve."""
    revision: str | None = None
    """The model's commit or tag. A managed server is started with it; of given endpoints it is taken on trust, so give
    it, that scores of two revisions are never mixed."""
    endpoints: tuple[str, ...] = ()
    """Servers that run already: base URLs, `http://gpu1:8000/v1`."""
    server: ServerConfig | None = None
    """Servers for the run to start; the default where there are no `endpoints`."""
    client: ClientConfig = field(default_factory=ClientConfig)
    """Timeouts, retries and concurrency."""

    def __post_init__(self) -> None:
        if not self.model_name.strip():
            raise ValueError("model_name is empty; give what the server is to be asked for")
        if self.endpoints and self.server is not None:
            raise ValueError(
                "endpoints and server exclude each other: give servers that run, or let the run start them"
            )
        wrong = [url for url in self.endpoints if not url.startswith(("http://", "https://"))]
        if wrong:
            raise ValueError(f"endpoints: {wrong[0]!r} is no http(s) URL; write http://host:port/v1")
        if len(set(self.endpoints)) != len(self.endpoints):
            raise ValueError("endpoints names one twice")

    def check(self) -> None:
        variable = self.client.key_variable
        if variable is not None and not os.environ.get(variable):
            raise ValueError(f"client.key_variable names {variable}, and the environment has none")
        config = self.serving()
        if config is None or "RAY_ADDRESS" in os.environ:
            return  # other machines serve; what they have shows when they start
        path = os.path.expanduser(self.model_name)
        if self.model_name.startswith((".", "/", "~")) and not os.path.exists(path):
            raise ValueError(f"model_name: there is no model at {os.path.abspath(path)}")
        if config.python is not None and shutil.which(os.path.expanduser(config.python)) is None:
            raise ValueError(f"server.python: {config.python} is no program here; name an interpreter that has vLLM")

    def model(self) -> str:
        known: str | None = getattr(self, "_model", None)
        if known is not None:
            return known
        if self.endpoints:
            return f"{self.model_name}@{self.revision}" if self.revision else self.model_name
        return weights_identity(self.model_name, self.revision)

    def serving(self) -> ServerConfig | None:
        """The servers to be started for it; None if it is given endpoints."""
        return None if self.endpoints else self.server or ServerConfig()

    def deciding(self) -> dict[str, Any]:
        """Arguments of its engine that change what the model answers; of given endpoints they are not known."""
        config = self.serving()
        return {} if config is None else dict(config.deciding())

    def connected(self, connection: Connection) -> Self:
        """The same scorer, name and fingerprint too, in the runtime context of a run."""
        other = copy.copy(self)
        object.__setattr__(other, "_connection", connection)
        object.__setattr__(other, "_model", self.model())  # found out here: workers need not have the model's files
        return other

    def connection(self) -> Connection:
        """The connection that it was given, or one to its own endpoints.

        Raises:
            RuntimeError: its server was never started.
        """
        context: Connection | None = getattr(self, "_connection", None)
        if context is not None:
            return context
        if not self.endpoints:
            raise RuntimeError(
                f"scorer {self.name!r} has no model server: score within "
                "mmcorpus.curation.scoring.servers.served, or give endpoints"
            )
        key = os.environ.get(self.client.key_variable) if self.client.key_variable else None
        return Connection(endpoints=self.endpoints, api_key=key)

    @abstractmethod
    def questions(self, client: ModelClient, model: str) -> Questions:
        """The questions about one batch's samples; `model` is `self.model()`, found out once."""

    def load(self) -> Callable[[Batch], Columns]:
        clients, model = self.clients(), self.model()

        async def ask(batch: Batch) -> Columns:
            async with clients() as client:
                return await self.questions(client, model).all(batch)

        return lambda batch: run(ask(batch))

    def clients(self) -> Callable[[], ModelClient]:
        """Makes clients that share one view of the endpoints: one for each event loop that asks."""
        context = self.connection()
        urls = [url.rstrip("/") for url in context.endpoints]
        pool = Pool(urls, patience=self.client.patience, backoff=self.client.backoff)
        return lambda: ModelClient(pool, self.client, api_key=context.api_key)
