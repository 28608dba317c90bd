"""Packages of Debian as sources of real data: fetched by apt, unpacked by dpkg; nothing is installed."""

import argparse
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mmcorpus.curation.engine.made_from import digest_of


def download_package(package: str, folder: str) -> Path:
    """Have apt download a package's file into a folder; returns its path.

    Raises:
        RuntimeError: apt is missing or fails; the message says what to do.
    """
    purpose = f"download {package} (is there a network, and are apt's lists new?)"
    _run(package, ["apt-get", "download", package], folder, purpose)
    found = sorted(Path(folder).glob("*.deb"))
    if not found:
        raise RuntimeError(f"apt-get download {package} left no package file; download it by hand and give --deb FILE")
    return found[0]


def site_fingerprint(version: str, package: str, deb: str | None, *arguments: object) -> str:
    """16 hex digits of a site's arguments, with the sha256 of the package's file if one is at hand (else apt fetches).

    Raises:
        FileNotFoundError: there is no such file.
    """
    digest = None
    if deb is not None:
        if not os.path.isfile(deb):
            raise FileNotFoundError(f"{deb}: no such package file; leave --deb out to have apt download {package}")
        with open(deb, "rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return digest_of(version, package, digest, *arguments)


@contextmanager
def unpacked(package: str, deb: str | None, inside: Path) -> Iterator[Path]:
    """A folder of a package's files, while the block runs; `deb` is its file, None has apt download it.

    Raises:
        RuntimeError: apt or dpkg is missing or fails, or the package has no such folder.
    """
    with tempfile.TemporaryDirectory(prefix=f"{package}-") as folder:
        file = Path(deb) if deb is not None else download_package(package, folder)
        root = unpack_package(package, file, folder) / inside
        if not root.is_dir():
            raise RuntimeError(f"{file} holds no {inside}: is it the package {package}?")
        yield root


def unpack_package(package: str, file: Path, folder: str) -> Path:
    """Unpack a package's file under a folder; returns the root of its files.

    Raises:
        RuntimeError: dpkg is missing or fails.
    """
    target = os.path.join(folder, "unpacked")
    _run(package, ["dpkg", "-x", str(file.resolve()), target], folder, f"unpack {file}")
    return Path(target)


def _run(package: str, command: list[str], folder: str, purpose: str) -> None:
    if shutil.which(command[0]) is None:
        raise RuntimeError(
            f"{command[0]} is needed to {purpose} but is not installed: use a Debian-like system"
            f" (packages.debian.org/{package} has the file for --deb)"
        )
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    if done.returncode:
        tail = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise RuntimeError(f"could not {purpose}: {' / '.join(tail) or f'exit status {done.returncode}'}")


def run_command(
    name: str,
    about: str,
    package: str,
    fetch: Callable[..., dict[str, int]],
    arguments: Sequence[str] | None,
    *,
    languages: str,
    languages_help: str,
) -> int:
    """The command line of a corpus's module; returns the exit status.

    name, about: of the module, and its docstring. fetch: makes the site. arguments: None takes those of the process.
    languages, languages_help: the default of the option and its description.
    """
    prog = f"python -m mmcorpus.curation.synthetic.corpora.{name}"
    parser = argparse.ArgumentParser(prog=prog, description=about.split("\n")[0])
    parser.add_argument("--out", required=True, help="the site's folder")
    parser.add_argument("--languages", default=languages, help=languages_help)
    parser.add_argument("--deb", help=f"a downloaded {package} package (default: apt downloads it)")
    options = parser.parse_args(arguments)
    chosen = tuple(language for language in options.languages.split(",") if language)
    try:
        counts = fetch(options.out, languages=chosen, deb=options.deb)
    except (RuntimeError, OSError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    for counted, count in counts.items():
        print(f"{count:>10,}  {counted}")
    print(f"The site is in {options.out}")
    return 0
