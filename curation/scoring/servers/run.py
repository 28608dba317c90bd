"""Model servers that live as long as the scoring that asks them."""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final

from mmcorpus.curation.engine.progress import Progress
from mmcorpus.curation.engine.terminal import shown
from mmcorpus.curation.scoring.servers.answers import AnswerLog
from mmcorpus.curation.scoring.servers.replica import Replica, ReplicaSpec, free_port
from mmcorpus.curation.store import storage
from mmcorpus.filters.scorer import Scorer
from mmcorpus.filters.secrets import masked_text
from mmcorpus.filters.serving import Connection, ServedScorer, ServerConfig

_STOP_SECONDS: Final = 60.0
_KEEPER_RESTARTS: Final = 2
"""The number of times that Ray starts a killed actor again; its server starts again with it."""


@contextlib.contextmanager
def served(scorers: Sequence[Scorer], *, logs: str, answers: str | None = None) -> Iterator[list[Scorer]]:
    """The scorers, those that ask model servers connected to servers that run until the block ends.

    Each server is kept by a Ray actor that holds its GPUs, and ends with the block, with the driver, with the actor or
    with Ray, whichever ends first and however it ends. Scorers of one model and one `server` section share servers.

    Args:
        logs: the folder of the servers' logs.
        answers: the folder in which the servers' answers are kept, one below it for each scorer; None keeps none.

    Raises:
        ValueError: the cluster has not the GPUs that a server asks for.
        RuntimeError: Ray is not running, or no server came up; the message ends with its log.
    """
    with contextlib.ExitStack() as stack:
        running: dict[str | None, Connection] = {}
        connected: list[Scorer] = []
        for scorer in scorers:
            if not isinstance(scorer, ServedScorer):
                connected.append(scorer)
                continue
            config = scorer.serving()
            if config is None:
                lent = scorer.connection()
            else:
                if (key := server_key(scorer)) not in running:
                    running[key] = stack.enter_context(_servers(scorer, config, logs))
                lent = running[key]
            log = AnswerLog(storage.join(answers, scorer.name)) if answers is not None else None
            connected.append(scorer.connected(Connection(endpoints=lent.endpoints, api_key=lent.api_key, answers=log)))
        yield connected


def server_key(scorer: ServedScorer) -> str | None:
    """Equal for scorers that share servers; None for one that needs none started."""
    config = scorer.serving()
    return None if config is None else repr((scorer.model_name, scorer.revision, config))


@contextlib.contextmanager
def _servers(scorer: ServedScorer, config: ServerConfig, logs: str) -> Iterator[Connection]:
    import ray

    if not ray.is_initialized():
        raise RuntimeError("Ray is not running. Call ray.init() first, or use the mmcorpus command, which does.")
    replicas, gpus = _size(config, int(ray.cluster_resources().get("GPU", 0)))
    several_nodes = sum(1 for node in ray.nodes() if node["Alive"]) > 1
    key = secrets.token_hex(16)
    ports: set[int] = set()
    keepers: list[Any] = []
    make: Any = ray.remote(Replica)
    make = make.options(num_cpus=0, num_gpus=gpus, max_restarts=_KEEPER_RESTARTS, max_concurrency=2)
    try:
        for number in range(replicas):
            ports.add(port := free_port(ports))
            spec = ReplicaSpec(
                model_name=scorer.model_name,
                revision=scorer.revision,
                config=config,
                port=port,
                everywhere=several_nodes,
                api_key=key,
                log=storage.join(logs, f"{scorer.name}-{number}.log"),
                folder=os.getcwd(),
            )
            keepers.append(make.remote(spec, with_parent=True))
        yield Connection(endpoints=_come_up(keepers, logs), api_key=key)
    finally:
        stopping = [keeper.stop.remote() for keeper in keepers]
        ray.wait(stopping, num_returns=max(1, len(stopping)), timeout=_STOP_SECONDS)
        for keeper in keepers:
            ray.kill(keeper)


def _size(config: ServerConfig, there: int) -> tuple[int, int]:
    """The number of servers, and of GPUs for each."""
    gpus = config.gpus if config.gpus is not None else min(1, there)
    replicas = config.replicas or (there // gpus if gpus else 1)
    if replicas * gpus > there or not replicas:
        raise ValueError(
            f"server: {max(1, replicas)} servers of {gpus} GPUs each do not fit into the {there} of the Ray cluster"
        )
    return replicas, gpus


def _come_up(keepers: Sequence[Any], logs: str) -> tuple[str, ...]:
    """The URLs of the servers that run, once each has come up or given up."""
    import ray

    waiting = {keeper.settled.remote(): number for number, keeper in enumerate(keepers)}
    urls: dict[int, str] = {}
    errors: list[str] = []
    with Progress(f"model servers start, logs in {logs}", total=len(keepers), unit="server") as progress:
        while waiting:
            done, _ = ray.wait(list(waiting), timeout=5.0)
            progress.advance(0)
            for reference in done:
                number = waiting.pop(reference)
                try:
                    url, error = ray.get(reference)
                except ray.exceptions.RayError as failure:
                    url, error = None, f"its keeper died: {str(failure).splitlines()[0]}"
                if url is not None:
                    urls[number] = url
                else:
                    errors.append(error)
                progress.advance(1)
    if not urls:
        raise RuntimeError(errors[0])
    for error in errors:
        told = shown(masked_text(str(error)))
        print(f"going on with {len(urls)} of {len(keepers)} model servers: {told}", file=sys.stderr, flush=True)
    return tuple(urls[number] for number in sorted(urls))
