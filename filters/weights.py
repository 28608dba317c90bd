"""Identity and place of a model's weights: a folder, a file, a URL, or a Hugging Face id."""

import functools
import hashlib
import importlib.util
import os
import tempfile
from typing import Any, Final

SAMPLED_OVER: Final = 256 << 20
"""Files up to this many bytes are known by all their bytes, larger ones by their size and a sample of blocks."""
_BLOCK: Final = 1 << 20
_BLOCKS: Final = 128
_HEX: Final = 16


def is_remote(checkpoint: str) -> bool:
    """True for a URL such as `s3://bucket/model`."""
    return "://" in checkpoint


def is_hub_id(checkpoint: str) -> bool:
    """True for what can only be a Hugging Face id: `name` or `owner/name`, and nothing on this machine."""
    path_like = checkpoint.startswith((".", "/", "~")) or checkpoint.count("/") > 1 or is_remote(checkpoint)
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

    A Hugging Face id has its commit (from the cache of this machine, else the hub is asked), a file or folder 16 hex
    digits of its names and bytes (files over 256 MB: of their size and 128 blocks of 1 MB, evenly spaced), a URL of
    its names, sizes and the marks that its storage keeps (ETag, modification).

    Raises:
        ValueError: there is nothing at `checkpoint`, or its revision cannot be found out.
    """
    if is_remote(checkpoint):
        return f"{checkpoint}@{_remote_digest(checkpoint)}"
    if is_hub_id(checkpoint):
        return f"{checkpoint}@{_hub_commit(checkpoint, revision)}"
    path = os.path.expanduser(checkpoint)
    if not os.path.exists(path):
        raise ValueError(f"there are no weights at {os.path.abspath(path)}; give a file, a folder or a Hugging Face id")
    names = [""] if os.path.isfile(path) else sorted(_files(path))
    state = hashlib.blake2b(digest_size=_HEX // 2)
    for name in names:
        file = os.path.join(path, name) if name else path
        info = os.stat(file)
        state.update(f"{name}\0{_file_digest(file, info.st_size, info.st_mtime_ns)}\0".encode())
    return f"{checkpoint}@{state.hexdigest()}"


def local_copy(checkpoint: str) -> str:
    """`checkpoint` as a path of this machine, fetched if it is a URL; a Hugging Face id stays as it is.

    Copies of URLs lie in the temporary folder under their digest, so that the workers of a machine fetch them once.
    """
    if not is_remote(checkpoint):
        return checkpoint if is_hub_id(checkpoint) else os.path.expanduser(checkpoint)
    import fsspec

    fs, inner = fsspec.core.url_to_fs(checkpoint)
    name = os.path.basename(inner.rstrip("/"))
    place = os.path.join(tempfile.gettempdir(), f"mmcorpus-weights-{_remote_digest(checkpoint)}", name)
    if not os.path.exists(place):
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with tempfile.TemporaryDirectory(dir=os.path.dirname(place)) as folder:
            fetched = os.path.join(folder, name)
            fs.get(inner, fetched, recursive=fs.isdir(inner))
            if not os.path.exists(place):
                os.rename(fetched, place)
    return place


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
    import fsspec

    fs, inner = fsspec.core.url_to_fs(url)
    found: dict[str, Any] = fs.find(inner, detail=True)
    if not found:
        raise ValueError(f"there are no weights at {url}")
    marks = ("size", "ETag", "etag", "mtime", "LastModified", "last_modified")
    state = hashlib.blake2b(digest_size=_HEX // 2)
    for path in sorted(found):
        state.update(f"{path}\0{[str(found[path].get(mark)) for mark in marks]}\0".encode())
    return state.hexdigest()
