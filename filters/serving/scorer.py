"""Scorers that ask a model server: the model, its servers, and the runtime context of a run."""

import copy
import os
import shutil
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from mmcorpus.filters.scorer import Batch, Columns, Scorer
from mmcorpus.filters.serving.client import ModelClient, run
from mmcorpus.filters.serving.config import FORBID, ClientConfig, ServerConfig
from mmcorpus.filters.serving.endpoints import Pool
from mmcorpus.filters.serving.questions import Connection, Questions
from mmcorpus.filters.weights import weights_identity


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
    server_name: str | None = None
    """A name of yours for what answers at the `endpoints`. Answers are kept by the endpoint that gave them, and those
    of another are not taken, whatever its model is called; under a name they are kept by that, so that servers that are
    the same share them, and one may move."""
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
        if self.server_name is not None and not (self.endpoints and self.server_name.strip()):
            raise ValueError("server_name is a name for endpoints: give both, or leave it out")

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

    def servers(self) -> tuple[str, ...] | None:
        """Whose kept answers are taken: of given endpoints theirs, or those of their name; None for servers of ours."""
        if not self.endpoints:
            return None
        return (self.server_name,) if self.server_name else tuple(url.rstrip("/") for url in self.endpoints)

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
        clients, model = self.clients(), self.known_as(self.model())

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
