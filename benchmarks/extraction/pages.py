"""The pages: fetched from the packages that ship them, kept in a cache, checked by their digest."""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from mmcorpus.curation.synthetic.corpora.debian import download_package, unpack_package

LABELS: Final = Path(__file__).parent / "labels"
CACHE: Final = Path.home() / ".cache" / "mmcorpus" / "pages"


class PageError(Exception):
    """A page cannot be had as it was labelled; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """What a person said about one page; `README.md` has the rules."""

    id: str
    """The file's name without its ending."""
    origin: Literal["pypi", "debian"]
    package: str
    """`name==version` of PyPI, a name of Debian."""
    file: str
    """The page's path inside the package."""
    sha256: str
    url: str
    kind: str
    text: tuple[str, ...]
    without: tuple[str, ...]
    images: tuple[tuple[str, ...], ...]
    """Of each image the addresses that count as it, the best first."""
    split: Literal["dev", "test"]


def read_labels(ids: list[str] | None = None) -> list[Label]:
    """All labels (or those named), sorted by id.

    Raises:
        ValueError: a label is not in the form of `README.md`, or an id is unknown.
    """
    known = {path.stem: path for path in sorted(LABELS.glob("*.yaml"))}
    unknown = sorted(set(ids or ()) - set(known))
    if unknown:
        raise ValueError(f"no label called {', '.join(unknown)} in {LABELS}")
    return [label_of(name, yaml.safe_load(known[name].read_text("utf-8"))) for name in (sorted(ids) if ids else known)]


def label_of(name: str, fields: dict[str, Any]) -> Label:
    """A label from its file's fields."""
    needed, allowed = {"from", "sha256", "url", "kind", "text", "images", "split"}, {"without"}
    if not isinstance(fields, dict) or needed - set(fields) or set(fields) - needed - allowed:
        raise ValueError(f"{name}: a label has the keys {', '.join(sorted(needed))} and may have 'without'")
    source = dict(fields["from"])
    file = source.pop("file", None)
    if not file or len(source) != 1 or next(iter(source)) not in ("pypi", "debian"):
        raise ValueError(f"{name}: 'from' has 'file' and either 'pypi' or 'debian'")
    ((origin, package),) = source.items()
    if origin == "pypi" and "==" not in package:
        raise ValueError(f"{name}: 'from' must pin the package of PyPI: name==version")
    if fields["split"] not in ("dev", "test"):
        raise ValueError(f"{name}: 'split' must be dev or test")
    images = tuple((image,) if isinstance(image, str) else tuple(image) for image in fields["images"])
    return Label(
        id=name, origin=origin, package=package, file=file, sha256=fields["sha256"], url=fields["url"],
        kind=fields["kind"], text=tuple(fields["text"]), without=tuple(fields.get("without") or ()), images=images,
        split=fields["split"],
    )  # fmt: skip


def read_page(label: Label) -> bytes:
    """The page's bytes, as a server would have sent them; fetched if they are not there.

    Raises:
        PageError: the package or the file cannot be had, or is not the one that was labelled.
    """
    path = package_folder(label) / label.file
    if not path.is_file():
        raise PageError(f"{label.id}: {label.package} holds no {label.file}")
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != label.sha256:
        raise PageError(
            f"{label.id}: {label.file} of {label.package} is not what was labelled (its SHA-256 is {digest})"
        )
    return gzip.decompress(data) if label.file.endswith(".gz") else data


def package_folder(label: Label) -> Path:
    """The unpacked package in the cache, put there in one move."""
    folder = CACHE / label.package
    if folder.is_dir():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    fetch = _fetch_pypi if label.origin == "pypi" else _fetch_debian
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=".") as work:
        try:
            os.rename(fetch(label.package, work), folder)
        except FileExistsError:  # another process was quicker
            pass
        except RuntimeError as error:
            raise PageError(f"{label.id}: {error}") from error
    return folder


def _fetch_debian(package: str, work: str) -> Path:
    return unpack_package(package, download_package(package, work), work)


def _fetch_pypi(package: str, work: str) -> Path:
    """A source archive, unpacked. `pip download` would build it to learn its metadata, and run its code for that."""
    from unearth import PackageFinder
    from unearth.errors import UnpackError

    name = package.partition("==")[0]
    finder = PackageFinder(index_urls=_indexes(), no_binary=[name])
    found = finder.find_best_match(package).best
    if found is None:
        raise RuntimeError(f"no source archive of {package} in {', '.join(_indexes())}")
    try:
        return finder.download_and_unpack(found.link, Path(work, "unpacked"), Path(work, "archive"))
    except (UnpackError, OSError) as error:
        raise RuntimeError(f"could not fetch {package}: {error}") from error


@cache
def _indexes() -> list[str]:
    """The index that pip is set to use, by its environment or its configuration."""
    if url := os.environ.get("PIP_INDEX_URL"):
        return [url]
    if shutil.which("pip") or Path(sys.executable).with_name("pip").exists():
        command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip():
            return [done.stdout.strip()]
    return ["https://pypi.org/simple"]
