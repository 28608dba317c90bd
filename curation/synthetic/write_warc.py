"""Web pages written as a WARC file, as a crawler would: for tests, the mini-web and corpora of pages on disk."""

import base64
import hashlib
import uuid
from collections.abc import Iterable, Mapping
from typing import IO, Any, Final, NamedTuple

from mmcorpus.curation.store import storage

FORMATS: Final = (".warc.gz", ".warc.zst", ".warc")
_CREATOR: Final = b"software: mmcorpus\r\nformat: WARC File Format 1.1\r\n"


class Capture(NamedTuple):
    """A server's answer for one address at one time."""

    url: str
    body: bytes
    """As sent: encoded, if a `Content-Encoding` or `Transfer-Encoding` among the headers says so."""
    headers: Mapping[str, str] = {"Content-Type": "text/html; charset=utf-8"}
    """Of the HTTP answer; `Content-Length` is added where neither it nor a transfer encoding is given."""
    date: str = "2024-01-01T00:00:00Z"
    """ISO 8601, UTC."""
    status: int = 200


def write_warc(path: str, pages: Iterable[Capture]) -> int:
    """Write captures as the `response` records of a WARC 1.1 file, atomically; returns how many.

    The name's end says how it is stored: `.warc.gz` and `.warc.zst` (a member or frame a record, as readers that seek
    need it), or `.warc`. Equal captures give equal bytes: the records' ids are hashes of what they hold.

    Raises ValueError for another ending.
    """
    if not path.endswith(FORMATS):
        raise ValueError(f"{path}: a WARC's name ends in {', '.join(FORMATS)}")
    from fastwarc import WarcRecordType

    count = 0
    with storage.atomic_write(path) as file:
        writer = _writer(path, file)
        _write(writer, WarcRecordType.warcinfo, _CREATOR, b"", {"Content-Type": "application/warc-fields"})
        for capture in pages:
            count += 1
            sha1 = base64.b32encode(hashlib.sha1(capture.body, usedforsecurity=False).digest()).decode()
            headers = {
                "WARC-Target-URI": capture.url,
                "WARC-Date": capture.date,
                "Content-Type": "application/http; msgtype=response",
                "WARC-Payload-Digest": f"sha1:{sha1}",
            }
            _write(writer, WarcRecordType.response, _head(capture), capture.body, headers)
    return count


def _head(capture: Capture) -> bytes:
    """The status line and headers of an HTTP answer."""
    headers = dict(capture.headers)
    names = {name.lower() for name in headers}
    if not names & {"content-length", "transfer-encoding"}:
        headers["Content-Length"] = str(len(capture.body))
    lines = [f"HTTP/1.1 {capture.status} {'OK' if capture.status == 200 else 'Status'}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


def _writer(path: str, file: IO[bytes]) -> Any:
    from fastwarc import GzipWriter, ZstdWriter

    if path.endswith(".gz"):
        return GzipWriter(file)
    return ZstdWriter(file) if path.endswith(".zst") else file


def _write(writer: Any, kind: Any, head: bytes, body: bytes, headers: Mapping[str, str]) -> None:
    """Append one record, in a member of its own where the file is compressed."""
    from fastwarc import WarcRecord

    block = head + body
    identity = "\n".join([*headers.values(), hashlib.sha256(block).hexdigest()])
    record = WarcRecord()
    record.init_headers(kind, record_urn=f"uuid:{uuid.uuid5(uuid.NAMESPACE_URL, identity)}".encode())
    record.headers["WARC-Date"] = "2024-01-01T00:00:00Z"  # in place of now
    for name, value in headers.items():
        record.headers[name] = value
    record.set_bytes_content(block)
    record.write(writer, checksum_data=True)
    if hasattr(writer, "finish"):
        writer.finish()
        writer.flush()
