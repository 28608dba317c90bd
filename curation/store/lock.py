"""One driver at a time in a run's folder: the kernel's lock on a local one, a renewed lease on S3 and what speaks it.

The lease is an object that only conditional writes change: `If-None-Match: *` makes it, `If-Match` with the ETag that
was seen renews it, takes it over or gives it up, so that of two drivers one is refused. It counts as abandoned when it
was not renewed for `EXPIRES` seconds, by the store's own clock (Last-Modified against Date) or by watching it that
long: the clocks of two machines are never compared.
"""

import contextlib
import email.utils
import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from mmcorpus.curation.store import storage

LOCK: Final = ".lock"
RENEWS: Final = 20.0
"""Seconds from one renewal of a lease to the next."""
EXPIRES: Final = 120.0
"""Seconds without renewal after which a lease may be taken over: six renewals, each of which the client tries again."""
_NOT_KEPT_APART: Final = "%s: two drivers in this folder would not be kept apart (%s); see to it that only one runs"
_log = logging.getLogger(__name__)


class RunLocked(RuntimeError):
    """Another process is running in the same folder."""


@contextlib.contextmanager
def lock(root: str) -> Iterator[Callable[[], None]]:
    """Hold a run's folder while the block runs.

    Yields a function to be called before each commit: it raises `RunLocked` if the folder is no longer held (a lease
    runs out when its driver was paused, or cut off from the store). The main thread is also interrupted as soon as
    that is noticed. Where drivers cannot be kept apart, a warning says so.

    Raises:
        RunLocked: another process holds it. On S3 that takes as long as one renewal to tell, and as long as `EXPIRES`
            until the lease of a driver that was killed is taken over.
    """
    fs, inner = storage.filesystem(storage.join(root, LOCK))
    if storage.is_local(root):
        with _local_lock(root, inner):
            yield lambda: None
    elif hasattr(fs, "call_s3"):
        with _lease(root, fs, inner) as confirm:
            yield confirm
    else:
        _log.warning(_NOT_KEPT_APART, root, "mmcorpus locks local folders and S3 only")
        yield lambda: None


@contextlib.contextmanager
def _local_lock(root: str, path: str) -> Iterator[None]:
    """A lock that the kernel lets go of however the process ends."""
    import fcntl

    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise _locked(root, f"process {file.read().strip() or 'unknown'}") from None
        with storage.naming_full_disk(file.name):
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield


def _locked(root: str, owner: str) -> RunLocked:
    return RunLocked(f"another mmcorpus run ({owner}) is working in {root}; wait for it or give another --out")


@contextlib.contextmanager
def _lease(root: str, fs: Any, path: str) -> Iterator[Callable[[], None]]:
    lease = _Lease(root, fs, path)
    lease.take()
    if not lease.is_honoured():
        lease.release()
        _log.warning(_NOT_KEPT_APART, root, "its store ignores If-None-Match and If-Match")
        yield lambda: None
        return
    ended = threading.Event()
    interrupts = threading.current_thread() is threading.main_thread()
    keeper = threading.Thread(target=lease.keep, args=(ended, interrupts), name="lease", daemon=True)
    keeper.start()
    try:
        try:
            yield lease.confirm
        finally:
            ended.set()
            keeper.join()
    except KeyboardInterrupt as interrupt:
        if lease.lost:
            raise lease.error() from interrupt
        raise
    finally:
        lease.release()


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A lease as the store has it."""

    etag: str
    holder: str
    """The random id of the driver that wrote it; empty when it was given up."""
    owner: str
    """That driver's machine and process, for people."""
    age: float
    """Seconds since it was written, by the store's clock; 0 if the store does not say."""


class _Lease:
    """One driver's side of the lease object."""

    def __init__(self, root: str, fs: Any, path: str) -> None:
        self.root, self.fs = root, fs
        self.bucket, self.key, _ = fs.split_path(path)
        self.id = uuid.uuid4().hex
        self.owner = f"process {os.getpid()} on {socket.gethostname()}"
        self.etag = ""
        self.lost = ""
        """Who has the lease instead, once it is lost."""
        self.mutex = threading.Lock()  # the keeper renews, and the driver before each commit

    def take(self) -> None:
        """Wait until the lease is free or proves to be abandoned, and take it; `RunLocked` when another renews it."""
        watched, abandoned_at = "", 0.0
        while True:
            seen = self._look()
            if seen is None:
                taken = self._put(IfNoneMatch="*")
            elif seen.holder == self.id:  # written, but the answer was lost and the client asked once more
                self.etag, taken = seen.etag, True
            elif not seen.holder or seen.age > EXPIRES or (watched == seen.etag and time.monotonic() > abandoned_at):
                taken = self._put(IfMatch=seen.etag)
            elif watched and watched != seen.etag:
                raise _locked(self.root, seen.owner)
            else:
                taken = False
                if not watched:
                    watched, abandoned_at = seen.etag, time.monotonic() + EXPIRES - seen.age
                    _log.warning(
                        "%s is held by %s; waiting up to %.0f s to see whether it still runs",
                        *(self.root, seen.owner, EXPIRES - seen.age),
                    )
            if taken:
                return
            time.sleep(RENEWS / 10)

    def is_honoured(self) -> bool:
        """False if the store carries out writes whose condition does not hold."""
        return bool(self.etag) and not self._put(IfNoneMatch="*") and not self._put(IfMatch=f'"{"0" * 32}"')

    def confirm(self) -> None:
        """Renew the lease; raises `RunLocked` if another driver has it."""
        with self.mutex:
            for _ in range(3):
                if self.lost or self._put(IfMatch=self.etag):
                    break
                seen = self._look()
                if seen is None:
                    self.lost = "somebody removed it"
                elif seen.holder != self.id:
                    self.lost = f"{seen.owner} has taken it over"
                else:  # an answer was lost, or writes met (409)
                    self.etag = seen.etag
        if self.lost:
            raise self.error()

    def keep(self, ended: threading.Event, interrupts: bool) -> None:
        """Renew the lease until `ended`; interrupts the main thread, if it is to, when the lease is lost."""
        while not ended.wait(RENEWS):
            try:
                self.confirm()
            except RunLocked:
                main = threading.main_thread().ident
                if interrupts and main is not None and callable(signal.getsignal(signal.SIGINT)):
                    signal.pthread_kill(main, signal.SIGINT)  # unlike interrupt_main, it ends a wait
                return
            except Exception as error:  # no answer now; another may come in time, and `confirm` has the last word
                _log.warning("the lease on %s could not be renewed: %s", self.root, error)

    def release(self) -> None:
        """Give the lease up; a driver that waits for it goes on at once."""
        try:
            if not self.lost:
                self._put(holder="", IfMatch=self.etag)
        except Exception as error:  # the run's own outcome counts; the next driver finds the lease abandoned
            _log.warning("the lease on %s could not be given up, and lapses in %.0f s: %s", self.root, EXPIRES, error)

    def error(self) -> RunLocked:
        return RunLocked(
            f"this run no longer holds {self.root}/{LOCK}: {self.lost}, after {EXPIRES:.0f} s in which this process "
            "was paused or cut off from the store. It stops here; what it had committed is kept"
        )

    def _put(self, *, holder: str | None = None, **condition: str) -> bool:
        """Write the lease; False if the condition did not hold."""
        said = {"holder": self.id if holder is None else holder, "owner": self.owner}
        body = json.dumps(said | {"write": uuid.uuid4().hex}).encode()  # each write its own ETag
        place = {"Bucket": self.bucket, "Key": self.key}
        try:
            written = self.fs.call_s3("put_object", **place, Body=body, Metadata=said, **condition)
        except OSError as error:
            status = _status(error)
            if status in (409, 412) or (status == 404 and "IfMatch" in condition):
                return False
            if status == 501:  # says that it has no conditional writes
                self.etag = ""
                return True
            raise
        self.etag = written["ETag"]
        return True

    def _look(self) -> _Seen | None:
        try:
            head = self.fs.call_s3("head_object", Bucket=self.bucket, Key=self.key)
        except FileNotFoundError:
            return None
        date = head["ResponseMetadata"]["HTTPHeaders"].get("date")
        age = (email.utils.parsedate_to_datetime(date) - head["LastModified"]).total_seconds() if date else 0.0
        said = head["Metadata"]
        return _Seen(
            etag=head["ETag"],
            holder=said.get("holder", "unknown"),
            owner=said.get("owner", "an unknown process"),
            age=max(age, 0.0),
        )


def _status(error: OSError) -> int:
    """The HTTP status behind an error of s3fs, which keeps the client's own as its cause; 0 if there is none."""
    response = getattr(error.__cause__, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
