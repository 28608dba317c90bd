"""Shared by all commands: exit codes, messages in place of tracebacks, Ctrl-C, options that mean the same."""

import contextlib
import dataclasses
import errno
import functools
import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

FAILED: Final = 1
"""Some work failed: a shard, a stage."""
USAGE: Final = 2
"""The command or the recipe is wrong; nothing was done."""
INTERRUPTED: Final = 130
"""Ctrl-C: what was committed is kept."""

_NO_CLUSTER: Final = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_STARTS: Final = 3
_SLOW: Final = "timed out during startup"
"""What Ray says of a node that is not there after 30 s, which a busy machine can take; it mostly is at the next try."""

Config = TypeVar("Config")


def settings_option(about: str, metavar: str = "KEY=VALUE") -> Any:
    """The option `--set`; `about`: which settings there are."""
    return typer.Option("--set", metavar=metavar, help=about)


SettingsOption = Annotated[list[str] | None, settings_option("A setting of the stage's config, as in a recipe.")]
ShardsArgument = Annotated[
    str, typer.Argument(metavar="SHARDS", help="A folder of shards, or data that is indexed first.")
]
DeviceOption = Annotated[str | None, typer.Option(help="cpu or cuda; by default cuda if there is a GPU.")]
RetryOption = Annotated[
    bool, typer.Option("--retry-failed", help="Fetch again what failed to download for reasons that can pass.")
]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--sample-budget",
        metavar="KEY=VALUE",
        help="What one sample may cost before it is set aside: cpu_seconds, wall_seconds, memory_gib.",
    ),
]
CpusOption = Annotated[
    int | None,
    typer.Option("--num-cpus", min=1, help="CPUs of the local Ray; all by default. Ignored with RAY_ADDRESS."),
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Worker processes; as many as Ray has CPUs by default.")
]

debug = False
"""Set by `mmcorpus --debug`: errors show where they arose."""


class UsageError(ValueError):
    """The command line asks for what cannot be; the message says what to ask instead."""


def told(text: str) -> str:
    """A text as the terminal gets it: without secrets, control characters as escapes."""
    from mmcorpus.curation.engine.terminal import shown
    from mmcorpus.filters.secrets import masked_text

    return shown(masked_text(text))


class Told(logging.Formatter):
    """Warnings as everything else is shown: names of files and errors of stores are the web's, too."""

    def format(self, record: logging.LogRecord) -> str:
        return told(super().format(record))


def console(*, stderr: bool = False) -> "Console":
    """Rich's console; as wide as a log needs when it is not a terminal. What it prints is `shown`."""
    from rich.console import Console
    from rich.segment import Segment

    from mmcorpus.curation.engine.terminal import shown

    class Shown(Console):
        """All text of a table, a message or an exception passes here, whatever it is made of."""

        def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=shown(segment.text))

    made = Shown(stderr=stderr, highlight=False, soft_wrap=True)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = 160
    return made


def say(text: str) -> None:
    """A line to the user: no markup is read in it, and secrets and control characters do not show."""
    console().print(told(text), markup=False)


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose errors become one clear message and an exit code."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        from mmcorpus.filters.secrets import remember_environment

        remember_environment()
        if logging.lastResort is not None:
            logging.lastResort.setFormatter(Told())
        try:
            with _terminate_as_interrupt():
                command(*args, **kwargs)
        except KeyboardInterrupt:
            complain("Stopped. What was finished is kept; run the same command to resume.")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if type(error).__module__.startswith(("click", "typer")):
                raise
            if debug:
                sys.excepthook = _complain_of
                raise
            usage = isinstance(error, ValueError | FileNotFoundError | NotADirectoryError | IsADirectoryError)
            if usage or isinstance(error, OSError | RuntimeError | ImportError):
                complain(_text(error))
            else:
                complain(f"{type(error).__name__}: {error}\nThis is a fault of mmcorpus; --debug before the command")
                complain("shows where it arose: mmcorpus --debug " + " ".join(sys.argv[1:]))
            raise typer.Exit(USAGE if usage else FAILED) from None

    return wrapped


def complain(text: str) -> None:
    """An error to the user, as `say` says it, in red and on standard error."""
    console(stderr=True).print(told(text), style="red", markup=False)


def _complain_of(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Python's hook for an error that ends the process: its traceback, as everything else is shown."""
    complain("".join(traceback.format_exception(kind, error, trace)))


def _text(error: Exception) -> str:
    from mmcorpus.filters.web import explained

    error = explained(error, str(getattr(error, "filename", None) or error)) or error
    if isinstance(error, OSError) and error.filename and error.strerror:
        plain = error.strerror == os.strerror(errno.ENOENT)
        return f"{error.filename}: {'there is no such file or folder' if plain else error.strerror}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full; free space and run the same command again ({error})"
    return str(error) or type(error).__name__


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM (a scheduler's, a shell's `kill`) ends a command as Ctrl-C does, so that its children end too."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: nobody's signals to take
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def counted(report: Any) -> str:
    """`1,200 listed, 1,100 downloaded`: the whole numbers of a report or mapping."""
    numbers = report if isinstance(report, dict) else dataclasses.asdict(report)
    return ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in numbers.items() if type(value) is int)


def fail_if(failures: Iterable[str]) -> None:
    """Say what failed, if anything did, and end the command with FAILED."""
    failures = list(failures)
    for failure in failures:
        say(f"failed: {failure}")
    if failures:
        say("The same command tries them again.")
        raise typer.Exit(FAILED)


def table(title: str, headings: Sequence[str], left: Sequence[str]) -> "Table":
    """A table without lines; the columns not in `left` hold numbers."""
    from rich.table import Table

    class Told(Table):
        """Cells are escaped before they are laid out, by whose widths columns are cut."""

        def add_row(self, *cells: Any, **options: Any) -> None:
            super().add_row(*(told(cell) if isinstance(cell, str) else cell for cell in cells), **options)

    made = Told(title=told(title), title_justify="left", box=None, pad_edge=False)
    for heading in headings:
        made.add_column(heading, justify="left" if heading in left else "right", overflow="fold")
    return made


def named(settings: Sequence[str] | None, option: str) -> dict[str, str]:
    """`NAME=VALUE` options as a mapping."""
    found: dict[str, str] = {}
    for setting in settings or ():
        name, _, value = setting.partition("=")
        if not name or not value:
            raise UsageError(f"{option} {setting!r}: write it as NAME=VALUE")
        if name in found:
            raise UsageError(f"{option} names {name!r} twice")
        found[name] = value
    return found


def a_folder(path: str) -> str:
    """Of an option that names a folder to write into: a file in its place is refused before anything starts."""
    if os.path.isfile(path):
        raise typer.BadParameter(f"{path} is a file; name a folder")
    return path


def read_config(kind: type[Config], settings: Sequence[str] | None, data: dict[str, Any] | None = None) -> Config:
    """A stage's config from `--set KEY=VALUE` settings, checked as a recipe's section is.

    Raises `RecipeError` with every problem.
    """
    from mmcorpus.pipelines.recipe.check_types import check
    from mmcorpus.pipelines.recipe.problems import RecipeError
    from mmcorpus.pipelines.recipe.yaml_source import YamlSource, apply_override

    source = YamlSource(name="command line", data=data or {})
    for setting in settings or ():
        apply_override(source, setting)
    config, problems = check(kind, source.data, source, ())
    if config is None or problems:
        raise RecipeError(problems, what="settings")
    return config


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Ray's C++ writes to file descriptor 2 as it starts, past Python's logging; its errors come as exceptions."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _knock(address: str) -> None:
    """A `RuntimeError` if nothing listens at host:port; Ray itself tries for minutes before it says so."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdigit():
        return  # `auto`, `local`: Ray knows what they mean
    import socket

    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str, reason: str) -> RuntimeError:
    return RuntimeError(
        f"no Ray cluster answers at RAY_ADDRESS={address} ({reason}). Check the address, that the "
        "cluster is up (ray status), and that RAY_AUTH_MODE and RAY_AUTH_TOKEN are its own; "
        "or unset RAY_ADDRESS to run on this machine alone."
    )


def budget_of(settings: list[str] | None) -> AbstractContextManager[None]:
    """The budget of `--sample-budget` for the block of a `with`."""
    from mmcorpus.curation.engine.budget import SampleBudget, use_budget

    return use_budget(read_config(SampleBudget, settings))


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """A Ray that starts in this block listens on loopback alone.

    Ray takes a machine's outward address for its node's, and listens on all addresses, unless told that there is no
    cluster. It knows such a mode for the firewalls of Windows and macOS.
    """
    constants: Any = sys.modules.get("ray._private.ray_constants")
    before, enabled = os.environ.get(_NO_CLUSTER), getattr(constants, "ENABLE_RAY_CLUSTER", None)
    os.environ[_NO_CLUSTER] = "0"  # for the processes that it starts
    if constants is not None:  # it was read when Ray was imported
        constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        if constants is not None:
            constants.ENABLE_RAY_CLUSTER = enabled
        if before is None:
            del os.environ[_NO_CLUSTER]
        else:
            os.environ[_NO_CLUSTER] = before


def _ray_folder() -> str:
    """The folder of the files of Rays that are started here, in one that this user alone can enter.

    It is not that folder itself, as Ray opens its own to everybody (mode 0777).
    """
    from mmcorpus.filters.weights import private_folder

    base = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    os.makedirs(base, exist_ok=True)
    own = private_folder(os.path.join(base, f"mmcorpus-{os.getuid()}"), variable="RAY_TMPDIR")
    return os.path.join(own, "ray")


class Cluster:
    """Ray for the block of a `with`, or with `lazy` from where `start` is called. The command line alone does this."""

    def __init__(self, num_cpus: int | None = None, *, lazy: bool = False) -> None:
        self.num_cpus, self.lazy = num_cpus, lazy
        self._started = False

    def start(self) -> None:
        """Connect to RAY_ADDRESS, or start a quiet local Ray; a `RuntimeError` says what to do if that fails."""
        if self._started:
            return
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ warnings are not for the user
        try:
            import ray
        except ImportError:
            raise RuntimeError("Ray is not installed. Install it with: pip install 'mmcorpus[curate]'") from None
        if ray.is_initialized():
            return
        address = os.environ.get("RAY_ADDRESS")
        if address:
            _knock(address)
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        where: dict[str, Any] = {"address": address}
        if not address:
            where = {"num_cpus": self.num_cpus, "include_dashboard": False, "object_store_memory": 10**9}
            where |= {"_node_ip_address": "127.0.0.1", "_temp_dir": _ray_folder()}
        handler = signal.getsignal(signal.SIGTERM)  # Ray puts its own in its place
        for left in reversed(range(1 if address else _STARTS)):
            try:
                with _silent_stderr(), contextlib.nullcontext() if address else _on_loopback():
                    ray.init(**where, **quiet)
                break
            except Exception as error:  # it raises nearly anything, a bare Exception where its node is slow to start
                first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                if address:
                    raise _no_cluster(address, first) from error
                if not left or _SLOW not in first:
                    raise RuntimeError(f"Ray could not start on this machine: {first}") from error
                ray.shutdown()
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGTERM, handler)
        self._started = True

    def stop(self) -> None:
        """Shut down what `start` started; nothing else."""
        if self._started:
            import ray

            ray.shutdown()
            self._started = False

    def __enter__(self) -> "Cluster":
        if not self.lazy:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
