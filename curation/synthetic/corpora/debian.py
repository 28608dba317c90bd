"""Packages of Debian as sources of real data: fetched by apt, unpacked by dpkg; nothing is installed."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path


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


def package_digest(package: str, file: str | None) -> str | None:
    """The sha256 of a package's file at hand, for a site's fingerprint; None where apt is to fetch it.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if file is None:
        return None
    if not os.path.isfile(file):
        raise FileNotFoundError(f"{file}: no such package file; leave --deb out to have apt download {package}")
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


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
