"""Sinks for metrics beside metrics.jsonl: the terminal, TensorBoard, Weights & Biases; each imported when used."""

import secrets
import sys
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from mmcorpus.curation.store import storage
from mmcorpus.training.config import LogConfig

_SHOWN = ("loss", "heldout_loss", "learning_rate", "gradient_norm", "tokens_per_second", "images_per_second", "mfu")
"""What a line on the terminal says, as far as there is such a metric."""


class Sink(Protocol):
    """Takes the same lines as metrics.jsonl."""

    def write(self, line: Mapping[str, Any]) -> None:
        """One step's metrics, or those of an evaluation after it."""

    def close(self) -> None:
        """All is written."""


class Sinks:
    """Those that `log` asks for; a context that closes them."""

    def __init__(self, log: LogConfig, out: str, title: str, step: int, config: Mapping[str, Any]) -> None:
        """`step`: lines of later steps, from before a run was resumed, are superseded. Raises ImportError, saying what
        to install, before anything is trained."""
        self._sinks: list[Sink] = []
        if log.terminal:
            self._sinks.append(_Terminal(log.terminal, title))
        if log.tensorboard:
            self._sinks.append(_TensorBoard(out, step))
        if log.wandb is not None:
            self._sinks.append(_Wandb(log.wandb, out, title, config))

    def __enter__(self) -> Self:
        return self

    def write(self, line: Mapping[str, Any]) -> None:
        """Give a line to each."""
        for sink in self._sinks:
            sink.write(line)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for sink in self._sinks:
            sink.close()


def scalars(line: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a line by name; those of nested ones as `loss_by_source/pairs`."""
    for name, value in line.items():
        if isinstance(value, Mapping):
            yield from scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            yield f"{prefix}{name}", float(value)


class _Terminal:
    def __init__(self, every: int, title: str) -> None:
        self.every, self.title = every, title

    def write(self, line: Mapping[str, Any]) -> None:
        if line["step"] % self.every == 0 or "heldout_loss" in line:
            shown = [f"{name} {line[name]:.4g}" for name in _SHOWN if isinstance(line.get(name), int | float)]
            print(f"{self.title} step {line['step']:,}: {', '.join(shown)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        return


class _TensorBoard:
    def __init__(self, out: str, step: int) -> None:
        if not storage.is_local(out):
            raise ValueError(f"log.tensorboard writes to a local folder, not to {out}; leave it out")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                f"log.tensorboard needs tensorboard: pip install 'mmcorpus[tensorboard]' ({error})"
            ) from None
        folder = storage.filesystem(storage.join(out, "tensorboard"))[1]
        self._writer: Any = SummaryWriter(folder, purge_step=step + 1)

    def write(self, line: Mapping[str, Any]) -> None:
        for name, value in scalars(line):
            self._writer.add_scalar(name, value, line["step"])

    def close(self) -> None:
        self._writer.close()


def _run_id(out: str) -> str:
    """The run's id, drawn once and kept in its folder: a resumed run goes on in the same curves, wherever the folder is
    by then, and another run in a folder of the same path has its own."""
    path = storage.join(out, "wandb.json")
    if not storage.exists(path):
        storage.write_json(path, {"id": secrets.token_hex(8)})
    return str(storage.read_json(path)["id"])


class _Wandb:
    def __init__(self, project: str, out: str, title: str, config: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ImportError(f"log.wandb needs wandb: pip install 'mmcorpus[wandb]' ({error})") from None
        self._run: Any = wandb.init(project=project, id=_run_id(out), name=title, resume="allow", config=dict(config))

    def write(self, line: Mapping[str, Any]) -> None:
        self._run.log(dict(scalars(line)), step=line["step"])

    def close(self) -> None:
        self._run.finish()
